"""The user's .qmail files: which one counts for an address, and whether it may be trusted.

The present directory is the user's home.
"""

from __future__ import annotations

import errno
import os
import stat

from qmail import control
from qmail.home import control_directory
from qmail.local_delivery import dotqmail
from supervise.errors import reason, temporary
from supervise.program import PERMANENT, TEMPORARY, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmail.local_delivery.delivery import Delivery

WRITABLE = 0o002
"""These bits of the mode of a home directory or a .qmail file mean that others might give the orders."""
MOST = 64 * 1024 * 1024  # bytes of a .qmail file
CHUNK = 64 * 1024  # bytes
LATER = (errno.EPERM, errno.EACCES)


class Stop(Exception):
    """The delivery ends here with an exit code; `str(error)`, if any, tells why."""

    def __init__(self, text: str = "", code: int = TEMPORARY) -> None:
        super().__init__(text)
        self.code = code


def forbidden_bits(mail_home: str) -> int:
    """The setting control/conf-patrn, in octal, or else WRITABLE."""
    try:
        content = control.read_file(f"{control_directory(mail_home)}/conf-patrn")
        return WRITABLE if content is None else int(content.partition(b"\n")[0], 8)
    except OSError as error:
        raise Stop(f"Unable to read control/conf-patrn: {reason(error)}. (#4.3.0)") from error
    except ValueError as error:
        raise Stop("Unable to read control/conf-patrn: not octal. (#4.3.0)") from error


def check_home(forbidden: int, real: bool) -> None:
    """See to it that only the user gives orders here, and not right now.  Raises Stop."""
    try:
        mode = os.stat(".").st_mode
    except OSError as error:
        raise Stop(f"Unable to stat home directory: {reason(error)}. (#4.3.0)") from error
    if mode & forbidden:
        raise Stop("Uh-oh: home directory is writable. (#4.7.0)")
    if mode & stat.S_ISVTX:
        if real:
            raise Stop("Home directory is sticky: user is editing his .qmail file. (#4.2.1)")
        say("Warning: home directory is sticky.")


class Instructions:
    """What to do with a message: lines, what DEFAULT is (None: left alone), and if they may only forward."""

    __slots__ = ("default", "forwards_only", "text")

    def __init__(self, text: bytes, default: bytes | None, forwards_only: bool) -> None:
        self.text = text
        self.default = default
        self.forwards_only = forwards_only


def find(delivery: Delivery, forbidden: int) -> Instructions:
    """The instructions for `delivery`.  Raises Stop if there are none, or none to be trusted."""
    for name, default in dotqmail.file_names(delivery.dash, delivery.ext):
        found = _open(name, forbidden)
        if found:
            fd, mode = found
            text = _read(fd)
            if text:
                return Instructions(text, default, bool(mode & stat.S_IXUSR))
            return Instructions(delivery.default, default, False)
    if delivery.dash:
        raise Stop("Sorry, no mailbox here by that name. (#5.1.1)", PERMANENT)
    return Instructions(delivery.default, None, False)


def _open(name: bytes, forbidden: int) -> tuple[int, int] | None:
    """The .qmail file `name`, open, and its mode; None if it is not there, or no file."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if temporary(error) or error.errno in LATER:
            raise _unable_to_open(name, error) from error
        return None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        return None
    if mode & forbidden:
        os.close(fd)
        raise Stop("Uh-oh: .qmail file is writable. (#4.7.0)")
    return fd, mode


def _unable_to_open(name: bytes, error: OSError) -> Stop:
    return Stop(f"Unable to open {os.fsdecode(name)}: {reason(error)}. (#4.3.0)")


def _read(fd: int) -> bytes:
    """All of the .qmail file `fd`, which is closed."""
    try:
        text = bytearray()
        while data := os.read(fd, CHUNK):
            text += data
            if len(text) > MOST:
                raise Stop("Out of memory. (#4.3.0)")
        return bytes(text)
    except OSError as error:  # what the original says then
        raise Stop("Out of memory. (#4.3.0)") from error
    finally:
        os.close(fd)


def new_sender(delivery: Delivery) -> bytes:
    """The sender for forwards: the list's owner if he has a file, with VERP if he has two.  Raises Stop."""
    if delivery.sender in (b"", b"#@[]"):
        return delivery.sender
    owner, owner_default = dotqmail.owner_names(delivery.dash, delivery.ext)
    if not _exists(owner):
        return delivery.sender
    if not _exists(owner_default):
        return delivery.local + b"-owner@" + delivery.host
    return delivery.local + b"-owner-@" + delivery.host + b"-@[]"


def _exists(name: bytes) -> bool:
    try:
        os.stat(name)
    except OSError as error:
        if temporary(error):
            raise _unable_to_open(name, error) from error
        return False
    return True
