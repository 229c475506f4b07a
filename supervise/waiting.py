"""Waiting for services: until they are up, ready, down, or started anew (svc -w)."""

from __future__ import annotations

import os
import time

from supervise import details, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HEARING = 2.0  # seconds until supervise has heard a command for sure
STEP = 0.02  # seconds from one look at what is still awaited to the next


class NeverComes(Exception):
    """It will not happen; `str(error)` is why."""


class TimedOut(Exception):
    """It has not happened in time; `str(error)` names the first service."""


class Awaited:
    """One service directory, which must be supervised.  OSError, ValueError."""

    def __init__(self, service: str, wanted: str) -> None:
        self.service = service
        self._wanted = wanted
        self._began = time.monotonic()
        self._directory = os.open(service, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._place = f"/proc/self/fd/{self._directory}"
        try:
            self._before = self._look()
        except BaseException:
            self.close()
            raise

    def _look(self) -> status.Status:
        return status.read(self._place)

    def close(self) -> None:
        os.close(self._directory)

    def reached(self) -> bool:
        """Is it as it is wanted?  Raises NeverComes."""
        now = self._look()
        more = details.latest(self._place)
        if more and more.changed > now.when:
            return False  # the record will follow in a moment
        if not more or more.changed < now.when:
            more = details.plain(now)
        down = self._wanted in "dD"
        if down and now.pid == 0 and (now.want != "u" or self._is_news(now)):
            return self._wanted == "d" or more.phase in ("down", "waiting")
        if more.failed and not down and self._is_news(now):
            raise NeverComes(f"{self.service} has failed: {more.last_end}")
        if not status.supervised(self._place):
            raise NeverComes(f"unable to wait for {self.service}: supervise not running")
        if down or now.pid == 0 or (self._wanted == "r" and now.pid == self._before.pid):
            return False
        return self._wanted == "u" or more.ready_since is not None

    def _is_news(self, now: status.Status) -> bool:
        """Has supervise heard the command, or had the time to?"""
        return now.when != self._before.when or time.monotonic() > self._began + HEARING


def wait_for_all(awaited: Sequence[Awaited], seconds: float | None) -> None:
    """Return once every service has been seen as wanted.  NeverComes, TimedOut, OSError, ValueError."""
    deadline = None if seconds is None else time.monotonic() + seconds
    missing = list(awaited)
    while missing := [service for service in missing if not service.reached()]:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimedOut(missing[0].service)
        time.sleep(STEP)
