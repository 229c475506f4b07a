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
           d  down                     D  down, and its scripts ended
           r  started anew since this svc began, and ready
    -T   wait no longer than this; 0, the default: for ever

EXIT       0, even if a service could not be reached.  100: bad options.
           111: the present directory cannot be opened or entered again.
           With -w, 111 also: time is up, or a service cannot be reached;
           100 also: it has failed for good.

FILES      dir/supervise/control, a fifo that supervise reads; dir/supervise/status
"""

from __future__ import annotations

import errno
import os
import signal

from supervise.durable import write_all
from supervise.errors import reason
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, program, say, unable_to
from supervise.status import CONTROL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = "udopchaitkx"
HELP = (
    "svc options: u up, d down, o once, x exit, p pause, c continue, "
    "h hup, a alarm, i interrupt, t term, k kill"
)


@program("svc")
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a supervise that goes away is worth a warning only
    commands = ""
    options = Options(argv, COMMANDS)
    try:
        for letter, _ in options:
            if letter not in commands:
                commands += letter
    except BadOption as error:
        say(f"svc: {error}\n{HELP}")
        return PERMANENT
    with unable_to("open current directory"):
        home = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for service in options.operands:
            tell(service, commands.encode())
            with unable_to("set directory"):
                os.fchdir(home)
    finally:
        os.close(home)
    return 0


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
