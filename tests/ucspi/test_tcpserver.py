"""tcpserver: who is let in, what the program finds, what is logged; and that nothing stops the server."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from name_server import name_server, needs_dnsmasq
from programs import BIN, environment, eventually, free_port, own_address, run, running
from two_hosts import new_host

from ucspi import proxy

THEIRS = Path("/usr/bin")
needs_c = pytest.mark.skipif(not (THEIRS / "tcpclient").exists(), reason="no C tcpclient (Debian: ucspi-tcp)")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs the rights of root")
SHOW = ["sh", "-c", 'env | grep -E "^(PROTO|TCP|UNIX|N=)" | sort']
PLAIN = "-vRHl0"
LIBRARY_SIGNALS = 3 << 31  # 32 and 33, of threads; glibc's posix_spawn leaves them ignored


@dataclass(frozen=True)
class Server:
    """A running tcpserver."""

    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    def log(self) -> list[str]:
        return self.log_file.read_text().splitlines()

    def logged(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until `count` lines of the log match, and return those."""

        def look() -> list[str]:
            found = [line for line in self.log() if re.search(pattern, line)]
            return found if len(found) >= count else []

        return eventually(look, f"{pattern} in the log {self.log()}")

    def says(self, sent: bytes = b"", host: str = "127.0.0.1", source: str = "") -> bytes:
        """Connect, send, and return all that comes back."""
        with self.connect(host, source) as client:
            return converse(client, sent)

    def connect(self, host: str = "127.0.0.1", source: str = "") -> socket.socket:
        return socket.create_connection((host, self.port), 30, (source, 0) if source else None)


def converse(client: socket.socket, sent: bytes = b"") -> bytes:
    received = []
    with contextlib.suppress(OSError):  # it may have been refused already
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        while data := client.recv(4096):
            received.append(data)
    return b"".join(received)


@contextlib.contextmanager
def serving(
    directory: Path,
    options: Sequence[str],
    program: Sequence[str] = ("cat",),
    host: str = "127.0.0.1",
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    preexec: Callable[[], None] | None = None,
    file: Path = BIN / "tcpserver",
) -> Iterator[Server]:
    directory.mkdir(exist_ok=True)
    argv = [*before, str(file), "-1", *options, host, "0", *program]
    log = directory / "log"
    with (
        log.open("wb") as errors,
        (directory / "port").open("wb") as port,
        running(*argv, stdout=port, stderr=errors, cwd=directory, env=env, preexec_fn=preexec) as process,
    ):
        number = eventually(lambda: (directory / "port").read_text().strip(), "tcpserver listens")
        yield Server(process, int(number), log)


def compile_rules(directory: Path, rules: str, name: str = "rules.cdb") -> str:
    directory.mkdir(exist_ok=True)
    done = run("tcprules", name, f"{name}.tmp", stdin=rules.encode(), cwd=directory)
    assert done.returncode == 0, done.stderr
    return name


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def pids(lines: Sequence[str]) -> list[int]:
    return [int(line.split()[2]) for line in lines]


# Signals


@pytest.mark.parametrize("options", [["-RHl0"], ["-RHl0", "-Bx"]], ids=["spawned", "forked"])
def test_a_program_finds_signals_ignored_that_were_and_no_other(tmp_path: Path, options: list[str]) -> None:
    def ignore() -> None:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    for file in (BIN / "tcpserver", THEIRS / "tcpserver"):
        if file.exists():
            with serving(
                tmp_path, options, ["cat", "/proc/self/status"], preexec=ignore, file=file
            ) as server:
                masks = dict(re.findall("(Sig(?:Blk|Ign|Cgt)):\t(.*)", server.says().decode()))
            found = {name: int(mask, 16) & ~LIBRARY_SIGNALS for name, mask in masks.items()}
            ignored = 1 << signal.SIGHUP - 1 | 1 << signal.SIGINT - 1
            assert found == {"SigBlk": 0, "SigIgn": ignored, "SigCgt": 0}, file


# Connections that wait together


