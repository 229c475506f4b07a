"""Questions and answers of the DNS as bytes: what is sent, and what a reply means.  No I/O.

dnspython does the wire format.  Names are text in djb's form: lower case, and
whatever is neither letter, digit, hyphen nor underscore as `\\ooo` (octal), so
that a hostile name cannot forge anything where it is printed.
"""

from __future__ import annotations

import enum
import socket
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
from dns.rdatatype import AAAA, MX, PTR, TXT, A

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

KINDS = {kind.name: kind for kind in (A, AAAA, MX, PTR, TXT)}
PAYLOAD = 1232  # bytes; UDP answers that pass any path without fragments
MAX_TEXT = 65_536
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
OCTAL = b"01234567"


class BadName(ValueError):
    """No domain name can have that form: a label over 63 bytes, a name over 255, or an empty label."""


class Verdict(enum.Enum):
    """What a packet is, to the one who asked."""

    ANSWER = enum.auto()  # `records` are the answer; none: there is no such record
    OTHER = enum.auto()  # not the answer to this question: wait on
    TRUNCATED = enum.auto()  # ask again over TCP
    NO_EDNS = enum.auto()  # ask again without EDNS
    FAILED = enum.auto()  # this server cannot say: ask the next


@dataclass(frozen=True, slots=True)
class Question:
    name: dns.name.Name
    kind: dns.rdatatype.RdataType

    @classmethod
    def of(cls, name: str | bytes, kind: dns.rdatatype.RdataType) -> Question:
        """Raises BadName."""
        return cls(parse_name(name), kind)

    def query(self, number: int, edns: bool = True) -> dns.message.QueryMessage:
        """The message that asks a recursive cache."""
        extension = {"use_edns": 0, "payload": PAYLOAD} if edns else {"use_edns": False}
        return dns.message.make_query(self.name, self.kind, id=number, **extension)


@dataclass(frozen=True, slots=True)
class Reply:
    verdict: Verdict
    records: tuple[Any, ...] = ()


def parse_name(name: str | bytes) -> dns.name.Name:
    r"""The domain name in dotted form, where `\.` is no separator and `\ooo` any byte.  Raises BadName."""
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    if len(raw) > MAX_TEXT:
        raise BadName("too long")
    labels = _labels(raw) if b"\\" in raw else raw.split(b".")
    if labels[-1] == b"":
        labels.pop()
    if b"" in labels:
        raise BadName("empty label")
    try:
        return dns.name.Name([*labels, b""])
    except dns.exception.DNSException as error:
        raise BadName(str(error)) from error


def _labels(raw: bytes) -> list[bytes]:
    labels, label, place = [], bytearray(), 0
    while place < len(raw):
        byte = raw[place]
        place += 1
        if byte == ord("."):
            labels.append(bytes(label))
            label.clear()
        elif byte != ord("\\"):
            label.append(byte)
        elif place < len(raw):
            end = place
            while end < place + 3 and raw[end : end + 1] and raw[end] in OCTAL:
                end += 1
            label.append(int(raw[place:end], 8) % 256 if end > place else raw[place])
            place = max(end, place + 1)
    return [*labels, bytes(label)]


def name_text(name: dns.name.Name) -> str:
    """`name` in dotted form, without the final dot; the root is "."."""
    return ".".join(_label_text(label) for label in name.labels if label) or "."


def _label_text(label: bytes) -> str:
    return "".join(chr(byte) if byte in PLAIN else f"\\{byte:03o}" for byte in label.lower())


def read_reply(packet: bytes, query: dns.message.Message) -> Reply:
    """What `packet`, from the server that was asked `query`, says.  Never raises, whatever it is."""
    try:
        head = dns.message.from_wire(packet, question_only=True)
        if not query.is_response(head):
            return Reply(Verdict.OTHER)
    except (dns.exception.DNSException, ValueError):
        return Reply(Verdict.OTHER)
    rcode = head.flags & 0xF  # that of the header; an extended one is a failure as well
    if rcode in (dns.rcode.FORMERR, dns.rcode.NOTIMP) and query.edns >= 0:
        return Reply(Verdict.NO_EDNS)
    if head.flags & dns.flags.TC:
        return Reply(Verdict.TRUNCATED)
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Reply(Verdict.FAILED)
    return _read_answer(packet, query.question[0].rdtype)


def _read_answer(packet: bytes, kind: dns.rdatatype.RdataType) -> Reply:
    try:
        message = dns.message.from_wire(packet, ignore_trailing=True)
        if not isinstance(message, dns.message.QueryMessage):
            return Reply(Verdict.FAILED)
        found = message.resolve_chaining().answer  # along CNAMEs; other owners' records do not count
    except (dns.exception.DNSException, ValueError):
        return Reply(Verdict.FAILED)
    return Reply(Verdict.ANSWER, tuple(_values(kind, found or ())))


def _values(kind: dns.rdatatype.RdataType, records: Iterable[Any]) -> Iterable[Any]:
    """A, AAAA: packed addresses.  PTR: names.  MX: (preference, name).  TXT: bytes."""
    for record in records:
        if kind == A:
            yield socket.inet_pton(socket.AF_INET, record.address)
        elif kind == AAAA:
            yield socket.inet_pton(socket.AF_INET6, record.address)
        elif kind == PTR:
            yield name_text(record.target)
        elif kind == MX:
            yield record.preference, name_text(record.exchange)
        elif kind == TXT:
            yield b"".join(record.strings)
