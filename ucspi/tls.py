"""TLS 1.2 and 1.3: contexts from files that may change, sessions without I/O, and conversations under TLS.

A Session is one side of a connection and does no I/O.  A Channel is a
conversation under TLS in place of a `timed.Channel`, so that a protocol can
go on with the one after STARTTLS as it did with the other.  Whoever does that
throws away what the peer sent in the clear after its command: it must not
count as said under TLS.
"""

from __future__ import annotations

import errno
import os
import ssl
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ucspi import timed

STEP = 65_536  # bytes of TLS records read at once
MAX_OTHERS = 1000  # certificates for other names that are kept at a time
NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
WRONG_NAME = (62, 63, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_, _IP_ADDRESS_


class TlsError(OSError):
    """The two sides do not agree, or a file is no good; `strerror` says why.

    untrusted: the other side's certificate is not one to rely on.
    wrong_name: it is, but somebody else's.
    """

    def __init__(self, why: str, *, untrusted: bool = False, wrong_name: bool = False) -> None:
        super().__init__(errno.EPROTO, why)
        self.untrusted = untrusted
        self.wrong_name = wrong_name

    @classmethod
    def of(cls, error: ssl.SSLError) -> TlsError:
        if isinstance(error, ssl.SSLCertVerificationError):
            wrong_name = error.verify_code in WRONG_NAME
            return cls(error.verify_message, untrusted=not wrong_name, wrong_name=wrong_name)
        return cls((error.reason or "protocol error").lower().replace("_", " "))


def _context(protocol: ssl._SSLMethod, ciphers: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if ciphers:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:
            raise TlsError("unable to set cipher list") from error
    return context


def _trust(context: ssl.SSLContext, ca_file: str | None, ca_directory: str | None) -> None:
    """Rely on the authorities in these, or if there are none on those of the system."""
    try:
        if ca_file or ca_directory:
            context.load_verify_locations(ca_file, ca_directory)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except OSError as error:
        raise TlsError("unable to load CA list") from error


def _present(context: ssl.SSLContext, certificate: str, key: str | None, password: bytes) -> None:
    """Show the chain in `certificate`, with the key in `key` or in the same file."""
    try:
        context.load_cert_chain(certificate, key, password)  # an empty one: never ask the terminal
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError("key does not match certificate") from error
        raise TlsError(f"unable to load {_culprit(certificate)}") from error


def _culprit(certificate: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except OSError:
        return "certificate"
    return "key"


def server_context(
    certificate: str,
    key: str | None = None,
    *,
    password: bytes = b"",
    ciphers: str | None = None,
    ca_file: str | None = None,
    ca_directory: str | None = None,
    verify_client: bool = False,
    dh_file: str | None = None,
) -> ssl.SSLContext:
    """For servers.  verify_client: whoever has no good certificate is turned away.  Raises TlsError."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, ciphers)
    _present(context, certificate, key, password)
    if verify_client:
        _trust(context, ca_file, ca_directory)
        context.verify_mode = ssl.CERT_REQUIRED
    if dh_file:
        try:
            context.load_dh_params(dh_file)
        except OSError as error:
            raise TlsError("unable to set cipher parameters") from error
    return context


def client_context(
    *,
    ca_file: str | None = None,
    ca_directory: str | None = None,
    verify: bool = True,
    check_name: bool = True,
    certificate: str | None = None,
    key: str | None = None,
    password: bytes = b"",
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """For clients.  verify, check_name: what the server's certificate must stand up to.  Raises TlsError."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ciphers)
    context.check_hostname = verify and check_name
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if verify:
        _trust(context, ca_file, ca_directory)
    if certificate:
        _present(context, certificate, key, password)
    return context


class Certificates:
    """A server's certificates: a default one, and one for each name that a client may ask for (SNI).

    A name's file is `directory`/NAME.pem, chain and key in one, or for a wildcard
    `directory`/*.DOMAIN.pem.  Files are read again when they have changed; if what
    they then say is no good, the old certificate stays.  `problem` tells why a
    name's certificate could not be read for the latest connection.
    """

    def __init__(
        self,
        make: Callable[[str, str | None], ssl.SSLContext],
        certificate: str,
        key: str | None = None,
        directory: str | None = None,
    ) -> None:
        """`make(certificate, key)` is a context, as by `server_context`.  Raises TlsError."""
        self._make = make
        self._files = (certificate, key)
        self._directory = directory
        self._signature: Sequence[object] = self._sign(certificate, key)
        self._default = self._new(certificate, key)
        self._others: dict[str, tuple[Sequence[object], ssl.SSLContext]] = {}
        self.problem = ""

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        self.problem = ""
        self.refresh()
        return self._default

    def refresh(self) -> str:
        """Read the default certificate again if it has changed; why it is no good, said once, or ""."""
        signature = self._sign(*self._files)
        if signature == self._signature:
            return ""
        self._signature = signature
        try:
            self._default = self._new(*self._files)
        except TlsError as error:
            return str(error.strerror)
        return ""

    def file_of(self, context: ssl.SSLContext) -> str:
        """The file of the certificate that `context` presents."""
        for name, (_, other) in self._others.items():
            if other is context:
                return name
        return self._files[0]

    def _new(self, certificate: str, key: str | None) -> ssl.SSLContext:
        context = self._make(certificate, key)
        if self._directory:
            context.sni_callback = self._choose
        return context

    def _choose(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Called by OpenSSL once the client has said whom it wants to talk to."""
        for file in self._candidates((name or "").lower().rstrip(".")):
            context = self._other(file)
            if context:
                tls.context = context
                return

    def _candidates(self, name: str) -> list[str]:
        if not name or not NAME_LETTERS.issuperset(name) or name.startswith("."):
            return []
        domain = name.partition(".")[2]
        return [f"{self._directory}/{part}.pem" for part in (name, *([f"*.{domain}"] if domain else []))]

    def _other(self, file: str) -> ssl.SSLContext | None:
        signature = self._sign(file, None)
        known = self._others.get(file)
        if known and known[0] == signature:
            return known[1]
        if signature[0] is None:
            return None
        try:
            context = self._make(file, None)
        except TlsError as error:
            self.problem = f"{file}: {error.strerror}"
            return known[1] if known else None
        if len(self._others) >= MAX_OTHERS:
            self._others.clear()
        self._others[file] = signature, context
        return context

    @staticmethod
    def _sign(*files: str | None) -> list[object]:
        """What changes when a file does; None for one that is not there."""
        signature: list[object] = []
        for file in files:
            try:
                stat = os.stat(file) if file else None
                signature.append(stat and (stat.st_ino, stat.st_size, stat.st_mtime_ns))
            except OSError:
                signature.append(None)
        return signature


class Session:
    """One side of a TLS connection.  Does no I/O.

    Give it what comes from the network (`feed`), and send what it has for the
    network (`to_send`) after each other call.
    """

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool = False, host: str | None = None
    ) -> None:
        """host: the server's name, for a client to ask for and to check."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side, host)

    def feed(self, wire: bytes) -> None:
        """Take what came from the network; b"" is its end."""
        if wire:
            self._incoming.write(wire)
        else:
            self._incoming.write_eof()

    def to_send(self) -> bytes:
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Go on with the handshake; true when it is done, false if more must be fed.  TlsError."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise TlsError.of(error) from error
        return True

    def read(self, size: int) -> bytes | None:
        """Up to `size` bytes of what the peer says; b"": it has ended.  None: feed more.  TlsError."""
        try:
            return self.tls.read(size)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise TlsError.of(error) from error

    def write(self, data: bytes) -> None:
        """Say all of `data`.  TlsError."""
        try:
            if data:
                self.tls.write(data)
        except ssl.SSLError as error:
            raise TlsError.of(error) from error

    def close(self) -> None:
        """Say that no more will come, if there is a connection."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:  # the peer has not said so yet, or never will: either is its affair
            pass


class Channel:
    """A conversation under TLS.  It owns no descriptor, and is a `timed.Stream`."""

    def __init__(self, plain: timed.Channel, session: Session) -> None:
        self.session = session
        self._plain = plain

    def handshake(self, timeout: float) -> None:
        """Come to terms with the peer within `timeout` seconds.  TlsError, TimeoutError, OSError."""
        deadline, patience = time.monotonic() + timeout, self._plain.timeout
        try:
            while True:
                try:
                    done = self.session.handshake()
                except TlsError:
                    self.close()  # an alert says to the peer what is wrong
                    raise
                self._plain.timeout = deadline - time.monotonic()
                self._flush()
                if done:
                    return
                wire = self._plain.read(STEP)
                if not wire:
                    raise ConnectionResetError(errno.ECONNRESET, "connection reset")
                self.session.feed(wire)
        finally:
            self._plain.timeout = patience

    def read(self, size: int) -> bytes:
        """As `timed.Channel.read`."""
        while (data := self.session.read(size)) is None:
            self._flush()
            self.session.feed(self._plain.read(STEP))
        return data

    def write(self, data: bytes) -> None:
        """As `timed.Channel.write`."""
        self.session.write(data)
        self._flush()

    def close(self) -> None:
        """Say that no more will come, if anybody still listens."""
        try:
            self.session.close()
            self._flush()
        except OSError:
            pass

    def _flush(self) -> None:
        wire = self.session.to_send()
        if wire:
            self._plain.write(wire)


def verified_chain(session: Session) -> list[bytes]:
    """The peer's certificates, its own first and the root's last (DER); [] if they were not verified."""
    tls = session.tls
    if tls.context.verify_mode == ssl.CERT_NONE:
        return []
    public = getattr(tls, "get_verified_chain", None)  # since Python 3.13; before, it is within
    if public:
        return [bytes(certificate) for certificate in public()]
    inner = tls._sslobj  # type: ignore[attr-defined]
    return [
        ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in inner.get_verified_chain()
    ]


def bears(session: Session, host: str) -> bool:
    """Whether the peer's certificate, which was verified, is for `host` (RFC 6125)."""
    certificate = session.tls.getpeercert() or {}
    alternatives = certificate.get("subjectAltName", ())
    names = [str(pair[1]).lower() for pair in alternatives if pair[0] == "DNS"]
    if not alternatives:
        subject = certificate.get("subject", ())
        names = [str(pair[1]).lower() for part in subject for pair in part if pair[0] == "commonName"]
    wanted = host.lower().rstrip(".")
    return wanted in names or f"*.{wanted.partition('.')[2]}" in names
