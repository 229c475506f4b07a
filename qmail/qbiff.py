"""qbiff(1): shows a line about new mail on the user's terminals.

SYNOPSIS
in .qmail: |qbiff

DESCRIPTION
qbiff writes the recipient, the sender, the subject and the beginning of the
message on standard input to each terminal on which the user is logged in and
has run `biff y`.  Unprintable characters are masked.

ENVIRONMENT
  USER    the user
  LOCAL   the local part of the recipient
  SENDER  the envelope sender

FILES
/run/utmp: who is logged in, and where
/dev/...: the terminals; `biff y` makes one executable for its owner

EXIT
0, always.
"""

from __future__ import annotations

import os
import stat
import struct

from qmail.header.fields import Reader, contents_of
from supervise import masks
from supervise.durable import write_all
from supervise.program import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

UTMP = "/run/utmp"
RECORD = struct.Struct("=hxxi32s4s32s256shhiii16s20s")  # utmp(5) of Linux
USER_PROCESS = 7
LONGEST_USER = 32
WIDTH = 78  # columns of the second line
BLOCK = 65536
MASK_ADDRESS = masks.printable(b"_")
MASK_TEXT = masks.printable(b"/")


@program("qbiff")
def main(argv: Sequence[str]) -> int:  # noqa: ARG001
    user, sender, local = (os.environb.get(name) for name in (b"USER", b"SENDER", b"LOCAL"))
    if user is None or sender is None or local is None or len(user) > LONGEST_USER:
        return 0
    try:
        announcement = announce(local, sender, _text())
        with open(UTMP, "rb") as utmp:
            logins = utmp.read()
    except OSError:
        return 0
    for terminal in terminals(logins, user):
        tell(b"/dev/" + terminal, announcement)
    return 0


def announce(recipient: bytes, sender: bytes, text: bytes) -> bytes:
    """What appears on the screen."""
    first = (b"*** TO <%b> FROM <%b>" % (recipient, sender)).translate(MASK_ADDRESS)
    return b"\r\n\a%b\r\n%b\r\n" % (first, text.translate(MASK_TEXT))


def _text() -> bytes:
    """The subject and the beginning of the body.  The whole message is read."""
    reader = Reader(lambda: os.read(0, BLOCK))
    text = b"    "
    for name, pieces in reader.fields():
        if name == b"subject":
            text = _extended(text, [contents_of(_beginning(pieces))])
    return _extended(text, reader.body())


def _beginning(pieces: Iterable[bytes]) -> bytes:
    return next(iter(pieces), b"")


def _extended(text: bytes, pieces: Iterable[bytes]) -> bytes:
    for piece in pieces:
        text += piece[: WIDTH - len(text)]
    return text


def terminals(logins: bytes, user: bytes) -> Iterator[bytes]:
    """The terminals of `user`, by the records of utmp."""
    whole = len(logins) // RECORD.size * RECORD.size
    for kind, _, line, _, name, *_ in RECORD.iter_unpack(logins[:whole]):
        terminal = line.partition(b"\0")[0]
        usable = terminal and not terminal.startswith(b"/") and b"." not in terminal
        if kind == USER_PROCESS and name.partition(b"\0")[0] == user and usable:
            yield terminal


def tell(terminal: bytes, announcement: bytes) -> None:
    try:
        fd = os.open(terminal, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        status = os.fstat(fd)
        if status.st_mode & stat.S_IXUSR and status.st_uid == os.getuid():
            write_all(fd, announcement)
    except OSError:
        pass
    finally:
        os.close(fd)
