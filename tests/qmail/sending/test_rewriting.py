"""Recipients are rewritten as the original does it: as a model that follows its loops byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.control import lookup_set, lookup_table
from qmail.sending.rewriting import LOCAL, REMOTE, Rewriting, sender_for

NAMES = [b"a.b", b"b", b".b", b".a.b", b"x@a.b", b"", b"B", b"c", b"..", b"A.b"]
addresses = st.lists(st.sampled_from([b"x", b"y", b"@", b"%", b".", b"a.b", b"b", b"B", b"p-", b"-"])).map(
    b"".join
)
domains = st.sets(st.sampled_from(NAMES)).map(lookup_set)
virtual = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([b"", b"p", b"x-y"]))).map(
    lambda pairs: lookup_table(key + b":" + value for key, value in pairs)
)
rewritings = st.builds(Rewriting, domains, virtual, domains, st.sampled_from([b"a.b", b"host"]))


def model(r: Rewriting, address: bytes) -> tuple[int, bytes]:
    """The original's algorithm, with its indices."""
    s = bytearray(address)
    i = bytes(s).rfind(b"@")
    if i < 0:
        i = len(s)
        s += b"@" + r.default_host
    while bytes(s[i + 1 :]).lower() in r.percent_domains:
        j = bytes(s[:i]).rfind(b"%")
        if j < 0:
            break
        del s[i:]
        i = j
        s[i : i + 1] = b"@"
    at = bytes(s).rfind(b"@")
    if bytes(s[at + 1 :]).lower() in r.local_domains:
        return LOCAL, bytes(s)
    for i in range(len(s) + 1):
        if i in (0, at + 1, len(s)) or (i > at and s[i : i + 1] == b"."):
            prepend = r.virtual_domains.get(bytes(s[i:]).lower())
            if prepend is not None:
                if not prepend:
                    break
                return LOCAL, prepend + b"-" + bytes(s)
    return REMOTE, bytes(s)


@given(rewritings, addresses)
def test_rewrites_as_the_original_does(rewriting: Rewriting, address: bytes) -> None:
    assert rewriting.rewrite(address) == model(rewriting, address)


@given(rewritings, addresses)
def test_a_prepend_is_undone_for_a_virtual_domain(rewriting: Rewriting, address: bytes) -> None:
    _, rewritten = rewriting.rewrite(address)
    domain = rewritten.rpartition(b"@")[2]
    user_keys = {key for key in rewriting.virtual_domains if b"@" in key}
    if domain.lower() not in rewriting.local_domains and not user_keys and not rewriting.percent_domains:
        plain = address if b"@" in address else address + b"@" + rewriting.default_host
        assert rewriting.original(rewritten) == plain or rewriting.rewrite(plain)[0] == REMOTE


@pytest.mark.parametrize(
    ("sender", "recipient", "expected"),
    [
        (b"owner-@list.org-@[]", b"joe@x.org", b"owner-joe=x.org@list.org"),
        (b"owner-@list.org-@[]", b"a@b@c", b"owner-a@b=c@list.org"),
        (b"owner-@list.org-@[]", b"joe", b"owner-@list.org-@[]"),
        (b"owner-@[]", b"joe@x.org", b"owner-@[]"),
        (b"-@[]", b"joe@x.org", b"-@[]"),
        (b"@-@[]", b"joe@x.org", b"joe=x.org@"),
        (b"s@x", b"joe@x.org", b"s@x"),
        (b"#@[]", b"joe@x.org", b"#@[]"),
        (b"", b"joe@x.org", b""),
    ],
)
def test_the_sender_names_its_recipient(sender: bytes, recipient: bytes, expected: bytes) -> None:
    assert sender_for(sender, recipient) == expected
