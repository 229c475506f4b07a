"""sslserver with OpenSSL's own client and with sslclient: who may come in, and what the program sees."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from certificates import Authority
from cryptography import x509
from programs import BIN, environment, eventually, run, running

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl (Debian: openssl)")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class Running:
    """A server; `port`, and `log()`."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self.process = process
        self.port = eventually(lambda: (directory / "port").read_text().strip(), "sslserver listens")

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def said(self, text: str) -> str:
        eventually(lambda: text in self.log(), f"the log says {text}: {self.log()}")
        return self.log()


@contextlib.contextmanager
def server(
    directory: Path,
    certificate: Path,
    *program: str,
    options: tuple[str, ...] = (),
    env: Mapping[str, str] = {},
) -> Iterator[Running]:
    with open(directory / "port", "wb") as port, open(directory / "log", "wb") as log:
        argv = ["sslserver", "-1RHl0", *options, "127.0.0.1", "0", *program]
        files = {"CERTFILE": str(certificate), "DNSREWRITEFILE": os.devnull}
        with running(*argv, stdout=port, stderr=log, env=environment(**{**files, **env})) as process:
            yield Running(directory, process)


def talk(
    authority: Authority, port: str, said: bytes = b"", name: str = "a.test", mine: Path | None = None
) -> bytes:
    """What a client hears that says `said`; OSError if the two do not agree."""
    context = ssl.create_default_context(cafile=str(authority.file))
    if mine:
        context.load_cert_chain(mine)
    heard = b""
    with (
        socket.create_connection(("127.0.0.1", int(port)), 20) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        tls.sendall(said)
        while data := tls.recv(100_000):
            heard += data
    return heard


def shown(port: str, name: str, authority: Authority) -> str:
    """The name in the certificate that the server shows to one who asks for `name`."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", int(port)), 20) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
        assert der
        return x509.load_der_x509_certificate(der).subject.rfc4514_string().split(",")[0]


@pytest.mark.parametrize("program", [["sh", "-c", "read -r line; echo you said $line"], ["addcr"]])
def test_programs_of_both_kinds_are_served_again_and_again(
    authority: Authority, tmp_path: Path, program: list[str]
) -> None:
    answer = b"hello\r\n" if program == ["addcr"] else b"you said hello\n"
    with server(tmp_path, authority.issue("a.test"), *program, options=("-v",)) as running_one:
        for _ in range(3):
            argv = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{running_one.port}"]
            with subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as client:
                assert client.stdin
                assert client.stdout
                client.stdin.write(b"hello\n")
                client.stdin.flush()
                assert client.stdout.readline() == answer
                client.kill()
        log = running_one.said("sslserver: status: 0/40\n")
    assert "sslserver: pid " in log
    assert " from 127.0.0.1\n" in log
    assert f"sslserver: ok {log.split('sslserver: ssl ')[1].split()[0]} 0:127.0.0.1:" in log


def test_our_client_and_our_server_carry_much_both_ways(authority: Authority, tmp_path: Path) -> None:
    with server(tmp_path, authority.issue("127.0.0.1"), "cat") as one:
        script = "head -c 3000000 /dev/zero >&7 & head -c 3000000 <&6 | wc -c"
        argv = ["-RHl0", "-a", str(authority.file), "127.0.0.1", one.port, "sh", "-c", script]
        assert run("sslclient", *argv).stdout == b"3000000\n"


def test_a_program_that_ends_ends_the_connection(authority: Authority, tmp_path: Path) -> None:
    with server(tmp_path, authority.issue("a.test"), "sh", "-c", "echo bye; exit 3", options=("-v",)) as one:
        assert talk(authority, one.port) == b"bye\n"
        one.said("status 768\n")


def test_the_banner_is_under_tls_and_before_everything(authority: Authority, tmp_path: Path) -> None:
    with server(tmp_path, authority.issue("a.test"), "echo", "ran", options=("-Bhello ",)) as one:
        assert talk(authority, one.port) == b"hello ran\n"


def test_the_environment_tells_about_the_connection(authority: Authority, tmp_path: Path) -> None:
    certificate = authority.issue("a.test")
    with server(tmp_path, certificate, "env") as one:
        values = dict(line.split("=", 1) for line in talk(authority, one.port).decode().splitlines())
        assert (values["PROTO"], values["SSLLOCALPORT"], values["SSLREMOTEIP"]) == (
            "SSL",
            one.port,
            "127.0.0.1",
        )
        assert not [name for name in values if name.startswith(("TCP", "SSL_"))]
    with server(tmp_path, certificate, "env", options=("-es",)) as one:
        lines = talk(authority, one.port).decode().splitlines()
    for line in ("TCPREMOTEIP=127.0.0.1", "SSL_PROTOCOL=TLSv1.3", "SSL_SERVER_S_DN_CN=a.test", "PROTO=SSL"):
        assert line in lines


def test_with_i_only_clients_with_a_good_certificate_come_in(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "Stranger")
    env = {"CAFILE": str(authority.file)}
    with server(tmp_path, authority.issue("a.test"), "sh", "-c", "echo $SSL_CLIENT_S_DN_CN",
                options=("-is",), env=env) as one:  # fmt: skip
        assert talk(authority, one.port, mine=authority.issue("joe.test")) == b"joe.test\n"
        with contextlib.suppress(OSError):
            assert talk(authority, one.port) == b""
        one.said("sslserver: warning: dropping connection, no client certificate\n")
        with contextlib.suppress(OSError):
            assert talk(authority, one.port, mine=stranger.issue("joe.test")) == b""
        one.said("sslserver: warning: dropping connection, unable to verify client certificate")


def test_certificates_are_read_again_and_each_name_has_its_own(authority: Authority, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.mkdir()
    for name in ("one.test", "*.two.test"):
        authority.issue(name, file=names / f"{name}.pem")
    certificate = authority.issue("before.test", file=tmp_path / "cert.pem")
    with server(tmp_path, certificate, "true", env={"CERTDIR": str(names)}) as one:
        assert shown(one.port, "x.test", authority) == "CN=before.test"
        assert shown(one.port, "one.test", authority) == "CN=one.test"
        assert shown(one.port, "mail.two.test", authority) == "CN=*.two.test"
        authority.issue("after.test", file=certificate)
        assert shown(one.port, "x.test", authority) == "CN=after.test"
        certificate.write_text("rubbish")  # each process keeps the last good one that it has seen
        assert shown(one.port, "x.test", authority) in ("CN=before.test", "CN=after.test")
        one.said("sslserver: warning: old certificate stays, unable to load certificate\n")
        authority.issue("third.test", file=certificate)
        assert shown(one.port, "x.test", authority) == "CN=third.test"
        authority.issue("new.test", file=names / "new.test.pem")
        assert shown(one.port, "new.test", authority) == "CN=new.test"


def test_whoever_does_not_speak_tls_or_nothing_at_all_is_dropped(
    authority: Authority, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    with server(tmp_path, authority.issue("a.test"), "touch", str(marker), options=("-T1",)) as one:
        with socket.create_connection(("127.0.0.1", int(one.port)), 20) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            one.said("sslserver: warning: dropping connection, unable to SSL accept: http request\n")
        with socket.create_connection(("127.0.0.1", int(one.port)), 20) as sock:
            assert sock.recv(100) == b""
        one.said("sslserver: warning: dropping connection, unable to SSL accept: timed out\n")
        with socket.create_connection(("127.0.0.1", int(one.port)), 20):
            pass
        one.said("unable to SSL accept: connection reset\n")
    assert not marker.exists()


def test_whom_the_rules_refuse_gets_no_handshake(authority: Authority, tmp_path: Path) -> None:
    assert run("tcprules", "cdb", "tmp", stdin=b":deny\n", cwd=tmp_path).returncode == 0
    options = ("-vx", str(tmp_path / "cdb"))
    with server(tmp_path, authority.issue("a.test"), "echo", "ran", options=options) as one:
        with socket.create_connection(("127.0.0.1", int(one.port)), 20) as sock:
            assert sock.recv(100) == b""
        assert "ssl" not in one.said("sslserver: deny ").replace("sslserver", "")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CERTFILE", "/none", "unable to load certificate"),
        ("KEYFILE", "/none", "unable to load key"),
        ("CIPHERS", "none", "unable to set cipher list"),
        ("DHFILE", "/none", "unable to set cipher parameters"),
        ("CAFILE", "/none", "unable to load CA list"),
    ],
)
def test_files_that_are_no_good_are_fatal_at_the_start(
    authority: Authority, variable: str, value: str, message: str
) -> None:
    env = environment(**{"CERTFILE": str(authority.issue("a.test")), variable: value})
    done = run("sslserver", "-iRHl0", "127.0.0.1", "0", "true", env=env)
    assert (done.returncode, done.stderr.decode()) == (111, f"sslserver: fatal: {message}\n")
    assert run("sslserver", "-qiRHl0", "127.0.0.1", "0", "true", env=env).stderr == b""


def test_a_key_with_a_password(authority: Authority, tmp_path: Path) -> None:
    certificate = authority.issue("a.test", password=b"secret")
    with open(tmp_path / "port", "wb") as port:
        script = f"printf secret | exec {BIN}/sslserver -31RHl0 127.0.0.1 0 echo ran 3<&0"
        with running("sh", "-c", script, stdout=port, env=environment(CERTFILE=str(certificate))):
            number = eventually(lambda: (tmp_path / "port").read_text().strip(), "sslserver listens")
            assert talk(authority, number) == b"ran\n"


def test_a_program_that_cannot_be_run_is_told(authority: Authority, tmp_path: Path) -> None:
    with server(tmp_path, authority.issue("a.test"), "no-such-program") as one:
        assert talk(authority, one.port) == b""
        one.said(
            "sslserver: warning: dropping connection, unable to run no-such-program: file does not exist\n"
        )


def test_usage() -> None:
    for argv in ([], ["-z"], ["127.0.0.1", "1"]):
        done = run("sslserver", *argv)
        assert done.returncode == 100
        assert b"sslserver: usage: sslserver [ -13UXpPhHrRoOdDqQviIeEsSaA ]" in done.stderr
