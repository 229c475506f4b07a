"""qmail-qstat(8): how many messages are in the queue?

SYNOPSIS
    qmail-qstat

DESCRIPTION
    Prints two lines: the messages in the queue, and how many of them
    qmail-send has not yet preprocessed.

EXIT
    0: printed.  111: the queue cannot be read (root and group qmail may).

FILES
    queue/mess, queue/todo
"""

from __future__ import annotations

import os

from qmail import home
from supervise.program import program, say, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("qmail-qstat")
def main(argv: Sequence[str]) -> int:
    del argv
    queue = f"{home.find()}/queue"
    with unable_to(f"read {queue}"):
        messages = sum(count(entry.path) for entry in os.scandir(f"{queue}/mess") if entry.is_dir())
        fresh = count(f"{queue}/todo")
    say(f"messages in queue: {messages}", 1)
    say(f"messages in queue but not yet preprocessed: {fresh}", 1)
    return 0


def count(directory: str) -> int:
    """The number of files in `directory` and, as with big-todo, below it."""
    files = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                files += count(entry.path)
            elif entry.is_file(follow_symlinks=False):
                files += 1
    return files