@pytest.mark.parametrize("rules", [True, False])
def test_each_of_many_that_come_at_once_has_its_own_environment_and_process(
    tmp_path: Path, rules: bool
) -> None:
    (tmp_path / "empty").mkdir()
    compile_rules(tmp_path, '127.0.0.2:allow,N="2",PATH="/bin:/usr/bin"\n127.0.0.3:deny\n:allow,N="x y"\n')
    options = ["-vRHl0", *(("-x", "rules.cdb") if rules else ())]
    with serving(tmp_path, options, ["envdir", "empty", *SHOW]) as server:
        for _ in range(2):  # by new workers, then by those that became sh, which are new again
            with contextlib.ExitStack() as stack:
                sources = [f"127.0.0.{1 + number % 3}" for number in range(20)]
                with stopped(server.process):
                    clients = [stack.enter_context(server.connect(source=source)) for source in sources]
                for source, client in zip(sources, clients, strict=True):
                    mine = client.getsockname()[1]
                    said = converse(client).decode().splitlines()
                    if rules and source.endswith("3"):
                        assert said == []
                    else:
                        assert {f"TCPREMOTEIP={source}", f"TCPREMOTEPORT={mine}"} <= set(said)
                        number = {"127.0.0.2": ["N=2"]}.get(source, ["N=x y"]) if rules else []
                        assert [line for line in said if line.startswith("N=")] == number
        served = pids(server.logged("^tcpserver: ok ", 40 if not rules else 28))
        assert len(set(served)) == len(served)
        eventually(lambda: server.log()[-1] == "tcpserver: status: 0/40", "all have gone")
        assert len(server.logged("^tcpserver: pid ")) == 40


# Operands


@pytest.mark.parametrize("name", ["tcpserver", "tcpclient", "sslserver", "sslclient"])
@pytest.mark.parametrize(
    ("operands", "code"),
    [([], 100), (["0"], 100), (["0", "none.such"], 111), (["0", "25"], 100), (["0", ""], 100)],
)
def test_a_port_that_is_none_counts_before_a_program_that_is_missing(
    name: str, operands: list[str], code: int
) -> None:
    problem = {
        100: f"{name}: usage: {name} [",
        111: f"{name}: fatal: unable to figure out port number for none.such\n",
    }
    for file in (BIN / name, THEIRS / name):
        if file.exists():
            done = run(file, *operands)
            assert (done.returncode, done.stderr.decode()[: len(problem[code])]) == (code, problem[code]), (
                file
            )


# Interfaces


@pytest.fixture
def link_local() -> Iterator[str]:
    """Be on a machine of our own, whose interface lo has this address for itself."""
    host, address = new_host(), "fe80::1"
    try:
        host.ip("address", "add", f"{address}/64", "dev", "lo", "nodad")
        with host.entered():
            yield address
    finally:
        os.close(host.fd)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("ip"), reason="needs root and ip (Debian: iproute2)")
@pytest.mark.parametrize("program", [SHOW, ["envdir", "empty", *SHOW]], ids=["spawned", "in a worker"])
def test_a_link_local_address_needs_its_interface_and_the_program_is_told(
    tmp_path: Path, link_local: str, program: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    with serving(tmp_path, ["-RHl0", "-I", "lo"], program, link_local) as server:
        assert b"TCP6INTERFACE=lo\n" in server.says(host=f"{link_local}%lo")
    refused = run("tcpserver", "-RHl0", link_local, "0", "cat")
    assert (refused.returncode, refused.stderr) == (
        111,
        b"tcpserver: fatal: unable to bind: invalid argument\n",
    )


def test_an_interface_that_is_none_is_fatal() -> None:
    refused = run("tcpserver", "-I", "none.such", "fe80::1", "0", "cat")
    assert refused.returncode == 111
    assert refused.stderr == b"tcpserver: fatal: unable to find interface none.such\n"


# Programs of the toolkit, in workers


def test_one_worker_serves_connection_after_connection(tmp_path: Path) -> None:
    with serving(tmp_path, [PLAIN], ["addcr"]) as server:
        for n in range(5):
            assert server.says(b"%d\n" % n) == b"%d\r\n" % n
            server.logged("tcpserver: end .* status 0", n + 1)
        assert len(set(pids(server.logged("^tcpserver: end")))) == 1
        assert len(set(pids(server.logged("^tcpserver: ok")))) == 1


def test_connections_at_the_same_time_have_workers_of_their_own(tmp_path: Path) -> None:
    with serving(tmp_path, [PLAIN], ["addcr"]) as server, contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(server.connect()) for _ in range(10)]
        assert len(set(pids(server.logged("^tcpserver: ok", 10)))) == 10
        for client in clients:
            assert converse(client, b"x\n") == b"x\r\n"
        server.logged("status: 0/40", 2)


