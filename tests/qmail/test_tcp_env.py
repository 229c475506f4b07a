"""tcp-env describes the connection it is given, and runs the program with that."""

from __future__ import annotations

import socket
import subprocess

import pytest
from programs import BIN, environment

SHOW = ("env",)


def run(*argv: str, stdin: int, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(BIN / "tcp-env"), *argv], stdin=stdin, env=environment(**env), capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip


def settings(output: bytes) -> dict[bytes, bytes]:
    return dict(line.split(b"=", 1) for line in output.splitlines())


def test_the_environment_describes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, peer = listener.accept()
        port = listener.getsockname()[1]
        with client, accepted:
            done = run("-R", *SHOW, stdin=accepted.fileno(), DNSCACHEIP="127.0.0.1:9", TCPREMOTEINFO="old")
    found = settings(done.stdout)
    assert done.returncode == 0
    assert found[b"PROTO"] == b"TCP"
    assert found[b"TCPLOCALIP"] == found[b"TCPREMOTEIP"] == b"127.0.0.1"
    assert found[b"TCPREMOTEPORT"] == b"%d" % peer[1]
    assert found[b"TCPLOCALPORT"] == b"%d" % port
    assert b"TCPREMOTEINFO" not in found
    assert found[b"TCPREMOTEHOST"] in (b"softdnserror", b"localhost")


def test_what_another_server_has_set_is_left_alone() -> None:
    done = run("-t5", *SHOW, stdin=subprocess.DEVNULL, PROTO="TCP", TCPREMOTEIP="192.0.2.1")
    assert settings(done.stdout)[b"TCPREMOTEIP"] == b"192.0.2.1"


@pytest.mark.parametrize("argv", [(), ("-R", "true"), ("-x", "true"), ("-R", "/no/such/program")])
def test_without_a_connection_or_a_program_it_is_111(argv: tuple[str, ...]) -> None:
    proto = {"PROTO": "TCP"} if "/no/such/program" in argv else {}
    assert run(*argv, stdin=subprocess.DEVNULL, **proto).returncode == 111
