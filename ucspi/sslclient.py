"""sslclient(1): connect to a server by TLS and run a program with the connection.

SYNOPSIS   sslclient [ -463hHrRdDqQveEsSnNxX ] [ -i localip ] [ -p localport ] [ -T timeoutconn ]
                     [ -l localname ] [ -t timeoutinfo ] [ -I interface ] [ -a cafile ] [ -A cadir ]
                     [ -c certfile ] [ -k keyfile ] [ -V verifydepth ] [ -C ciphers ] [ -w timeout ]
                     host port program [ arg ... ]

DESCRIPTION
The program reads what the server says on descriptor 6 and writes to it on 7, in
the clear; sslclient is its parent and carries the data.  TLS 1.2 and 1.3 are
spoken.  The options of tcpclient mean the same here, but -D is the rule, and
the timeouts of -T count for the handshake too.

OPTIONS
-a, -A     the authorities to rely on: a file, a directory; without these, those of the system
-x, -X     the server's certificate must be good (default), or need not be
-n, -N     and bear the name host (default), or not
-V n       no more than n authorities between it and the root
-c, -k     this side's certificate and key; the key may be in the same file
-3         read the key's password from descriptor 3, up to a NUL
-C list    OpenSSL's names of the ciphers of TLS 1.2
-w n       give up after n seconds in which nothing moves (3600)
-e, -E     set the variables of tcpclient too, or not (default)
-s, -S     set the variables of mod_ssl about the session and the certificates, or not (default)

EXIT       the program's.  100: wrong usage.  111: no connection, a certificate that is no good, no program.
ENVIRONMENT
PROTO (SSL, or SSL6 over IPv6), SSLLOCALIP, SSLLOCALPORT, SSLLOCALHOST, SSLREMOTEIP, SSLREMOTEPORT,
SSLREMOTEHOST, SSLREMOTEINFO are set for the program; see tcpclient and -e, -s
"""

from __future__ import annotations

import contextlib
import os

from supervise import chain
from supervise.errors import reason
from supervise.numbers import leading_number
from supervise.options import BadOption, Options
from supervise.program import Fatal, Usage, program, say, unable_to
from ucspi import addresses, outgoing, timed, tls, tls_relay
from ucspi.outgoing import Wanted
from ucspi.verbosity import EVERYTHING, SILENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

SYNOPSIS = (
    "sslclient [ -3hHrRdDqQveEsSnNxX ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ]"
    " [ -t timeoutinfo ] [ -a cafile ] [ -A cadir ] [ -c certfile ] [ -C ciphers ] [ -k keyfile ]"
    " [ -V verifydepth ] [ -w progtimeout ] host port program"
)
LETTERS = outgoing.LETTERS + "a:A:c:C:k:V:3eEsSnNxXw:"
FILES = {"a": "ca_file", "A": "ca_directory", "c": "certificate", "C": "ciphers", "k": "key"}
MAX_PASSWORD = 4096  # bytes


class Settings:
    """What the options ask of the TLS connection; `wanted` has the rest."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Raises BadOption, or Usage."""
        self.wanted = Wanted("sslclient")
        self.wanted.delay = False
        self.files: dict[str, str | None] = dict.fromkeys(FILES.values())
        self.verify = self.check_name = True
        self.depth: int | None = None
        self.tcp_variables = self.tls_variables = self.ask_password = False
        self.timeout = 3600  # seconds
        options = Options(argv, LETTERS)
        for letter, argument in options:
            if not self._take(letter, argument):
                raise Usage(SYNOPSIS)
        self.operands = options.operands

    def _take(self, letter: str, argument: str) -> bool:
        if letter in FILES:
            self.files[FILES[letter]] = argument or None
        elif letter == "V":
            self.depth = leading_number(argument)
        elif letter == "w":
            self.timeout = leading_number(argument)
        elif letter == "3":
            self.ask_password = True
        elif letter in "eE":
            self.tcp_variables = letter == "e"
        elif letter in "sS":
            self.tls_variables = letter == "s"
        elif letter in "nN":
            self.check_name = letter == "n"
        elif letter in "xX":
            self.verify = letter == "x"
        else:
            return self.wanted.take(letter, argument)
        return True