def test_each_connection_has_its_own_environment(tmp_path: Path) -> None:
    """One worker, two clients: what the first one's rule set is gone for the second."""
    cdb = compile_rules(tmp_path, '127.0.0.2:allow,N="two"\n:allow\n')
    with serving(tmp_path, [PLAIN, "-x", cdb], ["argv0", *SHOW[:1], "sh", *SHOW[1:]], host="0") as server:
        first = server.says(source="127.0.0.2").decode()
        server.logged("^tcpserver: end")
        second = server.says(source="127.0.0.1").decode()
    assert "N=two" in first
    assert "N=" not in second
    assert "TCPREMOTEIP=127.0.0.2" in first
    assert "TCPREMOTEIP=127.0.0.1" in second


def test_a_worker_that_chains_ends_with_the_last_program(tmp_path: Path) -> None:
    with serving(tmp_path, [PLAIN], ["argv0", "sh", "shell", "-c", "exit 3"]) as server:
        assert server.says() == b""
        server.logged("^tcpserver: end .* status 768$")
        assert server.says() == b""
        first, second = pids(server.logged("^tcpserver: end .* status 768$", 2))
    assert first != second


def test_a_chain_of_the_toolkits_own_programs_leaves_the_worker_fit_for_more(tmp_path: Path) -> None:
    with serving(tmp_path, [PLAIN], ["argv0", "argv0", "again", "addcr", "last"]) as server:
        for n in range(4):
            assert server.says(b"%d\n" % n) == b"%d\r\n" % n
            server.logged("^tcpserver: end .* status 0", n + 1)
        assert len(set(pids(server.logged("^tcpserver: end")))) == 1


@pytest.mark.parametrize("chained", [["softlimit", "-c", "0"], ["recordio"], ["fixcrio"]], ids=str)
def test_whatever_the_chain_does_each_connection_is_served(tmp_path: Path, chained: list[str]) -> None:
    with serving(tmp_path, [PLAIN], [*chained, "addcr"]) as server:
        for n in range(4):
            assert b"%d\r" % n in server.says(b"%d\n" % n)
            server.logged("^tcpserver: end .* status 0", n + 1)


@needs_root
def test_a_worker_that_became_another_user_serves_nobody_else(tmp_path: Path) -> None:
    with serving(tmp_path, [PLAIN], ["setuidgid", "nobody", "addcr"]) as server:
        users = []
        for n in range(3):
            with server.connect() as client:
                client.sendall(b"x\n")
                assert client.recv(10) == b"x\r\n"
                (pid,) = pids(server.logged("^tcpserver: ok", n + 1)[n:])
                users.append(Path(f"/proc/{pid}").stat().st_uid)
            server.logged("^tcpserver: end .* status 0", n + 1)
        assert 0 not in users
        assert len(set(pids(server.logged("^tcpserver: end", 3)))) == 3


