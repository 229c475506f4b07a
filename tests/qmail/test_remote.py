"""qmail-remote finds the right host, hands the message over whole, and reports what became of it.

The hosts are real: dnsmasq names them, smtp-sink, Postfix, our own QMTP server and a scripted SMTP server
take the mail, and two network namespaces keep us from being our own mail exchanger.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import opensmtpd
import postfix
import pytest
from name_server import name_server
from programs import BIN, DEADLINE, eventually, free_port, resolved, running
from queues import MailHome, make_home
from smtp_servers import SILENCE, Server, smtp_server
from two_hosts import TwoHosts, two_hosts

from qmail.remote_delivery import tcpto_table

MESSAGE = b"Subject: x\n\n.dot\nbody\n"
WIRE = b"Subject: x\r\n\r\n..dot\r\nbody\r\n"
NAMES = [
    "mx-host=one.test,a.test,10", "host-record=a.test,10.9.0.2",
    "mx-host=two.test,dead.test,5", "mx-host=two.test,a.test,10", "host-record=dead.test,10.9.0.99",
    "mx-host=refusing.test,b.test,5", "mx-host=refusing.test,a.test,10", "host-record=b.test,10.9.0.3",
    "mx-host=six.test,c.test,10", "host-record=c.test,fd09::4",
    "mx-host=me.test,d.test,10", "mx-host=me.test,a.test,20", "host-record=d.test,10.9.0.1",
    "mx-host=behind.test,a.test,10", "mx-host=behind.test,d.test,20",
    "mx-host=lo.test,l.test,10", "host-record=l.test,127.0.0.1",
    "mx-host=opensmtpd.test,e.test,10", "host-record=e.test,10.9.0.5",
    "mx-host=gone.test,nowhere.test,10",
    "mx-host=qmtp.test,a.test,12801",
    "host-record=plain.test,10.9.0.2",
    "cname=alias.test,one.test",
    *(f"mx-host=many.test,m{n}.test,10" for n in range(60)),
    *(f"host-record=m{n}.test,10.9.0.2" for n in range(60)),
]  # fmt: skip


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def remote(mail_home: MailHome, host: str, *recipients: str, **env: str) -> tuple[list[bytes], bytes]:
    """Run it, wherever this thread is; return the letters of its report and the report.  It must exit 0."""
    argv = [*resolved(["qmail-remote"]), host, "s@x.y", *(recipients or ("r@x.y",))]
    variables = mail_home.environment(**env)
    (mail_home.path / "message").write_bytes(MESSAGE)
    with open(mail_home.path / "message", "rb") as message:
        done = subprocess.run(
            argv, stdin=message, env=variables, capture_output=True, timeout=DEADLINE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
    *pieces, rest = done.stdout.split(b"\0")
    assert rest == b""
    return [piece[:1] for piece in pieces], done.stdout


@contextlib.contextmanager
def routed(
    mail_home: MailHome, replies: Mapping[str, bytes | None] | None = None, address: str = "127.0.0.1"
) -> Iterator[Server]:
    """A scripted server to which smtproutes sends all mail."""
    with smtp_server(address, replies=replies) as (server, port):
        host = f"[{address}]" if ":" in address else address
        mail_home.control("smtproutes", f":{host}:{port}\n")
        yield server


def test_the_message_arrives_as_it_is(mail_home: MailHome) -> None:
    with routed(mail_home) as server:
        letters, report = remote(mail_home, "x.y", "a b@x.y", "c@x.y")
    assert letters == [b"r", b"r", b"K"]
    assert report.endswith(b"K127.0.0.1 accepted message.\nRemote host said: 250 taken\n\0")
    assert server.messages == [WIRE]
    assert server.commands == [
        b"EHLO mx.example.org\r\n", b"MAIL FROM:<s@x.y>\r\n",
        b'RCPT TO:<"a b"@x.y>\r\n', b"RCPT TO:<c@x.y>\r\n", b"DATA\r\n", b"QUIT\r\n",
    ]  # fmt: skip


def test_a_server_of_old_gets_helo(mail_home: MailHome) -> None:
    with routed(mail_home, {"EHLO": b"502 what?\r\n"}) as server:
        assert remote(mail_home, "x.y")[0] == [b"r", b"K"]
    assert server.commands[:2] == [b"EHLO mx.example.org\r\n", b"HELO mx.example.org\r\n"]


@pytest.mark.parametrize(
    ("verb", "reply", "letters", "text"),
    [
        ("", b"421 busy\r\n", [b"Z"], b"but greeting failed"),
        ("", b"554 no\r\n", [b"Z"], b"but greeting failed"),
        ("MAIL", b"451 later\r\n", [b"Z"], b"but sender was rejected"),
        ("MAIL", b"550 never\r\n", [b"D"], b"but sender was rejected"),
        ("RCPT", b"450 greylisted\r\n", [b"s", b"D"], b"does not like recipient"),
        ("RCPT", b"550-no\r\n550 such user\r\n", [b"h", b"D"], b"Remote host said: 550-no\n550 such user\n"),
        ("DATA", b"451 later\r\n", [b"r", b"Z"], b"failed on DATA command"),
        ("DATA", b"554 never\r\n", [b"r", b"D"], b"failed on DATA command"),
        (".", b"452 full\r\n", [b"r", b"Z"], b"failed after I sent the message"),
        (".", b"554 spam\r\n", [b"r", b"D"], b"failed after I sent the message"),
        ("", None, [b"Z"], b"but connection died. (#4.4.2)"),
        ("RCPT", None, [b"Z"], b"but connection died. (#4.4.2)"),
        (".", None, [b"r", b"Z"], b"but connection died. Possible duplicate! (#4.4.2)"),
    ],
)
def test_what_the_server_says_is_reported(
    mail_home: MailHome, verb: str, reply: bytes | None, letters: list[bytes], text: bytes
) -> None:
    with routed(mail_home, {verb: reply}):
        found, report = remote(mail_home, "x.y")
    assert found == letters
    assert text in report


@pytest.mark.parametrize(
    ("verb", "doubt"), [("", b""), ("EHLO", b""), ("DATA", b""), (".", b"Possible duplicate! ")]
)
def test_a_silent_server_is_given_up(mail_home: MailHome, verb: str, doubt: bytes) -> None:
    mail_home.control("timeoutremote", "1\n")
    with routed(mail_home, {verb: SILENCE}):
        letters, report = remote(mail_home, "x.y")
    assert letters[-1] == b"Z"
    assert b"but connection died. " + doubt + b"(#4.4.2)" in report


def test_a_route_may_lead_to_an_ipv6_address(mail_home: MailHome) -> None:
    with routed(mail_home, address="::1") as server:
        assert b"K::1 accepted message" in remote(mail_home, "x.y")[1]
    assert server.messages == [WIRE]


def test_the_longest_route_counts(mail_home: MailHome) -> None:
    with smtp_server() as (wrong, wrong_port), smtp_server() as (right, right_port):
        mail_home.control(
            "smtproutes",
            f".y:127.0.0.1:{wrong_port}\n:127.0.0.1:{wrong_port}\n.X.Y:127.0.0.1:{right_port}\nb.x.y:\n",
        )
        assert remote(mail_home, "a.x.Y")[0] == [b"r", b"K"]
    assert (len(wrong.messages), len(right.messages)) == (0, 1)


def test_no_control_files_are_a_reason_to_wait(mail_home: MailHome) -> None:
    (mail_home.path / "control/me").unlink()
    assert remote(mail_home, "x.y")[1] == b"ZUnable to read control files. (#4.3.0)\n\0"


@contextlib.contextmanager
def sink(mail_home: MailHome, *options: str) -> Iterator[Path]:
    """Postfix's smtp-sink, to which smtproutes sends all mail; yields where its dumps are."""
    if not shutil.which("smtp-sink"):
        pytest.skip("no smtp-sink (Debian: postfix)")
    port = free_port()
    dumps = mail_home.path / "dumps"
    dumps.mkdir()
    dumps.chmod(0o777)
    user = ["-R", str(dumps), "-u", "nobody"] if os.geteuid() == 0 else []
    argv = ["smtp-sink", *user, "-d", "dump.", *options, f"127.0.0.1:{port}", "10"]
    with running(*argv, cwd=dumps, stderr=subprocess.DEVNULL):
        eventually(lambda: _listens_on("127.0.0.1", port), "smtp-sink")
        mail_home.control("smtproutes", f":127.0.0.1:{port}\n")
        yield dumps


