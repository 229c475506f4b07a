"""tcpclient and the programs around it against Debian's tcpserver, our own, and servers that misbehave."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from name_server import name_server, needs_dnsmasq
from programs import BIN, DEADLINE, environment, eventually, free_port, own_address, run, running

from ucspi.http_at import Body
from ucspi.outgoing import Wanted

THEIRS = Path("/usr/bin")
needs_c = pytest.mark.skipif(not (THEIRS / "tcpserver").exists(), reason="no C tcpserver (Debian: ucspi-tcp)")
SHOW = ["sh", "-c", 'env | grep -E "^(PROTO|TCP)" | sort']
HERE = own_address()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="low ports are for root")
QUIET = environment(DNSREWRITEFILE=os.devnull)


@contextlib.contextmanager
def server(
    directory: Path, where: str = "127.0.0.1", binaries: Path = BIN, program: str = "cat"
) -> Iterator[str]:
    """A tcpserver; yields its port."""
    with open(directory / "port", "wb") as port:
        argv = ["-1RHl0", where, "0", "sh", "-c", program]
        with running(binaries / "tcpserver", *argv, stdout=port):
            yield eventually(lambda: (directory / "port").read_text().strip(), "tcpserver listens")


@contextlib.contextmanager
def scripted(talk: Callable[[socket.socket], None], port: int = 0, host: str = "127.0.0.1") -> Iterator[int]:
    """A server that talks once."""
    with socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    ) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@needs_c
def test_our_client_with_their_server_and_theirs_with_ours(tmp_path: Path) -> None:
    talk = ["sh", "-c", "echo to and fro >&7; read -r line <&6; echo $line"]
    with server(tmp_path, binaries=THEIRS) as port:
        assert run("tcpclient", "-RHl0", "127.0.0.1", port, *talk).stdout == b"to and fro\n"
    with server(tmp_path) as port:
        assert run(THEIRS / "tcpclient", "-RHl0", "127.0.0.1", port, *talk).stdout == b"to and fro\n"


@needs_c
@pytest.mark.parametrize("options", [["-RHl0"], ["-RHlme.test"], ["-vRHl0"], ["-qRHl0"], ["-RHl0", "-p0x"]])
def test_the_program_sees_and_the_user_reads_what_they_do_with_the_original(
    options: list[str], tmp_path: Path
) -> None:
    with server(tmp_path, binaries=THEIRS) as port:
        argv = [
            *options,
            "127.0.0.1",
            port,
            "sh",
            "-c",
            "unset TCPLOCALPORT; env | grep -E '^(PROTO|TCP)' | sort",
        ]
        ours, theirs = run(BIN / "tcpclient", *argv), run(THEIRS / "tcpclient", *argv)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


@needs_c
@pytest.mark.parametrize(
    "argv",
    [
        ["", "1", "true"], ["-q"], ["-q", "127.0.0.1", "x", "true"], ["-Q", "127.0.0.1", "x", "true"],
        ["-T", "", "0", "1", "true"], ["-T3+", "0", "1", "true"], ["-RHl0", "1.2.3", "1", "true"],
        ["-i1.2.3", "0", "1", "true"], ["-i", "127.0.0.1x", "0", "1", "true"], ["--", "-x", "1"],
        ["0", "65537", "true"], ["127.0.0.1", "", "true"], ["[127.0.0.1]", "1", "true"],
    ],
)  # fmt: skip
def test_what_cannot_work_fails_as_the_original_fails(argv: list[str]) -> None:
    ours, theirs = run(BIN / "tcpclient", *argv), run(THEIRS / "tcpclient", *argv)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_over_ipv6_the_environment_says_so(tmp_path: Path) -> None:
    with server(tmp_path, "::1") as port:
        seen = run("tcpclient", "-RHl0", "::1", port, *SHOW).stdout.decode().split()
    values = dict(line.split("=", 1) for line in seen)
    assert (values["PROTO"], values["TCPREMOTEIP"], values["TCP6REMOTEIP"]) == ("TCP6", "::1", "::1")
    assert values["TCP6LOCALPORT"] == values["TCPLOCALPORT"]


@needs_dnsmasq
def test_addresses_are_tried_in_turn_ipv6_first(tmp_path: Path) -> None:
    records = ["host-record=both.test,127.0.0.1,::1", "ptr-record=1.0.0.127.in-addr.arpa,both.test"]
    with name_server(records) as cache, server(tmp_path) as port:
        env = environment(DNSCACHEIP=cache, DNSREWRITEFILE=os.devnull)
        done = run("tcpclient", "-vR", "both.test", port, *SHOW, env=env)
        only4 = run("tcpclient", "-4R", "both.test", port, "true", env=env)
        only6 = run("tcpclient", "-6R", "both.test", port, "true", env=env)
    refused = f"tcpclient: unable to connect to ::1 port {port}: connection refused\n"
    assert done.stderr.decode() == refused + f"tcpclient: connected to 127.0.0.1 port {port}\n"
    assert b"TCPREMOTEHOST=both.test\n" in done.stdout
    assert b"TCPLOCALHOST=both.test\n" in done.stdout
    assert (only4.returncode, only4.stderr) == (0, b"")
    assert (only6.returncode, only6.stderr.decode()) == (111, refused)


@needs_dnsmasq
def test_names_that_lead_nowhere() -> None:
    with name_server(["host-record=six.test,::1"]) as cache:
        env = environment(DNSCACHEIP=cache, DNSREWRITEFILE=os.devnull)
        for argv, message in (
            (["nobody.test"], "no IP address for nobody.test"),
            (["-4", "six.test"], "no IP address for six.test"),
            (["-i", "127.0.0.1", "six.test"], "no IP address for six.test"),
            (
                ["www.example.org"],
                "temporarily unable to figure out IP address for www.example.org: temporary failure",
            ),
            (["a" * 64], f"temporarily unable to figure out IP address for {'a' * 64}: protocol error"),
        ):
            done = run("tcpclient", *argv, "1", "true", env=env)
            assert (done.returncode, done.stderr.decode()) == (111, f"tcpclient: fatal: {message}\n")


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that neither takes nor refuses a connection: its queue is full."""
    with socket.socket() as listening, contextlib.ExitStack() as others:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_a_server_that_does_not_answer_is_given_up(deaf: int) -> None:
    done = run("tcpclient", "-RHl0", "-T1+0", "127.0.0.1", str(deaf), "true")
    message = f"tcpclient: unable to connect to 127.0.0.1 port {deaf}: timed out\n"
    assert (done.returncode, done.stderr.decode()) == (111, message)


