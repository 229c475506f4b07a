"""qmail-start(8): turn on mail delivery.

SYNOPSIS
    qmail-start [ defaultdelivery [ logger arg ... ] ]

DESCRIPTION
    qmail-start starts qmail-lspawn, qmail-rspawn, qmail-clean and qmail-queued,
    each as its own user, ties them together with pipes, and becomes
    qmail-send.  When qmail-send ends, so do they.

    defaultdelivery is for recipients whose .qmail says nothing; it is
    ./Mailbox if not given.  The activity record of qmail-send goes to
    standard output, or through logger, which runs as qmaill.

    qmail-queued waits in the background if another one, a service of its own,
    already serves this queue.

    The environment, resource limits and the like are passed on to every
    delivery.  In a private instance (or a system
    without qmail's accounts) all programs run as the user who starts them.

EXIT
    111: a part could not be started; nothing is printed.  Else qmail-send's.

ENVIRONMENT
    PATH: where the programs are.  QMAILHOME: the mail home.
"""

from __future__ import annotations

import fcntl
import os
import select

from qmail import home as mail_home
from qmail import roles
from qmail.queueing import queue_socket
from supervise import chain, children, descriptors
from supervise.program import TEMPORARY, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEFAULT_DELIVERY = "./Mailbox"
ABOVE = 20  # the pipes' descriptors, until each is where it belongs
PARTS_FDS = 7  # descriptors below this are qmail-send's
LIFELINE = 7  # of qmail-send: closed when it ends, for qmail-queued to notice
AGAIN = 2000  # milliseconds between two looks at another qmail-queued


PARTS = ("qmail.send", "qmail.lspawn", "qmail.rspawn", "qmail.clean", "qmail.queued")


@program("qmail-start", resident=True, helps=False, later=PARTS)
def main(argv: Sequence[str]) -> int:
    home = mail_home.find()
    if home != mail_home.DEFAULT:
        os.environ["QMAILHOME"] = home  # by whatever path each part is found
    try:
        os.chdir("/")
        os.umask(0o077)
        start(home, argv)
    except OSError:
        pass
    return TEMPORARY


def start(home: str, argv: Sequence[str]) -> None:
    """Start everything and become qmail-send.  Raises OSError."""
    parts = Parts(roles.of(home))
    parts.enter_group(home)
    log = 1
    if argv[1:]:
        log_in, log = pipe()
        parts.spawn(argv[1:], {0: log_in}, lambda: parts.become("qmaill", "nofiles"))
    local, local_orders, local_in, local_reports = *pipe(), *pipe()
    remote, remote_orders, remote_in, remote_reports = *pipe(), *pipe()
    clean, requests, answers, clean_out = *pipe(), *pipe()
    parts.spawn(["qmail-lspawn", (*argv, DEFAULT_DELIVERY)[0]], {0: local, 1: local_reports})
    parts.spawn(["qmail-rspawn"], {0: remote, 1: remote_reports}, lambda: parts.become("qmailr", "qmail"))
    parts.spawn(["qmail-clean"], {0: clean, 1: clean_out}, lambda: parts.become("qmailq", "qmail"))
    watch, lifeline = pipe()

    def stand_by() -> None:
        parts.become("qmailq", "qmail")
        wait_for_turn(home, watch)

    parts.spawn(["qmail-queued"], {0: watch}, stand_by)
    parts.become("qmails", "qmail")
    of_send = (log, local_orders, local_in, remote_orders, remote_in, requests, answers, lifeline)
    descriptors.arrange(dict(enumerate(of_send)))
    chain.run(["qmail-send"])


class Parts:
    """Starts the parts, each in its role."""

    def __init__(self, cast: roles.Roles | None) -> None:
        self._roles = cast

    def become(self, user: str, group: str) -> None:
        """Be `user` for good, if parts have users of their own."""
        if self._roles:
            self._roles.become(user, group)

    def enter_group(self, home: str) -> None:
        """Everything is of the group qmail, qmail-lspawn included, which stays root."""
        if self._roles:
            os.setgid(self._roles.gids["qmail"])
            make_directory(f"{home}/{queue_socket.DIRECTORY}", self._roles)

    def spawn(
        self, argv: Sequence[str], fds: Mapping[int, int], prepare: Callable[[], None] | None = None
    ) -> None:
        """Start `argv` with `fds`, after `prepare`; of qmail-send's descriptors it has no others but 2."""

        def body() -> int:
            try:
                if prepare:
                    prepare()
                os.closerange(3, PARTS_FDS)
                descriptors.arrange(fds)
                chain.run(argv)
            except OSError:
                return TEMPORARY

        children.fork(os.path.basename(argv[0]), body)


def make_directory(path: str, cast: roles.Roles) -> None:
    """Have a directory for qmail-queued, which could not make it itself.  Raises OSError."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    os.chmod(path, 0o755)
    os.chown(path, cast.uids["qmailq"], cast.gids["qmail"])


def pipe() -> tuple[int, int]:
    """A pipe whose descriptors are out of the way."""
    ends = os.pipe()
    try:
        return (
            fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, ABOVE),
            fcntl.fcntl(ends[1], fcntl.F_DUPFD_CLOEXEC, ABOVE),
        )
    finally:
        os.close(ends[0])
        os.close(ends[1])


def wait_for_turn(home: str, lifeline: int) -> None:
    """Come back when no other qmail-queued serves the queue; exit if qmail-send goes before that."""
    poll = select.poll()
    poll.register(lifeline, 0)  # which tells of its end only
    while is_served(home):
        if poll.poll(AGAIN):
            raise SystemExit(0)


def is_served(home: str) -> bool:
    """Does a qmail-queued hold the lock of its socket?"""
    try:
        fd = os.open(f"{home}/{queue_socket.DIRECTORY}/{queue_socket.LOCK}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # there never was one; or it is for qmail-queued to complain
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
