"""envuidgid(8): run a program with an account's uid and gid in $UID and $GID.

SYNOPSIS      envuidgid account child ...
EXIT          the child's.  100: wrong usage.  111: no such account, or no child.
ENVIRONMENT   UID and GID are set for the child, which may become them later (tcpserver -U).
"""

from __future__ import annotations

import os

from supervise import accounts, chain
from supervise.program import Fatal, Usage, program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("envuidgid")
def main(argv: Sequence[str]) -> int:
    if len(argv) < 2:
        raise Usage("envuidgid account child")
    account, *child = argv
    entry = accounts.entry(account)
    if not entry:
        raise Fatal(f"unknown account {account}")
    ids = {"GID": str(entry.pw_gid), "UID": str(entry.pw_uid)}
    with unable_to(f"run {child[0]}"):
        chain.run(child, {**os.environ, **ids})