@needs_dnsmasq
def test_after_a_short_wait_the_next_address_is_tried_and_the_slow_one_again(deaf: int) -> None:
    with name_server(["host-record=slow.test,127.0.0.1,::1"]) as cache, scripted(lambda c: None, deaf, "::1"):
        env = environment(DNSCACHEIP=cache, DNSREWRITEFILE=os.devnull)
        done = run("tcpclient", "-RHl0", "-4", "-T1+1", "slow.test", str(deaf), "true", env=env)
        assert done.stderr.decode() == f"tcpclient: unable to connect to 127.0.0.1 port {deaf}: timed out\n"
        both = run("tcpclient", "-vRHl0", "-T1+1", "slow.test", str(deaf), "true", env=env)
        assert (both.returncode, both.stderr.decode()) == (0, f"tcpclient: connected to ::1 port {deaf}\n")


def test_timeouts_are_read_as_the_original_reads_them() -> None:
    for argument, timeouts in {
        "5": (5, 0),
        "5+6": (5, 6),
        "+6": (0, 6),
        "5+": (5, 0),
        "": (0, 0),
        "5 6": (5, 0),
    }.items():
        wanted = Wanted("x")
        assert wanted.take("T", argument)
        assert wanted.timeouts == timeouts


def test_nagle_is_left_on_unless_asked(tmp_path: Path) -> None:
    script = "from socket import *; print(socket(fileno=6).getsockopt(IPPROTO_TCP, TCP_NODELAY))"
    python = str(BIN / "python")
    with server(tmp_path) as port:
        for option, value in (("-d", b"0\n"), ("-D", b"1\n")):
            assert run("tcpclient", option, "-RHl0", "0", port, python, "-c", script).stdout == value


def test_descriptors_6_and_7_that_are_open_already_do_not_matter(tmp_path: Path) -> None:
    count = "ls /proc/self/fd | wc -l"
    with server(tmp_path, program="echo hello") as port:
        script = f"exec 6</dev/null 7</dev/null; tcpclient -RHl0 0 {port} sh -c 'cat <&6; {count}'"
        expected = b"hello\n" + run("sh", "-c", f"exec 6<&0 7<&0; {count}").stdout
        assert run("sh", "-c", script).stdout == expected


