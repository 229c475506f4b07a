"""addcr, delcr, fixcrio, recordio beside the C originals; tcpclient's start; TLS connections a second."""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

OURS = Path(sys.prefix) / "bin"
THEIRS = Path("/usr/bin")
SIZE = 50_000_000  # bytes through each filter
LINE = b"a line of mail, as long as they usually are in this world\n"
ROUNDS = 5
STARTS = 20
HANDSHAKES = 200


def measure() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.write_bytes(LINE * (SIZE // len(LINE)))
        if (THEIRS / "addcr").exists():
            for command in (["addcr"], ["delcr"], ["fixcrio", "cat"], ["recordio", "cat"]):
                yield _filter(command, data)
            yield _start()
        else:
            yield "filters skipped: no C originals (Debian package ucspi-tcp)"
        yield _tls(Path(name))


def _filter(command: Sequence[str], data: Path) -> str:
    """Ours and theirs in turn; the median of the paired ratios."""
    pairs = []
    for _ in range(ROUNDS):
        pairs.append([_seconds([str(where / command[0]), *command[1:]], data) for where in (OURS, THEIRS)])
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    speed = SIZE / 1e6 / ours
    return f"{' '.join(command)}: {speed:.0f} MB/s, C {SIZE / 1e6 / theirs:.0f} MB/s; time {ratio:.2f} x C"


def _seconds(command: Sequence[str], data: Path) -> float:
    with open(data, "rb") as source:
        began = time.perf_counter()
        quiet = subprocess.DEVNULL
        subprocess.run(command, stdin=source, stdout=quiet, stderr=quiet, check=True)
        return time.perf_counter() - began


def _start() -> str:
    """tcpclient to an address that refuses at once, beside an empty Python program."""
    client = [str(OURS / "tcpclient"), "-qRHl0", "127.0.0.1", "1", "true"]
    empty = [str(OURS / "python"), "-I", "-c", "pass"]
    pairs = []
    for _ in range(STARTS):
        pair = []
        for command in (client, empty):
            began = time.perf_counter()
            subprocess.run(command, check=False)
            pair.append(time.perf_counter() - began)
        pairs.append(pair)
    ratio = statistics.median(one / other for one, other in pairs)
    return f"tcpclient, refused: {ratio:.2f} x python -I -c pass"


def _tls(directory: Path) -> str:
    """One connection after the other, handshake and all, through sslserver and addcr."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-out", certificate, "-keyout", key],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    env = {**os.environ, "CERTFILE": str(certificate), "KEYFILE": str(key)}
    command = [str(OURS / "sslserver"), "-1RHl0", "127.0.0.1", "0", str(OURS / "addcr")]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as server:
        assert server.stdout
        try:
            port = int(server.stdout.readline())
            began = time.perf_counter()
            for _ in range(HANDSHAKES):
                _talk(context, port)
            seconds = time.perf_counter() - began
        finally:
            server.terminate()
    return f"sslserver addcr: {HANDSHAKES / seconds:.0f} connections per second, one at a time"


def _talk(context: ssl.SSLContext, port: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", port)) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"hello\n")
        assert tls.recv(100) == b"hello\r\n"
