"""DNS look-ups: addresses, names, texts and mail exchangers, from the caches of `ucspi.dns_settings`.

No such record is an empty answer.  A look-up that could not be made raises
LookupFailed, an OSError: trying again later may help (the originals' soft
error, or -1).  Its subclass ImpossibleName is for what is no domain name at all,
for instance a label of more than 63 bytes: that will not change.  (Both are
in `ucspi.dns_lookup`.)

A server has 3, then 11, then 45 seconds for an answer by UDP, as in djb's
library, each server in turn; an answer cut short is asked for again by TCP.
Several questions asked together are asked at the same time.
"""

from __future__ import annotations

import os

from ucspi import addresses, dns_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ucspi.dns_lookup import Outcome
    from ucspi.dns_settings import Name, Server
else:
    import _socket as socket  # the same without enums and selectors, which would cost 6 ms

UDP_TIMEOUTS = (3.0, 11.0, 45.0)  # seconds; a round over all servers each
MAX_SETTINGS = 100_000  # characters of /etc/resolv.conf or of a rewriting file that are read


class Resolver:
    """Looks things up.  It keeps no answers: the caches do."""

    def __init__(
        self,
        servers: Sequence[Server],
        rules: Sequence[str] = ("*.:",),
        udp_timeouts: Sequence[float] = UDP_TIMEOUTS,
    ) -> None:
        self._servers = tuple(servers)
        self._rules = tuple(rules)
        self._udp_timeouts = tuple(udp_timeouts)

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> Resolver:
        """By DNSCACHEIP, DNSREWRITEFILE, LOCALDOMAIN and /etc/resolv.conf.  OSError: unreadable file."""
        resolv_conf = _content("/etc/resolv.conf") or ""
        servers = dns_settings.cache_servers(env.get("DNSCACHEIP"), resolv_conf)
        return cls(servers, _rewriting_rules(env, resolv_conf))

    def ask(
        self,
        questions: Sequence[tuple[Name, str]],
        enough: Callable[[Sequence[Outcome | None]], bool] | None = None,
    ) -> Sequence[Outcome | None]:
        """The records for each (name, kind), in order, or a LookupFailed; all are asked at the same time.

        Kinds and their records: A and AAAA packed addresses, PTR names, MX
        (preference, name), TXT bytes.

        `enough` is shown the outcomes so far, None where one is open, and may
        say that the open ones are not needed; then they are None.
        """
        from ucspi import dns_lookup  # 70 ms

        return dns_lookup.ask(questions, self._servers, self._udp_timeouts, enough)

    def _one(self, name: Name, kind: str) -> tuple[Any, ...]:
        (answer,) = self.ask([(name, kind)])
        if isinstance(answer, OSError):
            raise answer
        return answer or ()

    def ip(self, name: Name, want4: bool = True, want6: bool = True) -> list[bytes]:
        """The addresses of `name`, IPv6 first, each kind in random order.

        One kind's failure does not matter if the other has addresses.
        """
        kinds = ["AAAA"] * want6 + ["A"] * want4
        answers = self.ask([(name, kind) for kind in kinds])
        found = [address for answer in answers if isinstance(answer, tuple) for address in _shuffled(answer)]
        for answer in answers:
            if not found and isinstance(answer, OSError):
                raise answer
        return found

    def name_of(self, address: bytes) -> str:
        """The name of `address` by PTR; "" if it has none."""
        zone = "in-addr.arpa" if len(address) == addresses.LENGTH4 else "ip6.arpa"
        names = self._one(addresses.reverse_labels(address) + zone, "PTR")
        return str(names[0]) if names else ""

    def mx(self, name: Name) -> list[tuple[int, str]]:
        """The (preference, name) of each mail exchanger of `name`, in no order; "." is the root."""
        return list(self._one(name, "MX"))

    def qualified(self, host: str, want4: bool = True, want6: bool = True) -> tuple[str, list[bytes]]:
        """Rewrite `host` by the rules; return the full name and its addresses, which may be none.

        Addresses in dotted form (bracketed too) and IPv6 addresses are themselves.
        """
        address = addresses.parse(host)
        if address and len(address) == addresses.LENGTH6:
            return host, [address] if want6 else []
        full = host
        for full in dns_settings.candidates(host, self._rules):
            literals = dns_settings.literal_addresses(full)
            found = self.ip(full, want4, want6) if literals is None else literals * want4
            if found:
                return full, found
        return full, []


def _shuffled(found: Sequence[bytes]) -> list[bytes]:
    return sorted(found, key=lambda _: os.urandom(8))  # the random module would cost 2 ms


def _content(path: str) -> str | None:
    """What is in a settings file; None if there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read(MAX_SETTINGS)
    except FileNotFoundError:
        return None


def _rewriting_rules(env: Mapping[str, str], resolv_conf: str) -> tuple[str, ...]:
    content = _content(env.get("DNSREWRITEFILE", "/etc/dnsrewrite"))
    if content is not None:
        return dns_settings.rules_of_file(content)
    if "LOCALDOMAIN" in env:
        return dns_settings.rules_of_search(env["LOCALDOMAIN"].split(" "))
    domains = dns_settings.search_list(resolv_conf)
    if domains is not None:
        return dns_settings.rules_of_search(domains)
    return dns_settings.rules_of_host(socket.gethostname())
