"""Whose recipient is it?  Locals, virtual domains, the percent hack, and senders that name their recipient.

Domains are looked up without regard to (ASCII) case.  Does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LOCAL, REMOTE = 0, 1
"""The channels."""

VERP = b"-@[]"
"""A sender that ends in this is written anew for each recipient."""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The control files that decide where a recipient is delivered; domains in lower case."""

    local_domains: frozenset[bytes]
    virtual_domains: Mapping[bytes, bytes] = field(default_factory=dict)
    percent_domains: frozenset[bytes] = frozenset()
    default_host: bytes = b"envnoathost"

    def rewrite(self, recipient: bytes) -> tuple[int, bytes]:
        """Return the channel of `recipient`, and the address as that channel is to see it."""
        address = recipient if b"@" in recipient else recipient + b"@" + self.default_host
        if self.percent_domains:
            address = self._follow_percents(address)
        domain = address.rpartition(b"@")[2]
        if domain.lower() in self.local_domains:
            return LOCAL, address
        prepend = self._prepend([address, *suffixes(domain)]) if self.virtual_domains else b""
        if prepend:
            return LOCAL, prepend + b"-" + address
        return REMOTE, address

    def _follow_percents(self, address: bytes) -> bytes:
        """`user%fqdn@domain` is `user@fqdn` where the domain says so, as often as it does."""
        box, _, domain = address.rpartition(b"@")
        while domain.lower() in self.percent_domains and b"%" in box:
            box, _, domain = box.rpartition(b"%")
        return box + b"@" + domain

    def _prepend(self, keys: Iterable[bytes]) -> bytes:
        """The prepend of the first of `keys` that virtualdomains has; empty for none and for an exception."""
        for key in keys:
            prepend = self.virtual_domains.get(key.lower())
            if prepend is not None:
                return prepend
        return b""

    def original(self, address: bytes) -> bytes:
        """Undo what virtualdomains did to `address`, for the eyes of the sender of a bounce."""
        if b"@" not in address or not self.virtual_domains:
            return address
        prepend = self._prepend(suffixes(address.rpartition(b"@")[2]))
        return address.removeprefix(prepend + b"-") if prepend else address


def suffixes(domain: bytes) -> Iterator[bytes]:
    """The names that may stand for `domain`: itself, `.parent`, ..., and the empty name for any."""
    yield domain
    dot = domain.find(b".", 1)
    while dot >= 0:
        yield domain[dot:]
        dot = domain.find(b".", dot + 1)
    if domain:
        yield b""


def sender_for(sender: bytes, recipient: bytes) -> bytes:
    """The envelope sender for one recipient: `owner-@host-@[]` becomes `owner-box=domain@host`."""
    if not sender.endswith(VERP):
        return sender
    owner, owner_at, host = sender[: -len(VERP)].rpartition(b"@")
    box, at, domain = recipient.rpartition(b"@")
    if not owner_at or not at:
        return sender
    return owner + box + b"=" + domain + b"@" + host
