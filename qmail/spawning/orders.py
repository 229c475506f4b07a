"""What qmail-send and its spawners say to each other, on both sides of the pipes.

qmail-send writes orders, qmail-lspawn and qmail-rspawn answer each with one
report, in any order:

    announcement   limit                                   once, by the spawner
    order          slot message NUL sender NUL recipient NUL
    report         slot text NUL

A slot is qmail-send's name for a delivery under way, free again once reported.
It is one byte, and so is the limit (slots are below it); with the
big-concurrency patch both are two bytes, the low one first.  Which of the two
it is follows from the length of the announcement.

A text begins with K (delivered), Z (try again later) or D (never again).
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_SLOTS = 65000  # as in the patch
MAX_ORDER = 64 * 1024  # bytes; qmail-queue takes no address above 1003
MAX_TEXT = 9999  # bytes; what qmail-send keeps of a text
NARROW, WIDE = 1, 2  # bytes of a slot


@dataclass(frozen=True, slots=True)
class Order:
    """Deliver the message in the file queue/mess/`message` to one recipient."""

    slot: int
    message: bytes  # b"12/457"
    sender: bytes  # of the envelope; b"" for a bounce
    recipient: bytes
    whole: bool = True  # False: it was longer than MAX_ORDER, and only the slot is known


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the order in `slot`."""

    slot: int
    text: bytes


def announcement(limit: int) -> bytes:
    """The spawner's first words: it takes slots below `limit` (at most MOST_SLOTS)."""
    return limit.to_bytes(NARROW if limit < 256 else WIDE, "little")


def announced(data: bytes) -> tuple[int, int]:
    """Return (limit, bytes of a slot) of an announcement of one or two bytes.

    Nothing follows an announcement until the first order, so the one that
    reads it takes up to two bytes; a C spawner of the patch may write them
    one by one, a moment apart.
    """
    return int.from_bytes(data, "little"), len(data)


def encode_order(order: Order, slot_bytes: int = NARROW) -> bytes:
    """The order as qmail-send writes it; its fields hold no NUL."""
    slot = order.slot.to_bytes(slot_bytes, "little")
    return b"%b%b\0%b\0%b\0" % (slot, order.message, order.sender, order.recipient)


def encode_report(report: Report, slot_bytes: int = NARROW) -> bytes:
    """The report as a spawner writes it; a NUL ends the text."""
    text = report.text.partition(b"\0")[0]
    return b"%b%b\0" % (report.slot.to_bytes(slot_bytes, "little"), text)


class OrderReader:
    """Cuts what qmail-send writes into orders; however hostile, it keeps no more than MAX_ORDER bytes."""

    def __init__(self, slot_bytes: int = NARROW) -> None:
        self._slot_bytes = slot_bytes
        self._buffer = b""
        self._skipping = 0  # fields still to skip of an order that was too long

    def feed(self, data: bytes) -> list[Order]:
        """Return the orders that `data` completes."""
        self._buffer += data
        orders = []
        start = 0
        while order_end := self._next(start):
            order, start = order_end
            orders.append(order)
        self._buffer = self._buffer[start:]
        self._shorten()
        return orders

    def _next(self, start: int) -> tuple[Order, int] | None:
        buffer, head = self._buffer, start + self._slot_bytes
        ends = []
        end = head - 1
        for _ in range(self._skipping or 3):
            end = buffer.find(b"\0", end + 1)
            if end < 0:
                return None
            ends.append(end)
        slot = int.from_bytes(buffer[start:head], "little")
        if self._skipping or end - start > MAX_ORDER:
            self._skipping = 0
            return Order(slot, b"", b"", b"", whole=False), end + 1
        message, sender, recipient = ends
        order = Order(
            slot, buffer[head:message], buffer[message + 1 : sender], buffer[sender + 1 : recipient]
        )
        return order, end + 1

    def _shorten(self) -> None:
        """Of an order that is too long already, keep the slot and the number of fields to skip."""
        head = self._slot_bytes
        if len(self._buffer) > MAX_ORDER:
            self._skipping = (self._skipping or 3) - self._buffer.count(b"\0", head)
            self._buffer = self._buffer[:head]


class ReportReader:
    """Cuts what a spawner writes into reports; keeps no more than MAX_TEXT bytes of a text."""

    def __init__(self, slot_bytes: int = NARROW) -> None:
        self._slot_bytes = slot_bytes
        self._buffer = b""

    def feed(self, data: bytes) -> list[Report]:
        """Return the reports that `data` completes, their texts cut at MAX_TEXT."""
        buffer, head = self._buffer + data, self._slot_bytes
        reports = []
        start = 0
        while (end := buffer.find(b"\0", start + head)) >= 0:
            slot = int.from_bytes(buffer[start : start + head], "little")
            reports.append(Report(slot, buffer[start + head : min(end, start + head + MAX_TEXT)]))
            start = end + 1
        self._buffer = buffer[start : start + head + MAX_TEXT]
        return reports
