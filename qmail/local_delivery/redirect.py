"""Queueing the message on standard input for other addresses: forward, condredirect, dot-forward."""

from __future__ import annotations

import os

from qmail import home
from qmail.queueing import enqueue, envelope
from supervise.program import PERMANENT, TEMPORARY, Fatal, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK = 65536


def required(name: str) -> bytes:
    """A variable that qmail-local sets.  Raises Fatal if it is missing."""
    value = os.environb.get(name.encode())
    if value is None:
        raise Fatal(f"{name} not set", PERMANENT)
    return value


def redirect(delivered: bytes, sender: bytes, recipients: Iterable[bytes], complaint: str = "") -> int:
    """Queue `delivered`, a Delivered-To line, and standard input; return the pid for the log, the `qp`.

    SIGPIPE has to be ignored.  Raises Fatal, with qmail-queue's reason behind `complaint`.
    """
    with unable_to("fork"):
        message = enqueue.open_message(home.find())
    try:
        message.write(delivered)
        with unable_to("read message"):
            while block := os.read(0, BLOCK):
                message.write(block)
        verdict = message.commit(envelope.encode(sender, recipients))
    except BaseException:
        message.abandon()
        raise
    if verdict:
        code = PERMANENT if verdict.startswith(b"D") else TEMPORARY
        raise Fatal(complaint + os.fsdecode(verdict[1:]), code)
    return message.number
