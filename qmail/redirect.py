"""Queueing the message on standard input for other addresses: forward, condredirect, dot-forward."""

from __future__ import annotations

import os

from qmail import enqueue, envelope, home
from supervise.program import PERMANENT, TEMPORARY, Fatal, say, unable_to

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


def redirect(name: str, delivered: bytes, sender: bytes, recipients: Iterable[bytes]) -> None:
    """Queue `delivered`, a Delivered-To line, and standard input; say so as the program `name`.

    SIGPIPE has to be ignored.  Raises Fatal with qmail-queue's complaint.
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
        raise Fatal(os.fsdecode(verdict[1:]), PERMANENT if verdict.startswith(b"D") else TEMPORARY)
    say(f"{name}: qp {message.number}")
