"""The envelope files of the queue, cut into records.  Does no I/O.

A record is a letter, a text and NUL: in todo/ u (uid), p (pid), F (sender)
and T (recipient); in info/ F; in local/ and remote/ T (to do) and D (done).
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 1 << 20
"""Bytes of a record; qmail-queue takes addresses of up to 1002."""


class TooLong(ValueError):
    """No record can be that long: the file is damaged."""


@dataclass(slots=True)
class Head:
    """What todo/ says of a message beside its recipients; None: not said."""

    uid: int = 0
    pid: int = 0
    sender: bytes | None = None


class Records:
    """Cuts the pieces of a file into whole records; what no NUL ends is none.  Raises TooLong."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the records that `data` completes, each without its NUL."""
        *records, self._partial = (self._partial + data).split(b"\0")
        if len(self._partial) > LONGEST:
            raise TooLong
        return records


def number(text: bytes) -> int:
    """The decimal digits that `text` begins with; 0 if it does not."""
    end = len(text) - len(text.lstrip(b"0123456789"))
    return int(text[:end] or b"0") if end < 20 else 0


def read_head(head: Head, record: bytes) -> bool:
    """Take in a record of todo/ that is no recipient; False: there is no such kind of record."""
    kind = record[:1]
    if kind == b"u":
        head.uid = number(record[1:])
    elif kind == b"p":
        head.pid = number(record[1:])
    elif kind == b"F":
        head.sender = record[1:]
    else:
        return False
    return True


def sender_of(info: bytes) -> bytes | None:
    """The sender in the content of an info/ file; None if it is damaged."""
    sender, end, _ = info.partition(b"\0")
    return sender[1:] if end and sender.startswith(b"F") else None
