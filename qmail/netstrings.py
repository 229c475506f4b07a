"""Netstrings: `5:hello,`.  The source is the originals' netstrings.txt; their limits are kept."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

TOO_LONG = 200_000_000  # bytes; a length beyond this may not grow by another digit


class BadNetstring(ValueError):
    """The bytes are no netstring, and never will be."""


class NetstringTooLong(BadNetstring):
    """The length is beyond what anybody is to send."""


def encode(data: bytes) -> bytes:
    """`data` as a netstring."""
    return b"%d:%b," % (len(data), data)


def encode_all(items: Iterable[bytes]) -> bytes:
    """The netstrings of `items`, one after the other."""
    return b"".join(map(encode, items))


def scan_length(buffer: bytes | bytearray, start: int = 0) -> tuple[int, int] | None:
    """Read `<digits>:` at `start`; return the length and where the data begins, None if bytes are missing.

    No digits at all count as 0, as in the originals.  Raises BadNetstring for
    anything but digits, NetstringTooLong.
    """
    length = 0
    for at in range(start, len(buffer)):
        byte = buffer[at]
        if byte == 0x3A:
            return length, at + 1
        if length > TOO_LONG:
            raise NetstringTooLong
        if not 0x30 <= byte <= 0x39:
            raise BadNetstring
        length = 10 * length + byte - 0x30
        if at - start >= 64:  # leading zeros without end
            raise NetstringTooLong
    return None


class NetstringReader:
    """Cuts a stream into netstrings of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the strings that `data` completes.  Raises BadNetstring, NetstringTooLong."""
        buffer = self._buffer
        buffer += data
        strings: list[bytes] = []
        at = 0
        while scanned := scan_length(buffer, at):
            length, begin = scanned
            if length > self._limit:
                raise NetstringTooLong
            end = begin + length
            if len(buffer) <= end:
                break
            if buffer[end] != 0x2C:
                raise BadNetstring
            strings.append(bytes(buffer[begin:end]))
            at = end + 1
        del buffer[:at]
        return strings
