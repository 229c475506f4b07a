"""maildirmake(1): make a maildir, the mailbox that needs no locks.

SYNOPSIS   maildirmake dir
EXIT       0.  100: usage.  111: it cannot be made; what was made of it stays.
FILES      dir, dir/tmp, dir/new, dir/cur, all of mode 0700
"""

from __future__ import annotations

import os

from supervise.program import Usage, program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("maildirmake")
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("maildirmake name")
    name = argv[0]
    with unable_to(f"mkdir {name}"):
        os.mkdir(name, 0o700)
    with unable_to(f"chdir to {name}"):
        os.chdir(name)
    for part in ("tmp", "new", "cur"):
        with unable_to(f"mkdir {name}/{part}"):
            os.mkdir(part, 0o700)
    return 0
