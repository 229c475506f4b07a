"""What supervise tells of an extended service beside the status record: supervise/details.

A line for each fact: a word, a space, and its value.  Moments are nanoseconds
since 1970.  `changed` is that of the status record, which is written after the
details; where the two differ the details are of another time.
"""

from __future__ import annotations

import os

from supervise import durable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervise.status import Status

FILE = "supervise/details"
LONGEST = 4096  # bytes
LAST = 1 << 63  # nanoseconds; the year 2262
LONGEST_REMARK = 200  # characters


class Details:
    """One set of details.

    phase: down, waiting (to start), starting, up, finishing or stopping.
    ready_since: None if it is not ready.  last_end: how the last run ended, as
    `exit 3`, `signal 9`, `unknown` or `never`.  starts_at: while it waits.  failed: it
    will not be run again until svc says so.  remark: the service's own words.
    """

    __slots__ = ("changed", "failed", "last_end", "phase", "ready_since", "remark", "starts_at")

    def __init__(
        self,
        changed: int,
        phase: str = "down",
        ready_since: int | None = None,
        last_end: str = "never",
        starts_at: int | None = None,
        failed: bool = False,
        remark: str = "",
    ) -> None:
        self.changed = changed
        self.phase = phase
        self.ready_since = ready_since
        self.last_end = last_end
        self.starts_at = starts_at
        self.failed = failed
        self.remark = remark

    def pack(self) -> bytes:
        """The file's content."""
        facts = [f"changed {self.changed}", f"phase {self.phase}", f"last-end {self.last_end}"]
        if self.ready_since is not None:
            facts.append(f"ready-since {self.ready_since}")
        if self.starts_at is not None:
            facts.append(f"starts-at {self.starts_at}")
        if self.failed:
            facts.append("failed yes")
        if self.remark:
            facts.append(f"remark {self.remark}")
        return "".join(f"{fact}\n" for fact in facts).encode("utf-8", "replace")

    @classmethod
    def unpack(cls, content: bytes) -> Details:
        """Read a file's content.  ValueError: it is none."""
        facts = dict(line.partition(" ")[::2] for line in content.decode("utf-8", "replace").split("\n"))
        return cls(
            _moment(facts, "changed") or 0,
            facts.get("phase", "down"),
            _moment(facts, "ready-since"),
            facts.get("last-end", "never"),
            _moment(facts, "starts-at"),
            "failed" in facts,
            facts.get("remark", ""),
        )


def plain(record: Status) -> Details:
    """What can be said of a service that is not extended: it is ready when it is up."""
    up = record.pid != 0
    return Details(record.when, "up" if up else "down", record.when if up else None)


def _moment(facts: dict[str, str], name: str) -> int | None:
    if name not in facts:
        return None
    moment = int(facts[name])
    if not 0 <= moment <= LAST:
        raise ValueError(f"no moment: {moment}")
    return moment


def write(details: Details) -> None:
    """Make `details` the file of the present directory, all or nothing.  OSError."""
    new = f"{FILE}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        durable.write_all(fd, details.pack())
    finally:
        os.close(fd)
    os.rename(new, FILE)


def latest(directory: str = ".") -> Details | None:
    """The details of the service in `directory`, of whatever moment; None if there are none."""
    try:
        fd = os.open(f"{directory}/{FILE}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return Details.unpack(os.read(fd, LONGEST))
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def read(changed: int, directory: str = ".") -> Details | None:
    """The details of the service in `directory`, if they go with the record of the moment `changed`."""
    details = latest(directory)
    return details if details and details.changed == changed else None