@pytest.mark.root
@needs_root
def test_tcpcat_and_who_and_date_and_finger_print_what_comes() -> None:
    def says(connection: socket.socket) -> None:
        connection.sendall(b"one\r\n\x1b[2Jtwo\xff")

    with scripted(says) as port:
        assert run("tcpcat", "127.0.0.1", str(port)).stdout == b"one\r\n\x1b[2Jtwo\xff"
    for name, port in (("who@", 11), ("date@", 13)):
        with scripted(says, port, HERE):
            assert run(name, HERE).stdout == b"one\n^[[2JtwoM-^?"


@pytest.mark.root
@needs_root
def test_finger_sends_the_user() -> None:
    with scripted(lambda connection: connection.sendall(b"you said " + connection.recv(100)), 79, HERE):
        assert run("finger@", HERE, "joe").stdout == b"you said joe\n"
    with scripted(lambda connection: connection.sendall(b"you said " + connection.recv(100)), 79, HERE):
        assert run("finger@", HERE).stdout == b"you said \n"


@pytest.mark.parametrize("name", ["who@", "date@", "finger@", "http@"])
def test_no_connection_is_said_but_the_exit_code_is_the_pipelines(name: str) -> None:
    port = {"who@": 11, "date@": 13, "finger@": 79, "http@": 80}[name]
    done = run(name, HERE)
    message = f"tcpclient: unable to connect to {HERE} port {port}: connection refused\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (0, b"", message)


def test_a_full_disk_is_told() -> None:
    with scripted(lambda connection: connection.sendall(b"x\n")) as port, open("/dev/full", "wb") as full:
        done = subprocess.run([BIN / "tcpcat", "127.0.0.1", str(port)], stdout=full, env=QUIET, check=False)
    assert done.returncode == 111


def test_http_asks_as_it_should_and_prints_the_body(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        asked.append(connection.recv(1000))
        connection.sendall(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\none\r\n\r\ntwo")

    with scripted(answer) as port:
        assert run("http@", "127.0.0.1", "a/b", str(port)).stdout == b"one\ntwo\n"
    assert asked == [b"GET /a/b HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n\r\n" % port]


@given(st.lists(st.lists(st.sampled_from([b"\n", b"a"])).map(b"".join)))
def test_a_page_is_its_lines_after_the_header_however_it_arrives(cut: list[bytes]) -> None:
    lines = b"".join(cut).split(b"\n")
    last = lines.pop()
    expected = [line + b"\n" for line in lines[lines.index(b"") :] if line] if b"" in lines else []
    expected += [last + b"\n"] * (last != b"" and b"" in lines)
    body = Body()
    assert b"".join(map(body.feed, cut)) + body.end() == b"".join(expected)


@pytest.mark.skipif(not shutil.which("awk"), reason="no awk")
def test_a_page_is_what_awk_makes_of_it() -> None:
    page = b"a\n\n\nb\n\nc"
    body = Body()
    theirs = run("awk", "/^$/ { body=1; next } { if (body) print }", stdin=page).stdout
    assert body.feed(page) + body.end() == theirs


def test_mconnect_carries_lines_both_ways_and_ends_with_the_server() -> None:
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        heard.append(connection.recv(100))

    with scripted(answer) as port, running(
        "mconnect", "127.0.0.1", str(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"220 hello\r\n"
        process.stdin.write(b"quit\n")
        process.stdin.flush()
        assert process.wait(DEADLINE) == 0, "the server has gone, while the user still types"
    assert heard == [b"quit\r\n"]


def test_ports_by_name() -> None:
    done = run("tcpclient", "-RHl0", HERE, "tcpmux", "true")
    assert done.stderr == f"tcpclient: unable to connect to {HERE} port 1: connection refused\n".encode()
    assert run("tcpclient", "-RHl0", "127.0.0.1", str(free_port()), "true").returncode == 111


def test_a_worker_that_is_tcpclient_leaves_no_connection_open(tmp_path: Path) -> None:
    gone: list[bytes] = []

    def until_the_end(connection: socket.socket) -> None:
        gone.append(connection.recv(100))

    with scripted(until_the_end) as target, open(tmp_path / "port", "wb") as out:
        argv = ["-1RHl0", "127.0.0.1", "0", "tcpclient", "-RHl0", "127.0.0.1", str(target), "no-such-program"]
        with running("tcpserver", *argv, stdout=out, stderr=subprocess.DEVNULL):
            port = eventually(lambda: (tmp_path / "port").read_text().strip(), "tcpserver listens")
            with socket.create_connection(("127.0.0.1", int(port)), 20) as connection:
                assert connection.recv(100) == b""
            eventually(lambda: gone, "the connection has ended while the server lives")
    assert gone == [b""]
