"""Dates as qmail writes them.  A time is given in whole seconds since 1970 UTC, of any year from 1 on."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from time import struct_time

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def rfc822(when: float, local: bool = False) -> bytes:
    """`26 Sep 1995 04:46:53 -0000`, as in Date and Received (RFC 822 section 5).

    local: the clock of the zone TZ and its offset, as `+0200`, where the
    original has UTC and "-0000": no word on the local zone (RFC 5322, 3.3).
    """
    if not local:
        return _rfc822(time.gmtime(when), "-0000")
    here = time.localtime(when)
    minutes = abs(here.tm_gmtoff) // 60
    sign = "-" if here.tm_gmtoff < 0 else "+"
    return _rfc822(here, f"{sign}{minutes // 60:02}{minutes % 60:02}")


def _rfc822(t: struct_time, zone: str) -> bytes:
    month = MONTHS[t.tm_mon - 1]
    date = f"{t.tm_mday} {month} {t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} {zone}"
    return date.encode("ascii")


def mbox(when: float) -> bytes:
    """`Tue Sep 26 04:46:53 1995`, always UTC, as in the From_ line of an mbox; the day has two digits."""
    t = time.gmtime(when)
    day = f"{DAYS[t.tm_wday]} {MONTHS[t.tm_mon - 1]} {t.tm_mday:02}"
    return f"{day} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} {t.tm_year}".encode("ascii")


def digits(when: float) -> bytes:
    """`19950926044653`, UTC, as in a Message-ID."""
    t = time.gmtime(when)
    date = f"{t.tm_year}{t.tm_mon:02}{t.tm_mday:02}{t.tm_hour:02}{t.tm_min:02}{t.tm_sec:02}"
    return date.encode("ascii")
