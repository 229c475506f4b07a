"""Labels go in where lines begin, however the stream is cut, and what has come goes on at once."""

from __future__ import annotations

import signal
import subprocess
import time

from hypothesis import given
from hypothesis import strategies as st
from programs import environment, resolved, running

from supervise.tai import parse
from supervise.tai64n import Labeller

NOW = 1_700_000_000_000_000_000


@given(st.lists(st.text("a\n", min_size=1, max_size=9).map(str.encode), max_size=20))
def test_each_line_gets_one_label_when_its_first_byte_comes(chunks: list[bytes]) -> None:
    labeller = Labeller()
    made = b"".join(labeller.feed(chunk, NOW + number * 10**9) for number, chunk in enumerate(chunks))
    stream = b"".join(chunks)
    lines, labelled = stream.split(b"\n"), made.split(b"\n")
    if not lines[-1]:
        lines.pop()
        assert labelled.pop() == b""
    assert [line[26:] for line in labelled] == lines
    moments = [parse(line) or 0 for line in labelled]
    starts = [0, *(at + 1 for at, byte in enumerate(stream) if byte == 10)][: len(lines)]
    came = [number for number, chunk in enumerate(chunks) for _ in chunk]
    assert [(moment - NOW) // 10**9 for moment in moments] == [came[start] for start in starts]
    assert moments == sorted(set(moments))


def test_the_beginning_of_a_line_goes_on_before_its_end() -> None:
    with running("tai64n", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        before = time.time_ns()
        for part in (b"be", b"gin", b"\n"):
            process.stdin.write(part)
            process.stdin.flush()
            if part == b"be":
                label = process.stdout.read(28)
                assert label[25:] == b" be"
                assert before <= (parse(label) or 0) <= time.time_ns()
            else:
                assert process.stdout.read(len(part)) == part


def test_a_closed_output_ends_it() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(resolved(["tai64n"]), env=environment(), stdin=pipe, stdout=pipe) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.close()
        process.stdin.write(b"x\n")
        process.stdin.close()
        assert process.wait(30) == -signal.SIGPIPE
