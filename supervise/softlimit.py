"""softlimit(8): run a program with new soft limits on what it may use.

SYNOPSIS   softlimit [-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes]
               [-m membytes] [-o openfiles] [-p processes] [-r residentbytes] [-s stackbytes]
               [-t cpusecs] child ...
OPTIONS    Each takes a number, or "=" for the hard limit, which a number beyond it also means.
           -m: as -d, -s, -l and -a together.
           -d: of each process, bytes of data.  -s: of stack.  -l: of locked memory.  -r: of resident
           memory.  -a: of all segments together.
           -o: open files of each process.  -p: processes of this user.
           -f: bytes of an output file.  -c: of a core file.  -t: seconds of processor time.
EXIT       the child's.  100: wrong usage.  111: no child, or a limit that cannot be set.

Before a program of this toolkit -m, -d, -s, -l and -a count above what the
interpreter itself takes, with that program, those its arguments name, and what
they may need loaded; so the few megabytes of a run script written for C programs are enough,
and are still the most that the service may use.  Before any other program they
are the plain limits.
"""

from __future__ import annotations

import resource

from supervise import chain
from supervise.errors import reason
from supervise.numbers import MOST, scan_ulong
from supervise.options import BadOption, Options
from supervise.program import Fatal, Usage, program, say, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYNOPSIS = (
    "softlimit [-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes] [-m membytes] "
    "[-o openfiles] [-p processes] [-r residentbytes] [-s stackbytes] [-t cpusecs] child"
)
RESOURCES = {
    "a": (resource.RLIMIT_AS,),
    "c": (resource.RLIMIT_CORE,),
    "d": (resource.RLIMIT_DATA,),
    "f": (resource.RLIMIT_FSIZE,),
    "l": (resource.RLIMIT_MEMLOCK,),
    "m": (resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_MEMLOCK, resource.RLIMIT_AS),
    "o": (resource.RLIMIT_NOFILE,),
    "p": (resource.RLIMIT_NPROC,),
    "r": (resource.RLIMIT_RSS,),
    "s": (resource.RLIMIT_STACK,),
    "t": (resource.RLIMIT_CPU,),
}
FOOTPRINT = {
    resource.RLIMIT_AS: b"VmSize:",
    resource.RLIMIT_DATA: b"VmData:",
    resource.RLIMIT_MEMLOCK: b"VmLck:",
    resource.RLIMIT_STACK: b"VmStk:",
}
"""The line of /proc/self/status that says how much of a limit is used up."""


@program("softlimit")
def main(argv: Sequence[str]) -> int:
    wanted, child = _read(argv)
    used = _footprint() if wanted and chain.preload_all(child) else {}
    for number, amount in wanted:
        _limit(number, amount, used.get(number, 0))
    with unable_to(f"run {child[0]}"):
        chain.run(child)


def _read(argv: Sequence[str]) -> tuple[list[tuple[int, int | None]], Sequence[str]]:
    """Pairs of a resource and its limit, None for the hard one; and the child's words."""
    options = Options(argv, "a:c:d:f:l:m:o:p:r:s:t:")
    wanted: list[tuple[int, int | None]] = []
    try:
        for letter, argument in options:
            amount = _amount(argument)
            wanted += [(number, amount) for number in RESOURCES[letter]]
    except BadOption as error:
        say(f"softlimit: {error}")
        raise Usage(SYNOPSIS) from error
    if not options.operands:
        raise Usage(SYNOPSIS)
    return wanted, options.operands


def _amount(argument: str) -> int | None:
    if argument == "=":
        return None
    amount, digits = scan_ulong(argument)
    if digits < len(argument):
        raise Usage(SYNOPSIS)
    return amount


def _footprint() -> Mapping[int, int]:
    """The bytes that this process has of each resource in FOOTPRINT."""
    with open("/proc/self/status", "rb") as status:
        used = {words[0]: int(words[1]) * 1024 for words in map(bytes.split, status) if words[2:] == [b"kB"]}
    return {number: used.get(line, 0) for number, line in FOOTPRINT.items()}


def _limit(number: int, amount: int | None, used: int) -> None:
    try:
        hard = resource.getrlimit(number)[1]
        ceiling = hard & MOST  # no limit is the largest number
        soft = ceiling if amount is None else min(amount + used, ceiling)
        resource.setrlimit(number, (_signed(soft), hard))
    except OSError as error:
        raise Fatal(f"setrlimit failed: {reason(error)}") from error


def _signed(limit: int) -> int:
    """As the module resource has numbers of 64 bits: those from 2^63 on are negative, -1 is no limit."""
    return limit if limit <= MOST // 2 else limit - MOST - 1