def test_postfix_smtp_sink_takes_it(mail_home: MailHome) -> None:
    with sink(mail_home) as dumps:
        assert remote(mail_home, "x.y", "a@x.y", "b@x.y")[0] == [b"r", b"r", b"K"]
        contents = [path.read_bytes() for path in dumps.iterdir()]
    (dump,) = [content for content in contents if content]
    assert b"X-Mail-Args: <s@x.y>" in dump
    assert b"X-Rcpt-Args: <a@x.y>\nX-Rcpt-Args: <b@x.y>\n" in dump
    assert MESSAGE in dump


@pytest.mark.parametrize(
    ("option", "letters"),
    [
        (["-r", "RCPT"], b"ssD"),
        (["-f", "RCPT"], b"hhD"),
        (["-r", "CONNECT"], b"Z"),
        (["-f", "."], b"rrD"),
        (["-r", "."], b"rrZ"),
        (["-q", "DATA"], b"rrZ"),
        (["-p"], b"rrK"),
        (["-e"], b"rrK"),
    ],
)
def test_postfix_smtp_sink_refuses(mail_home: MailHome, option: list[str], letters: bytes) -> None:
    with sink(mail_home, *option):
        assert b"".join(remote(mail_home, "x.y", "a@x.y", "b@x.y")[0]) == letters


