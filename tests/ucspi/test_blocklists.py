"""What the lists' answers mean: the first list in order decides, whichever answer comes first."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspi.blocklists import (
    ACCEPT,
    BOUNCE,
    LOOKUP_ERROR,
    REJECT,
    List,
    Verdict,
    by_variable,
    decide,
    reversed_address,
)

Outcome = tuple[bytes, ...] | OSError | None
FAILED: Outcome = TimeoutError()
CLIENT = "192.0.2.7"


def blocks(bounce: bool = False, fail_closed: bool = False) -> List:
    return List("rbl.test", anti=False, bounce=bounce, fail_closed=fail_closed)


def welcomes(fail_closed: bool = False) -> List:
    return List("dnswl.test", anti=True, bounce=False, fail_closed=fail_closed)


YES: Outcome = (b"listed",)
NO: Outcome = ()
HERE: Outcome = (b"\x7f\0\0\2",)


@pytest.mark.parametrize(
    ("lists", "outcomes", "verdict"),
    [
        ([], [], Verdict(ACCEPT)),
        ([blocks()], [NO], Verdict(ACCEPT)),
        ([blocks()], [(b"",)], Verdict(ACCEPT)),
        ([blocks()], [YES], Verdict(REJECT, b"listed")),
        ([blocks()], [(b"a", b"b")], Verdict(REJECT, b"ab")),
        ([blocks(bounce=True)], [YES], Verdict(BOUNCE, b"listed")),
        ([blocks()], [FAILED], Verdict(ACCEPT)),
        ([blocks(bounce=True, fail_closed=True)], [FAILED], Verdict(REJECT, LOOKUP_ERROR)),
        ([blocks(), blocks(bounce=True)], [FAILED, YES], Verdict(REJECT, b"listed")),
        ([welcomes(), blocks()], [HERE, YES], Verdict(ACCEPT)),
        ([blocks(), welcomes()], [YES, HERE], Verdict(REJECT, b"listed")),
        ([welcomes(), blocks()], [FAILED, YES], Verdict(ACCEPT)),
        ([welcomes(fail_closed=True), blocks(bounce=True)], [FAILED, YES], Verdict(REJECT, b"listed")),
        ([blocks(), blocks()], [None, YES], None),
        ([blocks(), blocks()], [YES, None], Verdict(REJECT, b"listed")),
        ([blocks(), blocks()], [NO, None], None),
    ],
)
def test_the_verdict_follows_from_the_answers(
    lists: list[List], outcomes: list[Outcome], verdict: Verdict | None
) -> None:
    assert decide(lists, CLIENT, outcomes) == verdict


def test_an_ipv6_client_may_be_welcomed_by_either_kind_of_address() -> None:
    pairs: list[list[Outcome]] = [[HERE, NO], [NO, HERE], [None, HERE], [FAILED, HERE]]
    for outcomes in pairs:
        assert decide([welcomes()], "2001:db8::1", outcomes) == Verdict(ACCEPT)
    assert decide([welcomes(fail_closed=True)], "2001:db8::1", [None, NO]) is None


lists = st.lists(
    st.builds(List, st.just("x."), anti=st.booleans(), bounce=st.booleans(), fail_closed=st.booleans())
)


@given(lists, st.data())
def test_what_an_unanswered_list_may_still_say_never_changes_a_verdict(
    asked: list[List], data: st.DataObject
) -> None:
    answers_of_all: list[Outcome] = [YES, NO, FAILED, None]
    outcomes = [data.draw(st.sampled_from(answers_of_all)) for _ in asked]
    verdict = decide(asked, CLIENT, outcomes)
    open_ones = outcomes.count(None)
    for answers in itertools.islice(itertools.product(answers_of_all[:3], repeat=open_ones), 30):
        left = iter(answers)
        final = decide(asked, CLIENT, [next(left) if outcome is None else outcome for outcome in outcomes])
        assert final is not None
        assert verdict in (None, final)


@pytest.mark.parametrize(
    ("client", "labels"),
    [
        ("192.0.2.7", "7.2.0.192."),
        ("2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2."),
        ("::ffff:192.0.2.7", "7.2.0.192."),
        ("", ""),
        ("unknown", "unknown."),
        ("a.b", "b.a."),
    ],
)
def test_an_address_is_turned_round(client: str, labels: str) -> None:
    assert reversed_address(client) == labels


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (None, None),
        (b"", Verdict(ACCEPT)),
        (b"-", Verdict(BOUNCE, b"")),
        (b"-no", Verdict(BOUNCE, b"no")),
        (b"no", Verdict(REJECT, b"no")),
    ],
)
def test_the_variable_says_it_without_a_list(value: bytes | None, verdict: Verdict | None) -> None:
    assert by_variable(value) == verdict


@given(st.binary(max_size=400))
def test_a_refusal_is_one_plain_line_of_bounded_length(text: bytes) -> None:
    reply = Verdict(REJECT, text).reply()
    assert len(reply) <= 204
    assert all(32 <= byte <= 126 for byte in reply)
