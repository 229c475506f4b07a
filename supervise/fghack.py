"""fghack(8): keep a program that puts itself into the background in the foreground.

SYNOPSIS   fghack child ...
EXIT       the child's.  100: wrong usage.  111: no child, or it crashed.

The child inherits many descriptors of a pipe.  fghack exits when all of them
are closed, that is when the child and what it started are gone; a program that
closes every descriptor that it did not open cannot be watched in this way.
"""

from __future__ import annotations

import fcntl
import os

from supervise import chain, children
from supervise.program import Fatal, Usage, program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COPIES = 30
"""How many more descriptors the child gets: who closes some of them may leave others."""


@program("fghack", resident=True)
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("fghack child")
    with unable_to("create pipe"):
        watched, held = os.pipe()
    try:
        with unable_to("fork"):
            pid = children.fork("fghack", lambda: _run(argv, watched, held))
    finally:
        os.close(held)
    try:
        _wait_for_the_end(watched)
    finally:
        os.close(watched)
    with unable_to("wait"):
        code = children.wait(pid)
    if code < 0:
        raise Fatal("child crashed")
    return code


def _run(argv: Sequence[str], watched: int, held: int) -> int:
    os.close(watched)
    os.set_inheritable(held, True)
    for _ in range(COPIES):
        try:
            fcntl.fcntl(held, fcntl.F_DUPFD, 0)  # not os.dup: the copies are for the child
        except OSError:
            break
    with unable_to(f"run {argv[0]}"):
        chain.run(argv)


def _wait_for_the_end(watched: int) -> None:
    try:
        while os.read(watched, 4096):
            pass
    except OSError:  # as good as the end
        pass
