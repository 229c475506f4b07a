"""Is an order one that can be carried out?  Its form, and the message that it names."""

from __future__ import annotations

import os
import pwd
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmail.spawning.orders import Order

LONGEST_PATH = 99  # bytes


def refusal(order: Order, limit: int, in_use: bool) -> bytes | None:
    """Why `order` is no proper order; None if it is one."""
    if not order.whole:
        return b"Zqmail-spawn out of memory. (#4.3.0)\n"
    if order.slot >= limit:
        return b"ZInternal error: delnum too big. (#4.3.5)\n"
    if in_use:
        return b"ZInternal error: delnum in use. (#4.3.5)\n"
    if order.message.startswith(b"/") or order.message.translate(None, b"0123456789/"):
        return b"DInternal error: messid has nonnumerics. (#5.3.5)\n"
    if len(order.message) > LONGEST_PATH:
        return b"DInternal error: messid too long. (#5.3.5)\n"
    if not order.message:
        return b"DInternal error: messid too short. (#5.3.5)\n"
    if b"@" not in order.recipient:
        return b"DSorry, address must include host name. (#5.1.3)\n"
    return None


class Unopened(Exception):
    """The message cannot be delivered; `str(error)` is the report's text."""


class Mess:
    """The directory queue/mess of open descriptor `fd`, and whose the messages in it must be.

    In a system that is qmailq, in a private instance the one who owns it all.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._owners = {os.fstat(fd).st_uid}
        try:
            self._owners.add(pwd.getpwnam("qmailq").pw_uid)
        except KeyError:
            pass

    def open(self, path: bytes) -> int:
        """Open a message for reading.  Raises Unopened."""
        try:
            message = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError as error:
            raise Unopened("Zqmail-spawn unable to open message. (#4.3.0)\n") from error
        wrong = self._wrong(os.fstat(message))
        if wrong:
            os.close(message)
            raise Unopened(wrong)
        return message

    def _wrong(self, status: os.stat_result) -> str | None:
        if not stat.S_ISREG(status.st_mode):
            return "ZSorry, message has wrong type. (#4.3.5)\n"
        if status.st_uid not in self._owners:
            return "ZSorry, message has wrong owner. (#4.3.5)\n"
        return None
