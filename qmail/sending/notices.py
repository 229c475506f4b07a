"""Sending bounces: bounce/N and the message become a new message, to the sender or the postmaster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qmail.queueing import enqueue
from qmail.queueing.envelope import encode
from qmail.receiving.received import FOR_BOUNCE
from qmail.sending.bounces import NOBODY, STRIPPED, before_copy, bounce_sender
from qmail.sending.store import chunks

if TYPE_CHECKING:
    from qmail.queueing.enqueue import Message
    from qmail.sending.bounces import Postmaster
    from qmail.sending.store import Store


def send_notice(store: Store, home: str, postmaster: Postmaster, number: int, now: int) -> bool:
    """If message `number` has failures to tell of, tell of them, and remove bounce/N.

    False: that could not be done, and is to be tried again later.
    """
    log = store.log
    known = store.information(number)
    if known is None:
        return False
    sender = bounce_sender(known[0])
    path = store.queue.bounce(number)
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        log.warning("unable to stat", path)
        return False
    to = postmaster.address(sender)[1]
    if sender == NOBODY:
        log.line(b"triple bounce: discarding bounce/%d" % number)
    elif not to:
        log.line(b"double bounce: discarding bounce/%d" % number)
    elif not _send(store, home, postmaster, number, sender, now):
        return False
    try:
        os.unlink(path)
    except OSError:
        log.warning("unable to unlink", path)
        return False
    return True


def _send(store: Store, home: str, postmaster: Postmaster, number: int, sender: bytes, now: int) -> bool:
    log = store.log
    log.flush()  # the process may wait, or fork
    try:
        message = enqueue.open_message(home, FOR_BOUNCE)
    except OSError:
        log.line(b"warning: unable to start qmail-queue, will try later")
        return False
    _write(message, store, postmaster, number, sender, now)
    bounce_from, to = postmaster.address(sender)
    if message.commit(encode(bounce_from, [to])):
        log.line(b"warning: trouble injecting bounce message, will try later")
        return False
    log.line(b"bounce msg %d qp %d" % (number, message.number))
    return True


def _write(
    message: Message, store: Store, postmaster: Postmaster, number: int, sender: bytes, now: int
) -> None:
    most = postmaster.most_bytes
    copied = 0
    try:
        message.write(postmaster.head(sender, now))
        for data in chunks(store.queue.bounce(number)):
            message.write(data)
        message.write(before_copy(sender))
        for data in chunks(store.queue.mess(number), most):
            message.write(data)
            copied += len(data)
        if most and copied == most < os.stat(store.queue.mess(number)).st_size:
            message.write(STRIPPED)
    except OSError:
        message.fail()
