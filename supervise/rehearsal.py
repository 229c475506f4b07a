"""svscan plays supervise's part through a few times before it forks the first one.

What the interpreter learns from running code (caches, specialised
instructions) it writes into the code, and a page that is written is no longer
shared.  Once svscan itself has learnt it, no supervise has to: each has half
as much memory of its own.
"""

from __future__ import annotations

import os

from supervise import chain, title
from supervise.lifecycle import Want
from supervise.service_directory import ServiceDirectory
from supervise.signals import SignalPipe
from supervise.status import normally_up
from supervise.supervise import Plain, Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal

ROUNDS = 12  # the interpreter specialises what has run eight times


class Impatient(Plain):
    """Habits that differ from the real ones in that nothing waits."""

    def pause(self, seconds: float) -> None:
        pass


def rehearse(scratch: str, argv: Sequence[str]) -> None:
    """Supervise a service in `scratch`, a directory to be made and removed; `argv` is our own title.

    Signals wait meanwhile, and the present directory is the same afterwards.
    If something is in the way the rehearsal is off; that costs memory only.
    """
    home = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    try:
        os.mkdir(scratch, 0o700)
        try:
            os.chdir(scratch)
            os.symlink("/bin/true", "run")
            for _ in range(ROUNDS):
                _play(argv)
        finally:
            os.chdir(scratch)
            for name in ("supervise/control", "supervise/lock", "supervise/ok", "supervise/status", "run"):
                os.unlink(name)
            os.rmdir("supervise")
            os.rmdir(scratch)
    except OSError:
        pass
    finally:
        os.fchdir(home)
        os.close(home)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _play(argv: Sequence[str]) -> None:
    chain.arrange({})
    title.show(argv)
    normally_up()
    with SignalPipe((signal.SIGCHLD,)) as signals, ServiceDirectory(".") as directory:
        with open("supervise/control", "wb", buffering=0) as control:
            control.write(b"ox")
        Supervisor(directory, signals, Want.DOWN, Impatient()).watch()
