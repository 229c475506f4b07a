"""setuidgid(8): run a program as an account, with its group and no others.

SYNOPSIS   setuidgid account child ...
EXIT       the child's.  100: wrong usage.  111: no such account, no right to become it, or no child.

Only root may use it.  The account is a name of the system's user database; the
environment is left as it is.
"""

from __future__ import annotations

import os

from supervise import accounts, chain
from supervise.program import Fatal, Usage, program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("setuidgid")
def main(argv: Sequence[str]) -> int:
    if len(argv) < 2:
        raise Usage("setuidgid account child")
    account, *child = argv
    entry = accounts.entry(account)
    if not entry:
        raise Fatal(f"unknown account {account}")
    chain.preload(child[0])  # the account may have no right to read the interpreter's files
    with unable_to("setgid"):
        accounts.enter_group(entry.pw_gid, [entry.pw_gid])
    with unable_to("setuid"):
        os.setuid(entry.pw_uid)
    with unable_to(f"run {child[0]}"):
        chain.run(child)
