"""The way into the queue for this process: its own hand if it may write there, else qmail-queued."""

from __future__ import annotations

import os
import time

from qmail.queueing.accept import Entry
from qmail.queueing.queue_layout import Queue
from qmail.queueing.verdicts import BAD_HOME, BAD_PID, BAD_QUEUE, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmail.queueing.queue_socket import HandOver

DEATH = 24 * 60 * 60
"""Seconds that a message may take; qmail-send removes what is left of one after 36 hours."""


def begin(home: str, role: bytes = b"") -> Entry | HandOver:
    """Begin to queue a message in the queue of a mail home; `role` as for Entry.  Raises Refused."""
    queue = _writable_queue(home)
    if queue:
        return Entry(queue, os.getpid(), os.getuid(), int(time.time()), role)
    from qmail.queueing.queue_socket import HandOver  # the sockets of those who have no right to write

    return HandOver(home, DEATH)


def _writable_queue(home: str) -> Queue | None:
    """The queue, if this process may write it; None if it may not.  Raises Refused if there is none."""
    path = f"{home}/queue"
    try:
        queue = Queue.recognise(path)
    except PermissionError:
        return None
    except OSError as error:
        if os.path.isdir(path):  # without mess/: for the commit to complain of
            return Queue(path)
        raise Refused(BAD_QUEUE if os.path.isdir(home) else BAD_HOME) from error
    pid = f"{path}/pid"
    if os.access(pid, os.W_OK, effective_ids=True):
        return queue
    if not os.path.exists(pid):
        raise Refused(BAD_PID)
    return None
