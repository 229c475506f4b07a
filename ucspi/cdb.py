"""Constant databases: read with bounds whatever the file holds, written as cdbmake writes them.

The format is that of https://cr.yp.to/cdb/cdb.txt: 256 pointers to hash
tables, the records in the order in which they were added, the tables.  All
numbers are 32 bits, little-endian, so a file ends below 4 GiB.
"""

from __future__ import annotations

import errno
import itertools
import os
import struct
from operator import add

from cdblib import djb_hash

from supervise.descriptors import out_of_the_way
from supervise.durable import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

PAIR = struct.Struct("<LL")
HEADER = 256 * PAIR.size  # bytes
LIMIT = 1 << 32  # no position beyond it can be written
FIRST_PROBE = 8  # slots; a search seldom needs more
LATER_PROBE = 512  # slots


class BadCdb(OSError):
    """The file is no constant database, or a damaged one."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EPROTO, what)


class Reader:
    """An open database.  It reads what it needs at the time, and never the whole file.

    Every search ends: it looks at each slot of one table at most once, and
    a table must lie within the file and have an empty slot.
    """

    def __init__(self, fd: int) -> None:
        """Own `fd`.  OSError: it cannot be read, or is too short to be a database (then fd is closed)."""
        self._fd = fd
        try:
            self._size = os.fstat(fd).st_size
            self._header = _header(fd)
        except OSError:
            os.close(fd)
            raise

    @classmethod
    def open(cls, path: str | bytes) -> Reader:
        return cls(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))

    def find(self, key: bytes) -> bytes | None:
        """The data of the first record under `key`; None if there is none.  Raises BadCdb."""
        hashed: int = djb_hash(key)
        table, slots = PAIR.unpack_from(self._header, (hashed & 255) * PAIR.size)
        if not slots:
            return None
        if table + slots * PAIR.size > self._size:
            raise BadCdb("a hash table beyond the end")
        first = (hashed >> 8) % slots
        for start, stop in ((first, slots), (0, first)):
            probe = FIRST_PROBE
            while start < stop:
                count = min(probe, stop - start)
                for slot_hash, position in PAIR.iter_unpack(
                    self._read(table + start * PAIR.size, count * PAIR.size)
                ):
                    if not position:
                        return None
                    if slot_hash == hashed:
                        data = self._record(position, key)
                        if data is not None:
                            return data
                start, probe = start + count, LATER_PROBE
        raise BadCdb("a hash table without an empty slot")

    def contains(self, text: bytes) -> bool:
        """Whether the bytes `text` (64 at most) occur anywhere in the file behind the header."""
        position, kept = HEADER, b""
        while block := os.pread(self._fd, 1 << 18, position):
            if text in kept + block:
                return True
            position, kept = position + len(block), block[-64:]
        return False

    def _record(self, position: int, key: bytes) -> bytes | None:
        head = os.pread(self._fd, PAIR.size + len(key), position)
        if len(head) < PAIR.size:
            raise BadCdb("a record beyond the end")
        key_length, data_length = PAIR.unpack_from(head)
        if key_length != len(key) or head[PAIR.size :] != key:
            return None
        return self._read(position + len(head), data_length)

    def _read(self, position: int, length: int) -> bytes:
        if position + length > self._size:
            raise BadCdb("a record beyond the end")
        data = os.pread(self._fd, length, position)
        if len(data) != length:
            raise BadCdb("shorter than it was")
        return data

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


class Kept:
    """The database in the file `path` as it is at each look-up; opened again only if it has changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._reader: Reader | None = None
        self._seen: tuple[int, ...] = ()
        self._process = os.getpid()

    def reader(self) -> Reader:
        """The same as the last time if the file still is.  OSError: there is none, or it is no database."""
        if self._process != os.getpid():  # a child, which may not have the descriptor any more
            self._reader, self._process = None, os.getpid()
        seen = _identity(os.stat(self.path))
        if self._reader and seen == self._seen:
            return self._reader
        self.close()
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._reader = reader = Reader(out_of_the_way(fd))
        self._seen = seen
        return reader

    def close(self) -> None:
        if self._reader:
            self._reader.close()
        self._reader = None


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _header(fd: int) -> bytes:
    header = os.pread(fd, HEADER, 0)
    if not header:
        raise OSError(errno.EINVAL, "empty file")  # which mmap refuses, in the original
    if len(header) < HEADER:
        raise BadCdb("too short for its header")
    return header


class Writer:
    """A database in the making, byte for byte what cdbmake and tcprules write.

    Only `finish` makes the file one.  OSError: writing failed, or the file
    would grow beyond 4 GiB (ENOMEM, as in the original).
    """

    def __init__(self, fd: int) -> None:
        """Write to the empty file `fd`, which stays the caller's."""
        self._fd = fd
        self._end = HEADER
        self._entries = [bytearray() for _ in range(256)]  # by table: pairs of hash and position
        os.lseek(fd, HEADER, os.SEEK_SET)

    def add(self, key: bytes, data: bytes) -> None:
        self.extend([key], [data])

    def extend(self, keys: Sequence[bytes], datas: Sequence[bytes]) -> None:
        """Add a record for each pair.  Some hundreds at once cost a third of one at a time."""
        key_lengths, data_lengths = list(map(len, keys)), list(map(len, datas))
        parts: list[bytes] = [b""] * (3 * len(keys))
        parts[0::3] = map(PAIR.pack, key_lengths, data_lengths)
        parts[1::3] = keys
        parts[2::3] = datas
        block = b"".join(parts)
        end = self._end + len(block)
        self._check(end)
        write_all(self._fd, block)
        # A record stands behind the heads of those before it, and behind their keys and data.
        heads = itertools.count(self._end, PAIR.size)
        texts = itertools.accumulate(map(add, key_lengths, data_lengths), initial=0)
        entries = self._entries
        for entry in map(PAIR.pack, map(djb_hash, keys), map(add, heads, texts)):
            entries[entry[0]] += entry
        self._end = end

    def finish(self) -> None:
        """Write the hash tables and the pointers to them; the file is complete but not synced."""
        pointers = []
        for entries in self._entries:
            table = _table(entries)
            pointers.append(PAIR.pack(self._end, len(table) // PAIR.size))
            self._end += len(table)
            self._check(self._end)
            write_all(self._fd, table)
        os.lseek(self._fd, 0, os.SEEK_SET)
        write_all(self._fd, b"".join(pointers))

    def _check(self, end: int) -> None:
        if end >= LIMIT:
            raise OSError(errno.ENOMEM, "beyond 4 GiB")


def _table(entries: bytearray) -> bytes:
    """The hash table of `entries`: twice as many slots, each entry in the first free one from its own on."""
    count = len(entries) // PAIR.size
    size = 2 * count
    table = [0] * size
    upper = bytearray(4 * count)  # three bytes of each hash; the lowest has chosen the table
    for place in range(3):
        upper[place::4] = entries[place + 1 :: PAIR.size]
    for number, entry in zip(
        struct.unpack(f"<{count}L", upper), struct.unpack(f"<{count}Q", entries), strict=True
    ):
        slot = number % size
        while table[slot]:
            slot += 1
            if slot == size:
                slot = 0
        table[slot] = entry
    return struct.pack(f"<{size}Q", *table)
