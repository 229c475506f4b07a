"""Ask a server one thing and print its answer: who@, date@, finger@, http@."""

from __future__ import annotations

from supervise.durable import write_all
from supervise.program import TEMPORARY
from ucspi import filtering, line_ends, tcpclient

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    import _signal as signal  # the same without enums, which would cost 4 ms


def fetch(
    host: str,
    port: str,
    question: bytes = b"",
    change: Callable[[bytes], bytes] = line_ends.visible,
    end: Callable[[], bytes] = bytes,
) -> int:
    """Send `question`, line ends and all; print the answer with its line ends as here, after `change`.

    The exit code is 0 even without a connection, as it was that of the last
    program of a pipeline; 111 if printing failed.
    """
    failed = False

    def talk() -> int:
        nonlocal failed
        failed = not _talk(question, change, end)
        return 0

    tcpclient.connected(["-RHl0", "--", host, port], talk)
    return TEMPORARY if failed else 0


def _talk(question: bytes, change: Callable[[bytes], bytes], end: Callable[[], bytes]) -> bool:
    """Whether all could be printed."""
    old = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    lines = line_ends.WithoutCr()
    try:
        try:
            write_all(7, line_ends.with_cr(question))
        except OSError:  # it may answer all the same
            pass
        filtering.copy(6, 1, lambda data: change(lines.feed(data)), lambda: change(lines.end()) + end())
    except OSError:
        return False
    finally:
        signal.signal(signal.SIGPIPE, old)
    return True
