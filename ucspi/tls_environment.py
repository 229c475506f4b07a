"""What a program may want to know of a TLS connection, as the variables of ucspi-ssl and mod_ssl."""

from __future__ import annotations

import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ucspi.tls import verified_chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ucspi.tls import Session

PARTS = {
    "C": NameOID.COUNTRY_NAME, "ST": NameOID.STATE_OR_PROVINCE_NAME, "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME,
    "T": NameOID.TITLE, "I": NameOID.INITIALS, "G": NameOID.GIVEN_NAME, "S": NameOID.SURNAME,
    "UID": NameOID.X500_UNIQUE_IDENTIFIER, "Email": NameOID.EMAIL_ADDRESS,
    "D": x509.ObjectIdentifier("2.5.4.13"),
}  # fmt: skip
TIME = "%b %e %H:%M:%S %Y GMT"  # as OpenSSL prints it
WEAK = 56  # bits; a cipher with fewer was once for export


def variables(session: Session, own: bytes | None, server_side: bool) -> dict[str, str]:
    """SSL_PROTOCOL, SSL_CIPHER..., SSL_SERVER_... and SSL_CLIENT_..., as far as there is something to say.

    own: the certificate that this side presents, as the text of its file.
    """
    found = _connection(session)
    roles = ("SERVER", "CLIENT") if server_side else ("CLIENT", "SERVER")
    if own:
        found |= _certificate(f"SSL_{roles[0]}", x509.load_pem_x509_certificate(own))
    peer = session.tls.getpeercert(binary_form=True)
    if peer:
        found |= _certificate(f"SSL_{roles[1]}", x509.load_der_x509_certificate(peer))
        for number, der in enumerate(verified_chain(session)):
            found[f"SSL_{roles[1]}_CERT_CHAIN_{number}"] = ssl.DER_cert_to_PEM_cert(der)
    return {name: value for name, value in found.items() if "\0" not in value}


def _connection(session: Session) -> dict[str, str]:
    tls = session.tls
    name, _, bits = tls.cipher() or ("", "", 0)
    known = tls.session.id.hex() if tls.session else ""
    return {
        "SSL_PROTOCOL": tls.version() or "",
        "SSL_SESSION_ID": known,
        "SSL_CIPHER": name,
        "SSL_CIPHER_EXPORT": "true" if bits < WEAK else "false",
        "SSL_CIPHER_USEKEYSIZE": str(bits),
        "SSL_CIPHER_ALGKEYSIZE": str(bits),
        "SSL_VERSION_INTERFACE": "ucspi-ssl",
        "SSL_VERSION_LIBRARY": ssl.OPENSSL_VERSION,
    }


def _certificate(prefix: str, certificate: x509.Certificate) -> dict[str, str]:
    return {
        f"{prefix}_M_VERSION": str(certificate.version.value + 1),
        f"{prefix}_M_SERIAL": str(certificate.serial_number),
        f"{prefix}_V_START": certificate.not_valid_before_utc.strftime(TIME),
        f"{prefix}_V_END": certificate.not_valid_after_utc.strftime(TIME),
        f"{prefix}_A_SIG": certificate.signature_algorithm_oid._name,
        f"{prefix}_A_KEY": _key_kind(certificate),
        f"{prefix}_CERT": certificate.public_bytes(Encoding.PEM).decode("ascii"),
        **_name(f"{prefix}_S_DN", certificate.subject),
        **_name(f"{prefix}_I_DN", certificate.issuer),
    }


def _key_kind(certificate: x509.Certificate) -> str:
    try:
        return certificate.public_key_algorithm_oid._name
    except (UnsupportedAlgorithm, ValueError):
        return "UNKNOWN"


def _name(prefix: str, name: x509.Name) -> dict[str, str]:
    found = {prefix: "".join(f"/{part.rfc4514_attribute_name}={_text(part.value)}" for part in name)}
    for letters, kind in PARTS.items():
        for part in name.get_attributes_for_oid(kind):
            found[f"{prefix}_{letters}"] = _text(part.value)
    return found


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
