"""What DNS look-ups go by: the caches to ask, and how a short host name becomes a full one.

Both come from the environment and files, by the rules of djb's library:
DNSCACHEIP or /etc/resolv.conf for the caches; DNSREWRITEFILE, /etc/dnsrewrite,
LOCALDOMAIN, resolv.conf's `search` or `domain`, or the host's own name for the
rewriting.  Here are only the rules; the files are read by `ucspi.dns`.
"""

from __future__ import annotations

from ucspi import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Server = tuple[str, int]
    """The address of a cache, as text, and its port."""
    Name = str | bytes

DNS_PORT = 53
MAX_SERVERS = 16
FALLBACK = "127.0.0.1"
BLANKS = " \t"


def cache_servers(dnscacheip: str | None, resolv_conf: str) -> tuple[Server, ...]:
    """The caches to ask, in order: those of DNSCACHEIP, else of /etc/resolv.conf, else 127.0.0.1."""
    found = list(_in_dnscacheip(dnscacheip or ""))
    if not found:
        for line in resolv_conf.split("\n"):
            word, _, rest = line.replace("\t", " ").partition(" ")
            server = _server(rest.strip(BLANKS).partition(" ")[0]) if word == "nameserver" else None
            if server:
                found.append(server)
    return tuple(found[:MAX_SERVERS]) or ((FALLBACK, DNS_PORT),)


def _in_dnscacheip(value: str) -> Iterator[Server]:
    """Addresses between blanks or commas, each with its own port if need be, as in [::1]:5353.

    As in the originals several IPv4 addresses may also be joined by dots.
    """
    for word in value.replace(",", " ").split():
        server = _server(word)
        if server:
            yield server
            continue
        rest = word.lstrip(".")
        while rest:
            address, length = addresses.scan4(rest)
            if not length:
                break
            yield addresses.text(address), DNS_PORT
            rest = rest[length:].lstrip(".")


def _server(word: str) -> Server | None:
    """The server that is `word`: an address, address:port, or [address]:port."""
    host, colon, port = word.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = word, str(DNS_PORT)
    scope = host.partition("%")[2]  # fe80::1%eth0
    address = addresses.parse(host.strip("[]").removesuffix(f"%{scope}"))
    if address is None or not (port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    return addresses.text(address) + (f"%{scope}" if scope else ""), int(port)


def rules_of_file(content: str) -> tuple[str, ...]:
    """The rules in a rewriting file: one a line, blanks at its end left out."""
    return tuple(line.rstrip(" \t\r") for line in content.split("\n"))


def rules_of_search(domains: Sequence[str]) -> tuple[str, ...]:
    """The rules of a search list: a name without a dot is looked for in each of `domains`."""
    return ("?:" + "".join(f"+.{domain}" for domain in domains), "*.:")


def rules_of_host(hostname: str) -> tuple[str, ...]:
    """The rules if nothing else is said: a name without a dot is in this host's own domain."""
    dot = hostname.find(".")
    return (*(("?:" + hostname[dot:],) if dot >= 0 else ()), "*.:")


def search_list(resolv_conf: str) -> list[str] | None:
    """What the first `search` or `domain` line says; None if there is no such line."""
    for line in resolv_conf.split("\n"):
        word, _, rest = line.replace("\t", " ").partition(" ")
        if word in ("search", "domain") and word != line:
            return rest.split()
    return None


def candidates(name: str, rules: Sequence[str]) -> list[str]:
    """The full names to try for `name`, in order."""
    for rule in rules:
        name = _rewritten(name, rule)
    head, *tails = name.split("+")
    return [head + tail for tail in tails] or [head]


def _rewritten(name: str, rule: str) -> str:
    """`name` after a rule such as =exact:new, *suffix:new, ?suffix:new or -suffix:new.

    ? is for a name that has neither dot nor bracket before the suffix; - puts
    `new` in place of the whole name.
    """
    kind, (suffix, colon, new) = rule[:1], rule[1:].partition(":")
    if not kind or kind not in "?=*-" or not colon or not name.lower().endswith(suffix.lower()):
        return name
    prefix = name[: len(name) - len(suffix)]
    if (kind == "=" and prefix) or (kind == "?" and any(c in prefix for c in ".[]")):
        return name
    return new if kind == "-" else prefix + new


def literal_addresses(name: str) -> list[bytes] | None:
    """The IPv4 addresses that `name` itself is; None if it is a name to be looked up.

    As the originals read it: nothing but digits, dots and brackets makes
    addresses, four numbers each, of which a rest is dropped.
    """
    if name.strip("0123456789.[]"):
        return None
    numbers = [int(part[-4000:] or "0") % 256 for part in name.replace("[", "").replace("]", "").split(".")]
    return [bytes(numbers[i : i + 4]) for i in range(0, len(numbers) - 3, 4)]
