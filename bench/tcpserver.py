"""tcpserver beside C tcpserver: connections per second, memory of idle ones and over time, tcprules."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

OURS = Path(sys.prefix) / "bin"
THEIRS = Path("/usr/bin")
PEER = Path(__file__).with_name("tcpserver_peer.c")
ROUNDS = 20
CONNECTIONS = 1000  # a round
AT_ONCE = 20
IDLE = 1000
MANY = 100_000
RULES = 200_000


def measure() -> Iterator[str]:
    if not (THEIRS / "tcpserver").exists():
        yield "skipped: C tcpserver is not installed (Debian package ucspi-tcp)"
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        peer = directory / "peer"
        subprocess.run(["cc", "-O2", "-o", peer, PEER], check=True)
        _home(directory)
        smtpd = [str(OURS / "qmail-smtpd")]
        yield _connections(directory, "/bin/true", "connect", ["/bin/true"], ["/bin/true"])
        yield _connections(directory, "cat", "connect", ["cat"], ["cat"])
        yield _connections(directory, "SMTP dialogue", "dialogue", smtpd, [str(peer), "serve"])
        for program in (["cat"], smtpd):
            yield _idle(directory, program)
        yield from _growth(directory, smtpd)
        yield _rules(directory)


def _home(directory: Path) -> None:
    """The least that qmail-smtpd needs; it queues nothing here."""
    (directory / "control").mkdir()
    (directory / "control/me").write_text("server.example\n")
    (directory / "control/rcpthosts").write_text("example.net\n")


@contextlib.contextmanager
def _serving(
    tcpserver: Path, directory: Path, program: Sequence[str], limit: int = 100
) -> Iterator[tuple[int, int]]:
    """A server on a free port: its pid and its port."""
    command = [str(tcpserver), "-1RHl0", f"-c{limit}", f"-b{limit}", "127.0.0.1", "0", *program]
    env = {**os.environ, "QMAILHOME": str(directory)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as server:
        assert server.stdout
        try:
            yield server.pid, int(server.stdout.readline())
        finally:
            server.terminate()


def _seconds(directory: Path, kind: str, port: int, count: int = CONNECTIONS) -> float:
    start = time.perf_counter()
    subprocess.run([directory / "peer", kind, str(port), str(count), str(AT_ONCE)], check=True)
    return time.perf_counter() - start


def _connections(directory: Path, what: str, kind: str, ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Both in turn, and the median of the ratios of the pairs."""
    with (
        _serving(OURS / "tcpserver", directory, ours) as (_, our_port),
        _serving(THEIRS / "tcpserver", directory, theirs) as (_, their_port),
    ):
        for port in (our_port, their_port):
            _seconds(directory, kind, port, 100)
        pairs = _pairs(
            lambda: _seconds(directory, kind, their_port), lambda: _seconds(directory, kind, our_port)
        )
    speeds = [CONNECTIONS / statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = _quartiles(c / python for c, python in pairs)
    return f"{what:14} C {speeds[0]:5.0f}/s, ours {speeds[1]:5.0f}/s: {ratio} x"


def _pairs(theirs: Callable[[], float], ours: Callable[[], float]) -> list[tuple[float, float]]:
    """What both give, in turn; each of them comes first as often as the other."""
    sides = (theirs, ours)
    given: dict[Callable[[], float], list[float]] = {side: [] for side in sides}
    for n in range(ROUNDS):
        for side in sides if n % 2 else reversed(sides):
            given[side].append(side())
    return list(zip(given[theirs], given[ours], strict=True))


def _quartiles(ratios: Iterable[float]) -> str:
    low, median, high = statistics.quantiles(ratios, n=4)
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _idle(directory: Path, program: Sequence[str]) -> str:
    with _serving(OURS / "tcpserver", directory, program, 2 * IDLE) as (pid, port):
        before = _memory(pid)
        command = [str(directory / "peer"), "hold", str(port), str(IDLE)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as clients:
            assert clients.stdout
            clients.stdout.readline()
            while len(_children(pid)) < IDLE:
                time.sleep(0.1)
            time.sleep(1)  # until all of them have greeted
            each = (_memory(pid) - before) / IDLE
            clients.communicate()
    return f"{IDLE} idle connections, {Path(program[0]).name}: {each:.0f} kB PSS each"


def _growth(directory: Path, program: Sequence[str]) -> Iterator[str]:
    with _serving(OURS / "tcpserver", directory, program) as (pid, port):
        _seconds(directory, "dialogue", port, MANY // 10)
        before = _rss(pid)
        _seconds(directory, "dialogue", port, MANY)
        yield f"{MANY} connections: the server grew from {before} kB to {_rss(pid)} kB"


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _memory(pid: int) -> float:
    """kB PSS of a server and its children."""
    return sum(_field(process, "smaps_rollup", "Pss:") for process in [pid, *_children(pid)])


def _rss(pid: int) -> int:
    return _field(pid, "status", "VmRSS:")


def _field(pid: int, file: str, name: str) -> int:
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def _rules(directory: Path) -> str:
    rules = directory / "rules"
    with rules.open("w") as file:
        for n in range(RULES):
            file.write(f'{n % 223 + 1}.{n >> 16}.{n >> 8 & 255}.{n & 255}:allow,RELAYCLIENT="{n % 7}"\n')
    pairs = _pairs(lambda: _compile(THEIRS, rules), lambda: _compile(OURS, rules))
    same = (directory / "usr").read_bytes() == (directory / OURS.parts[1]).read_bytes()
    ratio = _quartiles(python / c for c, python in pairs)
    c, python = (statistics.median(column) for column in zip(*pairs, strict=True))
    return f"tcprules, {RULES} rules: C {c:.3f} s, ours {python:.3f} s: {ratio} x the time; same cdb: {same}"


def _compile(programs: Path, rules: Path) -> float:
    """Seconds to compile `rules` into a file named after the place of the programs."""
    cdb = rules.parent / programs.parts[1]
    start = time.perf_counter()
    with rules.open() as file:
        subprocess.run([programs / "tcprules", cdb, f"{cdb}.tmp"], stdin=file, check=True)
    return time.perf_counter() - start