@pytest.mark.skipif(
    os.geteuid() != 0 or not postfix.installed(), reason="needs root and a Postfix (Debian: postfix)"
)
def test_a_whole_postfix_delivers_it(mail_home: MailHome) -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)  # Postfix runs as several users
        with postfix.running(place, port) as maildir:
            mail_home.control("smtproutes", f":127.0.0.1:{port}\n")
            letters, report = remote(
                mail_home, postfix.DOMAIN, f"joe@{postfix.DOMAIN}", f"jane@{postfix.DOMAIN}"
            )
            assert letters == [b"r", b"r", b"K"], report
            eventually(lambda: len(list((maildir / "new").glob("*"))) == 2, "both copies")
            for copy in (maildir / "new").iterdir():
                header, _, body = copy.read_bytes().partition(b"\n\n")
                assert b"\nSubject: x" in header
                assert body == b".dot\nbody\n"


# Through DNS, from host to host.


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as hosts, contextlib.ExitStack() as stack:
        with hosts.theirs.entered():
            stack.enter_context(name_server(NAMES, "10.9.0.2", 53))
        yield hosts


class Network:
    """Mail from our host to theirs."""

    def __init__(self, hosts: TwoHosts, mail_home: MailHome) -> None:
        self.hosts = hosts
        self.home = mail_home
        mail_home.control("timeoutconnect", "1\n")

    def send(self, host: str, *recipients: str) -> tuple[list[bytes], bytes]:
        with self.hosts.ours.entered():
            return remote(self.home, host, *recipients, DNSCACHEIP="10.9.0.2")

    @contextlib.contextmanager
    def server(
        self, address: str = "10.9.0.2", replies: Mapping[str, bytes | None] | None = None
    ) -> Iterator[Server]:
        with self.hosts.theirs.entered():
            serving = smtp_server(address, 25, replies)
            server, _ = serving.__enter__()
        try:
            yield server
        finally:
            serving.__exit__(None, None, None)

    def timeouts(self) -> dict[bytes, int]:
        table = (self.home.path / "queue/lock/tcpto").read_bytes()
        records = [tcpto_table.Record.unpack(table[at : at + 16]) for at in range(0, len(table), 16)]
        return {record.address: record.timeouts for record in records if record.timeouts}


@pytest.fixture
def network(hosts: TwoHosts, mail_home: MailHome) -> Network:
    return Network(hosts, mail_home)


through_dns = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("dnsmasq"),
    reason="needs root, ip and dnsmasq (Debian: iproute2, dnsmasq-base)",
)


@through_dns
@pytest.mark.parametrize(
    "host", ["one.test", "ONE.test", "plain.test", "alias.test", "many.test", "behind.test", "[10.9.0.2]"]
)
def test_the_exchanger_is_found(network: Network, host: str) -> None:
    with network.server() as server:
        letters, report = network.send(host)
    assert letters == [b"r", b"K"]
    assert b"K10.9.0.2 accepted message." in report
    assert server.messages == [WIRE]


@through_dns
def test_an_exchanger_may_have_an_ipv6_address_only(network: Network) -> None:
    with network.server("fd09::4") as server:
        assert b"Kfd09::4 accepted message." in network.send("six.test")[1]
    assert server.messages == [WIRE]


@through_dns
@pytest.mark.parametrize("host", ["two.test", "refusing.test"])
def test_the_next_exchanger_is_tried_if_the_first_is_dead(network: Network, host: str) -> None:
    with network.server() as server:
        assert b"K10.9.0.2 accepted message." in network.send(host)[1]
    assert server.messages == [WIRE]


@through_dns
def test_an_exchanger_that_refuses_the_mail_is_the_last_one_tried(network: Network) -> None:
    with network.server("10.9.0.3", {"RCPT": b"550 no\r\n"}), network.server() as server:
        assert network.send("refusing.test")[0] == [b"h", b"D"]
    assert server.commands == []


@through_dns
def test_nobody_listens(network: Network) -> None:
    assert network.send("one.test")[1] == (
        b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n\0"
    )
    assert network.timeouts() == {}  # a refusal is quick