def test_a_killed_worker_is_an_end_by_signal_and_nothing_more(tmp_path: Path) -> None:
    with serving(tmp_path, [PLAIN], ["addcr"]) as server:
        with server.connect() as client:
            (pid,) = pids(server.logged("^tcpserver: ok"))
            os.kill(pid, signal.SIGKILL)
            assert converse(client) == b""
        server.logged(f"^tcpserver: end {pid} status 9$")
        assert server.says(b"on\n") == b"on\r\n"
        server.logged("^tcpserver: end .* status 0$")
        (idle,) = pids(server.logged("^tcpserver: ok", 2)[1:])
        os.kill(idle, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{idle}").exists(), "the idle worker is reaped")
        assert server.says(b"on\n") == b"on\r\n"


def test_workers_are_replaced_and_the_server_does_not_grow(tmp_path: Path) -> None:
    with serving(tmp_path, ["-RHl0"], ["addcr"]) as server:
        workers = set()
        sizes = []
        for n in range(4500):
            assert server.says(b"\n") == b"\r\n"
            if n % 500 == 499:
                workers.update(children(server.process.pid))
                sizes.append(resident(server.process.pid))
    assert len(workers) > 2
    assert sizes[-1] - sizes[0] < 500  # kB


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> int:
    """kB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text[text.index("VmRSS:") :].split()[1])


def test_term_ends_the_server_and_lets_workers_finish(tmp_path: Path) -> None:
    with serving(tmp_path, [PLAIN], ["addcr"]) as server, server.connect() as client:
        (pid,) = pids(server.logged("^tcpserver: ok"))
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert converse(client, b"still\n") == b"still\r\n"
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the worker ends")


@pytest.mark.parametrize("program", ["addcr", "cat"])
def test_without_standard_descriptors_it_serves_all_the_same(tmp_path: Path, program: str) -> None:
    closed = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh"]
    with serving(tmp_path, [PLAIN], [program], before=closed) as server:
        for _ in range(2):
            assert server.says(b"x\n").startswith(b"x")


# Limits


def test_more_connections_than_the_limit_wait(tmp_path: Path) -> None:
    with serving(tmp_path, [PLAIN, "-c2"], ["addcr"]) as server, contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(server.connect()) for _ in range(3)]
        server.logged("^tcpserver: ok", 2)
        assert not [line for line in server.log() if "3/2" in line]
        assert converse(clients[0], b"a\n") == b"a\r\n"
        server.logged("^tcpserver: ok", 3)


@pytest.mark.parametrize("program", ["addcr", "cat"])
def test_one_address_may_have_so_many_connections(tmp_path: Path, program: str) -> None:
    cdb = compile_rules(tmp_path, ':allow,MAXCONNIP="2",DIEMSG="421 too many"\n')
    with serving(tmp_path, [PLAIN, "-x", cdb], [program], "0") as server, contextlib.ExitStack() as open_ones:
        for _ in range(2):
            open_ones.enter_context(server.connect())
        server.logged("^tcpserver: ok", 2)
        assert server.says() == b"421 too many\r\n"
        server.logged("dropping connection, 3 connections from 127.0.0.1$")
        server.logged("^tcpserver: deny ")
        server.logged("^tcpserver: end .* status 25600$")
        assert server.says(b"x\n", source="127.0.0.2").startswith(b"x")
        open_ones.close()
        server.logged("^tcpserver: end", 4)
        assert server.says(b"x\n").startswith(b"x")


def test_one_address_may_make_so_many_connections_a_minute(tmp_path: Path) -> None:
    cdb = compile_rules(tmp_path, '127.0.0.1:allow,MAXRATEIP="3"\n')
    with serving(tmp_path, [PLAIN, "-x", cdb], ["addcr"], "0") as server:
        answers = [server.says(b"x\n") for _ in range(5)]
        assert answers == [b"x\r\n"] * 3 + [b""] * 2
        assert server.says(b"x\n", source="127.0.0.2") == b"x\r\n"
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.says(b"x\n") == b"x\r\n", "forgotten by HUP")


def test_who_talks_before_the_greeting_is_refused(tmp_path: Path) -> None:
    cdb = compile_rules(tmp_path, ':allow,GREETDELAY="1",DIEMSG="554 wait"\n')
    with serving(tmp_path, [PLAIN, "-x", cdb], ["sh", "-c", "echo 220 hello"]) as server:
        with server.connect() as client:
            client.sendall(b"EHLO at once\r\n")
            assert client.recv(100) == b"554 wait\r\n"
        server.logged("dropping connection, early talker 127.0.0.1")
        with server.connect() as client:
            assert client.recv(100) == b"220 hello\n"


# Rules


def corrupt(directory: Path, content: bytes) -> str:
    (directory / "new").write_bytes(content)
    (directory / "new").rename(directory / "rules.cdb")
    return "rules.cdb"


NO_EMPTY_SLOT = struct.pack("<LL", 2048, 8) * 256 + struct.pack("<LL", 1, 2048) * 8


@pytest.mark.parametrize(
    "content", [b"xyz", b"", b"\xff" * 4096, NO_EMPTY_SLOT], ids=["short", "empty", "ff", "full"]
)
@pytest.mark.parametrize("program", ["addcr", "cat"])
def test_a_corrupt_cdb_refuses_and_a_whole_one_serves_again(
    tmp_path: Path, program: str, content: bytes
) -> None:
    with serving(tmp_path, [PLAIN, "-x", corrupt(tmp_path, content)], [program]) as server:
        assert server.says(b"x\n") == b""
        reason = "protocol error" if content else "invalid argument"
        server.logged(f"^tcpserver: warning: dropping connection, unable to read rules.cdb: {reason}$")
        server.logged("^tcpserver: end .* status 28416$")
        compile_rules(tmp_path, ":allow\n")
        assert server.says(b"x\n").startswith(b"x")
        corrupt(tmp_path, content)
        assert server.says(b"x\n") == b""


def test_a_verdict_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    compile_rules(tmp_path, ":allow\n")
    done = run("sh", "-c", "tcprulescheck rules.cdb >/dev/full", cwd=tmp_path)
    assert done.returncode == 111
    assert done.stderr == b"tcprulescheck: fatal: unable to write output: out of disk space\n"


def test_rules_written_in_place_count_at_once(tmp_path: Path) -> None:
    compile_rules(tmp_path, ":deny\n", "deny.cdb")
    cdb = compile_rules(tmp_path, ":allow\n")
    with serving(tmp_path, [PLAIN, "-x", cdb], ["addcr"]) as server:
        assert server.says(b"x\n") == b"x\r\n"
        with (tmp_path / cdb).open("r+b") as file:
            file.truncate(1000)
            assert server.says(b"x\n") == b""
            file.write((tmp_path / "deny.cdb").read_bytes())
        assert server.says(b"x\n") == b""
        server.logged("^tcpserver: deny")


# IPv6, Unix sockets, systemd


def test_one_process_serves_ipv4_and_ipv6(tmp_path: Path) -> None:
    rules = '127.0.0.0/8:allow,N="four"\n::1:allow,N="six"\n:deny\n'
    cdb = compile_rules(tmp_path, rules)
    with serving(tmp_path, [PLAIN, "-x", cdb], SHOW, host=":0") as server:
        four = server.says().decode()
        six = server.says(host="::1").decode()
        server.logged(f" 0:127.0.0.1:{server.port} :127.0.0.1::")
        server.logged(f" 0:::1:{server.port} :::1::")
    assert "N=four\nPROTO=TCP\n" in four
    assert "TCPREMOTEIP=127.0.0.1\n" in four
    assert "TCP6" not in four
    assert "N=six\nPROTO=TCP6\n" in six
    assert "TCP6REMOTEIP=::1\n" in six
    assert "TCPREMOTEIP=::1\n" in six


@pytest.mark.parametrize(
    ("options", "host", "four", "six"),
    [
        ([], "0", True, False), (["-6"], "0", False, True), (["-4", "-6"], "0", True, True),
        ([], "::", False, True), (["-46"], "::", True, True), ([], "::1", False, True),
    ],
)  # fmt: skip
def test_hosts_and_families(tmp_path: Path, options: list[str], host: str, four: bool, six: bool) -> None:
    def answers(server: Server, where: str) -> bool:
        try:
            return server.says(b"x\n", host=where) == b"x\n"
        except ConnectionRefusedError:
            return False

    with serving(tmp_path, ["-RHl0", *options], host=host) as server:
        assert (answers(server, "127.0.0.1"), answers(server, "::1")) == (four, six)


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    cdb = compile_rules(tmp_path, 'unix:allow,N="local"\n:deny\n')
    for _ in range(2):  # the second finds the first one's name still there
        with serving(tmp_path, [PLAIN, "-x", cdb], SHOW, host=str(path)) as server:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                shown = converse(client).decode().splitlines()
            server.logged(f"^tcpserver: ok .* 0:{path} unix:{os.getpid()}:{os.getuid()}:{os.getgid()}$")
    assert shown == [
        "N=local", "PROTO=UNIX", f"UNIXLOCALPATH={path}", f"UNIXREMOTEEGID={os.getgid()}",
        f"UNIXREMOTEEUID={os.getuid()}", f"UNIXREMOTEPID={os.getpid()}",
    ]  # fmt: skip


def test_a_proxy_on_a_unix_socket_is_believed_if_listed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    cdb = compile_rules(tmp_path, 'unix:allow,PROXYPROTOCOL=""\n198.51.100.7:allow,N="client"\n:deny\n')
    with (
        serving(tmp_path, [PLAIN, "-x", cdb], SHOW, host=str(path)),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.connect(str(path))
        shown = converse(client, V2).decode()
    assert "N=client\nPROTO=TCP\n" in shown
    assert "TCPREMOTEIP=198.51.100.7\n" in shown


def test_a_name_that_is_in_use_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(tmp_path, [PLAIN], host=str(path)):
        again = run("tcpserver", "-RHl0", path, "0", "cat")
    assert (again.returncode, again.stderr) == (
        111,
        b"tcpserver: fatal: unable to bind: address already used\n",
    )


def test_a_socket_from_systemd(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, fd = listening.getsockname()[1], listening.fileno()
        start = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{fd}'
        argv = ["-RHl0", "nowhere.invalid", "1", "sh", "-c", "env"]
        with (
            running("bash", "-c", start, "bash", BIN / "tcpserver", *argv, pass_fds=[fd]),
            socket.create_connection(("127.0.0.1", port), 30) as client,
        ):
            shown = converse(client).decode()
    assert f"TCPLOCALPORT={port}\n" in shown
    assert "LISTEN_" not in shown


# The PROXY protocol

V1 = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 25\r\n"
V2 = proxy.V2_BEGIN + bytes.fromhex("2111000c c6336407 cb007101 9c40 0019")


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("program", [SHOW, ["argv0", "sh", *SHOW]], ids=["other", "toolkit"])
def test_a_listed_proxy_is_believed(tmp_path: Path, header: bytes, program: list[str]) -> None:
    rules = '127.0.0.1:allow,PROXYPROTOCOL=""\n198.51.100.0/24:allow,N="client"\n:deny\n'
    cdb = compile_rules(tmp_path, rules)
    with serving(tmp_path, [PLAIN, "-x", cdb], program, "0") as server:
        shown = server.says(header).decode()
        server.logged("^tcpserver: pid .* from 127.0.0.1$")
        server.logged("^tcpserver: ok .* 0:203.0.113.1:25 :198.51.100.7::40000$")
        assert server.says(header, source="127.0.0.2") == b""  # not listed
        server.logged("^tcpserver: deny .* :127.0.0.2::")
    assert "N=client\n" in shown
    assert "TCPREMOTEIP=198.51.100.7\n" in shown
    assert "TCPLOCALIP=203.0.113.1\n" in shown
    assert "PROXYPROTOCOL" not in shown


def test_only_a_listed_proxy_is_believed(tmp_path: Path) -> None:
    cdb = compile_rules(tmp_path, '127.0.0.2:allow,PROXYPROTOCOL=""\n')
    with serving(tmp_path, [PLAIN, "-x", cdb], ["cat"], "0") as server:
        assert server.says(V1) == V1
        server.logged("^tcpserver: ok .* :127.0.0.1::")


def test_what_follows_a_proxys_header_is_the_programs(tmp_path: Path) -> None:
    cdb = compile_rules(tmp_path, ':allow,PROXYPROTOCOL=""\n')
    with serving(tmp_path, [PLAIN, "-x", cdb], ["addcr"]) as server:
        assert server.says(V1 + b"one\ntwo\n") == b"one\r\ntwo\r\n"
        assert server.says(V2 + b"one\ntwo\n") == b"one\r\ntwo\r\n"
        assert server.says(b"PROXY UNKNOWN\r\nthree\n") == b"three\r\n"
        server.logged("^tcpserver: ok .* :127.0.0.1::")


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"EHLO x\r\n" * 2, "bad PROXY header: it does not begin like one"),
        (V1[:20], "unable to read PROXY header: connection closed"),
    ],
)
def test_a_proxy_without_its_header_is_dropped(tmp_path: Path, sent: bytes, problem: str) -> None:
    cdb = compile_rules(tmp_path, ':allow,PROXYPROTOCOL=""\n')
    with serving(tmp_path, [PLAIN, "-x", cdb], ["cat"]) as server:
        assert server.says(sent) == b""
        server.logged(f"^tcpserver: warning: dropping connection, {problem}$")


@pytest.mark.skipif(
    not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="no haproxy (Debian: haproxy)"
)
@pytest.mark.parametrize("kind", ["send-proxy", "send-proxy-v2"])
def test_behind_haproxy_the_clients_address_counts(tmp_path: Path, kind: str) -> None:
    cdb = compile_rules(tmp_path, '127.0.0.1:allow,PROXYPROTOCOL=""\n127.0.0.9:allow,N="client"\n:deny\n')
    with serving(tmp_path, [PLAIN, "-x", cdb], SHOW, "127.0.0.1") as server:
        front = free_port()
        (tmp_path / "haproxy.cfg").write_text(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
            f"listen mail\n bind 127.0.0.1:{front}\n server s 127.0.0.1:{server.port} {kind}\n"
        )
        with running("/usr/sbin/haproxy", "-db", "-f", tmp_path / "haproxy.cfg", stderr=subprocess.DEVNULL):
            eventually(lambda: listens(front), "haproxy listens")
            with socket.create_connection(("127.0.0.1", front), 30, ("127.0.0.9", 0)) as client:
                shown = converse(client).decode()
    assert "N=client\n" in shown
    assert "TCPREMOTEIP=127.0.0.9\n" in shown
    assert f"TCPLOCALPORT={front}\n" in shown


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# Look-ups


@needs_dnsmasq
def test_names_are_looked_up_and_a_paranoid_server_checks_them(tmp_path: Path) -> None:
    records = [
        "ptr-record=1.0.0.127.in-addr.arpa,good.test", "ptr-record=2.0.0.127.in-addr.arpa,liar.test",
        "host-record=good.test,127.0.0.1", "host-record=liar.test,192.0.2.1",
    ]  # fmt: skip
    with name_server(records) as cache:
        env = environment(DNSCACHEIP=cache)
        with serving(tmp_path, ["-vR"], SHOW, "0", env=env) as server:
            shown = server.says(source="127.0.0.2").decode()
            server.logged("^tcpserver: ok .* good.test:127.0.0.1:[0-9]+ liar.test:127.0.0.2::")
        assert "TCPLOCALHOST=good.test\n" in shown
        assert "TCPREMOTEHOST=liar.test\n" in shown
        with serving(tmp_path, ["-vRp"], ["argv0", "sh", *SHOW], "0", env=env) as server:
            assert b"TCPREMOTEHOST" not in server.says(source="127.0.0.2")
            assert b"TCPREMOTEHOST=good.test\n" in server.says(source="127.0.0.1")


@needs_dnsmasq
def test_a_host_is_named(tmp_path: Path) -> None:
    with name_server(["host-record=here.test,127.0.0.3"]) as cache:
        env = environment(DNSCACHEIP=cache, DNSREWRITEFILE=os.devnull)
        with serving(tmp_path, ["-RHl0"], host="here.test", env=env) as server:
            assert server.says(b"x", host="127.0.0.3") == b"x"
        done = run("tcpserver", "nowhere.test", "0", "cat", env=env)
        assert (done.returncode, done.stderr) == (111, b"tcpserver: fatal: no IP address for nowhere.test\n")


def test_a_silent_name_server_holds_up_nobody_else(tmp_path: Path) -> None:
    """The banner of each connection comes although the look-ups of all of them hang."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        env = environment(DNSCACHEIP=f"127.0.0.1:{silent.getsockname()[1]}")
        options = ["-vRl0", "-B", "220 banner\r\n"]
        with serving(tmp_path, options, ["addcr"], env=env) as server, contextlib.ExitStack() as open_ones:
            for _ in range(5):
                client = open_ones.enter_context(server.connect())
                assert client.recv(100) == b"220 banner\r\n"
            assert not [line for line in server.log() if " ok " in line]


@needs_root
def test_the_remote_user_is_asked_for(tmp_path: Path) -> None:
    here = own_address()
    with socket.create_server((here, 113)) as ident:
        ident.settimeout(30)
        asked: list[bytes] = []

        def answer() -> None:
            with contextlib.suppress(OSError):
                connection, _ = ident.accept()
                with connection:
                    asked.append(connection.recv(100))
                    connection.sendall(b"1 , 2 : USERID : UNIX : jo:e%\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        cdb = compile_rules(tmp_path, f'joe@{here}:deny\n:allow,N="1"\n')
        with serving(tmp_path, ["-vHl0", "-x", cdb], SHOW, "0") as server:
            shown = server.says(source=here).decode()
            (line,) = server.logged("^tcpserver: ok")
            assert b"TCPREMOTEINFO" not in server.says(source="127.0.0.6")  # nobody answers there
        thread.join()
    port = line.rpartition(":")[2]
    assert asked == [f"{port} , {server.port}\r\n".encode()]
    assert "TCPREMOTEINFO=jo:e%\n" in shown
    assert line.endswith(f" :{here}:jo?e?:{port}")


# Trouble


def test_out_of_descriptors_it_says_so_waits_and_goes_on(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))

    with serving(tmp_path, [PLAIN], ["addcr"], preexec=few) as server:
        with contextlib.ExitStack() as open_ones:
            for _ in range(20):
                open_ones.enter_context(server.connect())
            server.logged("^tcpserver: warning: .*process cannot open more files$")
        eventually(lambda: server.says(b"x\n") == b"x\r\n", "it serves again")


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace (Debian: strace)")
def test_when_fork_fails_it_says_so_waits_and_goes_on(tmp_path: Path) -> None:
    fault = ["-e", "trace=clone", "-e", "inject=clone:error=EAGAIN:when=1"]
    inject = ["strace", "-D", "-o", "/dev/null", *fault]
    with serving(tmp_path, [PLAIN], ["addcr"], before=inject) as server:
        assert server.says(b"x\n") == b""
        server.logged("^tcpserver: warning: dropping connection, unable to fork: temporary failure$")
        assert server.logged("status: 0/40", 2)
        assert server.says(b"x\n") == b"x\r\n"


def test_alarm_and_usr1_list_the_connections(tmp_path: Path) -> None:
    with serving(tmp_path, ["-RHl0"], ["addcr"]) as server, server.connect() as client:
        name = "{}:{}".format(*client.getsockname())
        for n, number in enumerate((signal.SIGALRM, signal.SIGUSR1), 1):
            eventually(lambda: children(server.process.pid), "a worker has it")
            server.process.send_signal(number)
            server.logged(rf"^tcpserver: connection \d+ from {name} for \d+ seconds$", n)
            server.logged("^tcpserver: status: 1/40$", n)


def test_hup_finds_a_program_that_has_come_since(tmp_path: Path) -> None:
    """A user's own addcr earlier in PATH, in place of the toolkit's."""
    own = tmp_path / "own"
    own.mkdir()
    env = environment(PATH=f"{own}:{BIN}:/usr/bin:/bin")
    with serving(tmp_path, [PLAIN], ["addcr"], env=env) as server:
        assert server.says(b"x\n") == b"x\r\n"
        (own / "addcr").write_text("#!/bin/sh\necho own\n")
        (own / "addcr").chmod(0o755)
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.says(b"x\n") == b"own\n", "the new one runs")


