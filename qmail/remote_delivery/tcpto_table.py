"""The table of hosts that timed out: queue/lock/tcpto, which spares qmail-remote waiting for them again.

64 records of 16 bytes: address (4), number of recent timeouts (1), unused
(3), time of the last one (4, seconds since 1970, least byte first), unused
(4).  An IPv6 address, which does not fit, is its digest's first bytes in
240/4, where no host is, and seven more of them in the unused places.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from supervise.locks import lock_ex

RECORD = 16  # bytes
SIZE = 1024  # bytes
MOST = 10  # timeouts are counted no further
BACK_OFF = 2  # timeouts in a row, and the host is left alone for an hour or two
SETTLE = 120  # seconds; timeouts closer together count once


@dataclass(frozen=True, slots=True)
class Record:
    """One host's timeouts."""

    address: bytes  # 4 bytes
    timeouts: int
    when: int  # seconds since 1970, 32 bits
    more: bytes = bytes(7)  # of an IPv6 address's digest

    @classmethod
    def unpack(cls, data: bytes) -> Record:
        return cls(data[:4], data[4], int.from_bytes(data[8:12], "little"), data[5:8] + data[12:16])

    def pack(self) -> bytes:
        when = (self.when % (1 << 32)).to_bytes(4, "little")
        return self.address + bytes([self.timeouts]) + self.more[:3] + when + self.more[3:]

    @property
    def key(self) -> tuple[bytes, bytes]:
        return key(self.address, self.more)

    @property
    def worth(self) -> int:
        """Which record to overwrite when all are in use: the one worth least."""
        return self.when + (self.timeouts << 10)


def key(address: bytes, more: bytes) -> tuple[bytes, bytes]:
    """What tells hosts apart; the unused bytes of an IPv4 record are nobody's."""
    return (address, more if address[0] >= 240 else b"")


def place_of(address: bytes) -> tuple[bytes, bytes]:
    """How a packed IPv4 or IPv6 address stands in a record: its four bytes, and the seven others."""
    if len(address) == 4:
        return address, bytes(7)
    digest = hashlib.sha256(address).digest()
    return bytes([240 | digest[0] & 15]) + digest[1:4], digest[4:11]


def should_wait(records: list[Record], address: bytes, now: int, pid: int) -> bool:
    """Has `address` timed out so lately that there is no use in trying?

    The hour (60 * 64 seconds) grows with the pid's last bits, so that not all come back at once.
    """
    found = find(records, address)
    return found is not None and found.timeouts >= BACK_OFF and now - found.when < (60 + (pid & 31)) << 6


def find(records: list[Record], address: bytes) -> Record | None:
    wanted = key(*place_of(address))
    return next((record for record in records if record.key == wanted), None)


def change(records: list[Record], address: bytes, timed_out: bool, now: int) -> tuple[int, Record] | None:
    """The one record to write, and where, after `address` timed out or answered; None: nothing."""
    found = find(records, address)
    if found is not None:
        if not timed_out:
            return records.index(found), replace(found, timeouts=0)
        if found.timeouts and now < SETTLE + found.when:
            return None
        return records.index(found), replace(found, timeouts=min(found.timeouts + 1, MOST), when=now)
    if not timed_out or not records:
        return None
    four, more = place_of(address)
    unused = (index for index, record in enumerate(records) if not record.timeouts)
    index = next(unused, None)
    if index is None:
        index = min(range(len(records)), key=lambda i: records[i].worth)
    return index, Record(four, 1, now, more)


class Table:
    """The file.  It saves time and is no more: where it cannot be used, nobody waits and nothing is noted."""

    def __init__(self, queue: str, now: Callable[[], float]) -> None:
        self._path = f"{queue}/lock/tcpto"
        self._now = now
        self._known: set[bytes] = set()  # those that were found in it

    def should_wait(self, address: bytes) -> bool:
        try:
            with self._locked() as fd:
                records = read(fd)
        except OSError:
            return False
        if find(records, address):
            self._known.add(address)
        return should_wait(records, address, int(self._now()), os.getpid())

    def note(self, address: bytes, timed_out: bool) -> None:
        """Remember that a connection attempt to `address` timed out, or did not."""
        if not timed_out and address not in self._known:
            return  # somebody may have added it since, but that is not worth a lock
        try:
            with self._locked() as fd:
                changed = change(read(fd), address, timed_out, int(self._now()))
                if changed:
                    os.pwrite(fd, changed[1].pack(), changed[0] * RECORD)
        except OSError:
            return

    @contextmanager
    def _locked(self) -> Iterator[int]:
        fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            lock_ex(fd)
            yield fd
        finally:
            os.close(fd)


def read(fd: int) -> list[Record]:
    """The whole records of the open table."""
    data = os.pread(fd, SIZE, 0)
    return [Record.unpack(data[at : at + RECORD]) for at in range(0, len(data) - RECORD + 1, RECORD)]
