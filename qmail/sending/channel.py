"""One of the two ways out: the pipes to a spawner, and its slots."""

from __future__ import annotations

import heapq
import os
import select
from typing import TYPE_CHECKING

from qmail.spawning.orders import ReportReader, announced

if TYPE_CHECKING:
    from qmail.sending.jobs import Delivery
    from qmail.spawning.orders import Report

NAMES = (b"local", b"remote")
ENOUGH = 32768  # bytes of orders that wait for a spawner; more deliveries do not start
MOMENT = 20  # milliseconds
LOST = b"alert: oh no! lost spawn connection! dying..."


class NoSpawner(Exception):
    """The spawner said nothing before it went away."""


class Channel:
    """Deliveries through one spawner: orders go to `orders`, reports come from `reports` (descriptors).

    Slots are below what the spawner announced; how many are in use at once is
    up to `concurrency`.
    """

    def __init__(self, index: int, orders: int, reports: int, concurrency: int) -> None:
        self.index = index
        self.name = NAMES[index]
        self.orders = orders
        self.reports = reports
        self.alive = True
        self.limit, self._width = _introduction(reports)
        self._reader = ReportReader(self._width)
        self._free = list(range(self.limit))  # a heap: the lowest slot is taken first
        self._used: dict[int, Delivery] = {}
        self._unsent = bytearray()
        self.set_concurrency(concurrency)
        os.set_blocking(orders, False)

    def set_concurrency(self, wanted: int) -> None:
        self.concurrency = min(wanted, self.limit)

    @property
    def used(self) -> int:
        """How many deliveries are under way."""
        return len(self._used)

    def available(self) -> bool:
        """May a delivery start?"""
        return self.alive and len(self._used) < self.concurrency and len(self._unsent) < ENOUGH

    def start(self, delivery: Delivery, message: str, sender: bytes, recipient: bytes) -> None:
        """Give `delivery` a slot, and put its order with those that wait for `send`."""
        slot = heapq.heappop(self._free)
        self._used[slot] = delivery
        name = slot.to_bytes(self._width, "little")
        self._unsent += b"%b%b\0%b\0%b\0" % (name, message.encode(), sender, recipient)

    def unsent(self) -> bool:
        """Do orders wait for the spawner?"""
        return self.alive and bool(self._unsent)

    def send(self) -> bool:
        """Write what the pipe takes of the orders; False: the spawner is gone."""
        try:
            if self.unsent():
                del self._unsent[: os.write(self.orders, self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def receive(self) -> list[Report] | None:
        """The reports that are complete by now; None: the spawner is gone."""
        data = os.read(self.reports, 65536)
        return self._reader.feed(data) if data else None

    def release(self, slot: int) -> Delivery | None:
        """The delivery in `slot`, which is free from now on; None if there is none."""
        delivery = self._used.pop(slot, None)
        if delivery:
            heapq.heappush(self._free, slot)
        return delivery

    def peek(self, slot: int) -> Delivery | None:
        """The delivery in `slot`."""
        return self._used.get(slot)


def _introduction(reports: int) -> tuple[int, int]:
    """Read what the spawner announces: one byte, or two that may come a moment apart."""
    first = os.read(reports, 2)
    if not first:
        raise NoSpawner
    if len(first) == 1:
        poll = select.poll()
        poll.register(reports, select.POLLIN)
        if poll.poll(MOMENT):
            first += os.read(reports, 1)
    return announced(first)
