"""svscanboot(8): starts svscan when the machine comes up.

SYNOPSIS   svscanboot [--daemon] [dir]

DESCRIPTION
    Runs svscan on dir, /service if there is none given, with nothing but PATH
    in the environment, and readproctitle on what svscan and the services print
    on their standard error.  Services that an earlier svscan left behind in
    dir are told to end first.  Stays until both have ended; init or systemd
    then starts it again.

    Its own descriptors 0, 1 and 2 are /dev/null.  PATH is the directory of
    svscanboot itself, then /command:/usr/local/bin:/usr/local/sbin:/bin:
    /sbin:/usr/bin:/usr/sbin:/usr/X11R6/bin.

OPTIONS    --daemon   detach from the terminal and return at once: for an rc
                      script, or a shell

SIGNALS    HUP, INT and TERM are passed on to svscan.

EXIT       0: svscan was told to end.  100: bad usage.  111: it could not be
           started, or failed.

FILES      service-templates/boot: how init, systemd and rc scripts start it
"""

from __future__ import annotations

import os
import select
import sys

from supervise import children, environment
from supervise.errors import reason
from supervise.program import TEMPORARY, Fatal, Usage, program, unable_to
from supervise.signals import SignalPipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which cost time and memory

SERVICES = "/service"
PLACES = "/command:/usr/local/bin:/usr/local/sbin:/bin:/sbin:/usr/bin:/usr/sbin:/usr/X11R6/bin"
ROOM = "." * 400
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@program("svscanboot", resident=True)
def main(argv: Sequence[str]) -> int:
    detaches = list(argv[:1]) == ["--daemon"]
    operands = argv[1:] if detaches else argv
    if len(operands) > 1:
        raise Usage("svscanboot [--daemon] [dir]")
    services = os.path.abspath(operands[0]) if operands else SERVICES
    with unable_to(f"read {services}"):
        os.close(os.open(services, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    own = os.path.dirname(os.path.abspath(sys.argv[0]))
    environment.replace({"PATH": f"{own}:{PLACES}"})
    if detaches:
        detach()
    else:
        with unable_to("open /dev/null"):
            silence()
    end_leftovers(services)
    return keep(services)


def detach() -> None:
    """Go on as a daemon: the caller's process ends here."""
    import daemon

    umask = os.umask(0o022)
    os.umask(umask)
    daemon.DaemonContext(
        detach_process=True, working_directory="/", umask=umask, prevent_core=False, signal_map={}
    ).open()


def silence() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def end_leftovers(services: str) -> None:
    """Tell each supervise that already runs there to end itself and its service."""
    names = sorted(name for name in os.listdir(services) if not name.startswith("."))
    places = [f"{services}/{name}" for name in names]
    logs = [f"{place}/log" for place in places if os.path.isdir(f"{place}/log")]
    try:
        children.wait(children.spawn(["svc", "-dx", *places, *logs]))
    except OSError:  # nobody would see it; supervise itself reports a service that is locked
        pass


def keep(services: str) -> int:
    """Run svscan and readproctitle until both have ended."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # svscan is no shell's background job
    with SignalPipe([signal.SIGCHLD, *PASSED_ON]) as signals:
        source, sink = os.pipe2(os.O_CLOEXEC)
        try:
            svscan = children.spawn(["svscan", services], fds={1: sink, 2: sink})
            reader = ["env", "-", f"PATH={os.environ['PATH']}"]
            reader += ["readproctitle", "service", "errors:", ROOM]  # an exec, so that there is room
            running = {svscan, children.spawn(reader, fds={0: source})}
        except OSError as error:
            raise Fatal(f"unable to start: {reason(error)}") from error
        finally:
            os.close(source)
            os.close(sink)
        code = 0
        while running:
            select.select([signals], [], [])
            arrived = signals.arrived()
            if svscan in running:
                for number in arrived.intersection(PASSED_ON):
                    os.kill(svscan, number)
            for pid, status in children.ended():
                running.discard(pid)
                if pid == svscan:
                    code = 0 if status == 0 else TEMPORARY
    return code
