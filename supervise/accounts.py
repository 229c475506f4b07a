"""Accounts: whom a name stands for, and becoming them.

The order is supplementary groups, group, user, for each step takes away the
right to do the one before.
"""

from __future__ import annotations

import os
import pwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_ID = (1 << 32) - 2  # (uid_t) -1 means "leave it"


class Account:
    """A user: name, uid, gid, all groups (gid among them), home."""

    __slots__ = ("gid", "groups", "home", "name", "uid")

    def __init__(self, name: str, uid: int, gid: int, groups: Sequence[int], home: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = tuple(groups)
        self.home = home


def look_up(name: str) -> Account | None:
    """The account called `name`, or given as `uid:gid` in numbers; None if there is no such account."""
    numbers = _numbers(name)
    if numbers:
        return Account(name, *numbers, numbers[1:], "/")
    user = entry(name)
    if not user:
        return None
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return Account(user.pw_name, user.pw_uid, user.pw_gid, groups, user.pw_dir)


def entry(name: str) -> pwd.struct_passwd | None:
    """What the system's user database says of `name`; None if nothing."""
    try:
        return pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a name that no file can hold
        return None


def _numbers(name: str) -> tuple[int, int] | None:
    uid, colon, gid = name.partition(":")
    if not (colon and uid.isdecimal() and gid.isdecimal() and name.isascii() and len(name) <= 21):
        return None
    ids = int(uid), int(gid)
    return ids if max(ids) <= LARGEST_ID else None


def enter_group(gid: int, groups: Sequence[int]) -> None:
    """Have exactly the supplementary `groups`, and the group `gid`.  Raises OSError."""
    os.setgroups(list(groups))
    os.setgid(gid)


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Have the supplementary `groups`, the group `gid` and the user `uid`, for good.

    Raises OSError (EPERM), and changes nothing, for whom setgroups(2) is not
    allowed to, even if it is that very user: as the originals do.
    """
    enter_group(gid, groups)
    os.setuid(uid)
