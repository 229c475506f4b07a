"""tcprules(1): compile rules for tcpserver and sslserver.

SYNOPSIS
    tcprules rules.cdb rules.tmp < rules

DESCRIPTION
    Reads rules from standard input, writes them to rules.tmp, and moves that
    to rules.cdb in one step, on disk: servers go on with the old rules until
    the new ones are complete.  After any error the old rules.cdb stands.  Both
    names must be on one file system.

    A rule is a line  address:instruction , without spaces; lines that begin
    with # and lines without a colon are left out.  The instruction is  allow
    or  deny , and may go on with variables for the program's environment, each
    value between two characters that it does not contain:

        10.0.:allow,RELAYCLIENT="",TCPLOCALHOST="mail.example.org"

    The address is one of these; of several rules that fit, the one that is
    higher in this list counts, and of equal ones the first in the file.

        joe@1.2.3.4       the remote user (as ident names him) and address
        joe@=example.org  the remote user and host name
        1.2.3.4           the address; so is 2001:db8::1
        =example.org      the host name
        1.2.  1.2.3.4-7   the beginning of the address; ranges of numbers
        10.0.0.0/8        a network, the longest prefix first; so is 2001:db8::/32
        =.example.org     the end of the host name
        =                 anyone who has a host name
                          (nothing) anyone

    Some variables are orders to tcpserver; see there.

EXIT
    0: rules.cdb is the new one.  100: usage, or a line is no rule.  111: a
    file cannot be read, written or moved.
"""

from __future__ import annotations

import os

from supervise.durable import sync_directory
from supervise.errors import reason
from supervise.program import PERMANENT, Fatal, Usage, program, unable_to
from ucspi.cdb import Writer
from ucspi.rules import BadRule, Compiler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 1 << 15  # bytes; what they become fits into a processor's cache


@program("tcprules")
def main(argv: Sequence[str]) -> int:
    if len(argv) < 2:
        raise Usage("tcprules rules.cdb rules.tmp")
    cdb, temporary = argv[:2]
    with unable_to(f"create {temporary}"):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _compile(fd, temporary)
    finally:
        os.close(fd)
    with unable_to(f"move {temporary} to {cdb}"):
        os.rename(temporary, cdb)
        sync_directory(os.path.dirname(cdb) or ".")
    return 0


def _compile(fd: int, name: str) -> None:
    try:
        compiler = Compiler(Writer(fd))
        while text := _read():
            compiler.feed(text)
        compiler.finish()
        os.fsync(fd)
    except BadRule as error:
        line = os.fsdecode(error.line.partition(b"\0")[0])
        raise Fatal(f"unable to parse this line: {line}", PERMANENT) from error
    except OSError as error:
        raise Fatal(f"unable to write to {name}: {reason(error)}") from error


def _read() -> bytes:
    with unable_to("read input"):
        return os.read(0, BLOCK)
