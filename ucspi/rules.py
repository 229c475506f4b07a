"""Who may connect, and with which environment: the rules of tcpserver and sslserver.

A rule is a line `address:instruction`: `192.168.1.:allow,RELAYCLIENT=""`.
`Compiler` puts rules into a constant database, `Rules.look_up` finds the one
for a connection and says why it is the one, `candidates` gives the addresses
under which it looks, in their order.

Compiled addresses are the original's, byte for byte.  What came later has
the keys of ucspi-tcp6: an IPv6 address in full (2001:0DB8:...), a network as
`_` (IPv4) or `^` (IPv6) and a sign for each bit of its prefix.
"""

from __future__ import annotations

import os

from supervise.numbers import scan_ulong
from ucspi import addresses
from ucspi.cdb import Kept, Reader, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Record = tuple[bytes, bytes]

ALLOW, DENY = b"allow", b"deny"
DENIED = b"D\0"
LAST_OF_RANGE = 255
NETWORK = {4: b"_", 16: b"^"}  # what a network's key begins with, by the address's length
ONES4 = b"abcdefghijklmnopqrstuvwxyz123456"  # a set bit is shown by where it stands ...
ONES6_FIRST = 0x60  # ... or, in IPv6, by how many there were before
ZERO = ord("0")
MOST_VERDICTS = 1000  # remembered of a file; clients come back
UNUSUAL = (b"#", b"-", b"/")  # in a block of lines: look at each line for itself


class BadRule(ValueError):
    """A line that is no rule; `line` is the line without its end."""

    def __init__(self, line: bytes) -> None:
        super().__init__(line.decode("utf-8", "replace"))
        self.line = line


# Compiling


class Compiler:
    """Adds the rules of a text, fed in pieces of any size, to a cdb.  Raises BadRule, OSError."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._partial: list[bytes] = []  # of a line whose end is still to come
        self._data = Instructions()

    def feed(self, text: bytes) -> None:
        end = text.rfind(b"\n") + 1
        if end:
            self._lines(b"".join([*self._partial, text[:end]]))
            self._partial.clear()
        self._partial.append(text[end:])

    def finish(self) -> None:
        """The text is over; its last line need not end with a newline."""
        self._lines(b"".join([*self._partial, b"\n"]))
        self._writer.finish()

    def _lines(self, lines: bytes) -> None:
        # Mostly each line is plain and has one colon: then all of them at once.
        marked = lines.replace(b"\n", b"\n:")
        pieces = marked.split(b":")
        ends = len(marked) - len(lines)
        if len(pieces) == 2 * ends + 1 and not any(mark in lines for mark in UNUSUAL):
            try:
                self._writer.extend(pieces[:-1:2], list(map(self._data.__getitem__, pieces[1::2])))
                return
            except BadRule:
                pass  # met again below, with its line
        found = [record for line in lines.split(b"\n")[:-1] for record in records(line, self._data)]
        self._writer.extend([key for key, _ in found], [data for _, data in found])


class Instructions(dict[bytes, bytes]):
    """The compiled form of what follows an address and its colon, newline included.

    It is remembered, since few differ.
    """

    def __missing__(self, text: bytes) -> bytes:
        if not text.endswith(b"\n"):
            raise BadRule(text)
        compiled = self[text] = instructions(text.rstrip(b" \t\n"))
        return compiled


def records(line: bytes, compiled: Instructions) -> list[Record]:
    """The key and data of each record that `line` (without its newline) stands for.  Raises BadRule."""
    if line.startswith(b"#"):
        return []
    line = line.rstrip(b" \t")
    address, colon, rest = line.partition(b":")
    if not colon:
        return []
    try:
        data = compiled[rest + b"\n"]
        return [(key, data) for key in keys(address)]
    except BadRule:
        pass  # but the colon may be one of an IPv6 address
    try:
        key, rest = _ipv6_rule(line)
        return [(key, compiled[rest + b"\n"])]
    except BadRule:
        raise BadRule(line) from None


def instructions(text: bytes) -> bytes:
    """`allow` or `deny`, then any number of `,variable="value"`, in compiled form.  Raises BadRule."""
    if text.startswith(DENY):
        compiled, rest = DENIED, text[len(DENY) :]
    elif text.startswith(ALLOW):
        compiled, rest = b"", text[len(ALLOW) :]
    else:
        raise BadRule(text)
    while rest:
        name, equals, quoted = rest.partition(b"=")
        value, end, after = quoted[1:].partition(quoted[:1]) if quoted else (b"", b"", b"")
        if not (name.startswith(b",") and equals and end):
            raise BadRule(text)
        compiled += b"+" + name[1:] + b"=" + value + b"\0"
        rest = after
    return compiled


def keys(address: bytes) -> list[bytes]:
    """The keys that an address without colons stands for: itself, a range's members, a network."""
    if b"=" in address or b"@" in address:
        return [address]
    network = _network4(address) if b"/" in address else None
    if network:
        return [network]
    before, dash, after = address.partition(b"-")
    if not dash:
        return [address]
    left = before.rfind(b".") + 1
    last, dot, rest = after.partition(b".")
    numbers = range(_number(before[left:]), min(_number(last), LAST_OF_RANGE) + 1)
    return [before[:left] + b"%d" % number + dot + rest for number in numbers]


