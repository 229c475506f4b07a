"""make run shows a message's whole way, stays, and leaves no process behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
from programs import environment, eventually, free_port, running

COMMAND = (sys.executable, "-P", "-m", "qmail.demonstration")


def of_instance(home: Path) -> list[str]:
    """The processes that work in, or name, the instance in `home`."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if str(home) in line or process.cwd().startswith(str(home)):
                found.append(f"{process.pid} {line}")
        except psutil.Error:
            continue
    return found


def test_shows_the_message_and_stops_everything_on_interrupt(tmp_path: Path) -> None:
    home, output = tmp_path / "instance", tmp_path / "output"
    port = free_port()
    with output.open("wb") as out, running(
        *COMMAND, home, "--smtp-port", str(port), "--host", "mx.example.org",
        env=environment(), stdout=out, stderr=subprocess.STDOUT,
    ) as make_run:  # fmt: skip
        eventually(lambda: "Ctrl-C stops everything" in output.read_text(), deadline=60)
        shown = output.read_text()
        assert len(of_instance(home)) > 8
        make_run.send_signal(signal.SIGINT)
        assert make_run.wait(60) == 0
    assert "/service/qmail-smtpd/log: up (pid " in shown
    assert "messages in queue: 0" in shown
    assert "success: did_1+0+0/" in shown
    assert "Delivered-To: you@mx.example.org" in shown
    assert f"swaks --server 127.0.0.1:{port} --to anyone@mx.example.org" in shown
    assert of_instance(home) == []


def test_taken_port_is_named_with_the_option(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, str(tmp_path / "i"), "--smtp-port", str(port)],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert f"port {port}" in done.stderr
    assert "--smtp-port" in done.stderr


def test_an_option_is_no_directory(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--help"], env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 100
    assert "usage: " in done.stderr
    assert list(tmp_path.iterdir()) == []