# The C programs


@needs_c
def test_c_tcpclient_talks_to_our_server(tmp_path: Path) -> None:
    with serving(tmp_path, ["-RHl0"], ["addcr"]) as server:
        done = run(
            THEIRS / "tcpclient",
            "-RHl0",
            "127.0.0.1",
            str(server.port),
            "sh",
            "-c",
            "echo hi >&7; head -1 <&6",
        )
    assert done.stdout == b"hi\r\n"


@needs_c
def test_the_c_programs_read_our_cdb_and_ours_theirs(tmp_path: Path) -> None:
    rules = b'10.0-9.:allow,A="x"\n192.0.2.1:deny\n=.example.org:allow,B="y"\n:deny\n'
    for name, tcprules in (("ours", BIN / "tcprules"), ("theirs", THEIRS / "tcprules")):
        assert run(tcprules, name, "tmp", stdin=rules, cwd=tmp_path).returncode == 0
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    for ip in ("10.5.1.1", "192.0.2.1", "192.0.2.2"):
        env = environment(TCPREMOTEIP=ip, TCPREMOTEHOST="a.example.org")
        answers = {
            run(check / "tcprulescheck", name, cwd=tmp_path, env=env).stdout
            for check in (BIN, THEIRS)
            for name in ("ours", "theirs")
        }
        assert len(answers) == 1


