"""Who runs which part of the mail system.

A system's parts run as users of their own, so that one that is taken over
does not take the others with it.  In a private instance, and wherever the
accounts do not exist, all of them are the one user who starts them.
"""

from __future__ import annotations

import grp
import os

from qmail.home import is_private
from supervise import accounts

USERS = ("alias", "qmaild", "qmaill", "root", "qmailp", "qmailq", "qmailr", "qmails")
GROUPS = ("nofiles", "qmail")


class Roles:
    """The uids of USERS and the gids of GROUPS, by name."""

    def __init__(self, uids: dict[str, int], gids: dict[str, int]) -> None:
        self.uids = uids
        self.gids = gids

    def become(self, user: str, group: str) -> None:
        """Be that user for good, with that group and no other.  Raises OSError."""
        gid = self.gids[group]
        accounts.become(self.uids[user], gid, [gid])


def look_up() -> Roles | None:
    """The accounts of the system; None unless there are all of them."""
    uids = {name: account.uid for name in USERS if (account := accounts.look_up(name))}
    gids = {name: gid for name in GROUPS if (gid := _group(name)) is not None}
    return Roles(uids, gids) if len(uids) == len(USERS) and len(gids) == len(GROUPS) else None


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def of(home: str) -> Roles | None:
    """Whom the parts of the mail system in `home` are to become; None: they stay who they are."""
    if os.geteuid() or is_private(home):
        return None
    return look_up()
