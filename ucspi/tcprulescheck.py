"""tcprulescheck(1): which rule would tcpserver follow?

SYNOPSIS
    tcprulescheck rules.cdb

DESCRIPTION
    Looks up the connection that TCPREMOTEIP, TCPREMOTEHOST and TCPREMOTEINFO
    describe, and prints the rule that applies (default: if none does), the
    variables that it sets, and whether it allows or denies the connection.

EXIT
    0: it is printed, also if it denies.  100: usage.  111: rules.cdb cannot be read.

ENVIRONMENT
    TCPREMOTEIP    address, 0.0.0.0 if unset
    TCPREMOTEHOST  host name, if set
    TCPREMOTEINFO  what ident says, if set
"""

from __future__ import annotations

import os

from supervise.durable import write_all
from supervise.program import Usage, program, unable_to
from ucspi.rules import Rules, printable_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("tcprulescheck")
def main(argv: Sequence[str]) -> int:
    if not argv:
        raise Usage("tcprulescheck rules.cdb")
    env = os.environ
    rules = Rules(argv[0])
    try:
        with unable_to(f"read {argv[0]}"):
            verdict = rules.look_up(
                env.get("TCPREMOTEIP", "0.0.0.0"), env.get("TCPREMOTEHOST"), env.get("TCPREMOTEINFO")
            )
    finally:
        rules.close()
    lines = [b"default:" if verdict.key is None else b"rule %b:" % os.fsencode(printable_key(verdict.key))]
    if verdict.allowed:
        lines += [b"set environment variable %b=%b" % variable for variable in verdict.variables]
    lines.append(b"allow connection" if verdict.allowed else b"deny connection")
    with unable_to("write output"):
        write_all(1, b"\n".join(lines) + b"\n")
    return 0
