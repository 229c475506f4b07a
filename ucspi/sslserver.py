"""sslserver(8): accept TLS connections, and run a program for each.

SYNOPSIS
    sslserver [ -1346UXpPhHrRoOdDqQviIeEsSaA ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ]
        [ -u uid ] [ -b backlog ] [ -l localname ] [ -t timeout ] [ -T ssltimeout ] [ -w progtimeout ]
        host port program

DESCRIPTION
    tcpserver, with TLS 1.2 and 1.3 between the network and the program, which
    reads and writes in the clear on its descriptors 0 and 1.  Whom the rules
    refuse gets no handshake.  The options of tcpserver mean the same here, but -D
    is the rule, and the banner is sent under TLS.

    Certificates and keys are read again when their files have changed; while what
    they then say is no good, the old ones stay, and the log tells.

OPTIONS
    -i, -I   a client must show a good certificate (and, if its name is looked up,
             one that bears it), or need not (-I, the rule)
    -T n     a client has n seconds for the handshake (26)
    -w n     give up after n seconds in which nothing moves (3600)
    -3       read the key's password from descriptor 3, up to a NUL
    -a, -A   change user and group after the certificates are read, or before (-A,
             the rule); a key that only root may read cannot be read again after -a
    -e, -E   set the variables of tcpserver too, or not (-E, the rule)
    -s, -S   set the variables of mod_ssl about the session and the certificates,
             or not (-S, the rule)

EXIT
    0: TERM came.  100: usage.  111: it cannot listen, or the certificate is no good.

ENVIRONMENT
    CERTFILE     the certificate, with those between it and the root
    KEYFILE      its key; empty or not set: it is in CERTFILE
    CERTDIR      certificates for other names that clients ask for (SNI): NAME.pem, or
                 *.DOMAIN.pem for all names in a domain, each with its key
    CAFILE, CADIR  the authorities to rely on with -i, in a file or a directory
    VERIFYDEPTH  no more than so many of them between a client's certificate and the root
    CIPHERS      OpenSSL's names of the ciphers of TLS 1.2
    DHFILE       parameters for Diffie-Hellman

    The program finds PROTO (SSL, or SSL6 over IPv6), SSLLOCALIP, SSLLOCALPORT,
    SSLLOCALHOST, SSLREMOTEIP, SSLREMOTEPORT, SSLREMOTEHOST and SSLREMOTEINFO; see -e
    and -s, and tcpserver for what rules can order.
"""

from __future__ import annotations

import dataclasses
import importlib
import os

from supervise import chain
from supervise.errors import reason
from supervise.numbers import leading_number
from supervise.options import BadOption, Options
from supervise.program import TEMPORARY, Fatal, Usage, program, say
from ucspi import addresses, connection, tcpserver, timed, tls, tls_relay
from ucspi.connection import Arrival, Dropped, Policy
from ucspi.server import Ready
from ucspi.sslclient import read_password, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Mapping, Sequence

USAGE = (
    "sslserver [ -13UXpPhHrRoOdDqQviIeEsSaA ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] "
    "[ -u uid ] [ -b backlog ] [ -l localname ] [ -t timeout ] [ -T ssltimeout ] [ -w progtimeout ] "
    "host port program"
)
LETTERS = tcpserver.LETTERS + "3iIeEsSaAT:w:"
NO_CERTIFICATE = "peer did not return a certificate"  # OpenSSL's words


class TlsSettings:
    """What the options ask of TLS."""

    def __init__(self) -> None:
        self.verify_client = self.tcp_variables = self.tls_variables = False
        self.ask_password = self.certificates_first = False
        self.handshake_timeout, self.timeout = 26, 3600  # seconds

    def take(self, letter: str, argument: str) -> bool:
        """Take one option; false: it is tcpserver's."""
        switches = {
            "i": "verify_client",
            "e": "tcp_variables",
            "s": "tls_variables",
            "a": "certificates_first",
        }
        if letter.lower() in switches:
            setattr(self, switches[letter.lower()], letter.islower())
        elif letter == "3":
            self.ask_password = True
        elif letter == "T":
            self.handshake_timeout = leading_number(argument)
        elif letter == "w":
            self.timeout = leading_number(argument)
        else:
            return False
        return True


@program("sslserver", resident=True, later=("ucspi.dns", "ucspi.dns_lookup", "ucspi.tls_environment"))
def main(argv: Sequence[str]) -> int:
    settings = tcpserver.Settings(os.environ, Policy(program="sslserver", delay=False))
    about_tls, options = TlsSettings(), Options(argv, LETTERS)
    try:
        for letter, argument in options:
            if not about_tls.take(letter, argument):
                settings.take(letter, argument)
    except BadOption as error:
        say(f"sslserver: {error}")
        raise Usage(USAGE) from error

    def make() -> TlsService:
        return TlsService(settings.program, settings.policy, about_tls, os.environ)

    return tcpserver.serve(
        settings, options.operands, USAGE, make, rights_first=not about_tls.certificates_first
    )