@through_dns
def test_a_host_that_times_out_twice_is_left_alone(network: Network) -> None:
    # The kernel says EHOSTUNREACH for an address that nobody has; that one exists, and drops what comes.
    with network.hosts.theirs.entered():
        subprocess.run(["ip", "route", "add", "blackhole", "10.9.9.9"], check=True)
    network.hosts.ours.ip("route", "add", "10.9.9.9/32", "via", "10.9.0.2")
    dead = socket.inet_aton("10.9.9.9")
    assert network.send("[10.9.9.9]")[0] == [b"Z"]
    assert network.timeouts() == {dead: 1}
    table = network.home.path / "queue/lock/tcpto"
    records = bytearray(table.read_bytes())
    long_ago = int(time.time()) - 1000  # timeouts within two minutes count once
    records[:16] = tcpto_table.Record(dead, 1, long_ago).pack()
    table.write_bytes(records)
    assert network.send("[10.9.9.9]")[0] == [b"Z"]
    assert network.timeouts() == {dead: 2}
    before = table.read_bytes()
    start = time.monotonic()
    assert network.send("[10.9.9.9]")[0] == [b"Z"]
    assert time.monotonic() - start < DEADLINE
    assert table.read_bytes() == before  # it was not even tried
    listing = subprocess.run(
        [BIN / "qmail-tcpto"], env=network.home.environment(), capture_output=True, check=True
    )
    assert listing.stdout.startswith(b"10.9.9.9 timed out ")
    subprocess.run([BIN / "qmail-tcpok"], env=network.home.environment(), check=True)
    assert network.timeouts() == {}


@through_dns
@pytest.mark.parametrize("host", ["me.test", "lo.test", "[10.9.0.1]", "[127.0.0.1]"])
def test_mail_does_not_go_round_in_a_loop(network: Network, host: str) -> None:
    letters, report = network.send(host)
    assert letters == [b"D"]
    assert b"it isn't in my control/locals file" in report


@through_dns
@pytest.mark.parametrize(
    ("host", "report"),
    [
        ("nosuch.test", b"DSorry, I couldn't find any host named nosuch.test. (#5.1.2)\n\0"),
        ("gone.test", b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n\0"),
        ("refused.example", b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n\0"),
    ],
)
def test_what_dns_does_not_know(network: Network, host: str, report: bytes) -> None:
    assert network.send(host)[1] == report


@through_dns
def test_qmtp_is_used_where_the_exchanger_asks_for_it(network: Network, tmp_path: Path) -> None:
    theirs = make_home(tmp_path / "theirs")
    theirs.control("rcpthosts", "y\nx.y\n")
    server = ["tcpserver", "-HRl0", "10.9.0.2", "209", str(BIN / "qmail-qmtpd")]
    with contextlib.ExitStack() as stack:
        with network.hosts.theirs.entered():
            process = stack.enter_context(running(*server, env=theirs.environment()))
            eventually(lambda: process.poll() is not None or _listens_on("10.9.0.2", 209), "qmail-qmtpd")
        letters, report = network.send("qmtp.test")
    assert letters == [b"r", b"K"]
    assert b"10.9.0.2" in report
    (queued,) = theirs.queued()
    assert queued.message.endswith(b"\n" + MESSAGE)
    assert queued.envelope.endswith(b"Fs@x.y\0Tr@x.y\0")


@through_dns
def test_without_qmtp_after_all_smtp_serves(network: Network) -> None:
    with network.server() as server:
        assert network.send("qmtp.test")[0] == [b"r", b"K"]
    assert server.messages == [WIRE]


@through_dns
@pytest.mark.skipif(not opensmtpd.usable(), reason=f"no OpenSMTPD unpacked in {opensmtpd.PLACE}")
def test_opensmtpd_as_exchanger_delivers_it(network: Network) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        Path(name).chmod(0o755)  # OpenSMTPD runs as several users
        with network.hosts.theirs.entered():
            mail = stack.enter_context(opensmtpd.opensmtpd(Path(name), "10.9.0.5", 25))
        joe, nobody = (f"{box}@{opensmtpd.DOMAIN}" for box in ("joe", "nobody"))
        letters, report = network.send(opensmtpd.DOMAIN, joe, nobody)
        assert letters == [b"r", b"h", b"K"], report
        assert b"10.9.0.5 does not like recipient.\nRemote host said: 5" in report
        (delivered,) = eventually(lambda: list(mail.glob("*")), "the message")
        header, _, body = delivered.read_bytes().partition(b"\n\n")
        assert b"\nSubject: x" in header
        assert body == b".dot\nbody\n"


def _listens_on(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 5):
        return True
    return False
