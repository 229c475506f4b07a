"""Service directories for the tests of svscan, supervise, svc, svok and svstat."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from programs import eventually, resolved, run

C = {name: Path("/usr/bin") / name for name in ("supervise", "svc", "svok", "svscan", "svstat")}


def is_original(program: Path) -> bool:
    """Is it daemontools' own, and not a link to ours?"""
    try:
        return program.read_bytes().startswith(b"\x7fELF")
    except OSError:
        return False


needs_daemontools = pytest.mark.skipif(
    not all(map(is_original, C.values())),
    reason="the C originals are not installed (apt install daemontools)",
)


def script(path: Path, *lines: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def service(directory: Path, *lines: str, log: tuple[str, ...] = ()) -> Path:
    """A service whose ./run is `lines`; with a log/run of its own if `log` is given."""
    script(directory / "run", *(lines or ("exec sleep 1000",)))
    if log:
        script(directory / "log/run", *log)
    return directory


def stat(directory: Path, svstat: str | Path = "svstat") -> str:
    """svstat's words, without the name and with the seconds masked."""
    said = run(svstat, directory).stdout.decode()
    return re.sub(r"\d+ seconds", "N seconds", said.removeprefix(f"{directory}: ").rstrip("\n"))


def pid_of(directory: Path) -> int:
    """The pid of the service; 0 if it is down, or nothing is known of it."""
    found = re.match(r"up \(pid (\d+)\)", stat(directory))
    return int(found[1]) if found else 0


def up(directory: Path) -> int:
    """Wait until the service is up, and return its pid."""
    return eventually(lambda: pid_of(directory), f"{directory} up")


def alive(pid: int) -> bool:
    """Is there such a process, and is it no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def supervised(directory: Path, svok: str | Path = "svok") -> bool:
    return run(svok, directory).returncode == 0


def lines(path: Path) -> list[str]:
    """The lines of a file that may not be there yet."""
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descriptors(pid: int) -> dict[int, str]:
    """What a process has open."""
    places = Path(f"/proc/{pid}/fd")
    return {int(entry.name): os.readlink(entry) for entry in places.iterdir()}


def program(name: str) -> str:
    return resolved([name])[0]
