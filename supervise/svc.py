"""svc(8): controls the services that supervise runs.

SYNOPSIS   svc [-udopchaitkx] [-w u|U|d|D|r [-T milliseconds]] [dir ...]

DESCRIPTION
    Hands the commands, in the order given and each once, to the supervise of
    each service directory.  A service that cannot be reached is told of in a
    warning, and the next one follows.

OPTIONS
    -u   up: start it if it is down, and start it again whenever it ends
    -d   down: if it is up send TERM, then CONT; do not start it again
    -o   once: start it if it is down; do not start it again
    -p   pause: send STOP              -c   continue: send CONT
    -h   send HUP                      -a   send ALRM
    -i   send INT                      -t   send TERM
    -k   send KILL
    -x   supervise itself exits as soon as the service is down
    -w   having told them all, wait until every service is
           u  up                       U  up and ready (see supervise)
           d  down                     D  down, and its scripts have ended
           r  up with another pid than when svc began, and ready
    -T   wait no longer than this; 0, the default: for ever

EXIT       0, even if a service could not be reached.  100: bad options.
           111: the present directory cannot be opened or entered again.
           With -w, 111 also: time is up, or a service cannot be reached;
           100 also: it has failed, or supervise has gone, so it will not come.

FILES      dir/supervise/control, a fifo that supervise reads; dir/supervise/status
"""

from __future__ import annotations

import errno
import os

from supervise.durable import write_all
from supervise.errors import reason
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, TEMPORARY, Fatal, program, say, unable_to
from supervise.status import CONTROL

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Literal
else:
    import _signal as signal  # the same without enums, which cost time and memory

COMMANDS = "udopchaitkx"
HELP = (
    "svc options: u up, d down, o once, x exit, p pause, c continue, "
    "h hup, a alarm, i interrupt, t term, k kill"
)


@program("svc")
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a supervise that goes away is worth a warning only
    commands, awaited, seconds = "", "", None
    options = Options(argv, f"{COMMANDS}w:T:")
    try:
        for letter, argument in options:
            if letter == "w":
                awaited = _state(argument)
            elif letter == "T":
                seconds = _milliseconds(argument)
            elif letter not in commands:
                commands += letter
    except BadOption as error:
        say(f"svc: {error}\n{HELP}")
        return PERMANENT
    if awaited:
        return _tell_and_wait(options.operands, commands.encode(), awaited, seconds)
    _tell_all(options.operands, commands.encode())
    return 0


def _state(letter: str) -> str:
    if letter not in ("u", "U", "d", "D", "r"):
        raise Fatal(f"unable to wait for {letter}: it is none of u, U, d, D, r", PERMANENT)
    return letter


def _milliseconds(number: str) -> float | None:
    """As seconds; None if there is no limit."""
    if not (number.isascii() and number.isdigit()):
        raise Fatal(f"unable to wait for {number} milliseconds: it is no number", PERMANENT)
    return int(number) / 1000 or None


def _tell_and_wait(services: Sequence[str], commands: bytes, awaited: str, seconds: float | None) -> int:
    from supervise import waiting

    places: list[waiting.Awaited] = []
    try:
        for service in services:
            with _or_fatal(service):
                places.append(waiting.Awaited(service, awaited))
        if not _tell_all(services, commands):
            return TEMPORARY
        with _or_fatal(services[0] if len(services) == 1 else "services"):
            waiting.wait_for_all(places, seconds)
    except waiting.NeverComes as error:
        raise Fatal(str(error), PERMANENT) from error
    except waiting.TimedOut as error:
        raise Fatal(f"unable to wait longer for {error}: timed out") from error
    finally:
        for place in places:
            place.close()
    return 0


class _or_fatal(unable_to):
    def __init__(self, service: str) -> None:
        super().__init__(f"wait for {service}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> Literal[False]:
        if isinstance(error, ValueError):
            raise Fatal(f"unable to {self.action}: {error}") from error
        return super().__exit__(kind, error, at)


def _tell_all(services: Sequence[str], commands: bytes) -> bool:
    """Give the commands to each; False if one could not be reached."""
    with unable_to("open current directory"):
        home = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    reached = True
    try:
        for service in services:
            reached = tell(service, commands) and reached
            with unable_to("set directory"):
                os.fchdir(home)
    finally:
        os.close(home)
    return reached


def tell(service: str, commands: bytes) -> bool:
    """Change into `service` and write `commands` to its control; False, and a warning, if that failed."""
    try:
        os.chdir(service)
    except OSError as error:
        return _warn(f"unable to chdir to {service}", reason(error))
    try:
        control = os.open(CONTROL, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        gone = error.errno == errno.ENXIO
        return _warn(f"unable to control {service}", "supervise not running" if gone else reason(error))
    try:
        os.set_blocking(control, True)
        write_all(control, commands)
    except OSError as error:
        return _warn(f"error writing commands to {service}", reason(error))
    finally:
        os.close(control)
    return True


def _warn(problem: str, why: str) -> bool:
    say(f"svc: warning: {problem}: {why}")
    return False
