"""200 services with logs, under our svscan and the original: time until all are up, memory, restarts."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from supervise import status

SERVICES = 200
ROUNDS = 5
RESTARTS = 5
PATHS = {"ours": f"{sys.prefix}/bin:/usr/bin:/bin", "C": "/usr/bin:/bin"}


def measure() -> Iterator[str]:
    """Lines of figures; ours and the original's take turns."""
    kinds = ["ours", "C"] if _is_original(Path("/usr/bin/svscan")) else ["ours"]
    up: dict[str, list[float]] = {kind: [] for kind in kinds}
    restart: dict[str, list[float]] = {kind: [] for kind in kinds}
    memory: dict[str, float] = {}
    # One directory for all: a file system that has just deleted much is slow to make new files.
    with tempfile.TemporaryDirectory(prefix="bench-supervise-") as place:
        for number in range(ROUNDS):
            for kind in kinds:
                seconds, memory[kind], latencies = _round(kind, Path(place) / f"{kind}{number}")
                up[kind].append(seconds)
                restart[kind] += latencies
    for kind in kinds:
        yield (
            f"{kind:5} {SERVICES} services with logs up in {statistics.median(up[kind]):.2f} s, "
            f"{memory[kind]:.2f} MB PSS per supervise, "
            f"a killed service is back in {1000 * statistics.median(restart[kind]):.0f} ms"
        )
    if len(kinds) == 2:
        ratios = [ours / theirs for ours, theirs in zip(up["ours"], up["C"], strict=True)]
        yield f"time until up, ours / C: {statistics.median(ratios):.2f} (of pairs, {ROUNDS} rounds)"
    else:
        yield "the original is not installed (apt install daemontools)"


def _is_original(program: Path) -> bool:
    return program.exists() and program.read_bytes().startswith(b"\x7fELF")


def _round(kind: str, place: Path) -> tuple[float, float, list[float]]:
    """Seconds until all were up, megabytes per supervise, and seconds per restart."""
    services = []
    for number in range(SERVICES):
        for part in (f"s{number}", f"s{number}/log"):
            directory = place / part
            directory.mkdir(parents=True)
            (directory / "run").write_text("#!/bin/sh\nexec sleep 1000\n")
            (directory / "run").chmod(0o755)
            services.append(directory)
    env = {"PATH": PATHS[kind]}
    program = next(p for d in PATHS[kind].split(":") if (p := Path(d) / "svscan").exists())
    began = time.monotonic()
    svscan = subprocess.Popen([program, place], env=env, start_new_session=True)
    try:
        _wait_until_up(services)
        seconds = time.monotonic() - began
        time.sleep(1.5)  # past the pause after a start
        supervises = [p for p in _children(svscan.pid)]
        memory = statistics.median(_pss(p) for p in supervises) / 1000
        latencies = [_restart(directory) for directory in services[:RESTARTS]]
    finally:
        _end(svscan, services)
    return seconds, memory, latencies


def _wait_until_up(services: list[Path]) -> None:
    deadline = time.monotonic() + 60
    for service in reversed(
        services
    ):  # one at a time: to read 400 records again and again would be a load of its own
        while not _pid(service):
            assert time.monotonic() < deadline, f"not up: {service}"
            time.sleep(0.005)


def _pid(service: Path) -> int:
    try:
        return status.read(str(service)).pid
    except (OSError, ValueError):
        return 0


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _pss(pid: int) -> float:
    """Kilobytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def _restart(service: Path) -> float:
    old = _pid(service)
    began = time.monotonic()
    os.kill(old, signal.SIGKILL)
    while _pid(service) in (0, old):
        time.sleep(0.0005)
    return time.monotonic() - began


def _end(svscan: subprocess.Popen[bytes], services: list[Path]) -> None:
    svscan.terminate()
    svscan.wait()
    subprocess.run([f"{sys.prefix}/bin/svc", "-dx", *services], stderr=subprocess.DEVNULL, check=True)
    deadline = time.monotonic() + 30
    for service in services:
        while _pid(service) and time.monotonic() < deadline:
            time.sleep(0.01)
    time.sleep(0.2)
