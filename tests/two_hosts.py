"""Two hosts in one test: network namespaces with a cable between them.  Needs root.

`ours` has 10.9.0.1 and fd09::1; `theirs` has 10.9.0.2 to 10.9.0.9 and fd09::2 to fd09::9.  What a test
does `with host.entered():` it does there: sockets that it makes and programs that it starts stay there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from programs import eventually

CLONE_NEWNET = 0x40000000
THEIR_NUMBERS = range(2, 10)


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace: the descriptor that keeps it."""

    fd: int

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be there, with this thread."""
        before = present()
        try:
            call("setns", self.fd, CLONE_NEWNET)
            yield
        finally:
            call("setns", before, CLONE_NEWNET)
            os.close(before)

    def ip(self, *arguments: str) -> None:
        with self.entered():
            subprocess.run(["ip", *arguments], check=True)

    def is_settled(self) -> bool:
        """Are all its addresses fit for use?"""
        with self.entered():
            listing = subprocess.run(
                ["ip", "-6", "address", "show", "tentative"], capture_output=True, check=True
            )
        return not listing.stdout


@dataclass(frozen=True, slots=True)
class TwoHosts:
    ours: Host
    theirs: Host


def call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        raise OSError(ctypes.get_errno(), function)


def present() -> int:
    """A descriptor of the namespace that this thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def new_host() -> Host:
    before = present()
    try:
        call("unshare", CLONE_NEWNET)
        host = Host(present())
    finally:
        call("setns", before, CLONE_NEWNET)
        os.close(before)
    host.ip("link", "set", "lo", "up")
    with host.entered():  # IPv6 addresses are fit for use at once
        Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
    return host


@contextlib.contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    ours, theirs = new_host(), new_host()
    try:
        peer = f"/proc/{os.getpid()}/fd/{theirs.fd}"
        ours.ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", peer)
        for host, numbers in ((ours, range(1, 2)), (theirs, THEIR_NUMBERS)):
            for number in numbers:
                host.ip("address", "add", f"10.9.0.{number}/24", "dev", "cable")
                host.ip("address", "add", f"fd09::{number}/64", "dev", "cable", "nodad")
            host.ip("link", "set", "cable", "up")
        for host in (ours, theirs):
            eventually(host.is_settled, "the addresses of both hosts")
        yield TwoHosts(ours, theirs)
    finally:
        os.close(ours.fd)
        os.close(theirs.fd)
