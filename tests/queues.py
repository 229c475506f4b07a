"""What the tests of the queue share: a mail home of their own, and what is queued in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from programs import BIN, environment

from qmail.queueing import queue_layout
from qmail.queueing.queue_layout import Owners, Queue


@dataclass(frozen=True, slots=True)
class Queued:
    """One message in todo/."""

    number: int
    message: bytes
    envelope: bytes


@dataclass(frozen=True, slots=True)
class MailHome:
    """A mail home with an empty queue."""

    path: Path

    @property
    def queue(self) -> Queue:
        return Queue.recognise(f"{self.path}/queue")

    def environment(self, **more: str) -> dict[str, str]:
        return environment(QMAILHOME=str(self.path), **more)

    def control(self, name: str, content: str) -> None:
        (self.path / "control" / name).write_text(content)

    def queued(self) -> list[Queued]:
        """What qmail-send would find, in the order of the numbers."""
        queue = self.queue
        return [
            Queued(number, Path(queue.mess(number)).read_bytes(), Path(queue.todo(number)).read_bytes())
            for number in sorted(queue.numbers("todo"))
        ]

    def files(self) -> list[str]:
        """All files of messages, finished or not."""
        kinds = ("pid", "mess", "intd", "todo", "info", "local", "remote", "bounce")
        found = (path for kind in kinds for path in (self.path / "queue" / kind).rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.path / "queue")) for path in found)


def make_home(path: Path, *, big_todo: bool = False, owners: Owners | None = None) -> MailHome:
    (path / "control").mkdir(parents=True)
    (path / "control/me").write_text("mx.example.org\n")
    (path / "bin").symlink_to(BIN)
    queue_layout.create(str(path / "queue"), owners, big_todo=big_todo)
    return MailHome(path)
