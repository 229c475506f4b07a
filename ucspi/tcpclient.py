"""tcpclient(1): connect to a server and run a program with the connection.

SYNOPSIS   tcpclient [ -46hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ]
                     [ -t timeoutinfo ] [ -I interface ] host port program [ arg ... ]

DESCRIPTION
The program reads from the network on descriptor 6 and writes to it on 7; its
other descriptors are tcpclient's.  An empty host, or 0, is this machine.  Of
a name's addresses those of IPv6 are tried first, those of a kind in random
order.

OPTIONS
-4, -6     only IPv4, or only IPv6
-T x+y     each address has x seconds to answer; those that did not have y more, each (2+58); without +y
           there is no second try
-i, -p     connect from this address, from this port
-I name    the interface, for a link-local IPv6 address
-d, -D     let the system gather small pieces (default), or send them at once
-h, -H     look up the name of the server (default), or not
-l name    the name of this side; without -l it is looked up
-r, -R     ask the server who owns its side of the connection (default), or not
-t n       give that n seconds (26)
-q, -Q, -v say nothing; errors (default); everything

EXIT       the program's.  100: wrong usage.  111: no connection, or no program.
ENVIRONMENT
DNSCACHEIP, DNSREWRITEFILE, LOCALDOMAIN  direct the look-ups
PROTO, TCPLOCALIP, TCPLOCALPORT, TCPLOCALHOST, TCPREMOTEIP, TCPREMOTEPORT, TCPREMOTEHOST, TCPREMOTEINFO
           are set for the program, over IPv6 also TCP6LOCALIP and so on
"""

from __future__ import annotations

import os

from supervise import chain
from supervise.options import BadOption, Options
from supervise.program import Fatal, Program, Usage, program, say, unable_to
from ucspi import addresses, outgoing
from ucspi.outgoing import LETTERS, Wanted
from ucspi.verbosity import SILENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SYNOPSIS = (
    "tcpclient [ -hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ]"
    " [ -t timeoutinfo ] host port program"
)


@program("tcpclient", later=("ucspi.dns", "ucspi.dns_lookup"))
def main(argv: Sequence[str]) -> int:
    return _client(argv, _run)


def connected(arguments: Sequence[str], body: Callable[[], int]) -> int:
    """Be `tcpclient arguments`, where `body` takes the place of a program: it has 6 and 7."""
    client = Program("tcpclient", lambda argv: _client(argv, lambda *_: body()), resident=False, helps=False)
    return client.run([*arguments, "program"])


def _client(argv: Sequence[str], then: Callable[[Sequence[str], dict[str, str]], int]) -> int:
    wanted, operands = _read(argv)
    try:
        host, port, child = addresses.host_port_program(operands, SYNOPSIS)
        outgoing.free_6_and_7()
        sock = outgoing.connect(wanted, host, port)
        try:
            env = addresses.changed(os.environ, outgoing.variables(wanted, sock))
            outgoing.leave_on_6_and_7(sock)
        finally:
            sock.close()
        return _hand_over(child, env, then)
    except Fatal as error:
        if wanted.verbosity == SILENT:
            return error.code
        raise


def _hand_over(
    child: Sequence[str], env: dict[str, str], then: Callable[[Sequence[str], dict[str, str]], int]
) -> int:
    """Do `then`; unless it becomes another program, the connection ends with it."""
    try:
        code = then(child, env)
    except Fatal:
        outgoing.free_6_and_7()
        raise
    outgoing.free_6_and_7()
    return code


def _read(argv: Sequence[str]) -> tuple[Wanted, Sequence[str]]:
    wanted, options = Wanted("tcpclient"), Options(argv, LETTERS)
    try:
        for letter, argument in options:
            if not wanted.take(letter, argument):
                raise Usage(SYNOPSIS)
    except BadOption as error:
        say(f"tcpclient: {error}")
        raise Usage(SYNOPSIS) from error
    return wanted, options.operands


def _run(child: Sequence[str], env: dict[str, str]) -> int:
    with unable_to(f"run {child[0]}"):
        chain.run(child, env)
