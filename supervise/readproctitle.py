"""readproctitle(8): shows what it reads in its process title.

SYNOPSIS   readproctitle [word ...] room

DESCRIPTION
    Reads its input for ever.  The latest of it stands in place of the last
    argument, room, whose length is how much can be shown; three dots come
    first.  `ps` then shows, for example, the errors of svscan.

EXIT       0: end of input.  100: room is shorter than five bytes.
           111: the input cannot be read.
"""

from __future__ import annotations

import os

from supervise import title
from supervise.program import PERMANENT, TEMPORARY, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_ROOM = 5
MARK = b"..."
CHUNK = 4096


@program("readproctitle")
def main(argv: Sequence[str]) -> int:
    room = len(os.fsencode(argv[-1])) if argv else 0
    if room < LEAST_ROOM:
        return PERMANENT
    shown = b"." * room
    while True:
        title.show(["readproctitle", *argv[:-1], printed(shown)])
        try:
            data = os.read(0, CHUNK)
        except OSError:
            return TEMPORARY
        if not data:
            return 0
        shown = follow(shown, data)


def follow(shown: bytes, data: bytes) -> bytes:
    """What is shown once `data` has come in: as long as before, NULs left out."""
    text = shown[len(MARK) :] + data.replace(b"\0", b"")
    return MARK + text[len(text) - (len(shown) - len(MARK)) :]


def printed(shown: bytes) -> str:
    """As text, with a question mark for every byte that is not part of one."""
    return shown.decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")