@program("sslclient", resident=True, later=("ucspi.dns", "ucspi.dns_lookup", "ucspi.tls_environment"))
def main(argv: Sequence[str]) -> int:
    try:
        settings = Settings(argv)
    except BadOption as error:
        say(f"sslclient: {error}")
        raise Usage(SYNOPSIS) from error
    try:
        return _connect_and_run(settings)
    except Fatal as error:
        if settings.wanted.verbosity == SILENT:
            return error.code
        raise


def _connect_and_run(settings: Settings) -> int:
    host, port, child = addresses.host_port_program(settings.operands, SYNOPSIS)
    password = read_password() if settings.ask_password else b""
    outgoing.free_6_and_7()
    with contextlib.closing(outgoing.connect(settings.wanted, host, port)) as sock:
        return _talk(settings, host, sock, password, child)


def _talk(settings: Settings, host: str, sock: socket.socket, password: bytes, child: Sequence[str]) -> int:
    found = outgoing.variables(settings.wanted, sock)
    changes = addresses.environment_of_tls(found, settings.tcp_variables)
    session = _session(settings, host, sock, password)
    if settings.tls_variables:
        changes |= _about(session, settings.files["certificate"])
    env = addresses.changed(os.environ, changes)

    def run() -> int:
        with unable_to(f"run {child[0]}"):
            chain.run(child, env)

    try:
        return tls_relay.serve("sslclient", session, sock.fileno(), settings.timeout, (6, 7), run)
    except OSError as error:
        raise Fatal(f"unable to speak SSL: {why(error)}") from error


def _session(settings: Settings, host: str, sock: socket.socket, password: bytes) -> tls.Session:
    """The session, after the handshake."""
    files = settings.files
    try:
        context = tls.client_context(
            **files, verify=settings.verify, check_name=settings.check_name, password=password
        )
    except tls.TlsError as error:
        raise Fatal(why(error)) from error
    session = tls.Session(context, host=host if host not in ("", "0") else None)
    timeout = sum(settings.wanted.timeouts)
    channel = tls.Channel(timed.Channel(sock.fileno(), sock.fileno(), timeout), session)
    try:
        channel.handshake(timeout)
    except OSError as error:
        raise Fatal(_refusal(error)) from error
    # the server's own certificate and the root's do not count
    if (
        settings.depth is not None
        and settings.verify
        and len(tls.verified_chain(session)) - 2 > settings.depth
    ):
        raise Fatal("unable to verify server certificate")
    settings.wanted.say("ssl connect", EVERYTHING)
    return session


def _about(session: tls.Session, certificate: str | None) -> dict[str, str]:
    from ucspi import tls_environment

    own = None
    if certificate:
        with unable_to(f"read {certificate}"), open(certificate, "rb") as file:
            own = file.read()
    return tls_environment.variables(session, own, server_side=False)


def _refusal(error: OSError) -> str:
    if isinstance(error, tls.TlsError) and error.wrong_name:
        return "server name does not match certificate"
    if isinstance(error, tls.TlsError) and error.untrusted:
        return f"unable to verify server certificate: {error.strerror}"
    return f"unable to SSL connect: {why(error)}"


def why(error: OSError) -> str:
    """What went wrong, be it TLS or the network."""
    return str(error.strerror) if isinstance(error, tls.TlsError) else reason(error)


def read_password() -> bytes:
    """The password on descriptor 3, up to a NUL or the end.  Raises Fatal."""
    password = b""
    with unable_to("read password"):
        while len(password) < MAX_PASSWORD and b"\0" not in password:
            more = os.read(3, MAX_PASSWORD)
            if not more:
                break
            password += more
        os.close(3)
    return password.partition(b"\0")[0]
