"""Children of this process: by fork, to go on in this interpreter, or by spawn, to run another program.

A process that has children has no threads.
"""

from __future__ import annotations

import fcntl
import os
from gc import freeze
from posix import environ  # as in supervise.environment

from supervise import chain, descriptors, signals
from supervise.program import TEMPORARY, Become, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from signal import SIG_SETMASK, pthread_sigmask
    from typing import NoReturn

    from supervise.signals import Handler
else:
    import _signal as signal  # the same without enums, which would cost 4 ms
    from _signal import SIG_SETMASK, pthread_sigmask


def fork(name: str, body: Callable[[], int]) -> int:
    """Fork a child that runs `body` and exits with its code; return the child's pid.

    In the child signals are as after exec, except that close-on-exec
    descriptors are still open: `body` usually ends in `run`, which closes
    them.  A Fatal of the body is reported under `name`.  OSError: no fork.
    """
    pids, problem = fork_each(name, [body])
    if problem:
        raise problem
    return pids[0]


def fork_each(
    name: str, bodies: Iterable[Callable[[], int]], handlers: Mapping[int, Handler] | None = None
) -> tuple[list[int], OSError | None]:
    """`fork` for each of `bodies`; return the children's pids, and why there are no more of them.

    handlers: of the signals that the children catch, whatever is caught here.

    Children forked in a row share more memory: what a process writes to
    between two forks, the first of these children has for itself alone.
    """
    caught = signals.caught()
    # For these a moment of the default here would lose one: the child has to take it.
    left = tuple((caught & signals.IGNORED_BY_DEFAULT) - (handlers or {}).keys())
    wanted: dict[int, Handler] = {
        **dict.fromkeys(caught.difference(left), signal.SIG_DFL),
        **(handlers or {}),
    }
    pids: list[int] = []
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, caught | wanted.keys())
    # Done here, the children need not do it, and share the memory that it takes.
    old_handlers = [(number, signal.signal(number, handler)) for number, handler in wanted.items()]
    wakeup = signal.set_wakeup_fd(-1)
    try:
        for body in bodies:
            pid = os.fork()
            if pid == 0:
                _be_child(name, body, left, old_mask)
            pids.append(pid)
    except OSError as error:
        return pids, error
    finally:
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number, handler in old_handlers:
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    return pids, None


def _be_child(name: str, body: Callable[[], int], caught: Iterable[int], mask: Iterable[int]) -> NoReturn:
    code = TEMPORARY
    try:
        freeze()  # the parent's garbage must not close descriptors here
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
        pthread_sigmask(SIG_SETMASK, mask)
        code = outcome(name, body)
    except Become as image:
        code = chain.follow(image)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    fds: Mapping[int, int] | None = None,
) -> int:
    """Start `argv` as a child and return its pid.

    `fds` maps the child's descriptor numbers to ours; whatever else is not
    close-on-exec is inherited.  Raises OSError if there is no such program,
    or no fork.
    """
    wanted = dict(fds or {})
    # Of a path, posix_spawn itself says whether it can be run; PATH must be searched first.
    file, module = (argv[0], chain.own_module(argv[0])) if "/" in argv[0] else chain.find(argv[0])
    if module:
        image = Become(module, file, argv, dict(os.environ) if env is None else env)

        def body() -> int:
            descriptors.arrange(wanted)
            raise image

        return fork(os.path.basename(argv[0]), body)
    return spawn_file(file, argv, environ if env is None else env, wanted)


def spawn_file(
    file: str,
    argv: Sequence[str],
    env: Mapping[str, str] | Mapping[bytes, bytes],
    wanted: Mapping[int, int],
    defaults: Sequence[int] = (),
) -> int:
    """As `spawn`, of a `file` that is none of the toolkit's.

    defaults: what `signals.not_ignored` found.  Who spawns often should say: to find it out
    takes the child 60 system calls, for which this process waits.
    """
    # A source that is a target too is copied out of harm's way first.
    spare = max([2, *wanted, *wanted.values()]) + 1
    copies = {
        source: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, spare)
        for source in wanted.keys() & wanted.values()
    }
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, copies.get(source, source), target) for target, source in wanted.items()
        ]
        return os.posix_spawn(file, tuple(argv), env, file_actions=actions, setsigdef=defaults)
    finally:
        for copy in copies.values():
            os.close(copy)


def wait(pid: int) -> int:
    """Wait for the child `pid`; return its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ended() -> Iterator[tuple[int, int]]:
    """The children that have ended, and how: (pid, wait status).  Never waits for another one."""
    try:
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            yield found
    except ChildProcessError:
        pass


def any_left() -> bool:
    """Has this process a child, be it one that has ended?"""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
