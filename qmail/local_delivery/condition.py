"""Running a program for the sake of its exit code: bouncesaying, condredirect, except."""

from __future__ import annotations

from supervise import chain, children
from supervise.errors import temporary
from supervise.program import PERMANENT, TEMPORARY, Fatal, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def holds(name: str, argv: Sequence[str]) -> bool:
    """Does the program `argv` exit with 0?  It is run by the program `name` and reads our standard input.

    One that cannot be found does not.  Raises Fatal if trying again may tell:
    it exits 111, or crashes.
    """

    def become() -> int:
        try:
            chain.run(argv)
        except OSError as error:
            return TEMPORARY if temporary(error) else PERMANENT

    with unable_to("fork"):
        pid = children.fork(name, become)
    code = children.wait(pid)
    if code < 0:
        raise Fatal("child crashed")
    if code == TEMPORARY:
        raise Fatal("temporary child error")
    return code == 0
