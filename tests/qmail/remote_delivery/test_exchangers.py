"""Which hosts are tried, and in what order, for what DNS says."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.remote_delivery.exchangers import (
    Exchanger,
    LookupLater,
    NoExchanger,
    NoSuchHost,
    NullExchanger,
    before_me,
    by_address,
    by_mx,
)
from ucspi.dns import Resolver
from ucspi.dns_lookup import ImpossibleName, LookupFailed


class World:
    """A resolver that knows a small world; a name given an error raises it."""

    def __init__(
        self, mx: dict[str, list[tuple[int, str]] | OSError], ip: dict[str, list[bytes] | OSError]
    ) -> None:
        self._mx, self._ip = mx, ip

    def mx(self, name: bytes) -> list[tuple[int, str]]:
        found = self._mx.get(name.decode(), [])
        if isinstance(found, OSError):
            raise found
        return found

    def ip(self, name: bytes) -> list[bytes]:
        found = self._ip.get(name.decode(), [])
        if isinstance(found, OSError):
            raise found
        return found


def world(mx: dict[str, list[tuple[int, str]] | OSError], ip: dict[str, list[bytes] | OSError]) -> Resolver:
    return cast(Resolver, World(mx, ip))


def ip(last: int) -> bytes:
    return bytes([192, 0, 2, last])


def test_exchangers_come_by_preference() -> None:
    resolver = world(
        {"d": [(20, "b"), (10, "a"), (30, "c")]}, {"a": [ip(1)], "b": [ip(2), ip(3)], "c": [ip(4)]}
    )
    found = by_mx(resolver, b"d")
    assert found == [Exchanger(ip(1), 10), Exchanger(ip(2), 20), Exchanger(ip(3), 20), Exchanger(ip(4), 30)]


@given(st.randoms(use_true_random=False))
def test_equal_preferences_are_shuffled_and_none_is_lost(chance: object) -> None:
    resolver = world({"d": [(5, "a"), (5, "b"), (1, "c")]}, {"a": [ip(1)], "b": [ip(2)], "c": [ip(3)]})
    found = by_mx(resolver, b"d", chance.shuffle)  # type: ignore[attr-defined]
    assert found[0].address == ip(3)
    assert {each.address for each in found[1:]} == {ip(1), ip(2)}


def test_without_mx_the_host_itself_is_tried() -> None:
    assert by_mx(world({}, {"d": [ip(1)]}), b"d") == [Exchanger(ip(1), 0)]


@pytest.mark.parametrize("host", [b"[192.0.2.7]", b"192.0.2.7"])
def test_literal_needs_no_look_up(host: bytes) -> None:
    assert by_mx(world({}, {}), host) == [Exchanger(ip(7), 0)]


def test_ipv6_literal_needs_no_look_up() -> None:
    assert by_address(world({}, {}), b"[IPv6:2001:db8::1]")[0].address.startswith(b"\x20\x01\x0d\xb8")


@pytest.mark.parametrize(
    ("mx", "addresses", "error"),
    [
        ({}, {}, NoSuchHost),
        ({"d": ImpossibleName()}, {}, NoSuchHost),
        ({"d": LookupFailed()}, {"d": [ip(1)]}, LookupLater),
        ({}, {"d": LookupFailed()}, LookupLater),
        ({"d": [(1, "a")]}, {}, NoExchanger),
        ({"d": [(1, "a"), (2, "b")]}, {"a": LookupFailed()}, LookupLater),
        ({"d": [(0, ".")]}, {}, NullExchanger),
    ],
)
def test_what_keeps_mail_from_going_is_told_apart(
    mx: dict[str, list[tuple[int, str]] | OSError],
    addresses: dict[str, list[bytes] | OSError],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        by_mx(world(mx, addresses), b"d")


def test_failed_look_up_of_one_exchanger_leaves_the_others() -> None:
    resolver = world({"d": [(1, "a"), (2, "b")]}, {"a": LookupFailed(), "b": [ip(2)]})
    assert by_mx(resolver, b"d") == [Exchanger(ip(2), 2)]


def test_only_those_before_this_host_are_left() -> None:
    found = [Exchanger(ip(1), 10), Exchanger(ip(2), 20), Exchanger(ip(3), 20), Exchanger(ip(4), 30)]
    assert before_me(found, {ip(2)}) == [Exchanger(ip(1), 10)]
    assert before_me(found, set()) == found
    assert before_me([Exchanger(bytes(4), 0)], set()) == []
    assert before_me([Exchanger(bytes([127, 0, 0, 9]), 0)], set()) == []


def test_every_sixteenth_preference_asks_for_qmtp() -> None:
    wanting = [n for n in range(65536) if Exchanger(ip(1), n).wants_qmtp]
    assert wanting == list(range(12801, 13056, 16))
