"""DNS caches on loopback for tests: Debian's dnsmasq with a test's records, and one that does as told."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence

import dns.message
import pytest
from programs import eventually, free_port, running

needs_dnsmasq = pytest.mark.skipif(not shutil.which("dnsmasq"), reason="no dnsmasq (Debian: dnsmasq-base)")


@contextlib.contextmanager
def name_server(records: Sequence[str], address: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve dnsmasq's `records` (its options without the dashes); yield what DNSCACHEIP is to be.

    It knows all of .test and of the reverse zones; whatever else is asked is refused.
    """
    port = port or free_port()
    options = [
        "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--user=", "--no-resolv", "--no-hosts",
        "--bind-interfaces", f"--listen-address={address}", f"--port={port}", "--cache-size=0",
        "--local=/test/", "--local=/in-addr.arpa/", "--local=/ip6.arpa/", "--edns-packet-max=1232",
    ]  # fmt: skip
    argv = ["dnsmasq", *options, *(f"--{record}" for record in records)]
    with running(*argv, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: process.poll() is not None or _listens(address, port), "dnsmasq listens")
        assert process.poll() is None, "dnsmasq would not start"
        yield f"[{address}]:{port}"


def _listens(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


@contextlib.contextmanager
def scripted(reply: Callable[[dns.message.Message], list[bytes]]) -> Iterator[tuple[str, int]]:
    """A server that answers each question by UDP with the packets of `reply`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()

        def serve() -> None:
            while True:
                packet, peer = server.recvfrom(2000)
                if not packet:
                    return
                for answer in reply(dns.message.from_wire(packet)):
                    server.sendto(answer, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", address)
            thread.join()