class TlsService:
    """Runs `argv` for each connection that the policy admits and that comes to terms about TLS."""

    reusable = True

    def __init__(
        self, argv: Sequence[str], policy: Policy, settings: TlsSettings, env: Mapping[str, str]
    ) -> None:
        """Reads the certificates.  Raises Fatal."""
        self._argv = tuple(argv)
        self._banner = policy.banner
        self._policy = dataclasses.replace(policy, banner=b"")  # it goes under TLS
        self._settings = settings
        self._env = dict(env)
        self._depth = leading_number(env["VERIFYDEPTH"]) if "VERIFYDEPTH" in env else None
        self._files = {name: env.get(name) or None for name in ("CAFILE", "CADIR", "CIPHERS", "DHFILE")}
        self._password = read_password() if settings.ask_password else b""
        certificate, key = env.get("CERTFILE", ""), env.get("KEYFILE") or None
        try:
            self._certificates = tls.Certificates(self._context, certificate, key, env.get("CERTDIR") or None)
        except tls.TlsError as error:
            raise Fatal(why(error)) from error
        for what, file in (*self._files.items(), ("CERTFILE", certificate), ("KEYFILE", key or certificate)):
            if file:
                self._policy.log(f"{what.lower()} {os.getpid()} {file}")
        self.reload()

    def _context(self, certificate: str, key: str | None) -> ssl.SSLContext:
        return tls.server_context(
            certificate,
            key,
            password=self._password,
            ciphers=self._files["CIPHERS"],
            ca_file=self._files["CAFILE"],
            ca_directory=self._files["CADIR"],
            verify_client=self._settings.verify_client,
            dh_file=self._files["DHFILE"],
        )

    def reload(self) -> None:
        """Import now what every child would have to."""
        chain.preload_all(self._argv)
        if self._policy.remote_host or self._policy.local_host is None:
            importlib.import_module("ucspi.dns_lookup")
        if self._settings.tls_variables:
            importlib.import_module("ucspi.tls_environment")

    def start(self, sock: socket.socket, arrival: Arrival) -> int | None:  # noqa: ARG002  Service has it
        """Leave the handshake to a process of its own, and see that new ones have new certificates."""
        problem = self._certificates.refresh()
        if problem:
            self._policy.warn(f"old certificate stays, {problem}")
        return None

    def ready(self, sock: socket.socket, arrival: Arrival) -> Ready:  # noqa: ARG002  Service has it
        return Ready(lambda: self.serve(arrival))

    def serve(self, arrival: Arrival) -> int:
        try:
            return self._serve(arrival)
        except Dropped as drop:
            if str(drop):
                self._policy.warn(f"dropping connection, {drop}")
            return drop.code

    def _serve(self, arrival: Arrival) -> int:
        admitted = connection.admit(0, arrival, self._policy)
        session = self._shake_hands(admitted.get("TCPREMOTEHOST"))
        changes = addresses.environment_of_tls(admitted, self._settings.tcp_variables)
        if self._settings.tls_variables:
            changes |= self._about(session)
        env = addresses.changed(self._env, changes)
        try:
            session.write(self._banner)
            return tls_relay.serve(
                "sslserver", session, 0, self._settings.timeout, (0, 1), lambda: self._become_program(env)
            )
        except OSError as error:
            raise Dropped(f"unable to speak SSL: {why(error)}") from error

    def _become_program(self, env: Mapping[str, str]) -> int:
        try:
            chain.run(self._argv, env)
        except OSError as error:
            self._policy.warn(f"dropping connection, unable to run {self._argv[0]}: {reason(error)}")
            return TEMPORARY

    def _shake_hands(self, host: str | None) -> tls.Session:
        context = self._certificates.context()
        session = tls.Session(context, server_side=True)
        channel = tls.Channel(timed.Channel(0, 0, self._settings.handshake_timeout), session)
        try:
            channel.handshake(self._settings.handshake_timeout)
        except OSError as error:
            raise Dropped(_refusal(error)) from error
        finally:
            if self._certificates.problem:
                self._policy.warn(f"old certificate stays, {self._certificates.problem}")
        self._policy.log(f"ssl {os.getpid()} accept")
        if self._settings.verify_client:
            if self._depth is not None and len(tls.verified_chain(session)) - 2 > self._depth:
                raise Dropped("unable to verify client certificate")
            if host and not tls.bears(session, host):
                raise Dropped("client name does not match certificate")
        return session

    def _about(self, session: tls.Session) -> dict[str, str]:
        from ucspi import tls_environment

        file = self._certificates.file_of(session.tls.context)
        try:
            with open(file, "rb") as opened:
                own = opened.read()
        except OSError as error:
            raise Dropped(f"unable to read {file}: {reason(error)}") from error
        return tls_environment.variables(session, own, server_side=True)


def _refusal(error: OSError) -> str:
    if isinstance(error, tls.TlsError) and error.untrusted:
        return f"unable to verify client certificate: {error.strerror}"
    if isinstance(error, tls.TlsError) and error.strerror == NO_CERTIFICATE:
        return "no client certificate"
    return f"unable to SSL accept: {why(error)}"
