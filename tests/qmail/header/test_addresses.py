"""Address lists: every address is found, last one first, and the rest of the field stays what it was."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmail.header.addresses import LONGEST, AsTheyAre, TooLong, rewritten
from qmail.header.rewriting import Rewriter
from qmail.header.tokens import LONG, Token, Unparsable, tokenise

rewriter = Rewriter(tokenise("@box"), tokenise(".example.org"), tokenise(".plus.net"))


def addresses_of(contents: bytes) -> list[bytes]:
    found: list[bytes] = []
    rewritten(b"To: " + contents, AsTheyAre(), found.append)
    return found


@pytest.mark.parametrize(
    ("contents", "found"),
    [
        (b"", []),
        (b"a@b", [b"a@b"]),
        (b"a@b, c@d (x), A Person <e@f>", [b"e@f", b"c@d", b"a@b"]),
        (b"group: g@h, i@j;, k@l", [b"k@l", b"i@j", b"g@h"]),
        (b"nobody: ;", []),
        (b"<>", [b""]),
        (b"fred joe@x", [b"joe@x", b"fred"]),
        (b"<@a,@b:joe@c>", [b"@a,@b:joe@c"]),
        (b'"a, b"@c', [b"a, b@c"]),
        (b",,a@b,,", [b"a@b"]),
        (b"a @ b . c", [b"a@b.c"]),
        (b"A B C", [b"C", b"B", b"A"]),
    ],
)
def test_addresses(contents: bytes, found: list[bytes]) -> None:
    assert addresses_of(contents) == found


@pytest.mark.parametrize("contents", [b"a>", b"(", b"a: b", b"a; b;", b"x> y"])
def test_what_is_no_list(contents: bytes) -> None:
    with pytest.raises(Unparsable):
        addresses_of(contents)


@pytest.mark.parametrize(
    ("address", "full"),
    [
        (b"joe", b"joe@box.example.org"),
        (b"joe@sun", b"joe@sun.example.org"),
        (b"joe@sun.com", b"joe@sun.com"),
        (b"joe@sun+", b"joe@sun.plus.net"),
        (b"joe@[1.2.3.4]", b"joe@[1.2.3.4]"),
        (b"joe@[]", b"joe@[]"),
        (b"joe@", b"joe@box.example.org"),
        (b"joe@sun.", b"joe@sun.example.org"),
        (b"<@a,@b:joe@sun>", b"joe@sun.example.org"),
        (b"<@sun.com>", b""),
        (b"<@>", b""),
        (b"<.>", b""),
        (b"<>", b""),
    ],
)
def test_rewriting(address: bytes, full: bytes) -> None:
    found: list[bytes] = []
    rewritten(b"To: " + address, rewriter, found.append)
    assert found == [full]


lists = st.lists(
    st.sampled_from([
        b"joe", b"@", b"sun", b".", b"com", b",", b" ", b"<", b">", b":", b";", b"(c)", b'"q, r"', b"[1]",
        b"\\", b"a+", b"@a.b", b"(", b")", b"\n ", b"\xe9", b"\0", b", f@g.h",
    ]), max_size=30,
).map(b"".join)  # fmt: skip


@given(lists)
def test_rewriting_twice_changes_no_more_than_once(contents: bytes) -> None:
    try:
        once = rewritten(b"To: " + contents, AsTheyAre())
        again = rewritten(once, AsTheyAre())
    except Unparsable:
        return
    assert rewritten(again, AsTheyAre()) == again
    assert once.endswith(b"\n")


@given(lists)
def test_every_address_gets_a_host_or_is_empty(contents: bytes) -> None:
    found: list[bytes] = []
    try:
        rewritten(b"To: " + contents, rewriter, found.append)
    except Unparsable:
        return
    assert all(not address or b"@" in address for address in found)


@settings(max_examples=25, deadline=None)
@given(lists)
def test_a_long_list_is_read_like_a_short_one(contents: bytes) -> None:
    filler = b"x@y.z, " * (LONG // 7 + 1)
    try:
        short = addresses_of(contents)
    except Unparsable:
        with pytest.raises(Unparsable):
            addresses_of(filler + contents)
        return
    assert addresses_of(filler + contents)[: len(short)] == short


class Slow:
    """What `rewriter` does, by way of tokens for every address."""

    def rewrite(self, address: list[Token]) -> list[Token]:
        return rewriter.rewrite(address)

    def leaves(self, word: str) -> bool:
        return False


plain_lists = st.lists(
    st.sampled_from(["joe", "@", "sun", ".", "com", ",", " ", "a+", "@a.b", "f@g.h", ", f@g.h"])
)


@given(plain_lists.map("".join).map(str.encode) | lists)
def test_the_short_way_for_plain_addresses_leads_to_the_same_end(contents: bytes) -> None:
    outcomes: list[tuple[bytes | None, list[bytes]]] = []
    for rewriting in (rewriter, Slow()):
        found: list[bytes] = []
        try:
            outcomes.append((rewritten(b"To: " + contents, rewriting, found.append), found))
        except Unparsable:
            outcomes.append((None, found))
    assert outcomes[0] == outcomes[1]


def test_ten_thousand_addresses_need_little_more_room_than_their_text() -> None:
    field = b"To: " + b", ".join(b"user%d@host.example.org" % n for n in range(10_000))
    tracemalloc.start()
    try:
        result = rewritten(field, AsTheyAre())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.count(b"@") == 10_000
    assert peak < 30 * len(field)


def test_what_stands_between_two_commas_has_its_limit() -> None:
    with pytest.raises(TooLong):
        rewritten(b"To: a@b.c, " + b"x" * (LONGEST + 1) + b", d", AsTheyAre())
    assert addresses_of(b"a@b.c, " + b"x" * (LONGEST // 2) + b", d")[::2] == [b"d", b"a@b.c"]
