"""preline(1): puts lines before a message and feeds it to a program.

SYNOPSIS
in .qmail: |preline [ -frdFRD ] cmd [ arg ... ]

DESCRIPTION
preline feeds cmd the UUCP-style From line, the Return-Path line, the
Delivered-To line, and then the message on standard input.

OPTIONS
-f, -r, -d  leave out the From, the Return-Path, the Delivered-To line
-F, -R, -D  do not (the default)

ENVIRONMENT
  UFLINE, RPLINE, DTLINE  the three lines, with their newlines

EXIT
That of cmd; 100: wrong usage, or no such program; 111: trouble, or cmd
crashed.
"""

from __future__ import annotations

import os

from qmail import piped
from supervise.errors import reason, temporary
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, TEMPORARY, Fatal, Usage, program, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

LINES = {"f": b"UFLINE", "r": b"RPLINE", "d": b"DTLINE"}
SYNOPSIS = "preline cmd [ arg ... ]"


@program("preline")
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if any(name not in os.environb for name in LINES.values()):
        raise Usage(SYNOPSIS)
    wanted = dict.fromkeys(LINES, True)
    options = Options(argv, "frdFRD")
    try:
        for letter, _ in options:
            wanted[letter.lower()] = letter.isupper()
    except BadOption as problem:
        say(f"preline: {problem}")
        raise Usage(SYNOPSIS) from None
    if not options.operands:
        raise Usage(SYNOPSIS)
    beginning = b"".join(os.environb[name] for letter, name in LINES.items() if wanted[letter])
    pipe = piped.Pipe("preline", options.operands, _cannot_run)
    try:
        error = piped.copy(pipe, beginning)
        if error:
            raise Fatal(f"unable to copy input: {reason(error)}")
        return pipe.wait()
    finally:
        pipe.close()


def _cannot_run(name: str, error: OSError) -> Fatal:
    code = TEMPORARY if temporary(error) else PERMANENT
    return Fatal(f"unable to run {name}: {reason(error)}", code)
