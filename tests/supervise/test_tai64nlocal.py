"""The labels at the beginnings of lines become local time as in the original, however the stream is cut."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import BIN, environment, run, running

from supervise.tai import label
from supervise.tai64nlocal import Localizer

C = Path("/usr/bin/tai64nlocal")
ZONES = ("UTC", "Europe/Berlin", "IST-5:30", "America/New_York")

labels = st.one_of(
    st.integers(-6 * 10**19, 10**25).map(label),  # from the year 69 on; beyond, the original crashes
    st.integers(0, 2**32 - 1).map(lambda n: b"@400000005f5e1000%08x" % n),
    st.integers(0, 2**32 - 1).map(lambda n: b"@fedc%08x" % n + b"400000005f5e10000badf00d"),
)
lines = st.builds(
    lambda start, rest: start + rest,
    st.one_of(labels, st.just(b"")),
    st.sampled_from([b"", b" x", b"x", b"ABC", b",", b"@", b" @4000000037c219bf2ef02e94", b"\0", b"\xff"]),
)


@pytest.mark.skipif(not C.exists(), reason="C tai64nlocal is missing: Debian package daemontools")
@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=10, deadline=None)
@given(texts=st.lists(lines.filter(lambda line: line != b"@"), max_size=40))
def test_streams_become_what_the_original_makes_of_them(zone: str, texts: list[bytes]) -> None:
    stream = b"\n".join(texts)
    env = environment(TZ=zone)
    assert run(BIN / "tai64nlocal", stdin=stream, env=env).stdout == run(C, stdin=stream, env=env).stdout


@given(st.lists(lines, max_size=10).map(b"\n".join), st.lists(st.integers(0, 500), max_size=10))
def test_how_the_stream_is_cut_does_not_matter(stream: bytes, places: list[int]) -> None:
    ends = sorted({min(place, len(stream)) for place in places} | {len(stream)})
    chunks = [stream[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]
    cut, whole, bytewise = Localizer(), Localizer(), Localizer()
    expected = whole.feed(stream) if stream else b""
    assert b"".join(map(cut.feed, chunks)) == expected
    assert b"".join(bytewise.feed(bytes([byte])) for byte in stream) == expected


@pytest.mark.parametrize("text", [b"@ x\n", b"@\n", b"@7fffffffffffffff00000000 x\n"])
def test_a_moment_that_no_calendar_knows_passes_unchanged(text: bytes) -> None:
    assert Localizer().feed(text) == text


def test_digits_without_end_take_no_memory() -> None:
    localizer = Localizer()
    localizer.feed(b"@" + b"0" * 100)
    for _ in range(100):
        assert localizer.feed(b"0" * 100_000) == b""
    assert len(localizer.feed(b"4000000037c219bf2ef02e94 x\n")) == len(b"1999-08-24 04:04:05.787492500 x\n")


def test_lines_go_on_at_once() -> None:
    with running(
        "tai64nlocal", stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(TZ="UTC")
    ) as process:
        assert process.stdin
        assert process.stdout
        for number in range(3):
            process.stdin.write(label(number * 10**9) + b" line\nrest")
            process.stdin.flush()
            expected = time.strftime("%Y-%m-%d %H:%M:%S.000000000 line\nrest", time.gmtime(number)).encode()
            assert process.stdout.read(len(expected)) == expected
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.read(1) == b"\n"
