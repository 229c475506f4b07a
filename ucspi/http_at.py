"""http@(1): print a page of a web server.

SYNOPSIS   http@ [ host [ page [ port ] ] ]
EXIT       0, also if there was no connection.  111: printing failed.

Asks port 80 (default) of host (default: this machine) for /page by HTTP/1.0.
What follows the header is printed, line by line, without its empty lines.
"""

from __future__ import annotations

import os

from supervise.program import program
from ucspi import one_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("http@")
def main(argv: Sequence[str]) -> int:
    host, page, port = [*argv, *("0", "", "80")[len(argv) :]][:3]
    question = os.fsencode(f"GET /{page} HTTP/1.0\nHost: {host}:{port}\n\n")
    body = Body()
    return one_answer.fetch(host, port, question, body.feed, body.end)


class Body:
    """Picks out the lines after the first empty one, except empty ones.  Does no I/O, keeps no line."""

    def __init__(self) -> None:
        self._in_body = False
        self._last = b"\n"  # what the piece before ended with; at first as after a line

    def feed(self, data: bytes) -> bytes:
        joined = self._last + data
        if not self._in_body:
            place = joined.find(b"\n\n")
            if place < 0:
                self._last = joined[-1:]
                return b""
            self._in_body = True
            joined = joined[place + 1 :]
        while b"\n\n" in joined:
            joined = joined.replace(b"\n\n", b"\n")
        self._last = joined[-1:]
        return joined[1:]

    def end(self) -> bytes:
        """The newline that a last line lacks."""
        return b"\n" if self._in_body and self._last != b"\n" else b""
