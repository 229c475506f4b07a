"""With the same name server, our programs and Debian's C originals say the same.

The originals ask port 53 and no other, so this needs root.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from name_server import name_server, needs_dnsmasq
from programs import BIN, environment, eventually, own_address, run, running

THEIRS = Path("/usr/bin")
CACHE = own_address()
pytestmark = [
    pytest.mark.root,
    needs_dnsmasq,
    pytest.mark.skipif(os.geteuid() != 0, reason="port 53 is for root"),
    pytest.mark.skipif(not (THEIRS / "rblsmtpd").exists(), reason="no C programs (Debian: ucspi-tcp)"),
]
RECORDS = [
    "host-record=one.test,127.0.0.1",
    "cname=alias.test,one.test",
    "ptr-record=1.0.0.127.in-addr.arpa,One.Test",
    "ptr-record=2.0.0.127.in-addr.arpa,odd/name.test",
    "txt-record=7.2.0.192.rbl.test,you are,listed",
    "host-record=7.2.0.192.dnswl.test,127.0.0.2",
]


@pytest.fixture(scope="module")
def cache() -> Iterator[None]:
    with name_server(RECORDS, CACHE, 53):
        yield


def both(*argv: str, stdin: bytes = b"", **env: str) -> list[tuple[int, bytes, bytes]]:
    """What ours does, and what theirs does, without pids and ports."""
    done: list[subprocess.CompletedProcess[bytes]] = []
    for binaries in (BIN, THEIRS):
        settings = environment(**{"DNSCACHEIP": CACHE, "DNSREWRITEFILE": os.devnull, **env})
        done.append(run(binaries / argv[0], *argv[1:], stdin=stdin, env=settings))
    return [
        (one.returncode, re.sub(rb"LOCALPORT=\d+", b"", one.stdout), re.sub(rb"pid \d+", b"", one.stderr))
        for one in done
    ]


HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "one.test", "alias.test", "One.TEST."]


@pytest.mark.parametrize("options", ["-Rv", "-Rvl0"])
@pytest.mark.parametrize("host", HOSTS)
def test_tcpclient_finds_the_same_names_and_addresses(
    cache: None, tmp_path: Path, options: str, host: str
) -> None:
    port_file = tmp_path / "port"
    show = ["sh", "-c", "env | grep -E '^(PROTO|TCP)' | sort"]
    with (
        open(port_file, "wb") as out,
        running(THEIRS / "tcpserver", "-1RHl0", "0", "0", "true", stdout=out),
    ):
        port = eventually(lambda: port_file.read_text().strip(), "tcpserver listens")
        ours, theirs = both("tcpclient", options, host, port, *show)
    assert ours == theirs
    assert ours[0] == 0


@pytest.mark.parametrize("host", ["nobody.test", "a" * 64, "1.2.3", "x" * 300])
def test_tcpclient_fails_to_find_in_the_same_words(cache: None, host: str) -> None:
    ours, theirs = both("tcpclient", "-R", host, "1", "true")
    assert ours == theirs


@pytest.mark.parametrize(
    "rule", ["=short:one.test", "?:.test", "*.old:.test", "-.old:one.test", "?:+.none.test+.test"]
)
@pytest.mark.parametrize("host", ["short", "one", "one.old"])
def test_rules_rewrite_in_the_same_way(cache: None, tmp_path: Path, rule: str, host: str) -> None:
    (tmp_path / "rules").write_text(f"{rule}\n?:.test\n*.old:.test\n")
    ours, theirs = both("tcpclient", "-RHl0", host, "1", "true", DNSREWRITEFILE=str(tmp_path / "rules"))
    assert ours == theirs


@pytest.mark.parametrize("client", ["192.0.2.7", "192.0.2.8", "rubbish"])
@pytest.mark.parametrize(
    "options",
    [["-rrbl.test"], ["-brrbl.test"], ["-rnone.test", "-rrbl.test"], ["-adnswl.test", "-rrbl.test"],
     ["-rrbl.test", "-adnswl.test"], ["-t0", "-rrbl.test"], ["-c", "-r" + "a" * 64], ["-C", "-r" + "a" * 64],
     ["-a" + "a" * 64, "-rrbl.test"], ["-c", "-a" + "a" * 64, "-b", "-rrbl.test"]],
)  # fmt: skip
def test_rblsmtpd_decides_in_the_same_way(cache: None, client: str, options: list[str]) -> None:
    said = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n"
    ours, theirs = both("rblsmtpd", *options, "echo", "ran", stdin=said, TCPREMOTEIP=client)
    assert ours == theirs
