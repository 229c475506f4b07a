"""Who is connected to qmail-queued and has not sent a request yet: whom to drop when there are too many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


@dataclass(slots=True)
class Client:
    """A connection that has not sent its request yet."""

    channel: socket.socket
    pid: int
    uid: int
    since: float


class Clients:
    """Those who are connected and have said nothing yet, the oldest first."""

    def __init__(self) -> None:
        self._by_fd: dict[int, Client] = {}
        self._of_user: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._by_fd)

    def __contains__(self, fd: int) -> bool:
        return fd in self._by_fd

    def add(self, client: Client) -> None:
        self._by_fd[client.channel.fileno()] = client
        self._of_user[client.uid] += 1

    def take(self, fd: int) -> Client:
        client = self._by_fd.pop(fd)
        self._of_user[client.uid] -= 1
        if not self._of_user[client.uid]:
            del self._of_user[client.uid]
        return client

    def late(self, before: float) -> list[int]:
        """The descriptors of those who have been silent since `before`."""
        found = []
        for fd, client in self._by_fd.items():
            if client.since > before:
                break
            found.append(fd)
        return found

    def one_too_many(self) -> int:
        """The descriptor of the oldest client of the user who has most."""
        uid = self._of_user.most_common(1)[0][0]
        return next(fd for fd, client in self._by_fd.items() if client.uid == uid)
