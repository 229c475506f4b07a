"""datemail(1): sends a message that is dated in local time.

SYNOPSIS
datemail [ sendmail's arguments ]

DESCRIPTION
datemail runs predate and sendmail, so that the message on standard input gets
a Date field with the local time zone before it is sent.

ENVIRONMENT
  TZ  the local time zone, and what sendmail reads

EXIT
That of sendmail.
"""

from __future__ import annotations

from qmail import home
from supervise import chain
from supervise.program import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@program("datemail")
def main(argv: Sequence[str]) -> int:
    programs = f"{home.find()}/bin"
    try:
        chain.run([f"{programs}/predate", f"{programs}/sendmail", *argv])
    except OSError as error:
        raise chain.unable_to_run("predate", error) from error