@needs_c
def test_the_log_is_that_of_the_c_server(tmp_path: Path) -> None:
    """Deny, allow and a failing program, with numbers that differ from run to run masked."""
    compile_rules(tmp_path, "127.0.0.2:deny\n:allow\n")
    assert masked_log(tmp_path, BIN) == masked_log(tmp_path, THEIRS)


def masked_log(directory: Path, binaries: Path) -> str:
    argv = ["-1vRH", "-l", "n%:a" * 30, "-x", "rules.cdb", "0", "0", "sh", "-c", "exit 7"]
    port_file, log_file = directory / "port", directory / "log"
    with (
        port_file.open("wb") as out,
        log_file.open("wb") as log,
        running(binaries / "tcpserver", *argv, stdout=out, stderr=log, cwd=directory) as process,
    ):
        port = int(eventually(lambda: port_file.read_text().strip(), "it listens"))
        server = Server(process, port, log_file)
        for n, source in enumerate(("127.0.0.1", "127.0.0.2"), 2):
            server.says(source=source)
            server.logged("status: 0/40", n)
    masked = re.sub(r"(pid|ok|deny|end) \d+", r"\1 N", log_file.read_text()).replace(f":{port} ", ":PORT ")
    return re.sub(r":\d+\n", ":R\n", masked)
