"""Start supervises: several in a row, each as late as can be.

What a process writes to it no longer shares with the one that forked it.  So
svscan itself does what comes before the start of a service, and a supervise
that is forked then has nothing left to do but to start it and to wait: it
stays small.
"""

from __future__ import annotations

import gc
import os
from posix import closerange, dup2, fchdir
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

from supervise import chain, children, title
from supervise.descriptors import ranges_besides
from supervise.errors import reason
from supervise.habits import Plain
from supervise.program import TEMPORARY, Fatal, say
from supervise.signals import SignalPipe
from supervise.steps import take
from supervise.supervise import main, prepare
from supervise.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from supervise.signals import Handler
    from supervise.steps import Step

AT_ONCE = 24  # prepared before the first is forked, if there are descriptors enough
MOST_OPEN = 8  # descriptors that are opened for one of them


def warn(problem: str) -> None:
    say(f"svscan: warning: {problem}")


class Heritage:
    """What svscan was started with, and its children are to have: descriptors, and how many there may be."""

    def __init__(self, descriptors: Iterable[int]) -> None:
        self.descriptors = tuple(descriptors)
        self.limits_to_restore: tuple[int, int] | None = None
        self.at_once = AT_ONCE  # starts to be prepared before the first is forked

    def allow_descriptors(self, wanted: int) -> None:
        """Have `wanted` descriptors from now on, or as many as may be."""
        soft, hard = limits = getrlimit(RLIMIT_NOFILE)
        if soft == RLIM_INFINITY or soft >= wanted:
            return
        most = wanted if hard == RLIM_INFINITY else min(wanted, hard)
        try:
            setrlimit(RLIMIT_NOFILE, (most, hard))
            self.limits_to_restore = limits
        except (OSError, ValueError):
            most = soft
        if most < wanted:  # what there is, is for the logs' pipes
            self.at_once = 1

    def restore(self) -> None:
        """Have no more of them than before."""
        if self.limits_to_restore:
            setrlimit(RLIMIT_NOFILE, self.limits_to_restore)


class Start:
    """One supervise that is to be started.

    what: its service, in messages.  directory and operand: where `supervise
    operand` is to run.  source: becomes its descriptor `target`, unless -1.
    started: is told its pid.
    """

    def __init__(
        self,
        what: str,
        directory: str,
        operand: str,
        source: int,
        target: int,
        started: Callable[[int], None],
    ) -> None:
        self.what = what
        self.started = started
        self._directory = directory
        self._operand = operand
        self._source = source
        self._target = target
        self._supervisor: Supervisor | None = None
        self._place = -1  # the service's directory
        self._steps: list[Step] = []  # that the child begins with

    def prepare(self, heritage: Heritage, *, own: bool) -> bool:
        """Do here what the child need not do; False: it has to do all, and to say what is wrong."""
        if own:
            try:
                os.chdir(self._directory)
                self._supervisor = prepare(self._operand)
                self._place = os.open(".", os.O_PATH | os.O_CLOEXEC)
            except (Fatal, OSError, MemoryError):
                self.close()
        self._steps = [(dup2, (self._source, self._target))] if self._source >= 0 else []
        supervisor = self._supervisor
        if supervisor:
            self._steps.append((fchdir, (self._place,)))
        others = ranges_besides([*heritage.descriptors, *(supervisor.descriptors() if supervisor else ())])
        self._steps += [(closerange, ends) for ends in others]
        if heritage.limits_to_restore:
            self._steps.append((setrlimit, (RLIMIT_NOFILE, heritage.limits_to_restore)))
        if supervisor:
            self._steps += title.steps(("supervise", self._operand))
            self._steps += supervisor.signals.steps()
        return supervisor is not None

    def close(self) -> None:
        """Leave what was prepared to the child, if there is one."""
        if self._supervisor:
            self._supervisor.close()
        if self._place >= 0:
            os.close(self._place)
        self._supervisor, self._place = None, -1

    def run(self) -> int:
        """What the child does."""
        try:
            take(self._steps)
        except OSError as error:
            return self._fail("set up descriptors for", error)
        supervisor = self._supervisor
        if not supervisor:
            return self._run_all()
        supervisor.watch()
        return 0

    def _run_all(self) -> int:
        """What the child does if nothing could be done before."""
        try:
            os.chdir(self._directory)
        except OSError as error:
            return self._fail("switch to", error)
        try:
            chain.run(("supervise", self._operand))
        except OSError as error:
            return self._fail("start supervise", error)

    def _fail(self, doing: str, error: OSError) -> int:
        warn(f"unable to {doing} {self.what}: {reason(error)}")
        return TEMPORARY

    @property
    def handlers(self) -> dict[int, Handler]:
        """The signals that the child catches."""
        return self._supervisor.signals.handlers if self._supervisor else {}


def start_all(starts: Iterable[Start], heritage: Heritage) -> None:
    """Start them from the present directory; warn of those that cannot be."""
    left = iter(starts)
    start = next(left, None)
    if not start:
        return
    own = chain.preload("supervise") is main  # whichever is first in PATH today
    chain.note_attributes(Start, Supervisor, SignalPipe, Plain)
    here = _here() if own else -1
    ready: list[Start] = []
    while start:
        prepared = start.prepare(heritage, own=here >= 0)
        if here >= 0:
            fchdir(here)
        if prepared:
            ready.append(start)
        if not prepared or len(ready) == heritage.at_once:
            _fork(ready)  # if it is not prepared, perhaps for lack of descriptors, that makes room
            ready = []
        if not prepared:
            _fork([start])
        start = next(left, None)
    _fork(ready)
    if here >= 0:
        os.close(here)


def _here() -> int:
    """The present directory; -1 if there is no descriptor left for it."""
    try:
        return os.open(".", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1


def _fork(group: Sequence[Start]) -> None:
    if not group:
        return
    gc.collect()
    gc.freeze()
    pids, problem = children.fork_each("svscan", [start.run for start in group], group[0].handlers)
    for start, pid in zip(group, pids, strict=False):
        start.started(pid)
    for start in group:
        start.close()
    if problem:
        for start in group[len(pids) :]:
            warn(f"unable to fork for {start.what}: {reason(problem)}")
