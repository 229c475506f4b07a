"""Any header comes out complete, with nothing hidden shown, and a second time changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.header.addresses import TooLong
from qmail.header.fields import Reader
from qmail.header.rewriting import Rewriter
from qmail.header.tokens import tokenise
from qmail.injection import HIDDEN, LONGEST_FIELD, Identity, Injection, Refused, Stamp, whole
from qmail.queueing.envelope import EnvelopeReader

rewriter = Rewriter(tokenise("@box"), tokenise(".example.org"), tokenise(".plus.net"))
stamp = Stamp(812090813, 12345, b"id.example.org")

names = st.sampled_from([
    b"To", b"CC", b"bcc", b"From", b"Sender", b"Return-Path", b"Resent-To", b"Resent-Bcc", b"Resent-Date",
    b"Date", b"Message-ID", b"Subject", b"Content-Length", b"X-Other", b"Errors-To", b"Apparently-To",
])  # fmt: skip
words = st.sampled_from([
    b"joe", b"@", b"sun", b".", b"com", b",", b" ", b"<", b">", b":", b";", b"(c)", b'"q, r"', b"[1]", b"a+",
    b"@a.b", b"(", b"\n ", b"\xe9", b"\0", b", f@g.h",
])  # fmt: skip
fields = st.builds(
    lambda name, contents: name + b": " + b"".join(contents) + b"\n", names, st.lists(words, max_size=8)
)
messages = st.builds(
    lambda parts, body: b"".join(parts) + body, st.lists(fields, max_size=6), st.binary(max_size=20)
)
variables = st.sampled_from(
    ["QMAILUSER", "QMAILHOST", "QMAILNAME", "QMAILSUSER", "QMAILSHOST", "QMAILINJECT"]
)
environments = st.dictionaries(
    variables.map(str.encode), st.sampled_from([b"joe", b"a b", b"x.y", b"cr", b"m", b"f", b"(", b"is", b""])
)


def injected(
    message: bytes, environment: dict[bytes, bytes], lists: frozenset[bytes] | None = None
) -> tuple[bytes, bytes, bytes]:
    """Header, body and envelope of `message`.  Raises Refused."""
    source: Iterator[bytes] = iter([message] if message else [])
    reader = Reader(lambda: next(source, b""))
    injection = Injection(Identity(environment), rewriter, stamp, lists=lists)
    try:
        for name, field in reader.fields():
            injection.take(name, field)
        header = injection.additions() + b"".join(injection.header())
        return header, b"".join(reader.body()), injection.envelope([b"given@x"], True)
    finally:
        injection.close()


def fields_of(header: bytes) -> list[bytes]:
    source = iter([header])
    return [name for name, _ in Reader(lambda: next(source, b"")).fields()]


@given(messages, environments)
def test_any_message_is_completed_or_refused(message: bytes, environment: dict[bytes, bytes]) -> None:
    try:
        header, body, envelope = injected(message, environment)
    except Refused:
        return
    found = fields_of(header)
    resent = b"resent-" if any(name.startswith(b"resent-") for name in found) else b""
    for name in (b"date", b"message-id", b"from"):
        assert resent + name in found
    assert {resent + b"to", resent + b"cc"} & set(found)
    assert not HIDDEN & set(found)
    assert not body or body.startswith(b"\n")
    reader = EnvelopeReader()
    assert reader.feed(envelope) == len(envelope) - 1
    assert reader.done


@given(messages, environments)
def test_what_is_complete_stays_as_it_is(message: bytes, environment: dict[bytes, bytes]) -> None:
    environment.pop(b"QMAILINJECT", None)
    try:
        header, body, _ = injected(message, environment)
        again, body_again, _ = injected(header + body, environment)
        third, _, _ = injected(again + body_again, environment)
    except Refused:
        return
    assert body_again == body
    assert third == again
    assert sorted(fields_of(again)) == sorted(fields_of(header))


def recipients(envelope: bytes) -> list[bytes]:
    return [part[1:] for part in envelope.split(b"\0") if part.startswith(b"T")]


def test_header_recipients_follow_the_given_ones_last_one_first() -> None:
    _, _, envelope = injected(b"To: a@b.c, d@e.f\nBcc: g\n\n", {})
    assert recipients(envelope) == [b"given@x", b"d@e.f", b"a@b.c", b"g@box.example.org"]


def test_of_a_message_sent_again_only_the_new_recipients_count() -> None:
    header, _, envelope = injected(b"To: a@b.c\nResent-Bcc: d@e.f\n\n", {})
    assert recipients(envelope) == [b"given@x", b"d@e.f"]
    assert b"Resent-Cc: recipient list not shown: ;\n" in header


@pytest.mark.parametrize(
    ("flags", "sender"),
    [
        (b"", b"joe@box.example.org"),
        (b"r", b"joe-@box.example.org-@[]"),
        (b"m", b"joe-812090813.12345@box.example.org"),
        (b"mr", b"joe-812090813.12345-@box.example.org-@[]"),
    ],
)
def test_senders_of_their_own(flags: bytes, sender: bytes) -> None:
    _, _, envelope = injected(b"\n", {b"USER": b"joe", b"QMAILINJECT": flags})
    assert envelope.startswith(b"F" + sender + b"\0")


def test_the_first_return_path_counts_and_of_it_the_last_address() -> None:
    _, _, envelope = injected(b"Return-Path: <a@b.c>, <d@e.f>\nReturn-Path: g@h.i\n\n", {b"USER": b"joe"})
    assert envelope.startswith(b"Fd@e.f\0")


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (b"To: List@x.y, joe@b.c\n", b"Mail-Followup-To: List@x.y,\n  joe@b.c\n"),
        (b"Cc: list@x.y\nMail-Followup-To: me@x.y\n", b""),
        (b"Bcc: list@x.y\n", b""),
        (b"Resent-To: list@x.y\n", b""),
        (b"To: other@x.y\n", b""),
    ],
)
def test_followups_go_to_lists(message: bytes, asked: bytes) -> None:
    header, _, _ = injected(message, {}, frozenset([b"list@x.y"]))
    assert (b"Mail-Followup-To: L" in header) == bool(asked)
    assert asked in header


def test_a_name_may_go_into_a_comment() -> None:
    header, _, _ = injected(b"\n", {b"USER": b"joe", b"QMAILNAME": b"Joe (x)", b"QMAILINJECT": b"c"})
    assert b"\nFrom: joe@box.example.org (Joe \\(x\\))\n" in header
    header, _, _ = injected(b"\n", {b"USER": b"j o", b"QMAILNAME": b"Joe"})
    assert b'\nFrom: "Joe" <"j o"@box.example.org>\n' in header


def test_unwanted_fields_are_replaced() -> None:
    message = b"From: a@b.c\nMessage-ID: <1@x>\nReturn-Path: d@e.f\n\n"
    header, _, envelope = injected(message, {b"USER": b"joe", b"QMAILINJECT": b"fis"})
    assert b"From: joe@box.example.org\n" in header
    assert b"a@b.c" not in header
    assert b"<1@x>" not in header
    assert envelope.startswith(b"Fjoe@box.example.org\0")


@pytest.mark.parametrize("variable", [b"QMAILHOST", b"QMAILSHOST"])
def test_an_impossible_host_of_ones_own_is_refused(variable: bytes) -> None:
    with pytest.raises(Refused):
        injected(b"\n", {b"USER": b"joe", variable: b"x>y"})


def test_a_field_of_addresses_has_its_limit() -> None:
    with pytest.raises(TooLong):
        whole([b"x" * LONGEST_FIELD, b"x"])
    assert len(whole([b"x" * LONGEST_FIELD])) == LONGEST_FIELD
