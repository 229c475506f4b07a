"""The paragraphs and headers of bounces are the original's, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.sending.bounces import NOBODY, Postmaster, before_copy, bounce_sender, paragraph

texts = st.lists(st.sampled_from([b"a", b"\n", b"/", b" "]), max_size=12).map(b"".join)


def model(recipient: bytes, report: bytes) -> bytes:
    """The original's algorithm, with its indices."""
    text = bytearray(b"<" + recipient.replace(b"\n", b"_") + b">:\n" + report)
    if report and not report.endswith(b"\n"):
        text += b"\n"
    for place in range(len(text) - 2, 0, -1):
        if text[place] == text[place - 1] == ord("\n"):
            text[place] = ord("/")
    return bytes(text) + b"\n"


@given(texts, texts)
def test_a_paragraph_is_as_the_original_writes_it(recipient: bytes, report: bytes) -> None:
    assert paragraph(recipient, report) == model(recipient, report)


@given(texts, texts)
def test_an_empty_line_ends_a_paragraph_and_is_nowhere_else(recipient: bytes, report: bytes) -> None:
    text = paragraph(recipient, report)
    assert text.endswith(b"\n\n")
    assert b"\n\n" not in text.rstrip(b"\n")


POSTMASTER = Postmaster(b"Mail Daemon", b"mx.org", b"post@mx.org")


def test_the_notice_to_a_sender() -> None:
    head = POSTMASTER.head(b"a b@c.org", 0)
    assert head.startswith(
        b'Date: 1 Jan 1970 00:00:00 -0000\nFrom: "Mail Daemon"@mx.org\nTo: "a b"@c.org\n'
        b"Subject: failure notice\n\nHi. This is the qmail-send program at mx.org.\n"
        b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
    )
    assert POSTMASTER.address(b"a b@c.org") == (b"", b"a b@c.org")
    assert before_copy(b"a b@c.org").endswith(b'message.\n\nReturn-Path: <"a b"@c.org>\n')


def test_the_notice_of_a_double_bounce_goes_to_the_postmaster() -> None:
    assert b"but the bounce bounced!\n\n" in POSTMASTER.head(b"", 0)
    assert POSTMASTER.address(b"") == (NOBODY, b"post@mx.org")
    assert before_copy(b"").endswith(b"the original bounce.\n\nReturn-Path: <>\n")


@pytest.mark.parametrize(
    ("sender", "expected"),
    [(b"owner-@x-@[]", b"owner-@x"), (b"-@[]", b""), (b"#@[]", b"#@[]"), (b"a@b", b"a@b"), (b"", b"")],
)
def test_whom_a_bounce_goes_to(sender: bytes, expected: bytes) -> None:
    assert bounce_sender(sender) == expected
