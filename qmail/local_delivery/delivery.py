"""One local delivery: what qmail-local is told about it, and the lines and variables made of that."""

from __future__ import annotations

import os

from qmail import dates
from qmail.quoting import quote2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BLANK_TO_DASH = bytes.maketrans(b" \t\n", b"---")


class Undelivered(Exception):
    """A mailbox did not take the message; `str(error)` is qmail-local's text for it."""


class Delivery:
    """The operands of qmail-local, in its order."""

    def __init__(self, operands: Iterable[bytes]) -> None:
        (self.user, self.home, self.local, self.dash, self.ext,
         self.host, self.sender, self.default) = operands  # fmt: skip
        self.recipient = self.local + b"@" + self.host
        self.delivered_to = b"Delivered-To: " + self.recipient.replace(b"\n", b"_") + b"\n"
        self.return_path = b"Return-Path: <" + quote2(self.sender).replace(b"\n", b"_") + b">\n"

    def from_line(self, now: float) -> bytes:
        """The line between messages in an mbox."""
        sender = self.sender.translate(BLANK_TO_DASH) or b"MAILER-DAEMON"
        return b"From " + sender + b" " + dates.mbox(now) + b"\n"

    def environment(self, default: bytes | None, new_sender: bytes, now: float) -> dict[str, str]:
        """What a program is run with.  `default`: for DEFAULT, which stays as it is for None."""
        variables = {
            "USER": self.user, "HOME": self.home, "LOCAL": self.local, "HOST": self.host,
            "RECIPIENT": self.recipient, "SENDER": self.sender, "NEWSENDER": new_sender,
            "DTLINE": self.delivered_to, "RPLINE": self.return_path, "UFLINE": self.from_line(now),
        }  # fmt: skip
        ext, host = self.ext, self.host
        for number in ("", "2", "3", "4"):
            variables[f"EXT{number}"] = ext
            variables[f"HOST{number}"] = host
            ext = ext.partition(b"-")[2]
            host = host[: host.rfind(b".")] if b"." in host else host
        if default is not None:
            variables["DEFAULT"] = default
        return {**os.environ, **{name: os.fsdecode(value) for name, value in variables.items()}}
