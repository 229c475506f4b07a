"""A reply counts only if it answers the question; no packet, however broken, raises."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspi.dns_messages import KINDS, BadName, Question, Verdict, name_text, parse_name, read_reply


def asked(name: str = "www.a.test", kind: str = "A", edns: bool = True) -> dns.message.QueryMessage:
    return Question.of(name, KINDS[kind]).query(4711, edns)


def answer(query: dns.message.Message, *records: str, rcode: int = 0, flags: int = 0) -> bytes:
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    reply.flags |= flags
    for record in records:
        owner, kind, value = record.split(" ", 2)
        reply.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, value))
    return reply.to_wire()


def test_records_are_read_along_the_chain_of_aliases() -> None:
    query = asked()
    packet = answer(
        query,
        "www.a.test. CNAME web.b.test.",
        "web.b.test. A 192.0.2.1",
        "other.test. A 192.0.2.99",
    )
    reply = read_reply(packet, query)
    assert (reply.verdict, reply.records) == (Verdict.ANSWER, (bytes([192, 0, 2, 1]),))


@pytest.mark.parametrize(
    ("kind", "record", "value"),
    [
        ("AAAA", "2001:db8::1", bytes.fromhex("20010db8000000000000000000000001")),
        ("PTR", r"Host\.1.A.test.", r"host\0561.a.test"),
        ("PTR", ".", "."),
        ("MX", "10 Mail.A.test.", (10, "mail.a.test")),
        ("TXT", '"one " "two"', b"one two"),
    ],
)
def test_each_kind_of_record_has_its_value(kind: str, record: str, value: object) -> None:
    query = asked(kind=kind)
    assert read_reply(answer(query, f"www.a.test. {kind} {record}"), query).records == (value,)


@pytest.mark.parametrize(
    ("rcode", "flags", "edns", "verdict"),
    [
        (dns.rcode.NOERROR, 0, True, Verdict.ANSWER),
        (dns.rcode.NXDOMAIN, 0, True, Verdict.ANSWER),
        (dns.rcode.SERVFAIL, 0, True, Verdict.FAILED),
        (dns.rcode.REFUSED, 0, True, Verdict.FAILED),
        (dns.rcode.FORMERR, 0, True, Verdict.NO_EDNS),
        (dns.rcode.FORMERR, 0, False, Verdict.FAILED),
        (dns.rcode.NOERROR, dns.flags.TC, True, Verdict.TRUNCATED),
    ],
)
def test_the_verdict_follows_from_the_header(rcode: int, flags: int, edns: bool, verdict: Verdict) -> None:
    query = asked(edns=edns)
    assert read_reply(answer(query, rcode=rcode, flags=flags), query).verdict is verdict


def test_a_reply_to_another_question_is_not_ours() -> None:
    query = asked()
    for other in (asked("x.test"), asked(kind="TXT"), Question.of("www.a.test", KINDS["A"]).query(4712)):
        assert read_reply(answer(other), query).verdict is Verdict.OTHER
    assert read_reply(query.to_wire(), query).verdict is Verdict.OTHER, "an echo is no reply"


def test_aliases_in_a_circle_are_a_failure() -> None:
    query = asked()
    packet = answer(query, "www.a.test. CNAME b.test.", "b.test. CNAME www.a.test.")
    assert read_reply(packet, query).verdict is Verdict.FAILED


@given(st.binary(max_size=300))
def test_rubbish_is_not_ours(packet: bytes) -> None:
    assert read_reply(packet, asked()).verdict is Verdict.OTHER


@given(st.data())
def test_a_damaged_reply_never_raises(data: st.DataObject) -> None:
    query = asked(kind="MX")
    packet = bytearray(answer(query, "www.a.test. MX 10 mail.a.test.", "b.test. CNAME www.a.test."))
    for _ in range(data.draw(st.integers(1, 8))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packet)))
    read_reply(bytes(packet[:cut] if data.draw(st.booleans()) else packet), query)


@given(st.binary(max_size=80))
def test_a_names_text_reads_back_and_is_plain(raw: bytes) -> None:
    try:
        name = parse_name(raw)
    except BadName:
        return
    text = name_text(name)
    assert all(" " < c <= "~" for c in text)
    assert parse_name(text if text != "." else "") == name


@pytest.mark.parametrize("name", ["a..b", ".a", "a" * 64, "a." * 128, "a." * 100_000])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        parse_name(name)


def test_escapes_in_a_name() -> None:
    assert parse_name(r"a\.b\056\7.c\\").labels == (b"a.b.\7", b"c\\", b"")
