"""What qmail-send keeps in memory of a message that it is trying."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Job:
    """A message on one channel, from its first try to its last recipient's report.

    A message with one recipient is tried before it is preprocessed: until it
    is `settled`, todo/ is all there is of it, and `recipient` is known from it.
    """

    number: int
    channel: int
    sender: bytes
    birth: int  # when the message came, seconds since 1970
    retry: int  # when to try again what is not done by then
    dying: bool  # this is the last try
    recipient: bytes = b""
    settled: bool = True
    delivered: bool = False  # while not settled: the try has succeeded
    ended: bool = False  # ... and todo/ knows nothing of it any more
    refs: int = 1  # deliveries under way, and one for the pass that still reads recipients
    unfinished: int = 0  # recipients tried, without a lasting result
    unmarked: int = -1  # the place of the last recipient, if he was the last thing to be done
    complete: bool = False  # every recipient has been tried, or was done already
    since: int = 0  # when the try before preprocessing began


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One recipient of a job, under way."""

    serial: int
    job: Job
    place: int  # of its record in local/N or remote/N, bytes
    recipient: bytes
