"""The activity record of qmail-send, as qmail-log(5) has it.

Lines wait in memory until `flush`, which comes before every wait and before
any order goes out, so that a delivery is in the log before it begins.
"""

from __future__ import annotations

from supervise import masks
from supervise.durable import write_all

SAFE = masks.printable(b"_", besides=b" %")
PLENTY = 60000  # bytes that wait at most


class Log:
    """The log on one descriptor.  Whoever listens to it must be quick, for writing waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._size = 0

    def line(self, text: bytes) -> None:
        """Add a line; `text` has no newline."""
        self._lines.append(text)
        self._size += len(text)
        if self._size > PLENTY:
            self.flush()

    def warning(self, action: str, path: str, then: str = "") -> None:
        """`warning: unable to open todo/457`, for a path below the queue."""
        self.line(f"warning: {action} {path.removeprefix('./')}{then}".encode())

    def flush(self) -> None:
        """Write what waits.  Nobody listening is no error: mail goes on."""
        if not self._lines:
            return
        self._lines.append(b"")
        data = b"\n".join(self._lines)
        self._lines.clear()
        self._size = 0
        try:
            write_all(self._fd, data)
        except OSError:
            pass


def safe(text: bytes) -> bytes:
    """`text` for the log: newlines as "/", all but printable ASCII (and %) as "_"."""
    return text.replace(b"\n", b"/").translate(SAFE)
