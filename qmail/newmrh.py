"""qmail-newmrh(8): compile control/morercpthosts for qmail-smtpd.

SYNOPSIS
    qmail-newmrh

DESCRIPTION
    Makes control/morercpthosts.cdb of control/morercpthosts: a host or a
    .domain on a line, as in rcpthosts, `#` comments and empty lines left out.
    qmail-smtpd looks there for what it does not find in rcpthosts, so
    rcpthosts is for the fifty hosts that get most mail, this for the others.

    The new database takes the old one's place at once and whole.

EXIT
    0: done.  111: trouble; the old database stands.

FILES
    HOME/control/morercpthosts, morercpthosts.tmp, morercpthosts.cdb

ENVIRONMENT
    QMAILHOME, QMAIL_CONTROLDIR: where the mail system is.
"""

from __future__ import annotations

import os

from qmail import home
from supervise.durable import sync_directory
from supervise.program import program, unable_to
from ucspi.cdb import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLANKS = b" \n\t"
LINE = 1 << 20  # bytes


@program("qmail-newmrh")
def main(_: Sequence[str]) -> int:
    os.umask(0o033)
    where = home.find()
    with unable_to(f"chdir to {where}"):
        os.chdir(where)
    control = home.control_directory(where)
    name = f"{control}/morercpthosts"
    with unable_to("read control/morercpthosts"):
        source = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _compile(source, f"{name}.tmp")
    finally:
        os.close(source)
    with unable_to("move control/morercpthosts.tmp to control/morercpthosts.cdb"):
        os.rename(f"{name}.tmp", f"{name}.cdb")
        sync_directory(control)
    return 0


def _compile(source: int, target_name: str) -> None:
    writing = unable_to("write to control/morercpthosts.tmp")
    with writing:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        target = os.open(target_name, flags, 0o644)
    try:
        with writing:
            database = Writer(target)
        for hosts in _hosts(source):
            with writing:
                database.extend(hosts, [b""] * len(hosts))
        with writing:
            database.finish()
            os.fsync(target)
    finally:
        os.close(target)


def _hosts(source: int) -> Iterator[list[bytes]]:
    """The entries of the file, those of a megabyte at a time."""
    rest = b""
    while True:
        with unable_to("read control/morercpthosts"):
            data = os.read(source, LINE)
        lines = (rest + data).split(b"\n")
        rest = lines.pop() if data else b""
        entries = [line.lower().rstrip(BLANKS) for line in lines]
        yield [entry for entry in entries if entry and not entry.startswith(b"#")]
        if not data:
            return
