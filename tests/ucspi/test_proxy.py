"""PROXY headers: read whole or byte by byte they mean the same, and nothing behind them is touched."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ucspi import proxy

Address = tuple[bytes, int]


def v2(command: int, family: int, addresses: bytes, version: int = 2) -> bytes:
    return (
        proxy.V2_BEGIN
        + bytes([version << 4 | command, family])
        + struct.pack("!H", len(addresses))
        + addresses
    )


def read(stream: bytes, most: int = 1 << 20) -> tuple[Address | None, Address | None, bytes] | str:
    """Source, destination and the rest of the stream; or what is wrong with it."""
    reader = proxy.HeaderReader()
    while reader.wanted:
        size = min(reader.wanted, most)
        if not stream:
            return "cut short"
        try:
            reader.feed(stream[:size])
        except proxy.BadHeader as error:
            return str(error)
        stream = stream[size:]
    assert reader.header
    return reader.header.source, reader.header.destination, stream


HERE, THERE = (socket.inet_aton("192.0.2.1"), 25), (socket.inet_aton("198.51.100.7"), 40000)
HERE6, THERE6 = (
    (socket.inet_pton(socket.AF_INET6, ip), port) for ip, port in (("2001:db8::1", 25), ("::2", 9))
)
GOOD = [
    (b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 25\r\n", THERE, HERE),
    (b"PROXY TCP6 ::2 2001:db8::1 9 25\r\n", THERE6, HERE6),
    (b"PROXY TCP6 ::ffff:198.51.100.7 ::ffff:192.0.2.1 40000 25\r\n", THERE, HERE),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, None),
    (v2(1, 0x11, THERE[0] + HERE[0] + struct.pack("!HH", 40000, 25)), THERE, HERE),
    (v2(1, 0x11, THERE[0] + HERE[0] + struct.pack("!HH", 40000, 25) + b"\x04\0\x03tlv"), THERE, HERE),
    (v2(1, 0x21, THERE6[0] + HERE6[0] + struct.pack("!HH", 9, 25)), THERE6, HERE6),
    (v2(0, 0x00, b""), None, None),
    (v2(1, 0x31, bytes(216)), None, None),
]
BAD = [
    b"GET / HTTP/1.0\r\n",
    b"EHLO client\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
    b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 ::1 ::2 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
    b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 " + b"1" * 100 + b"\r\n",
    b"proxy tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
    v2(1, 0x11, bytes(11)),
    v2(2, 0x11, bytes(12)),
    v2(1, 0x12, bytes(12)),
    v2(1, 0x11, bytes(12), version=1),
    b"\r\n\r\n\0\r\nQUIX\n" + bytes(20),
]


@pytest.mark.parametrize(("header", "source", "destination"), GOOD)
@pytest.mark.parametrize("most", [1, 2, 5, 1 << 20])
def test_a_good_header_names_both_ends(
    header: bytes, source: Address, destination: Address, most: int
) -> None:
    assert read(header + b"EHLO x\r\n", most) == (source, destination, b"EHLO x\r\n")


@pytest.mark.parametrize("stream", BAD)
@pytest.mark.parametrize("most", [1, 1 << 20])
def test_a_bad_header_is_refused(stream: bytes, most: int) -> None:
    assert isinstance(problem := read(stream + b"and what follows", most), str)
    assert problem != "cut short"


@pytest.mark.parametrize("header", [header for header, _, _ in GOOD])
def test_a_header_that_is_cut_short_is_none(header: bytes) -> None:
    for length in range(len(header)):
        assert read(header[:length]) == "cut short"


streams = st.one_of(
    st.binary(max_size=120),
    st.lists(
        st.sampled_from(
            [b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b"1.2.3.4", b"::1", b"25", b"\r\n", b"\r"]
        )
    ).map(b"".join),
    st.builds(lambda tail: proxy.V2_BEGIN + tail, st.binary(max_size=60)),
    st.builds(
        lambda first, tail: bytes(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"[:first]) + tail,
        st.integers(0, 32),
        st.binary(max_size=40),
    ),
)


@settings(max_examples=10_000)
@given(streams, st.integers(1, 20))
@example(b"PROXY \r\n\0", 1)
def test_any_stream_is_a_header_or_refused_however_it_is_cut(stream: bytes, most: int) -> None:
    assert read(stream, most) == read(stream)
