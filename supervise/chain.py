"""Run the next program: by exec as ever, or in this process if it is the toolkit's own.

The programs of daemontools end by running another one.  A cold interpreter
costs 10 ms and more, so a command of this toolkit is not executed but run
here: PATH is searched exactly as execvp would, and if the file found is a
console script of this very interpreter, its `main` takes the place of the
program that called `run`.  Anything else, such as a user's own qmail-queue
earlier in PATH, is executed.

Running in-process keeps the promises of execve(2): handled signals go back to
their defaults and ignored ones stay ignored, close-on-exec descriptors are
closed, the environment is replaced, `ps` shows the new arguments, and the
exit code or the fatal signal is the new program's.

A process that calls `fork`, `spawn` or `run` has no threads.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import sys
import time
from gc import freeze
from posix import environ  # the dictionary within os.environ: bytes, and read without running Python

from supervise.errors import reason
from supervise.program import TEMPORARY, Become, Fatal, Program, outcome, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from signal import SIG_SETMASK, pthread_sigmask
    from typing import NoReturn

    from supervise.signals import Handler

    Step = tuple[Callable[..., object], tuple[object, ...]]
    """A call that a process has made ready for its child, which copies less memory so."""
else:
    import _signal as signal  # the same without enums, which would cost 4 ms
    from _signal import SIG_SETMASK, pthread_sigmask

DEFAULT_PATH = "/bin:/usr/bin"
FLOORS = ("supervise", "ucspi", "qmail")
INTERPRETER = os.fsencode(f"{sys.prefix}/bin/python")
SCRIPT_SIZE = 1024  # bytes; a console script is shorter
SIGNALS: tuple[int, ...] = tuple(signal.valid_signals())
IGNORED_BY_DEFAULT = frozenset((signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH))
OWN_FDS = range(64, 80)  # the descriptors that a worker keeps for itself
TRY_NEXT = (errno.EACCES, errno.EPERM, errno.EISDIR)


def candidates(name: str) -> Iterator[str]:
    """The files that execvp(3) would try for `name`, in order, along the present PATH."""
    if "/" in name:
        yield name
        return
    for directory in os.environ.get("PATH", DEFAULT_PATH).split(":"):
        yield f"{directory or '.'}/{name}"


def own_module(file: str) -> str | None:
    """The module of the toolkit's command in `file`; None if exec must decide.

    The command may be reached through links.  It is ours if it is a script
    for this interpreter that imports a `main` from one of the three floors.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        script = os.read(fd, SCRIPT_SIZE)
    except OSError:
        return None
    finally:
        os.close(fd)
    if not script.startswith(b"#!") or INTERPRETER not in script:
        return None
    first, second, *rest = [*script.split(b"\n"), b""]
    if INTERPRETER not in first and INTERPRETER not in second:  # second: a path too long for #!
        return None
    for line in rest:
        words = line.decode("ascii", "replace").split()
        if words[:1] == ["from"] and words[2:] == ["import", "main"] and words[1].split(".")[0] in FLOORS:
            return words[1] if os.access(file, os.X_OK, effective_ids=True) else None
    return None


def find(name: str) -> tuple[str, str | None]:
    """Return the file that execvp would run for `name`, and its module if it is ours.

    Raises OSError as execvp does if there is none.
    """
    refused: OSError | None = None
    for file in candidates(name):
        module = own_module(file)
        if module:
            return file, module
        problem = _why_not_executable(file)
        if not problem:
            return file, None
        if problem.errno == errno.ENOENT:
            continue
        if problem.errno not in TRY_NEXT:
            raise problem
        refused = problem
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _why_not_executable(file: str) -> OSError | None:
    try:
        os.stat(file)
    except OSError as error:
        return error
    if os.path.isfile(file) and os.access(file, os.X_OK, effective_ids=True):
        return None
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)