def _number(digits: bytes) -> int:
    digits = digits.partition(b"\0")[0]
    number, length = scan_ulong(digits)
    if length != len(digits):
        raise BadRule(digits)
    return number


def _network4(address: bytes) -> bytes | None:
    """The key of `10.0.0.0/8` (or `10/8`); None if it does not look like a network at all."""
    text, _, prefix = address.partition(b"/")
    parts = text.removesuffix(b".").split(b".")
    if not all(part.isdigit() for part in parts):
        return None
    length = int(prefix) if prefix.isdigit() and len(prefix) < 3 else 33
    if len(parts) > 4 or length > 32 or any(len(part) > 3 or int(part) > 255 for part in parts):
        raise BadRule(address)
    return network_key(bytes(map(int, parts)).ljust(4, b"\0"), length)


def _ipv6_rule(line: bytes) -> Record:
    """The key and the instructions of a line whose address is, or ends in, one of IPv6.  Raises BadRule."""
    start = line.rfind(b"@", 0, line.find(b":")) + 1  # joe@2001:db8::1
    place = line.find(b":", start)
    while place >= 0:
        rest = line[place + 1 :]
        if rest.startswith((ALLOW, DENY)):
            return line[:start] + _ipv6_key(line[start:place], network=not start), rest
        place = line.find(b":", place + 1)
    raise BadRule(line)


def _ipv6_key(text: bytes, *, network: bool) -> bytes:
    name, slash, prefix = text.partition(b"/")
    packed = addresses.parse(name.decode("latin-1")) if b":" in name else None
    if not packed:
        raise BadRule(text)
    if not slash:
        return address_key(packed)
    if not (network and prefix.isdigit() and len(prefix) < 4 and int(prefix) <= 128):
        raise BadRule(text)
    if packed.startswith(addresses.MAPPED) and int(prefix) >= 96:
        return network_key(packed[12:], int(prefix) - 96)
    return network_key(packed, int(prefix))


def address_key(packed: bytes) -> bytes:
    """The key of one address: dotted decimal, or IPv6 in full."""
    plain = addresses.unmapped(packed)
    if len(plain) == addresses.LENGTH4:
        return addresses.text(plain).encode()
    digits = plain.hex().upper()
    return ":".join(digits[place : place + 4] for place in range(0, 32, 4)).encode()


def network_key(packed: bytes, length: int) -> bytes:
    """The key of the network of the first `length` bits of `packed`."""
    number = int.from_bytes(packed, "big")
    bits = [number >> (8 * len(packed) - 1 - place) & 1 for place in range(length)]
    if len(packed) == addresses.LENGTH4:
        signs = bytes(ONES4[place] if bit else ZERO for place, bit in enumerate(bits))
    else:
        signs = bytes(ONES6_FIRST + sum(bits[:place]) if bit else ZERO for place, bit in enumerate(bits))
    return NETWORK[len(packed)] + signs


# Looking up


class Verdict:
    """What a rule says of a connection.

    key: the rule's address as compiled; None: no rule applies, so it is allowed.
    why: what of the connection the rule is about.
    variables: names and values to set, in the rule's order.
    """

    __slots__ = ("allowed", "key", "variables", "why")

    def __init__(self, key: bytes | None, why: str, data: bytes = b"") -> None:
        self.key = key
        self.why = why
        parts = data.split(b"\0")[:-1]
        self.allowed = not any(part.startswith(b"D") for part in parts)
        self.variables = [
            (name, value)
            for name, equals, value in (part[1:].partition(b"=") for part in parts if part.startswith(b"+"))
            if equals
        ]

    def explain(self) -> str:
        """One line for a person: which rule, why it, and what it says."""
        says = "allow" if self.allowed else "deny"
        if self.key is None:
            return f"no rule applies, so {says}"
        return f"rule {printable_key(self.key)}: {says}, by {self.why}"


