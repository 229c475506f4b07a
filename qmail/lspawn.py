"""qmail-lspawn(8): start local deliveries for qmail-send, each as the user whose mail it is.

SYNOPSIS   qmail-lspawn defaultdelivery

           Orders come in on descriptor 0, reports go out on 1.
DESCRIPTION
           Whose an address is, is looked up in users/cdb, and if it is not
           there, by qmail-getpw.  Then qmail-local runs with that uid and
           gid, and no other groups; never as root.

           In a private instance, and wherever it is not root's, it can
           deliver to its own user only, and stays who it is.
EXIT       0: descriptor 0 was closed, and all deliveries are over.
           100: no defaultdelivery.  111: no queue.
FILES      queue/mess, users/cdb, bin/qmail-local, bin/qmail-getpw
           control/conf-spawn: deliveries at a time, at most (120); above
           255 with the big-concurrency patch's protocol, at most 65000
ENVIRONMENT
           QMAILLOCAL names a program to run in place of bin/qmail-local.
"""

from __future__ import annotations

import grp
import os
import pwd

from qmail import home
from qmail.control import Controls
from qmail.home import is_private
from qmail.spawning import users_cdb
from qmail.spawning.agents import NOT_ALLOWED, User
from qmail.spawning.order_checks import Mess
from qmail.spawning.orders import Order
from qmail.spawning.spawner import DEFAULT_LIMIT, Run, Spawner, limit_of, preload
from supervise.program import PERMANENT, program, unable_to
from ucspi import cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_OUTPUT = 3000  # bytes of a report
MOST_ASSIGNMENT = 64 * 1024  # bytes that qmail-getpw may say
BUG, ROOT, CDB, SYSTEM = NOT_ALLOWED, 113, 117, 118
RUN_LATER, NO_GETPW, RUN_NEVER = 120, 121, 126

REPORTS = {
    CDB: b"ZTrouble reading users/cdb in qmail-lspawn.\n",
    119: b"ZOut of memory in qmail-lspawn.\n",
    SYSTEM: b"ZTemporary failure in qmail-lspawn.\n",
    116: b"ZUnable to find alias user!\n",
    ROOT: b"ZNot allowed to perform deliveries as root.\n",
    BUG: b"ZInternal qmail-lspawn bug.\n",
    115: b"ZNFS failure in qmail-local.\n",
    RUN_NEVER: b"DUnable to run qmail-local.\n",
    RUN_LATER: b"ZUnable to run qmail-local.\n",
    NO_GETPW: b"ZUnable to run qmail-getpw.\n",
}
VERDICTS = {0: b"K", 111: b"Z", 71: b"Z", 74: b"Z", 75: b"Z"}
"""What the other exit codes of qmail-local mean; any that is not here is for good."""


def report(status: int, output: bytes) -> bytes:
    """The text for qmail-send, given the exit code of qmail-local (or of what comes before it)."""
    if status < 0:
        return b"Zqmail-local crashed.\n"
    return REPORTS.get(status) or VERDICTS.get(status, b"D") + output


@program("qmail-lspawn", resident=True, later=("qmail.local",))
def main(argv: Sequence[str]) -> int:
    if not argv:
        return PERMANENT
    where = home.find()
    with unable_to(f"chdir to {where}/queue/mess"):
        mess = os.open(f"{where}/queue/mess", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(where)
        with unable_to("read controls"):
            limit = limit_of(Controls.of(where).number("conf-spawn", DEFAULT_LIMIT))
        deliveries = Deliveries(where, argv[0])
        preload(deliveries.local)
        preload(deliveries.getpw)
        Spawner(limit, Mess(mess), deliveries.first).serve()
    finally:
        os.close(mess)
    return 0


class Deliveries:
    """Makes of an order the run of qmail-local that it asks for."""

    def __init__(self, where: str, default: str) -> None:
        self.local = os.environ.get("QMAILLOCAL") or f"{where}/bin/qmail-local"
        self.getpw = f"{where}/bin/qmail-getpw"
        self._users = cdb.Kept(f"{where}/users/cdb")
        self._default = default
        self._becomes = os.geteuid() == 0 and not is_private(where)

    def first(self, order: Order) -> Run | bytes:
        """What to run for an order first, or what to report at once."""
        local, _, host = order.recipient.rpartition(b"@")
        if not local:  # <>
            return report(0, b"")
        try:
            fields = self._assigned(local)
        except (OSError, LookupError):
            return report(CDB, b"")
        if fields is not None:
            return self._delivery(order, local, host, fields)
        return self._ask_getpw(order, local, host)

    def _assigned(self, local: bytes) -> bytes | None:
        try:
            return users_cdb.find(self._users.reader(), local)
        except FileNotFoundError:
            return None

    def _ask_getpw(self, order: Order, local: bytes, host: bytes) -> Run | bytes:
        try:
            user = _getpw_user() if self._becomes else None
        except KeyError:
            return report(SYSTEM, b"")

        def done(status: int, fields: bytes) -> Run | bytes:
            if status:
                return report(SYSTEM if status < 0 else status, b"")
            return self._delivery(order, local, host, fields)

        argv = [self.getpw, os.fsdecode(local)]
        return Run(argv, user, done, (NO_GETPW, NO_GETPW), MOST_ASSIGNMENT, reads_message=False)

    def _delivery(self, order: Order, local: bytes, host: bytes, fields: bytes) -> Run | bytes:
        try:
            to = users_cdb.parse(fields)
        except users_cdb.Incomplete:
            return report(BUG, b"")
        user: User | None = (to.uid, to.gid)
        if not self._becomes:
            if to.uid != os.geteuid():
                return report(BUG, b"")
            user = None
        elif to.uid == 0:
            return report(ROOT, b"")
        words = [to.user, to.home, local, to.dash, to.ext, host, order.sender]
        argv = [self.local, "--", *map(os.fsdecode, words), self._default]
        return Run(argv, user, report, (RUN_LATER, RUN_NEVER), MOST_OUTPUT)


def _getpw_user() -> User:
    """The uid of qmailp and the gid of nofiles; KeyError: no such account."""
    return pwd.getpwnam("qmailp").pw_uid, grp.getgrnam("nofiles").gr_gid
