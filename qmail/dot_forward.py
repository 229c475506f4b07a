"""dot-forward(1): follows the instructions of sendmail's .forward files.

SYNOPSIS
in .qmail: |dot-forward [ -nN ] file ...

DESCRIPTION
dot-forward follows the instructions in the first file that exists and holds
any, for the message on standard input:

address         forward the message; as in a mail header, with comments,
                names and <>; several are separated by commas or lines
"|command"      feed the message to a command
/file           append the message to an mbox, or put it into a Maildir if
                there is a slash at the end
:include:file   follow the instructions in another file
# ...           a comment, at the beginning of a line

The user's own address means delivery as if there were no file.  An address is
completed with the default host, plus domain and default domain.  Commands
and files come first, addresses last.

OPTIONS
-N  follow the instructions (the default)
-n  only say what they are

ENVIRONMENT
  USER, HOST              the user's own address
  UFLINE, RPLINE, DTLINE  lines to put before the message
  NEWSENDER               the envelope sender
  QMAILQUEUE              a program to run in place of bin/qmail-queue

FILES
control/me, control/defaulthost, control/defaultdomain, control/plusdomain

EXIT
99: done; qmail-local ignores the rest of .qmail.  0: it goes on with it, since
there are no instructions, or because they say so.  100: a command or
qmail-queue refused.  111: trouble; try again later.
"""

from __future__ import annotations

import os

from qmail import home, piped
from qmail.control import Controls, read_file
from qmail.header.tokens import Unparsable
from qmail.local_delivery import forward_file
from qmail.local_delivery.forward_file import ForwardFile
from qmail.local_delivery.redirect import redirect
from supervise.errors import reason
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, TEMPORARY, Fatal, Usage, program, say, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

DONE = 99
SYNOPSIS = "dot-forward [ -nN ] file ..."
LASTING = frozenset((64, 65, 70, 76, 77, 78, 100, 112))  # exit codes of commands
DEEPEST = 10  # files that include one another


@program("dot-forward")
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    follow = True
    options = Options(argv, "nN")
    try:
        for letter, _ in options:
            follow = letter == "N"
    except BadOption as problem:
        say(f"dot-forward: {problem}")
        raise Usage(SYNOPSIS) from None
    reader = _forward_file()
    for file in options.operands:
        delivery = Delivery(reader, follow)
        if delivery.read(file):
            delivery.forward()
            if not delivery.direct:
                return DONE
            break
        if not follow and delivery.exists:
            say(f"skipping empty file {file}")
    if not follow:
        say("direct delivery")
    return 0


def _forward_file() -> ForwardFile:
    with unable_to("read controls"):
        controls = Controls.of(home.find())

        def control(name: str) -> bytes:
            return controls.line(name, b"me", me=True) or b""

        names = (control("defaulthost"), control("defaultdomain"), control("plusdomain"))
        return ForwardFile(_variable(b"USER"), _variable(b"HOST"), *names)


def _variable(name: bytes) -> bytes:
    return os.environb.get(name, b"")


class Delivery:
    """Carries out the instructions of a file: commands and files at once, addresses by `forward`."""

    def __init__(self, reader: ForwardFile, follow: bool) -> None:
        self.exists = False
        self.direct = False  # deliver to the user, too
        self._reader = reader
        self._follow = follow
        self._targets: list[bytes] = []

    def read(self, file: str, depth: int = 1) -> bool:
        """Are there instructions in `file`?"""
        content = self._content(file)
        if content is None:
            if depth > 1:
                raise Fatal(f"unable to open {file}: file does not exist")
            return False
        self.exists = True
        found = False
        for line in content.split(b"\n"):
            try:
                for kind, value in self._reader.read(line):
                    found = True
                    self._obey(kind, value, depth)
            except Unparsable:
                raise Fatal(f"unable to parse this line: {os.fsdecode(line)}") from None
        return found

    def _content(self, file: str) -> bytes | None:
        action = "open" if not os.path.isdir(file) else "read"
        with unable_to(f"{action} {file}"):
            return read_file(file)

    def _obey(self, kind: str, value: bytes, depth: int) -> None:
        if kind == forward_file.DIRECT:
            self.direct = True
        elif kind == forward_file.INCLUDE:
            if depth == DEEPEST:
                raise Fatal("too many files include one another")
            self.read(os.fsdecode(value), depth + 1)
        elif kind == forward_file.FORWARD:
            self._targets.append(value)
            self._announce("forward", value)
        elif kind == forward_file.COMMAND:
            self._announce("pipe through", value)
            if self._follow:
                _feed(value)
        else:
            self._announce("append to", value)
            if self._follow:
                _append(value)

    def _announce(self, action: str, value: bytes) -> None:
        if not self._follow:
            say(f"{action} {os.fsdecode(value)}")

    def forward(self) -> None:
        """Queue the message for the addresses found."""
        if self._targets and self._follow:
            sender = _variable(b"NEWSENDER")
            number = redirect(_variable(b"DTLINE"), sender, self._targets, "unable to forward message: ")
            say(f"dot-forward: info: qp {number}")


def _feed(command: bytes) -> None:
    lines = b"".join(map(_variable, (b"UFLINE", b"RPLINE", b"DTLINE")))
    pipe = piped.Pipe("dot-forward", ["/bin/sh", "-c", os.fsdecode(command)], _cannot_run)
    try:
        error = piped.copy(pipe, lines)
        if error and not isinstance(error, BrokenPipeError):
            raise Fatal(f"unable to read message: {reason(error)}")
        code = pipe.wait()
    finally:
        pipe.close()
    if code:
        raise SystemExit(PERMANENT if code in LASTING else TEMPORARY)  # the command has said why
    _rewind()


def _cannot_run(name: str, error: OSError) -> Fatal:
    return Fatal(f"unable to run {name}: {reason(error)}")


def _append(path: bytes) -> None:
    from qmail.local_delivery import maildir, mbox
    from qmail.local_delivery.delivery import Undelivered

    header = _variable(b"RPLINE") + _variable(b"DTLINE")
    try:
        if path.endswith(b"/"):
            maildir.deliver(path, header, 0)
        else:
            mbox.deliver(path, _variable(b"UFLINE") + header, 0)
    except Undelivered as error:
        raise Fatal(str(error)) from None
    _rewind()


def _rewind() -> None:
    with unable_to("rewind input"):
        os.lseek(0, 0, os.SEEK_SET)