def candidates(
    ip: str,
    host: str | None = None,
    info: str | None = None,
    *,
    networks4: bool = True,
    networks6: bool = True,
) -> Iterator[tuple[bytes, str]]:
    """The keys under which the rule for a connection may stand, the first that counts first, and why each.

    `ip` need not be an address.  networks: False spares the keys of networks.
    """
    packed = addresses.parse(ip) if ":" in ip else None
    address = address_key(packed) if packed else os.fsencode(ip)
    name = None if host is None else os.fsencode(host)
    if info is not None:
        who = os.fsencode(info) + b"@"
        yield who + address, "the remote user and address"
        if name is not None:
            yield who + b"=" + name, "the remote user and host name"
    yield address, "the address"
    if name is not None:
        yield b"=" + name, "the host name"
    dot = address.rfind(b".")
    while dot >= 0:
        yield address[: dot + 1], "the beginning of the address"
        dot = address.rfind(b".", 0, dot)
    if networks6 if b":" in address else networks4:
        yield from ((key, "its network") for key in _networks(address.decode("latin-1")))
    if name is not None:
        dot = name.find(b".")
        while dot >= 0:
            yield b"=" + name[dot:], "the end of the host name"
            dot = name.find(b".", dot + 1)
        yield b"=", "having a host name"
    yield b"", "default"


def _networks(ip: str) -> Iterator[bytes]:
    packed = addresses.parse(ip)
    if packed:
        key = network_key(packed, 8 * len(packed))
        for end in range(len(key), 0, -1):
            yield key[:end]


def decide(find: Callable[[bytes], bytes | None], tried: Iterable[tuple[bytes, str]]) -> Verdict:
    """The verdict of the first of the `tried` keys that `find` has data for."""
    for key, why in tried:
        data = find(key)
        if data is not None:
            return Verdict(key, why, data)
    return Verdict(None, "default")


class Rules:
    """The rules in the file `path`, as it is at each look-up: replaced or rewritten, it is read afresh.

    OSError (EPROTO: no valid cdb): nothing can be said about a connection.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._table = Kept(path)
        self._known: Reader | None = None  # that which the following was learnt from
        self._networks = (False, False)  # whether it has any: IPv4, IPv6
        self._mentioned: dict[bytes, bool] = {}
        self._verdicts: dict[tuple[str, str | None, str | None], Verdict] = {}

    def look_up(self, ip: str, host: str | None = None, info: str | None = None) -> Verdict:
        reader = self._current()
        verdict = self._verdicts.get((ip, host, info))
        if not verdict:
            networks4, networks6 = self._networks
            tried = candidates(ip, host, info, networks4=networks4, networks6=networks6)
            verdict = decide(reader.find, tried)
            if len(self._verdicts) >= MOST_VERDICTS:
                self._verdicts.clear()
            self._verdicts[ip, host, info] = verdict
        return verdict

    def mention(self, variable: bytes) -> bool:
        """Whether any rule sets `variable`; True too if other data happens to look like it."""
        try:
            reader = self._current()
        except FileNotFoundError:
            return False
        if variable not in self._mentioned:
            self._mentioned[variable] = reader.contains(b"+" + variable + b"=")
        return self._mentioned[variable]

    def _current(self) -> Reader:
        reader = self._table.reader()
        if reader is not self._known:
            # A key follows the upper byte of its data's length, nearly always 0.
            self._networks = (reader.contains(b"\0_"), reader.contains(b"\0^"))
            self._mentioned.clear()
            self._verdicts.clear()
            self._known = reader
        return reader

    def close(self) -> None:
        self._table.close()
        self._known = None


def printable_key(key: bytes) -> str:
    """A compiled address as a rule's author writes it."""
    for size, mark in NETWORK.items():
        if key.startswith(mark) and len(key) <= 1 + 8 * size:
            bits = "".join("0" if sign == ZERO else "1" for sign in key[1:])
            packed = int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")
            if network_key(packed, len(bits)) == key:
                return f"{addresses.text(packed)}/{len(bits)}"
    who, at, address = os.fsdecode(key).rpartition("@")
    packed6 = addresses.parse(address) if ":" in address else None
    return who + at + (addresses.text(packed6) if packed6 else address)
