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

A process that calls `run` has no threads.
"""

from __future__ import annotations

import errno
import gc
import os
import sys

from supervise import descriptors, environment, signals
from supervise.errors import reason
from supervise.program import TEMPORARY, Become, Fatal, Program, say
from supervise.steps import take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from typing import NoReturn

    from supervise.steps import Step

DEFAULT_PATH = "/bin:/usr/bin"
FLOORS = ("supervise", "ucspi", "qmail")
INTERPRETER = os.fsencode(f"{sys.prefix}/bin/python")
SCRIPT_SIZE = 1024  # bytes; a console script is shorter
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


def note_attributes(*classes: type) -> None:
    """Have the interpreter look up what the methods of `classes` may ask of their objects.

    It notes where it has found a name of a class, or that it has not.  What is
    noted when a process forks, a child need not note in memory of its own.
    """
    for one in classes:
        codes = [getattr(member, "__code__", None) for member in vars(one).values()]
        for name in {*dir(one), *(name for code in codes if code for name in code.co_names)}:
            getattr(one, name, None)


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


def follow(image: Become, keep: Container[int] = ()) -> int:
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


def _enter(image: Become, keep: Container[int]) -> int:
    from supervise import title

    image.__traceback__ = image.__context__ = image.__cause__ = None
    gc.collect()  # what the old program left closes its descriptors now, not the new one's later
    signals.reset()
    descriptors.close_on_exec(keep)
    environment.replace(image.env)
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
        environment.replace(env)
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
        settings = environment.steps(changes)
        self._steps: list[Step] = [*title.steps(argv), *settings]
        old_argv, old = sys.argv, {name: os.environ.get(name) for name in changes}
        try:
            take(settings)
            sys.argv = self._argv
            self._rest = program.ready(argv[1:])
        finally:
            take(environment.steps(old))
            sys.argv = old_argv

    def run(self) -> int:
        """In the child: the exit code.  Raises Become as `call` does."""
        take(self._steps)
        sys.argv = self._argv
        return self._rest()


def unable_to_run(name: str, error: OSError) -> Fatal:
    """What a program that cannot run the next one dies of."""
    return Fatal(f"unable to run {name}: {reason(error)}")
