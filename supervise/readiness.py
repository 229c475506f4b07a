"""How a service says that it is ready: a newline on a descriptor (s6), or sd_notify(3) (systemd)."""

from __future__ import annotations

import os
import socket
import struct

from supervise.details import LONGEST_REMARK

CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid
DATAGRAM = 4096  # bytes


class Newline:
    """A pipe to whose other end ./run writes a newline when it is ready."""

    def __init__(self) -> None:
        self._read = -1

    def open(self) -> int:
        """Return the end for the service, for the caller to close; reading begins anew."""
        self.close()
        self._read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write, True)
        return write

    def fileno(self) -> int:
        """-1 once there is nothing more to be read."""
        return self._read

    def heed(self) -> bool:
        """Read what there is; True if a newline was in it."""
        if self._read < 0:
            return False
        try:
            said = os.read(self._read, DATAGRAM)
        except BlockingIOError:
            return False
        if not said or b"\n" in said:
            self.close()
        return b"\n" in said

    def close(self) -> None:
        if self._read >= 0:
            os.close(self._read)
        self._read = -1


class NotifySocket:
    """The socket of NOTIFY_SOCKET, in the abstract name space: a service may have dropped its rights."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("")  # the kernel finds a name

    @property
    def name(self) -> str:
        """For the environment."""
        address: bytes = self._socket.getsockname()
        return "@" + address[1:].decode("ascii")

    def fileno(self) -> int:
        return self._socket.fileno()

    def heed(self, service: int) -> dict[str, str]:
        """What the process `service`, or one that belongs to it, has said since: READY, STATUS and so on."""
        said: dict[str, str] = {}
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(DATAGRAM, socket.CMSG_SPACE(CREDENTIALS.size))
            except BlockingIOError:
                return said
            if any(_from_service(service, content) for *_, content in ancillary):
                said.update(assignments(data))

    def close(self) -> None:
        self._socket.close()


def assignments(datagram: bytes) -> dict[str, str]:
    """The NAME=value lines of a message, fit to be shown."""
    lines = datagram.decode("utf-8", "replace").split("\n")
    pairs = [line.partition("=") for line in lines]
    return {name: _printable(value)[:LONGEST_REMARK] for name, equals, value in pairs if equals}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _from_service(service: int, credentials: bytes) -> bool:
    pid, uid, _ = CREDENTIALS.unpack(credentials[: CREDENTIALS.size])
    lineage = pid
    while lineage > 1:
        if lineage == service:
            return True
        lineage = _parent(lineage)
    if lineage == 0:  # already gone: then it is to be judged by its user
        return uid in (0, _user(service))
    return False


def _parent(pid: int) -> int:
    """The parent of a process; 0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _user(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1
