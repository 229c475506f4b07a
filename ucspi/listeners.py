"""The sockets that a server listens on: bound here, or handed over by systemd."""

from __future__ import annotations

import os
import socket
import stat

from supervise.program import unable_to
from ucspi import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

FIRST_INHERITED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def tcp(address: bytes, port: int, backlog: int, *, dual: bool = False, interface: int = 0) -> socket.socket:
    """Listen on `address`, packed.  dual: its IPv6 socket takes IPv4 connections as well.

    interface: the index of the one to which a link-local address belongs.
    """
    with unable_to("create socket"):
        sock = socket.socket(addresses.family(address), socket.SOCK_STREAM)
    try:
        with unable_to("bind"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
            sock.bind(addresses.socket_name(address, port, interface))
        _listen(sock, backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def unix(path: str, backlog: int) -> socket.socket:
    """Listen on the Unix socket `path`, in the place of one that nobody listens on any more."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with unable_to("bind"):
            if _is_abandoned(path):
                os.unlink(path)
            sock.bind(path)
        _listen(sock, backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_abandoned(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def _listen(sock: socket.socket, backlog: int) -> None:
    with unable_to("listen"):
        sock.listen(min(backlog, 1 << 30))
    sock.setblocking(False)


def inherited(env: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd passed to this very process; the variables that say so go from `env`."""
    count, pid = env.get("LISTEN_FDS", ""), env.get("LISTEN_PID", "")
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        env.pop(name, None)
    found = []
    for fd in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
        with unable_to("use the sockets in LISTEN_FDS"):
            sock = socket.socket(fileno=fd)
        os.set_inheritable(fd, False)
        sock.setblocking(False)
        found.append(sock)
    return found


def local_end(sock: socket.socket) -> tuple[bytes, int] | None:
    """Where every connection to `sock` arrives; None if that differs, or is no address."""
    if sock.family == socket.AF_UNIX:
        return None
    address, port = addresses.of_socket_name(sock.getsockname())
    return None if address in (addresses.ANY4, addresses.ANY6) else (address, port)
