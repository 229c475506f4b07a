"""Start supervises: several in a row, each as late as can be.

What a process writes to it no longer shares with the one that forked it.  So
svscan itself does what comes before the start of a service, and a supervise
that is forked then has nothing left to do but to start it and to wait: it
stays small.
"""

from __future__ import annotations

import gc
import itertools
import os
from posix import closerange, dup2, fchdir
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

from supervise import chain, children, title
from supervise.descriptors import ranges_besides
from supervise.errors import reason
from supervise.habits import Plain
from supervise.program import TEMPORARY, say
from supervise.signals import SignalPipe
from supervise.steps import take
from supervise.supervise import main, prepare
from supervise.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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

    def steps(self, besides: Iterable[int] = ()) -> list[Step]:
        """What leaves a child no more than that, and what it keeps `besides`."""
        others = ranges_besides([*self.descriptors, *besides])
        limits = self.limits_to_restore
        return [
            *((closerange, ends) for ends in others),
            *([(setrlimit, (RLIMIT_NOFILE, limits))] if limits else []),
        ]

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
        self.directory = directory
        self.operand = operand
        self.source = source
        self.target = target
        self.started = started

    def plumbing(self) -> list[Step]:
        """What gives the child its end of a pipe."""
        return [(dup2, (self.source, self.target))] if self.source >= 0 else []

    def fail(self, doing: str, error: OSError) -> int:
        warn(f"unable to {doing} {self.what}: {reason(error)}")
        return TEMPORARY


class Prepared:
    """A child for which svscan has done all that comes before the start of the service.

    Raises Fatal or OSError: the child is to try it itself, and to say what is wrong.
    """

    def __init__(self, start: Start, heritage: Heritage) -> None:
        self.start = start
        os.chdir(start.directory)
        self._supervisor = supervisor = prepare(start.operand)
        self.handlers = supervisor.signals.handlers
        try:
            self._place = os.open(".", os.O_PATH | os.O_CLOEXEC)  # the service's directory
        except OSError:
            supervisor.close()
            raise
        self._steps: list[Step] = [
            *start.plumbing(),
            (fchdir, (self._place,)),
            *heritage.steps(supervisor.descriptors()),
            *title.steps(("supervise", start.operand)),
            *supervisor.signals.steps(),
        ]

    def close(self) -> None:
        """Leave all of it to the child, if there is one."""
        self._supervisor.close()
        os.close(self._place)

    def run(self) -> int:
        """What the child does."""
        try:
            take(self._steps)
        except OSError as error:
            return self.start.fail("set up descriptors for", error)
        self._supervisor.watch()
        return 0


class Unprepared:
    """A child that does everything itself."""

    handlers: Mapping[int, Handler] = {}

    def __init__(self, start: Start, heritage: Heritage) -> None:
        self.start = start
        self._steps = [*start.plumbing(), *heritage.steps()]

    def close(self) -> None:
        """Nothing was opened for it."""

    def run(self) -> int:
        doing = "set up descriptors for"
        try:
            take(self._steps)
            doing = "switch to"
            os.chdir(self.start.directory)
            doing = "start supervise"
            chain.run(("supervise", self.start.operand))
        except OSError as error:
            return self.start.fail(doing, error)


def start_all(starts: Iterable[Start], heritage: Heritage) -> None:
    """Start them from the present directory; warn of those that cannot be."""
    left = iter(starts)
    first = next(left, None)
    if not first:
        return
    own = chain.preload("supervise") is main  # whichever is first in PATH today
    chain.note_attributes(Prepared, Supervisor, SignalPipe, Plain)
    here = _here() if own else -1
    ready: list[Prepared] = []
    many = 1  # the first few get the other processors to work
    for start in itertools.chain((first,), left):
        child = _prepared(start, heritage, here)
        if child:
            ready.append(child)
            if len(ready) < many:
                continue
        _fork(ready)  # if this one is not prepared, perhaps for lack of descriptors, that makes room
        if not child:
            _fork([Unprepared(start, heritage)])
        ready, many = [], min(2 * many, heritage.at_once)
    _fork(ready)
    if here >= 0:
        os.close(here)


def _prepared(start: Start, heritage: Heritage, here: int) -> Prepared | None:
    """None: it cannot be, or there is no way back `here`."""
    if here < 0:
        return None
    try:
        return Prepared(start, heritage)
    except Exception:  # the child will say what; no trouble of one service may end the others
        return None
    finally:
        fchdir(here)


def _here() -> int:
    """The present directory; -1 if there is no descriptor left for it."""
    try:
        return os.open(".", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1


def _fork(group: Sequence[Prepared | Unprepared]) -> None:
    if not group:
        return
    gc.collect()
    gc.freeze()
    pids, problem = children.fork_each("svscan", [child.run for child in group], group[0].handlers)
    for child, pid in zip(group, pids, strict=False):
        child.start.started(pid)
    for child in group:
        child.close()
    if problem:
        for child in group[len(pids) :]:
            warn(f"unable to fork for {child.start.what}: {reason(problem)}")
