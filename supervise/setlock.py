"""setlock(8): run a program with a file locked.

SYNOPSIS   setlock [ -nNxX ] file program [ arg ... ]
OPTIONS    -n: if the file is locked already, give up.  -N (default): wait for it.
           -x: if the file cannot be opened or locked, exit 0 in silence.  -X (default): exit 111 and say why.
EXIT       the program's.  100: wrong usage.  111: no lock, or no program.
FILES      file, made with mode 600 if need be

The lock is on a descriptor that the program inherits, and so do its children:
it is free again when the last of them is gone.
"""

from __future__ import annotations

import os
import sys

from supervise import chain, locks
from supervise.options import BadOption, Options
from supervise.program import Fatal, Usage, program, say, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SYNOPSIS = "setlock [ -nNxX ] file program [ arg ... ]"
APPEND = os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


@program("setlock")
def main(argv: Sequence[str]) -> int:
    chosen, operands = _read(argv)
    if len(operands) < 2:
        raise Usage(SYNOPSIS)
    file, *child = operands
    try:
        fd = _locked(file, wait="n" not in chosen)
    except Fatal:
        if "x" in chosen:
            sys.exit(0)
        raise
    os.set_inheritable(fd, True)
    with unable_to(f"run {child[0]}"):
        chain.run(child)


def _read(argv: Sequence[str]) -> tuple[set[str], Sequence[str]]:
    """The letters that hold in the end, a capital taking its small one back; and the operands."""
    options = Options(argv, "nNxX")
    chosen: set[str] = set()
    try:
        for letter, _ in options:
            chosen.discard(letter.swapcase())
            chosen.add(letter)
    except BadOption as error:
        say(f"setlock: {error}")
        raise Usage(SYNOPSIS) from error
    return chosen, options.operands


def _locked(file: str, *, wait: bool) -> int:
    """A descriptor of `file`, locked."""
    with unable_to(f"open {file}"):
        fd = os.open(file, APPEND, 0o600)
    with unable_to(f"lock {file}"):
        try:
            (locks.lock_ex if wait else locks.lock_exnb)(fd)
        except OSError:
            os.close(fd)
            raise
    return fd
