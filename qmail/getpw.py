"""qmail-getpw(8): whose mail an address is that users/cdb does not know.

SYNOPSIS   qmail-getpw local

DESCRIPTION
           Mail for joe, and for joe-anything, is joe's if there is such a
           user who is not root and owns his home directory.  All else is
           the user alias's.  On descriptor 1: user, uid, gid, home, dash and
           ext, a NUL behind each.
EXIT       0: as said.  100: no address.  115: a home directory cannot be
           looked at now.  116: no user alias.  118: accounts cannot be
           looked up now.
FILES      /etc/passwd
"""

from __future__ import annotations

import os
import pwd

from supervise.durable import write_all
from supervise.errors import temporary
from supervise.program import PERMANENT, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

BREAK = "-"
MOST_NAME = 31  # characters of a user's name
ALIAS = "alias"
NFS, NO_ALIAS, SYSTEM = 115, 116, 118


@program("qmail-getpw", helps=False)
def main(argv: Sequence[str]) -> int:
    if not argv:
        return PERMANENT
    local = argv[0]
    try:
        found = _user(local) or (pwd.getpwnam(ALIAS), "-", local)
    except KeyError:
        return NO_ALIAS
    except OSError as error:
        return NFS if error.filename else SYSTEM
    entry, dash, ext = found
    fields = (entry.pw_name, str(entry.pw_uid), str(entry.pw_gid), entry.pw_dir, dash, ext)
    write_all(1, b"".join(os.fsencode(field) + b"\0" for field in fields))
    return 0


def _user(local: str) -> tuple[pwd.struct_passwd, str, str] | None:
    """The user with the longest name that `local` begins with, and what is left of `local`."""
    end = len(local)
    while end >= 0:
        if end <= MOST_NAME and local[end : end + 1] in ("", BREAK):
            entry = _owner_of_his_home(_lower(local[:end]))
            if entry:
                return (entry, "-", local[end + 1 :]) if local[end:] else (entry, "", "")
        end -= 1
    return None


def _lower(name: str) -> str:
    return os.fsdecode(os.fsencode(name).lower())


def _owner_of_his_home(name: str) -> pwd.struct_passwd | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    if not entry.pw_uid:
        return None
    try:
        owner = os.stat(entry.pw_dir).st_uid
    except OSError as error:
        if temporary(error):
            raise
        return None
    return entry if owner == entry.pw_uid else None
