"""What this host's owner has decided about mail that comes in by SMTP."""

from __future__ import annotations

from dataclasses import dataclass

from qmail.control import lookup_set
from qmail.receiving.rcpthosts import RcptHosts
from supervise.numbers import leading_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmail.control import Controls

TIMEOUT = 1200  # seconds
LONGEST_TIMEOUT = 2_000_000  # seconds; poll(2) counts milliseconds in 31 bits


class NoGreeting(ValueError):
    """There is neither control/smtpgreeting nor control/me."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The decisions for one connection."""

    greeting: bytes
    timeout: int  # seconds
    databytes: int  # 0: no limit
    relay: bytes | None  # RELAYCLIENT: appended to recipients, any of which is then allowed
    local_ip_host: bytes | None  # stands for this machine's IP addresses in brackets
    hosts: RcptHosts
    bad_senders: frozenset[bytes]  # addresses and @hosts, in lower case

    @classmethod
    def load(cls, controls: Controls, environment: Mapping[bytes, bytes]) -> Policy:
        """Read it.  Raises OSError, NoGreeting."""
        greeting = controls.line("smtpgreeting", me=True)
        if greeting is None:
            raise NoGreeting
        return cls(
            greeting=greeting,
            timeout=min(max(controls.number("timeoutsmtpd", TIMEOUT), 1), LONGEST_TIMEOUT),
            databytes=databytes(controls, environment),
            relay=environment.get(b"RELAYCLIENT"),
            local_ip_host=controls.line("localiphost", me=True),
            hosts=RcptHosts(controls),
            bad_senders=lookup_set(controls.lines("badmailfrom") or ()),
        )

    def is_bad(self, sender: bytes) -> bool:
        """Is the sender, or his host, in control/badmailfrom?"""
        if not self.bad_senders:
            return False
        address = sender.lower()
        _, at, host = address.rpartition(b"@")
        return address in self.bad_senders or at + host in self.bad_senders


def databytes(controls: Controls, environment: Mapping[bytes, bytes]) -> int:
    """How many bytes a message may have: $DATABYTES, else control/databytes; 0: no limit.  Raises OSError."""
    limit = controls.number("databytes", 0)
    chosen = environment.get(b"DATABYTES")
    return limit if chosen is None else leading_number(chosen)
