"""qmail-newu(8): compile users/assign into users/cdb, by which qmail-lspawn finds whose an address is.

SYNOPSIS   qmail-newu

DESCRIPTION
           users/assign has lines
               =local:user:uid:gid:home:dash:ext:
               +begin:user:uid:gid:home:dash:pre:
           and ends with a line that begins with a dot.  The first kind is
           for one local part, the second for all that begin with `begin`,
           the rest of which follows `pre`.  Deliveries go on meanwhile.
EXIT       0: done.  111: trouble, or users/assign makes no sense; the old
           users/cdb stands.
FILES      users/assign, users/cdb, users/cdb.tmp
"""

from __future__ import annotations

import os

from qmail import home
from supervise.durable import sync_directory
from supervise.program import Fatal, program
from ucspi import cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIELDS = 6  # behind the local part, each with its colon
BAD_FORMAT = "bad format in users/assign"


@program("qmail-newu")
def main(argv: Sequence[str]) -> int:  # noqa: ARG001
    os.umask(0o033)
    try:
        os.chdir(home.find())
    except OSError as error:
        raise Fatal("unable to chdir") from error
    assign = _open_assign()
    try:
        _make(assign)
    finally:
        os.close(assign)
    try:
        os.rename("users/cdb.tmp", "users/cdb")
        sync_directory("users")
    except OSError as error:
        raise Fatal("unable to move users/cdb.tmp to users/cdb") from error
    return 0


def _open_assign() -> int:
    try:
        return os.open("users/assign", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Fatal("unable to open users/assign") from error


def _make(assign: int) -> None:
    """Write all of users/cdb.tmp, down to the disk."""
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open("users/cdb.tmp", flags, 0o644)
    except OSError as error:
        raise Fatal("unable to open users/cdb.tmp") from error
    try:
        lines = list(_read(assign))
        _write(fd, *compiled(lines))
    finally:
        os.close(fd)


def _read(assign: int) -> Iterator[bytes]:
    """The lines before the one that begins with a dot."""
    try:
        with os.fdopen(assign, "rb", closefd=False) as file:
            for line in file:
                if line.startswith(b"."):
                    return
                yield line
    except OSError as error:
        raise Fatal("unable to read users/assign") from error
    raise Fatal(BAD_FORMAT)


def _write(fd: int, keys: Sequence[bytes], datas: Sequence[bytes]) -> None:
    try:
        writer = cdb.Writer(fd)
        writer.extend(keys, datas)
        writer.finish()
        os.fsync(fd)
    except OSError as error:
        raise Fatal("unable to write users/cdb.tmp") from error


def compiled(lines: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The keys and data of users/cdb for the lines of users/assign; see qmail.users_cdb.  Raises Fatal."""
    keys, datas = [], []
    ends = b""
    for line in lines:
        local, colon, rest = line.partition(b":")
        fields = rest.split(b":", FIELDS)
        if b"\0" in line or not local or not colon or len(fields) <= FIELDS or not line.endswith(b"\n"):
            raise Fatal(BAD_FORMAT)
        key = b"!" + local[1:].lower()
        if local.startswith(b"+"):
            if local[1:] and local[-1:] not in ends:
                ends += local[-1:]
        else:
            key += b"\0"
        keys.append(key)
        datas.append(b"\0".join(fields[:FIELDS]))
    return [*keys, b""], [*datas, ends]
