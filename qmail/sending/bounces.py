"""The texts of bounces.  Does no I/O.

bounce/N gathers a paragraph for each recipient that failed for good; from it
and the message comes the notice that is sent to the sender.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from qmail.dates import rfc822
from qmail.quoting import quote, quote2
from qmail.sending.rewriting import VERP

NOBODY = b"#@[]"
"""The sender of a double bounce: if that fails too, it is discarded."""
TOO_LONG = b"I'm not going to try again; this message has been in the queue too long.\n"
STRIPPED = b"\n\n--- End of message stripped.\n"
_SORRY = (
    b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
    b"This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
)
_BOUNCED = b"I tried to deliver a bounce message to this address, but the bounce bounced!\n\n"
_COPY = b"--- Below this line is a copy of the message.\n\n"
_ORIGINAL = b"--- Below this line is the original bounce.\n\n"


def paragraph(recipient: bytes, report: bytes) -> bytes:
    """What bounce/N gets for one recipient.  An empty line ends it, and none is inside."""
    if report and not report.endswith(b"\n"):
        report += b"\n"
    text = b"<" + recipient.replace(b"\n", b"_") + b">:\n" + report
    return _without_empty_lines(text[:-1]) + text[-1:] + b"\n"


def _without_empty_lines(text: bytes) -> bytes:
    """`text` with "/" for every newline that follows another."""
    lines = text.split(b"\n")
    marked = bytearray(lines[0])
    for previous, line in itertools.pairwise(lines):
        marked += (b"\n" if previous else b"/") + line
    return bytes(marked)


@dataclass(frozen=True, slots=True)
class Postmaster:
    """Who signs bounces, and who gets those that cannot be sent back."""

    name: bytes = b"MAILER-DAEMON"
    host: bytes = b"bouncehost"
    double_to: bytes = b"postmaster@doublebouncehost"  # empty: discard double bounces
    most_bytes: int = 50000  # of the message copied into the notice; 0: all

    def address(self, sender: bytes) -> tuple[bytes, bytes]:
        """The envelope of the notice for a message from `sender`: its own sender and recipient."""
        return (b"", sender) if sender else (NOBODY, self.double_to)

    def head(self, sender: bytes, now: int) -> bytes:
        """What precedes the content of bounce/N."""
        to = self.address(sender)[1]
        return (
            b"Date: " + rfc822(now) + b"\nFrom: " + quote(self.name) + b"@" + self.host
            + b"\nTo: " + quote2(to) + b"\nSubject: failure notice\n\n"
            + b"Hi. This is the qmail-send program at " + self.host + b".\n"
            + (_SORRY if sender else _BOUNCED)
        )  # fmt: skip


def before_copy(sender: bytes) -> bytes:
    """What stands between the content of bounce/N and the message."""
    return (_COPY if sender else _ORIGINAL) + b"Return-Path: <" + quote2(sender) + b">\n"


def bounce_sender(sender: bytes) -> bytes:
    """Whom a bounce goes to: `owner-@host-@[]` is `owner-@host`."""
    return sender.removesuffix(VERP) if len(sender) >= len(VERP) else sender
