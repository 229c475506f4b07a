"""A message's envelope as it travels to qmail-queue: `F` sender NUL, `T` recipient NUL ..., NUL."""

from __future__ import annotations

from qmail.queueing.verdicts import ADDRESS_TOO_LONG, BAD_ENVELOPE, READ_ERROR, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_ADDRESS = 1002  # bytes
NUL = b"\0"


def encode(sender: bytes, recipients: Iterable[bytes]) -> bytes:
    """The envelope from `sender` to `recipients`.  ValueError: an address with a NUL."""
    addresses = [b"F" + sender, *(b"T" + recipient for recipient in recipients)]
    encoded = NUL.join([*addresses, b"", b""])
    if encoded.count(NUL) != len(addresses) + 1:
        raise ValueError("an address cannot hold a NUL")
    return encoded


class EnvelopeReader:
    """Checks an envelope as it comes in; does no I/O.  `done`: it is complete, what follows is ignored."""

    __slots__ = ("_length", "_letter", "done")

    def __init__(self) -> None:
        self.done = False
        self._letter = ord("F")  # of the address that is read, or is to come
        self._length = -1  # bytes of it so far; -1: not begun

    def feed(self, data: bytes | bytearray) -> int:
        """How many bytes of `data` belong into the queue's envelope file.  Raises Refused."""
        at = 0
        while at < len(data) and not self.done:
            if self._length < 0:
                if not self._begin(data[at]):
                    return at
                at += 1
            else:
                at = self._continue(data, at)
        return at

    def end(self) -> None:
        """There is no more.  Raises Refused unless the envelope is complete."""
        if not self.done:
            raise Refused(READ_ERROR)

    def _begin(self, byte: int) -> bool:
        if not byte and self._letter == ord("T"):
            self.done = True
            return False
        if byte != self._letter:
            raise Refused(BAD_ENVELOPE)
        self._length = 0
        return True

    def _continue(self, data: bytes | bytearray, at: int) -> int:
        room = LONGEST_ADDRESS + 1 - self._length
        end = data.find(0, at, at + room)
        if end >= 0:
            self._length, self._letter = -1, ord("T")
            return end + 1
        self._length += min(len(data) - at, room)
        if self._length > LONGEST_ADDRESS:
            raise Refused(ADDRESS_TOO_LONG)
        return len(data)
