"""supervise(8): starts a service and monitors it.

SYNOPSIS   supervise dir

DESCRIPTION
    Runs dir/run, and runs it again whenever it ends.  Each time it pauses for
    a second first, so as not to loop too quickly.  If there is a file
    dir/down, it waits for svc to say so first.

    If the last supervise was killed and the service still runs, it is not
    started a second time: supervise goes on with it as it is.

EXTENSIONS
    If there is a file dir/extended when supervise starts, these count, too;
    each is looked at when it is needed:

    start            a program: it is run before the first run, and after svc
                     -u.  If it does not exit 0 the service has failed and is
                     down.
    finish           a program: it is run whenever ./run has ended, with its
                     exit code (256 if it was killed), the signal (or 0) and
                     dir as arguments.  If it exits 125 the service has failed.
    stop             a program: it is run once the service is down for good
    notify           a program: it is run, not waited for, whenever one of the
                     others or ./run starts or ends.  Arguments: its name;
                     start, exit or killed; the pid; exit code, signal or 0.
    backoff          a number of seconds: if ./run keeps ending within ten
                     seconds, wait 1, 2, 4... seconds, and at most so many,
                     before it is run again.  svc -u ends the wait.
    timeout-kill     a number of milliseconds: so long after the TERM of svc -d
                     send KILL
    notification-fd  the number of a descriptor: ./run is ready as soon as it
                     has written a newline there
    notify-socket    (empty) ./run finds a socket in NOTIFY_SOCKET, and is
                     ready once it, or a child, has sent READY=1 (sd_notify)

    A ./run that exits 100 has failed: it is not run again until svc says so.

SIGNALS    TERM, INT: as svc -dx.

EXIT       0: svc -x, or TERM or INT came, and the service is down.
           100: bad usage.  111: a problem with the directory, such as another
           supervise that runs there.

FILES      dir/run; dir/down; in dir/supervise: lock, control, ok and status,
           and for an extended service `details`
"""

from __future__ import annotations

import os

from supervise.habits import Plain
from supervise.program import Usage, program, unable_to
from supervise.service_directory import ServiceDirectory
from supervise.signals import SignalPipe
from supervise.status import normally_up
from supervise.supervisor import ENDING, Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Sequence

    from supervise.habits import Habits
    from supervise.lifecycle import Want
else:
    import _signal as signal  # the same without enums, which cost time and memory


@program("supervise", resident=True)
def main(argv: Sequence[str]) -> int:
    if len(argv) != 1:
        raise Usage("supervise dir")
    supervisor = prepare(argv[0])
    try:
        with supervisor.signals:
            supervisor.watch()
    finally:
        supervisor.close()
    return 0


def prepare(name: str) -> Supervisor:
    """Enter the directory `name` and do all that comes before the start of its service.

    The caller watches and closes what is returned, or forks a child that does.  Raises Fatal.
    """
    with unable_to(f"create pipe for {name}"):
        signals = SignalPipe([signal.SIGCHLD, *heeded(ENDING)])
    directory: ServiceDirectory | None = None
    try:
        with unable_to(f"chdir to {name}"):
            os.chdir(name)
        with unable_to(f"stat {name}/down"):
            want: Want = "u" if normally_up() else "d"
        directory = ServiceDirectory(name)
        supervisor = Supervisor(directory, signals, want, _habits(directory))
    except BaseException:
        signals.close()
        if directory:
            directory.close()
        raise
    try:
        supervisor.prepare()
    except BaseException:
        supervisor.close()
        raise
    return supervisor


def _habits(directory: ServiceDirectory) -> Habits:
    if not os.access("extended", os.F_OK):
        return Plain()
    from supervise.extended import Extended

    return Extended(directory)


def heeded(signals: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those that are not ignored, which is left to be inherited."""
    return [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
