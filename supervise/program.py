"""How a program of the toolkit starts, ends, and says what went wrong.

A program is a module whose `main` is decorated with `@program(name)`.  The
console script calls `main()`; the toolkit itself calls `main.run(arguments)`,
in the same process and as often as it likes, so a `main` keeps no state
outside what it makes itself.
"""

from __future__ import annotations

import os
import sys
from posix import environ  # the dictionary within os.environ

from supervise import __version__
from supervise.errors import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Literal, NoReturn

    Prepare = Callable[[Sequence[str]], Callable[[], int]]
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

PERMANENT = 100
"""Exit code: trying again will not help (bad usage included)."""
TEMPORARY = 111
"""Exit code: trying again may help."""


class Fatal(Exception):
    """The program cannot go on.  `str(error)` follows `program: fatal: `."""

    prefix = "fatal: "

    def __init__(self, message: str, code: int = TEMPORARY) -> None:
        super().__init__(message)
        self.code = code


class Usage(Fatal):
    """The arguments are wrong.  `str(error)` follows `program: usage: `."""

    prefix = "usage: "

    def __init__(self, synopsis: str, code: int = PERMANENT) -> None:
        super().__init__(synopsis, code)


class unable_to:  # named for how it reads: with unable_to("open x"): ...
    """Report an OSError of the block as `unable to <action>: <reason>`."""

    def __init__(self, action: str, code: int = TEMPORARY) -> None:
        self.action = action
        self.code = code

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> Literal[False]:
        if isinstance(error, OSError):
            raise Fatal(f"unable to {self.action}: {reason(error)}", self.code) from error
        return False


class Become(BaseException):
    """Raised by `chain.run`: unwind this program, and run the next in its place.

    Not an Exception, because it is no error and nothing but the start of the
    process (or `chain`) may catch it.
    """

    def __init__(self, module: str, file: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        super().__init__(module)
        self.module = module
        self.file = file
        self.argv = tuple(argv)
        self.env = dict(env)


def say(line: str, fd: int = 2) -> None:
    """Write `line` and a newline to `fd` at once; nobody listening is no error."""
    data = os.fsencode(line) + b"\n"
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass


def outcome(name: str, body: Callable[[], int]) -> int:
    """Run `body` as the program `name`: return its exit code, having said what went wrong.

    Become comes through.  Whatever else is no Fatal is a bug: its traceback
    goes to descriptor 2, and the code is 111.
    """
    try:
        return body()
    except Fatal as error:
        say(f"{name}: {error.prefix}{error}")
        return error.code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except MemoryError:
        say(f"{name}: fatal: out of memory")
    except Exception:  # the one place that may: supervise starts it again
        import traceback

        say(f"{name}: fatal: internal error\n{traceback.format_exc().rstrip()}")
    return TEMPORARY


class Program:
    """One command of the toolkit: its name and its `main(arguments) -> exit code`."""

    def __init__(
        self,
        name: str,
        body: Callable[[Sequence[str]], int],
        resident: bool,
        helps: bool,
        later: Sequence[str] = (),
        prepare: Prepare | None = None,
    ) -> None:
        self.name = name
        self.body = body
        self.resident = resident
        self.helps = helps
        self.later = later
        self._prepare = prepare

    def ready(self, arguments: Sequence[str]) -> Callable[[], int]:
        """What is left of `run` for a process that is forked now, once all is done that can be done here."""
        if self._prepare and not self._is_asked(arguments):
            rest = self._prepare(arguments)
            return lambda: outcome(self.name, rest)
        return lambda: self.run(arguments)

    def run(self, arguments: Sequence[str]) -> int:
        """Run the program in this process and return its exit code.

        `arguments` are what follows the program's name.  A program that chains
        raises Become.
        """
        if self._is_asked(arguments):
            return self._inform(arguments[0])
        return outcome(self.name, lambda: self.body(arguments))

    def _is_asked(self, arguments: Sequence[str]) -> bool:
        return self.helps and len(arguments) == 1 and arguments[0] in ("--help", "--version")

    def _inform(self, option: str) -> int:
        manual = sys.modules[self.body.__module__].__doc__ or self.name
        say(manual.strip() if option == "--help" else f"{self.name} (paperpath) {__version__}", 1)
        return 0

    def __call__(self) -> NoReturn:
        """Be the program that the shell started: the target of the console script."""
        restore_defaults()
        try:
            if self.resident:
                from supervise import title

                title.show([os.path.basename(sys.argv[0]), *sys.argv[1:]])
            code = self.run(sys.argv[1:])
        except Become as image:
            from supervise import chain

            code = chain.follow(image)
        os._exit(code)  # nothing is left to flush, and tearing down costs 2 ms


def program(
    name: str,
    *,
    resident: bool = False,
    helps: bool = True,
    later: Sequence[str] = (),
    prepare: Prepare | None = None,
) -> Callable[[Callable[[Sequence[str]], int]], Program]:
    """Make `main` a command.

    resident: it stays, so `ps` is to show its name and not the interpreter's.
    helps: `--help` or `--version` as the only argument cannot be an operand.
    later: large modules that it may load in the course of its work, for servers to
    share and softlimit to count as the interpreter's.  Of a program among them, its own too.
    prepare: its beginning, which changes nothing in the process and waits for nobody; it
    returns the rest.  A server may call it before it forks.
    """
    return lambda body: Program(name, body, resident, helps, later, prepare)


def restore_defaults() -> None:
    """Take back what the interpreter changed: a C program starts with other signals and LC_CTYPE."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    environ.pop(b"", None)  # "=value": no program can look it up, and Python cannot hand it on
    if os.environ.get("LC_CTYPE") == "C.UTF-8":  # PEP 538 sets it for the children of the C locale
        _put_back(b"LC_CTYPE")


def _put_back(name: bytes) -> None:
    """Give the variable the value that the process started with, or none."""
    try:
        with open("/proc/self/environ", "rb") as initial:
            settings = initial.read().split(b"\0")
    except OSError:
        return
    given = [setting for setting in settings if setting.startswith(name + b"=")]
    if given:
        os.environb[name] = given[0].partition(b"=")[2]
    else:
        del os.environb[name]
