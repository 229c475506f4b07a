"""sslclient against OpenSSL's own server: it trusts whom it should, and carries data both ways."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from programs import environment, eventually, free_port, own_address, run, running

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl (Debian: openssl)")
ENV = environment(DNSREWRITEFILE=os.devnull)
HERE = own_address()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@contextlib.contextmanager
def s_server(certificate: Path, *options: str) -> Iterator[str]:
    """OpenSSL's server, which sends back each line turned round; yields its port."""
    port = str(free_port())
    argv = [
        "openssl",
        "s_server",
        "-accept",
        f"127.0.0.1:{port}",
        "-cert",
        str(certificate),
        "-quiet",
        *options,
    ]
    with running(*argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        eventually(lambda: _listens(port), "s_server listens")
        yield port


def _listens(port: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1):
        return True
    return False


def client(
    authority: Authority, port: str, *argv: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    return run("sslclient", "-RHl0", "-a", str(authority.file), *options, "127.0.0.1", port, *argv, env=ENV)


def test_data_pass_both_ways_and_the_exit_code_is_the_programs(authority: Authority) -> None:
    talk = "echo hello >&7; read -r line <&6; echo $line; exit 3"
    with s_server(authority.issue("127.0.0.1"), "-rev") as port:
        done = client(authority, port, "sh", "-c", talk)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"olleh\n", b"")


def test_much_data_both_ways_at_once(authority: Authority) -> None:
    script = (
        "import os, threading\n"
        "line = b'x' * 999\n"
        "def write():\n"
        "    with open(7, 'wb') as out:\n"
        "        for _ in range(3000): out.write(line + b'\\n')\n"
        "threading.Thread(target=write).start()\n"
        "back = open(6, 'rb')\n"
        "assert all(back.readline() == line + b'\\n' for _ in range(3000))\n"
    )
    with s_server(authority.issue("127.0.0.1"), "-rev") as port:
        done = client(authority, port, sys.executable, "-c", script)
    assert (done.returncode, done.stderr) == (0, b"")


def test_who_is_not_to_be_trusted_is_not_talked_to(authority: Authority, tmp_path: Path) -> None:
    stranger, marker = Authority(tmp_path, "Stranger"), tmp_path / "ran"
    ran = ["touch", str(marker)]
    for certificate, message in (
        (stranger.issue("127.0.0.1"), "unable to verify server certificate: "),
        (
            authority.issue("127.0.0.1", expired=True),
            "unable to verify server certificate: certificate has expired",
        ),
        (authority.issue("b.test"), "server name does not match certificate"),
    ):
        with s_server(certificate) as port:
            done = client(authority, port, *ran)
        assert done.returncode == 111
        assert done.stderr.decode().startswith(f"sslclient: fatal: {message}")
        assert not marker.exists()


def test_checks_can_be_turned_off(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "Stranger")
    for certificate, option in ((stranger.issue("b.test"), "-X"), (authority.issue("b.test"), "-N")):
        with s_server(certificate, "-rev") as port:
            assert client(authority, port, "true", options=(option,)).returncode == 0
    with s_server(stranger.issue("b.test")) as port:
        assert client(authority, port, "true", options=("-N",)).returncode == 111


def test_no_more_authorities_in_between_than_v_says(tmp_path: Path) -> None:
    root = Authority(tmp_path)
    lower = Authority(tmp_path, "Lower", Authority(tmp_path, "Middle", root))
    certificate = lower.issue("127.0.0.1")
    with s_server(certificate, "-rev", "-cert_chain", str(certificate)) as port:
        for depth, code in (("1", 111), ("2", 0)):
            assert client(root, port, "true", options=("-V", depth)).returncode == code
        assert client(root, port, "true").returncode == 0


def test_the_environment_tells_about_the_connection(authority: Authority) -> None:
    with s_server(authority.issue("127.0.0.1"), "-rev") as port:
        plain = client(authority, port, "env").stdout.decode()
        whole = client(authority, port, "env", options=("-es",)).stdout.decode()
    values = dict(line.split("=", 1) for line in plain.splitlines() if "=" in line)
    assert (values["PROTO"], values["SSLREMOTEIP"], values["SSLREMOTEPORT"]) == ("SSL", "127.0.0.1", port)
    assert (values["SSLLOCALHOST"], "SSLREMOTEHOST" in values) == ("0", False)
    assert not [name for name in values if name.startswith(("TCP", "SSL_"))]
    for line in (
        "TCPREMOTEIP=127.0.0.1",
        "SSL_PROTOCOL=TLSv1.3",
        "SSL_SERVER_S_DN_CN=127.0.0.1",
        "PROTO=SSL",
    ):
        assert line in whole.splitlines()


def test_a_client_shows_its_certificate_whose_key_may_have_a_password(authority: Authority) -> None:
    mine = str(authority.issue("joe.test", password=b"secret"))
    with s_server(
        authority.issue("127.0.0.1"), "-rev", "-Verify", "1", "-CAfile", str(authority.file)
    ) as port:
        script = f"printf 'secret\\0rest' | sslclient -3RHl0 -a {authority.file} -c {mine} 127.0.0.1 {port} "
        talk = script + "sh -c 'echo hello >&7; read -r line <&6; echo $line' 3<&0"
        assert run("sh", "-c", talk, env=ENV).stdout == b"olleh\n"
        done = client(authority, port, "true", options=("-c", mine))
    assert (done.returncode, done.stderr) == (111, b"sslclient: fatal: unable to load key\n")


@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
def test_both_versions_are_spoken(authority: Authority, option: str) -> None:
    with s_server(authority.issue("127.0.0.1"), "-rev", option) as port:
        done = client(authority, port, "sh", "-c", "echo $SSL_PROTOCOL", options=("-s",))
    assert done.stdout.decode() == f"TLSv1.{option[-1]}\n"


def test_a_server_that_does_not_speak_tls_or_says_nothing_is_an_error(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        done = client(authority, port, "true", options=("-T1+0",))
        assert (done.returncode, done.stderr) == (
            111,
            b"sslclient: fatal: unable to SSL connect: timed out\n",
        )
        quiet = client(authority, port, "true", options=("-qT1+0",))
        assert (quiet.returncode, quiet.stderr) == (111, b"")


def test_a_connection_in_which_nothing_moves_is_given_up(authority: Authority) -> None:
    with s_server(authority.issue("127.0.0.1")) as port:
        done = client(authority, port, "sh", "-c", "cat <&6; echo end; exec sleep 1.5", options=("-w1",))
    assert (done.returncode, done.stdout) == (111, b"end\n")
    assert done.stderr == b"sslclient: fatal: unable to speak SSL: timed out\n"


def test_usage() -> None:
    for argv in ([], ["-z"], ["127.0.0.1", "1"]):
        done = run("sslclient", *argv)
        assert done.returncode == 100
        assert b"sslclient: usage: sslclient [ -3hHrRdDqQveEsSnNxX ]" in done.stderr
    done = run("sslclient", "-RHl0", HERE, "1", "true")
    assert (done.returncode, done.stderr) == (
        111,
        f"sslclient: unable to connect to {HERE} port 1: connection refused\n".encode(),
    )
    assert run("sslclient", "-RHl0", "-a/none", HERE, "1", "true").returncode == 111


def test_a_program_that_cannot_be_run_is_told(authority: Authority) -> None:
    with s_server(authority.issue("127.0.0.1"), "-rev") as port:
        done = client(authority, port, "no-such-program")
    message = b"sslclient: fatal: unable to run no-such-program: file does not exist\n"
    assert (done.returncode, done.stderr) == (111, message)


def test_the_program_has_the_default_action_for_signals(authority: Authority) -> None:
    with s_server(authority.issue("127.0.0.1"), "-rev") as port:
        done = client(authority, port, "sh", "-c", "kill -PIPE $$; echo survived")
    assert (done.returncode, done.stdout) == (111, b"")
