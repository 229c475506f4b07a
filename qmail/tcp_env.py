"""tcp-env(1): set up the environment that describes a TCP connection, and run a program.

SYNOPSIS
    tcp-env [ -rR ] [ -t timeout ] program [ arg ... ]

DESCRIPTION
    Descriptor 0 must be a TCP connection, as from inetd.  tcp-env finds out
    about it, sets PROTO, TCPLOCALIP, TCPLOCALPORT, TCPLOCALHOST, TCPREMOTEIP,
    TCPREMOTEPORT, TCPREMOTEHOST and TCPREMOTEINFO, and runs the program.  If
    PROTO says TCP already, another server has set them, and it just runs it.

    A name that DNS cannot tell at the moment is `softdnserror`.

OPTIONS
    -r  (Default.)  Ask the remote host who connected, for TCPREMOTEINFO.
    -R  Do not.
    -t timeout  Give that up after so many seconds; default 30.

EXIT
    111: no TCP connection, or no program; else the program's.
"""

from __future__ import annotations

import os
import signal
import socket

from supervise import chain
from supervise.numbers import scan_ulong
from supervise.options import BadOption, Options
from supervise.program import TEMPORARY, Usage, program, say
from ucspi import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ucspi.dns import Resolver

SYNOPSIS = "tcp-env [ -rR ] [ -t timeout ] program [ arg ... ]"
TIMEOUT = 30  # seconds
ALREADY_KNOWN = ("TCP", "TCP6")


@program("tcp-env")
def main(argv: Sequence[str]) -> int:
    options = Options(argv, "rRt:")
    ask, timeout = True, TIMEOUT
    try:
        for letter, argument in options:
            if letter == "t":
                timeout, _ = scan_ulong(argument)
            else:
                ask = letter == "r"
    except BadOption as error:
        say(f"tcp-env: {error}")
        raise Usage(SYNOPSIS, TEMPORARY) from error
    if not options.operands:
        raise Usage(SYNOPSIS, TEMPORARY)
    environment = dict(os.environ)
    if environment.get("PROTO") not in ALREADY_KNOWN:
        try:
            describe(environment, timeout if ask else None)
        except OSError:
            return TEMPORARY
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        chain.run(options.operands, environment)
    except OSError:
        return TEMPORARY


def describe(environment: dict[str, str], info_timeout: float | None) -> None:
    """Put what is known of the connection on descriptor 0 into `environment`.

    OSError: it is none.  info_timeout: seconds; None: do not ask.
    """
    with socket.socket(fileno=os.dup(0)) as connection:
        local = addresses.of_socket_name(connection.getsockname())
        remote = addresses.of_socket_name(connection.getpeername())
    from ucspi.dns import Resolver  # 70 ms: only for those who look up
    from ucspi.ident import ask

    resolver = Resolver.from_environment(environment)
    info = ask(remote, local, info_timeout) if info_timeout is not None else None
    settings = addresses.environment(
        local,
        remote,
        local_host=host_name(resolver, local[0]),
        remote_host=host_name(resolver, remote[0]),
        remote_info=None if info is None else os.fsdecode(info),
    )
    for name, value in settings.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value


def host_name(resolver: Resolver, address: bytes) -> str | None:
    """What DNS calls an address, in lower case; None if it has no name."""
    try:
        return resolver.name_of(address).lower() or None
    except OSError:
        return "softdnserror"
