"""Which hosts take mail for a domain: MX and address records, and the loops to keep out of (RFC 5321, 5.1).

`Hosts.find` does look-ups through the resolver it is given, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ucspi import addresses
from ucspi.dns import Resolver
from ucspi.dns_lookup import ImpossibleName, LookupFailed

QMTP_FIRST, QMTP_LAST = 12800, 13055  # MX preferences that may ask for QMTP: every 16th from the second
QMTP_PORT = 209


class NoSuchHost(Exception):
    """DNS knows no such host, and that will stay so."""


class NoExchanger(Exception):
    """The host has mail exchangers, but none of them has an address."""


class NullExchanger(Exception):
    """The domain says that it takes no mail (RFC 7505)."""


class LookupLater(Exception):
    """DNS gave no answer this time."""


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One address that takes the domain's mail."""

    address: bytes  # packed
    preference: int  # least first

    @property
    def wants_qmtp(self) -> bool:
        """Does the preference ask for QMTP on port 209 (cr.yp.to/im/mxps.html)?"""
        return QMTP_FIRST <= self.preference <= QMTP_LAST and self.preference % 16 == 1


def by_address(resolver: Resolver, host: bytes, preference: int = 0) -> list[Exchanger]:
    """The addresses of `host` itself, which may be a literal.  NoSuchHost, LookupLater."""
    literal = parse_host_literal(host)
    if literal:
        return [Exchanger(literal, preference)]
    try:
        found = resolver.ip(host)
    except ImpossibleName as error:
        raise NoSuchHost from error
    except LookupFailed as error:
        raise LookupLater from error
    if not found:
        raise NoSuchHost
    return [Exchanger(address, preference) for address in found]


def by_mx(
    resolver: Resolver, host: bytes, shuffle: Callable[[list[object]], None] = random.shuffle
) -> list[Exchanger]:
    """The exchangers of `host` by preference, random within one; without MX its own addresses.

    Raises NoSuchHost, NoExchanger, NullExchanger, LookupLater.
    """
    if parse_host_literal(host):
        return by_address(resolver, host)
    try:
        records: list[tuple[int, str]] = resolver.mx(host)
    except ImpossibleName as error:
        raise NoSuchHost from error
    except LookupFailed as error:
        raise LookupLater from error
    if not records:
        return by_address(resolver, host)
    if [name for _, name in records] in (["."], [""]):
        raise NullExchanger
    shuffle(records)  # type: ignore[arg-type]
    return _addresses_of(resolver, sorted(records, key=lambda record: record[0]))


def _addresses_of(resolver: Resolver, records: Sequence[tuple[int, str]]) -> list[Exchanger]:
    """The addresses of the exchangers that have some.  A failed look-up matters only if there is no other."""
    found: list[Exchanger] = []
    later: LookupLater | None = None
    for preference, name in records:
        try:
            found += by_address(resolver, name.encode("latin-1", "replace"), preference)
        except NoSuchHost:
            continue
        except LookupLater as error:
            later = error
    if not found:
        raise later or NoExchanger
    return found


def before_me(exchangers: Sequence[Exchanger], local: Collection[bytes]) -> list[Exchanger]:
    """Those that are preferred to this machine, whose interfaces have the addresses `local`."""
    mine = [each.preference for each in exchangers if addresses.is_me(each.address, local)]
    return [each for each in exchangers if not mine or each.preference < min(mine)]


def parse_host_literal(host: bytes) -> bytes | None:
    """The address that `host` is: 1.2.3.4, [1.2.3.4] or [IPv6:...]."""
    return addresses.parse_literal(host) or addresses.parse(host.decode("latin-1"))
