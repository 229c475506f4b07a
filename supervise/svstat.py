"""svstat(8): says how the services are.

SYNOPSIS   svstat [-v] [--json] [dir ...]

DESCRIPTION
    Prints a line for each service directory, such as

        /service/smtpd: up (pid 6345) 31 seconds

    The seconds count from the last start or end.  Remarks may follow:
    "normally up" or "normally down" if it is not as it would be after a
    reboot, "paused", and "want up" or "want down" if supervise is about to
    change it.  An error is told in the same place, and is no reason to stop.

OPTIONS    as the first arguments only:
    -v       add the figures of the service's process and all that descend
             from it: how many, since when, CPU time, memory (its fair share
             of what is shared); and what else supervise knows of a service
             with extensions: readiness, how it last ended, when it starts
    --json   instead of words, one JSON object a line for each service

EXIT       0, whatever the services are.  111: the present directory cannot be
           opened, or left and entered again.

FILES      dir/down, dir/supervise/ok, dir/supervise/status
"""

from __future__ import annotations

import os
import time

from supervise import status
from supervise.durable import write_all
from supervise.errors import reason
from supervise.program import program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Literal


class Unknown(Exception):
    """The service's state cannot be told; `str(error)` is why."""


@program("svstat")
def main(argv: Sequence[str]) -> int:
    options, services = set[str](), list(argv)
    while services and services[0] in ("-v", "--json"):
        options.add(services.pop(0))
    show: Callable[[str], str] = line
    if options:
        from supervise import figures

        show = figures.teller(verbose="-v" in options, json="--json" in options)
    lines = [os.fsencode(text) + b"\n" for text in _from_each(services, show)]
    if lines:
        with unable_to("write output"):
            write_all(1, b"".join(lines))
    return 0


def _from_each(services: Sequence[str], show: Callable[[str], str]) -> Iterator[str]:
    """`show(service)` for each, called in its directory if that can be entered."""
    with unable_to("open current directory"):
        home = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for service in services:
            yield show(service)
            with unable_to("set directory"):
                os.fchdir(home)
    finally:
        os.close(home)


def line(service: str) -> str:
    """svstat's line for `service`, and change into its directory."""
    try:
        record, normally_up = look(service)
    except Unknown as problem:
        return f"{service}: {problem}"
    return f"{service}: {record.describe(normally_up, time.time_ns())}"


def look(service: str) -> tuple[status.Status, bool]:
    """Change into the directory `service`; return its status, and whether it is normally up.

    Raises Unknown.
    """
    with _or_unknown("chdir"):
        os.chdir(service)
    with _or_unknown("stat down"):
        normally_up = status.normally_up()
    with _or_unknown("open supervise/ok"):
        if not status.supervised():
            raise Unknown("supervise not running")
    with _or_unknown("open supervise/status"):
        fd = os.open(status.FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with _or_unknown("read supervise/status"):
            return status.Status.unpack(os.read(fd, status.SIZE)), normally_up
    finally:
        os.close(fd)


class _or_unknown:  # as unable_to, for a line of output
    def __init__(self, action: str) -> None:
        self.action = action

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> Literal[False]:
        if isinstance(error, OSError):
            raise Unknown(f"unable to {self.action}: {reason(error)}") from error
        if isinstance(error, ValueError):
            raise Unknown(f"unable to {self.action}: {error}") from error
        return False
