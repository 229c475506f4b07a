"""Reading todo/N: the lines that the log has for a new message, and where its recipients go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmail.sending.envelope import Head, Records, read_head
from qmail.sending.log import safe

if TYPE_CHECKING:
    from qmail.sending.log import Log
    from qmail.sending.rewriting import Rewriting
    from qmail.sending.store import Draft


class TodoReader:
    """Takes in the records of one todo/ file, as far as they make sense.

    `head` and `recipients`, already rewritten, are what it says; `complaint`
    is why it cannot be used, in the words of the log.
    """

    def __init__(self, number: int, size: int, log: Log, rewriting: Rewriting) -> None:
        self._number = number
        self._size = size
        self._log = log
        self._rewrite = rewriting.rewrite
        self._cutter = Records()
        self.head = Head()
        self.recipients: list[tuple[int, bytes]] = []
        self.complaint = ""

    def feed(self, data: bytes) -> None:
        """Take in a piece of the file.  Raises TooLong."""
        for record in self._cutter.feed(data):
            if self.complaint:
                return
            if record.startswith(b"T"):
                self.recipients.append(self._rewrite(record[1:]))
            elif not read_head(self.head, record):
                self.complaint = "unknown record type in"
            elif record.startswith(b"F"):
                self._log.line(
                    b"info msg %d: bytes %d from <%b> qp %d uid %d"
                    % (self._number, self._size, safe(record[1:]), self.head.pid, self.head.uid)
                )

    def empty_into(self, draft: Draft) -> None:
        """Write down the recipients so far, and forget them: there are many."""
        for channel, address in self.recipients:
            draft.add_recipient(channel, address)
        self.recipients.clear()
