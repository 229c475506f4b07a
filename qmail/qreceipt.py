"""qreceipt(1): answers requests for a notice of delivery.

SYNOPSIS
in .qmail: |qreceipt deliveryaddress

DESCRIPTION
If the header of the message on standard input has a field
Notice-Requested-Upon-Delivery-To that names deliveryaddress, qreceipt sends a
short notice to the envelope sender.

ENVIRONMENT
  SENDER      the envelope sender; nothing is sent to an empty one or to #@[]
  QMAILQUEUE  a program to run in place of bin/qmail-queue

EXIT
0: done, or nothing to do.  100: wrong usage, or the field cannot be parsed,
or the notice is refused.  111: try again later.
"""

from __future__ import annotations

import os

from qmail import home
from qmail.header.addresses import AsTheyAre, TooLong, rewritten
from qmail.header.fields import Reader
from qmail.header.tokens import Unparsable
from qmail.injection import whole
from qmail.queueing import enqueue, envelope
from qmail.quoting import quote2
from supervise.program import PERMANENT, TEMPORARY, Fatal, Usage, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

REQUEST = b"notice-requested-upon-delivery-to"
BLOCK = 65536


@program("qreceipt")
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sender = os.environb.get(b"SENDER")
    if not argv or sender is None:
        raise Usage("qreceipt deliveryaddress")
    target = os.fsencode(argv[0])
    try:
        wanted, message_id = _read_header(target)
    except (TooLong, MemoryError):
        raise Fatal("out of memory") from None
    if wanted and sender not in (b"", b"#@[]"):
        _send(_notice(quote2(sender), target, message_id), sender)
    return 0


def _read_header(target: bytes) -> tuple[bool, bytes]:
    """Is a notice wanted from `target`, and what is the last Message-ID field?"""
    asked: list[bytes] = []
    message_id = b""
    for name, pieces in Reader(_read).fields():
        if name == b"message-id":
            message_id = whole(pieces)
        elif name == REQUEST:
            field = whole(pieces)
            try:
                rewritten(field, AsTheyAre(), asked.append)
            except Unparsable:
                complaint = b"unable to parse this: " + field.removesuffix(b"\n")
                raise Fatal(os.fsdecode(complaint), PERMANENT) from None
    return target in asked, message_id


def _read() -> bytes:
    try:
        return os.read(0, BLOCK)
    except OSError:
        raise Fatal("read error") from None


def _notice(sender: bytes, target: bytes, message_id: bytes) -> bytes:
    return (
        b"From: DELIVERY NOTICE SYSTEM <%b>\n"
        b"To: <%b>\n"
        b"Subject: success notice\n"
        b"\n"
        b"Hi! This is the qreceipt program. Your message was delivered to the\n"
        b"following address: %b. Thanks for asking.\n"
        b"%b"
    ) % (sender, sender, target, message_id and b"Your " + message_id)


def _send(notice: bytes, recipient: bytes) -> None:
    try:
        message = enqueue.open_message(home.find())
    except OSError:
        raise Fatal("unable to fork") from None
    message.write(notice)
    verdict = message.commit(envelope.encode(b"", [recipient]))
    if verdict.startswith(b"D"):
        raise Fatal("permanent qmail-queue error", PERMANENT)
    if verdict:
        raise Fatal("temporary qmail-queue error", TEMPORARY)