def run(argv: Sequence[str], env: Mapping[str, str] | None = None, real: str | None = None) -> NoReturn:
    """Become the program `argv[0]`, or `real` under that name, with `env` in place of the environment.

    PATH is the present one, whatever `env` says.  Raises OSError as execvp
    does.  A program of the toolkit starts once the caller's stack is unwound,
    so its `with` and `finally` blocks run first; exec leaves them out.
    """
    new_env = dict(os.environ) if env is None else dict(env)
    name = argv[0] if real is None else real
    refused: OSError | None = None
    for file in candidates(name):
        module = own_module(file)
        if module:
            raise Become(module, file, argv, new_env)
        try:
            _execve(file, argv, new_env)
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue
            if error.errno not in TRY_NEXT:
                raise
            refused = error
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _execve(file: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
    """As os.execve, which refuses an empty argument 0."""
    if argv[0]:
        os.execve(file, list(argv), env)
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(word) for word in argv]
    settings = [os.fsencode(f"{name}={value}") for name, value in env.items()]
    lists = [(ctypes.c_char_p * (len(strings) + 1))(*strings, None) for strings in (words, settings)]
    libc.execve(os.fsencode(file), *lists)
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), file)


def preload(name: str) -> Program | None:
    """Import the toolkit's command that `name` would run, so that forks share it; None if not ours."""
    try:
        module = find(name)[1]
    except OSError:
        return None
    if not module:
        return None
    from supervise import title

    title.load()
    return load(module)


def preload_all(argv: Sequence[str]) -> Program | None:
    """Import the toolkit's command `argv[0]`, those that its arguments name, and what each loads later.

    A program that another one runs stands among its arguments.  None, and
    nothing is imported, if `argv[0]` is not the toolkit's.
    """
    program = preload(argv[0])
    if program:
        for named in (program, *map(preload, argv[1:])):
            if named:
                _load_later(named)
        note_attributes(*_own_classes())
    return program


def _own_classes() -> Iterator[type]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in FLOORS:
            yield from (thing for thing in vars(module).values() if isinstance(thing, type))


def _load_later(program: Program) -> None:
    for name in program.later:
        __import__(name)
        main = getattr(sys.modules[name], "main", None)
        if isinstance(main, Program):
            _load_later(main)


def load(module: str) -> Program:
    """The `main` of `module`."""
    __import__(module)
    loaded = sys.modules[module].main
    assert isinstance(loaded, Program)
    return loaded


def follow(image: Become, keep: Iterable[int] = ()) -> int:
    """Run the program that `image` asks for, and those that it becomes in turn; return the exit code.

    keep: descriptors that stay open although they are close-on-exec.
    """
    while True:
        try:
            return _enter(image, keep)
        except Become as following:
            image = following
        except (OSError, MemoryError, ImportError) as error:  # memory, say: exec would have killed
            why = reason(error) if isinstance(error, OSError) else str(error) or "out of memory"
            say(f"{os.path.basename(image.file)}: fatal: unable to start: {why}")
            return TEMPORARY


def _enter(image: Become, keep: Iterable[int]) -> int:
    from supervise import title

    image.__traceback__ = image.__context__ = image.__cause__ = None
    gc.collect()  # what the old program left closes its descriptors now, not the new one's later
    reset_signals()
    close_on_exec(keep)
    replace_environment(image.env)
    sys.argv = [image.file, *image.argv[1:]]
    title.show(image.argv)
    return load(image.module).run(image.argv[1:])


def call(
    program: Program, argv: Sequence[str], env: Mapping[str, str] | None = None, file: str | None = None
) -> int:
    """Run `program` as `argv` in this process, as a worker's job, and return its exit code.

    `file` is where `find` found it, which tells a program its home; else argv[0] does.
    `env` becomes the environment, and stays it.  Directory, umask, signals and
    alarms are the worker's to put back; descriptors, of whom opened them.
    Raises Become if the program turns into another one: let it, and the
    worker ends with that program.
    """
    from supervise import title

    if env is not None:
        replace_environment(env)
    sys.argv = [file or argv[0], *argv[1:]]
    title.show(argv)
    return program.run(argv[1:])


class Call:
    """A program that children of this process will `call`, with `changes` (None: unset) to the environment.

    This process does what it can of that, once, so that the child need not.
    Raises whatever the program's own preparation does.
    """

    def __init__(
        self, program: Program, argv: Sequence[str], changes: Mapping[str, str | None], file: str | None
    ) -> None:
        from supervise import title

        self._argv = [file or argv[0], *argv[1:]]
        self._steps: list[Step] = [*title.steps(argv), *environment_steps(changes)]
        old_argv, old = sys.argv, {name: os.environ.get(name) for name in changes}
        try:
            take(environment_steps(changes))
            sys.argv = self._argv
            self._rest = program.ready(argv[1:])
        finally:
            take(environment_steps(old))
            sys.argv = old_argv

    def run(self) -> int:
        """In the child: the exit code.  Raises Become as `call` does."""
        take(self._steps)
        sys.argv = self._argv
        return self._rest()


