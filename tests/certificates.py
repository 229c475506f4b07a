"""An authority and certificates for tests, made on the spot, and TLS sessions that rely on them."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from ucspi import tls

Key = ec.EllipticCurvePrivateKey
VALID = datetime.timedelta(days=10)


class Authority:
    """Signs certificates; its own is in `file`."""

    def __init__(self, directory: Path, name: str = "Test CA", parent: Authority | None = None) -> None:
        self.directory = directory
        self.parent: Authority | None = parent
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        self.certificate = _sign(self.name, self.key, parent or self, [], is_authority=True)
        self.chain: bytes = _pem(self.certificate) + (parent.chain if parent and parent.parent else b"")
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(_pem(self.certificate))

    def issue(
        self, *names: str, file: Path | None = None, password: bytes = b"", expired: bool = False
    ) -> Path:
        """A file with certificate, intermediate ones and key, good for `names`."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(_name(names[0]), key, self, names, expired=expired)
        encryption: KeySerializationEncryption = (
            BestAvailableEncryption(password) if password else NoEncryption()
        )
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        target = file or self.directory / f"{names[0]}.pem"
        new = target.with_suffix(".new")
        new.write_bytes(_pem(certificate) + (self.chain if self.parent else b"") + secret)
        os.replace(new, target)  # as an administrator does
        return target


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _sign(
    subject: x509.Name, key: Key, issuer: Authority, names: tuple[str, ...] | list[str],
    *, is_authority: bool = False, expired: bool = False,
) -> x509.Certificate:  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    start, end = (now - 2 * VALID, now - VALID) if expired else (now - VALID, now + VALID)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]), False
        )
    return builder.sign(issuer.key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def meet(client: tls.Session, server: tls.Session, step: int = 1 << 20) -> None:
    """Take both through the handshake, `step` bytes at a time."""
    sides = [client, server]
    done = [False, False]
    for _ in range(20_000):
        for me, other in ((0, 1), (1, 0)):
            done[me] = done[me] or sides[me].handshake()
            wire = sides[me].to_send()
            for start in range(0, len(wire), step):
                sides[other].feed(wire[start : start + step])
                if not done[other]:
                    done[other] = sides[other].handshake()
        if all(done):
            return
    raise AssertionError("no end of the handshake")


def sessions(
    authority: Authority, certificate: Path, name: str = "a.test", *, ca_file: str | None = None
) -> tuple[tls.Session, tls.Session]:
    client = tls.client_context(ca_file=str(authority.file))
    context = tls.server_context(str(certificate), ca_file=ca_file, verify_client=bool(ca_file))
    return tls.Session(client, host=name), tls.Session(context, server_side=True)
