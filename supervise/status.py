"""What supervise says of its service in supervise/status: 18 bytes, and svstat's words for them.

The record is daemontools' own: the moment of the last start or end in 12
bytes (see `tai`), the pid in 4, the lowest first, then `paused` and `want`.
"""

from __future__ import annotations

import os

from supervise import tai

SIZE = 18  # bytes
FILE = "supervise/status"
OK = "supervise/ok"
CONTROL = "supervise/control"


class Status:
    """One record.

    when: nanoseconds since 1970, the last start or end.  pid: 0 if it is down.
    want: "u" up, "d" down; anything else, usually "", neither.
    """

    __slots__ = ("paused", "pid", "want", "when")

    def __init__(self, when: int, pid: int = 0, paused: bool = False, want: str = "") -> None:
        self.when = when
        self.pid = pid
        self.paused = paused
        self.want = want

    def pack(self) -> bytes:
        """The record's 18 bytes."""
        flags = bytes([self.paused and self.pid != 0, ord(self.want or "\0")])
        return tai.pack(self.when) + self.pid.to_bytes(4, "little") + flags

    @classmethod
    def unpack(cls, record: bytes) -> Status:
        """Read a record; what follows its 18 bytes is ignored.  ValueError: it is shorter."""
        if len(record) < SIZE:
            raise ValueError("bad format")
        want = chr(record[17]) if record[17] else ""
        return cls(tai.unpack(record), int.from_bytes(record[12:16], "little"), record[16] != 0, want)

    def seconds(self, now: int) -> int:
        """How long it has been so at `now` (nanoseconds since 1970); a time to come counts as now."""
        passed = now // tai.SECOND - self.when // tai.SECOND
        return int(float(passed)) if passed > 0 else 0  # float: the original prints a rounded absurdity, too

    def describe(self, normally_up: bool, now: int) -> str:
        """svstat's words, as `up (pid 77) 5 seconds, normally down`."""
        words = [f"up (pid {self.pid})" if self.pid else "down", f"{self.seconds(now)} seconds"]
        remarks = (
            ("normally down", self.pid and not normally_up),
            ("normally up", not self.pid and normally_up),
            ("paused", self.pid and self.paused),
            ("want up", not self.pid and self.want == "u"),
            ("want down", self.pid and self.want == "d"),
        )
        return ", ".join([" ".join(words), *(remark for remark, holds in remarks if holds)])


def read(directory: str = ".") -> Status:
    """The present record of the service in `directory`.  OSError, ValueError."""
    fd = os.open(f"{directory}/{FILE}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return Status.unpack(os.read(fd, SIZE))
    finally:
        os.close(fd)


def supervised(directory: str = ".") -> bool:
    """Does supervise run in `directory`?  OSError if it cannot be told, FileNotFoundError if it never did."""
    import errno

    try:
        os.close(os.open(f"{directory}/{OK}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ENXIO:  # no reader
            return False
        raise
    return True


def normally_up(directory: str = ".") -> bool:
    """Is there no file `down`?  OSError if it cannot be told."""
    try:
        os.stat(f"{directory}/down")
    except FileNotFoundError:
        return True
    return False
