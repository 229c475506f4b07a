"""Every address has one text form, which reads back; nothing else is an address."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspi import addresses

packed = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@given(packed)
def test_text_reads_back_as_the_same_address(address: bytes) -> None:
    assert addresses.parse(addresses.text(address)) == address


@given(packed)
def test_text_is_the_canonical_form(address: bytes) -> None:
    known = ipaddress.ip_address(address)
    if not (known.version == 6 and address[:12] in (bytes(12), addresses.MAPPED)):  # 1.2.3.4 within
        assert addresses.text(address) == str(known)


@given(packed)
def test_a_mail_domain_literal_reads_back(address: bytes) -> None:
    assert addresses.parse_literal(addresses.literal(address)) == address


@given(packed)
def test_reverse_labels_are_those_of_the_reverse_zone(address: bytes) -> None:
    zone = "in-addr.arpa" if len(address) == 4 else "ip6.arpa"
    assert addresses.reverse_labels(address) + zone == ipaddress.ip_address(address).reverse_pointer


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_none(string: str) -> None:
    found = addresses.parse(string)
    assert found is None or len(found) in (4, 16)


@given(st.binary(max_size=60))
def test_any_mail_domain_is_a_literal_or_none(host: bytes) -> None:
    found = addresses.parse_literal(host)
    assert found is None or host[:1] + host[-1:] == b"[]"


@pytest.mark.parametrize(
    ("string", "found", "length"),
    [
        ("1.2.3.4", bytes([1, 2, 3, 4]), 7),
        ("001.2.3.260x", bytes([1, 2, 3, 4]), 11),
        ("1.2.3.4.5", bytes([1, 2, 3, 4]), 7),
        ("1.2.3", b"", 0),
        ("1.2..4", b"", 0),
        ("", b"", 0),
        ("9" * 10_000 + ".0.0.1", bytes([255, 0, 0, 1]), 10_006),
    ],
)
def test_scan4_reads_what_the_originals_read(string: str, found: bytes, length: int) -> None:
    assert addresses.scan4(string) == (found, length)


@pytest.mark.parametrize(
    "host", [b"[]", b"[1.2.3]", b"[::1]", b"[IPv6:1.2.3.4]", b"[IPv6:::1", b"1.2.3.4", b"[1.2.3.4]x"]
)
def test_what_looks_like_a_literal_is_none(host: bytes) -> None:
    assert addresses.parse_literal(host) is None


def test_a_mapped_address_is_its_ipv4_address() -> None:
    assert addresses.of_socket_name(("::ffff:10.1.2.3", 25, 0, 0)) == (bytes([10, 1, 2, 3]), 25)
    assert addresses.of_socket_name(("fe80::1%lo", 25, 0, 1))[0][:2] == b"\xfe\x80"


def test_this_machine_is_me_and_another_is_not() -> None:
    local = addresses.local_addresses()
    for mine in ("127.0.0.1", "127.9.9.9", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"):
        address = addresses.parse(mine)
        assert address is not None
        assert addresses.is_me(address, local), mine
    assert not addresses.is_me(bytes([192, 0, 2, 77]), local)


def test_interfaces_addresses_are_those_that_can_be_bound() -> None:
    for address in addresses.local_addresses():
        if not address.startswith(b"\xfe\x80"):  # link-local: needs a scope as well
            with socket.socket(addresses.family(address), socket.SOCK_DGRAM) as s:
                s.bind((addresses.text(address), 0))


def test_the_environment_of_a_connection() -> None:
    v4 = addresses.environment((bytes([127, 0, 0, 1]), 25), (bytes([127, 0, 0, 2]), 4000), local_host="me")
    assert (v4["PROTO"], v4["TCPLOCALHOST"], v4["TCPREMOTEHOST"], v4["TCP6REMOTEIP"]) == (
        "TCP",
        "me",
        None,
        None,
    )
    v6 = addresses.environment((addresses.LOOPBACK6, 25), (addresses.LOOPBACK6, 4000), remote_info="joe")
    assert (v6["PROTO"], v6["TCPREMOTEIP"], v6["TCP6REMOTEIP"]) == ("TCP6", "::1", "::1")
    assert (v6["TCP6LOCALPORT"], v6["TCPREMOTEINFO"]) == ("25", "joe")