def take(steps: Iterable[Step]) -> None:
    """Make the calls."""
    for step, arguments in steps:
        step(*arguments)


def environment_steps(
    changes: Mapping[str, str | None],
) -> list[Step]:
    """The calls that set the variables, or unset (None) them.  ValueError: there can be no such variable."""
    wanted = {
        os.fsencode(name): None if value is None else os.fsencode(value) for name, value in changes.items()
    }
    if any(b"=" in name or b"\0" in name + (value or b"") for name, value in wanted.items()):
        raise ValueError("no name or value of a variable")
    values = {name: value for name, value in wanted.items() if value is not None}
    steps: list[Step] = [(environ.update, (values,))]
    steps += [(os.putenv, setting) for setting in values.items()]
    for name in wanted.keys() - values.keys():
        steps += [(environ.pop, (name, None)), (os.unsetenv, (name,))]
    return [*steps, (time.tzset, ())] if b"TZ" in wanted else steps


def reset_signals() -> None:
    """As exec does: handled signals to their default; ignored and blocked ones stay so."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def close_on_exec(keep: Iterable[int] = ()) -> None:
    """Close every descriptor that is marked close-on-exec, but those in `keep`."""
    kept = set(keep)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd not in kept and fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                os.close(fd)
        except OSError:  # listdir's own
            continue


def replace_environment(env: Mapping[str, str]) -> None:
    """Make `env` the whole environment."""
    # By the bytes that os.environ keeps: to decode all of them again for each job would cost a worker 30 us.
    present: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    encode: Callable[[str], bytes] = os.environ.encodekey  # type: ignore[assignment]
    wanted = {encode(name): encode(value) for name, value in env.items()}
    zone = present.get(b"TZ")
    for name in present.keys() - wanted.keys():
        del os.environb[name]
    for name, value in wanted.items():
        if present.get(name) != value:
            os.environb[name] = value
    if zone != wanted.get(b"TZ"):
        time.tzset()


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
    caught = {number for number in SIGNALS if callable(signal.getsignal(number))}
    # For these a moment of the default here would lose one: the child has to take it.
    left = tuple((caught & IGNORED_BY_DEFAULT) - (handlers or {}).keys())
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
        code = follow(image)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def note_attributes(*classes: type) -> None:
    """Have the interpreter look up what the methods of `classes` may ask of their objects.

    It notes where it has found a name of a class, or that it has not.  What is
    noted when a process forks, a child need not note in memory of its own.
    """
    for one in classes:
        codes = [getattr(member, "__code__", None) for member in vars(one).values()]
        for name in {*dir(one), *(name for code in codes if code for name in code.co_names)}:
            getattr(one, name, None)


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
    file, module = (argv[0], own_module(argv[0])) if "/" in argv[0] else find(argv[0])
    if module:
        image = Become(module, file, argv, dict(os.environ) if env is None else env)

        def body() -> int:
            arrange(wanted)
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

    defaults: what `not_ignored` found.  Who spawns often should say: to find it out
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


def not_ignored() -> tuple[int, ...]:
    """The signals that have their default action in what is executed now."""
    return tuple(number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN)


def arrange(fds: Mapping[int, int]) -> None:
    """Make each descriptor of `fds` a copy of the one it maps to, whatever the order, for exec to inherit."""
    spare = max([2, *fds, *fds.values()]) + 1
    copies = {target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, spare) for target, source in fds.items()}
    for target, copy in copies.items():
        os.dup2(copy, target)
        os.close(copy)


def out_of_the_way(fd: int) -> int:
    """Move a descriptor of the server's own to a number that no program means when it says 3, 6 or 7.

    After a job the worker closes what the program has left open; what was
    moved here before or during the job stays.
    """
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OWN_FDS.start)
    except OSError:  # a limit on descriptors below that
        return fd
    os.close(fd)
    return moved


def wait(pid: int) -> int:
    """Wait for the child `pid`; return its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def unable_to_run(name: str, error: OSError) -> Fatal:
    """What a program that cannot run the next one dies of."""
    return Fatal(f"unable to run {name}: {reason(error)}")
