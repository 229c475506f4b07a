"""Received lines: how a message came to this host, and who queued it."""

from __future__ import annotations

import pwd

from qmail import dates, home
from qmail.control import read_file
from supervise.numbers import scan_ulong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SAFE = b".@%+/=:-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789[]"
MAKE_SAFE = bytes(byte if byte in SAFE else 0x3F for byte in range(256))
FOR_BOUNCE = b"for bounce"
INVOKERS = {"alias": b"by alias", "qmaild": b"from network", "qmails": FOR_BOUNCE}


def safe(text: bytes) -> bytes:
    """`text` with a question mark for whatever might mislead in a header."""
    return text.translate(MAKE_SAFE)


class Peer:
    """Who is at the other end of a connection, as the environment of tcp-environ(5) tells it."""

    def __init__(self, environment: Mapping[bytes, bytes]) -> None:
        get = environment.get
        self.ip = get(b"TCPREMOTEIP", b"unknown")
        self.host = get(b"TCPREMOTEHOST", b"unknown")
        self.info = get(b"TCPREMOTEINFO")
        self.local = get(b"TCPLOCALHOST", get(b"TCPLOCALIP", b"unknown"))

    def received(
        self, protocol: bytes, when: int, helo: bytes | None = None, local_time: bool = False
    ) -> bytes:
        """The Received line for a message from here; `when` in seconds since 1970."""
        said = b" (HELO %b)" % safe(helo) if helo is not None else b""
        info = safe(self.info) + b"@" if self.info is not None else b""
        return b"Received: from %b%b (%b%b)\n  by %b with %b; %b\n" % (
            safe(self.host), said, info, safe(self.ip), safe(self.local), protocol,
            dates.rfc822(when, local_time),
        )  # fmt: skip


def queued(pid: int, uid: int, when: int, role: bytes = b"", local_time: bool = False) -> bytes:
    """The line that qmail-queue puts on top: process `pid` of user `uid` queued the message.

    `role`: one of INVOKERS' values, where the user's name does not tell it.
    """
    date = dates.rfc822(when, local_time)
    return b"Received: (qmail %d invoked %b); %b\n" % (pid, role or invoker(uid), date)


def in_local_time(mail_home: str) -> bool:
    """Does the mail home's control/datelocaltime ask for local time?  One that cannot be read does not."""
    try:
        content = read_file(f"{home.control_directory(mail_home)}/datelocaltime")
    except OSError:
        return False
    return bool(content and scan_ulong(content)[0])


def invoker(uid: int) -> bytes:
    """How a Received line names the user: by role if it is one of qmail's own."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return INVOKERS.get(name) or b"by uid %d" % uid
