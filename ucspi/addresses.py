"""IP addresses: their text forms, host and port on a command line, a connection's environment, "is this me?".

An address is its packed form, 4 or 16 bytes.  An IPv4 address that came
through an IPv6 socket (::ffff:1.2.3.4) is unmapped to its 4 bytes first, as
ucspi-tcp6 does, so that rules and logs know one form of it.
"""

from __future__ import annotations

from supervise.numbers import scan_ulong
from supervise.program import Fatal, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Mapping, Sequence
else:
    import _socket as socket  # the same without enums and selectors, which would cost 6 ms

ANY4, ANY6 = bytes(4), bytes(16)
LOOPBACK6 = bytes(15) + b"\1"
MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
LENGTH4, LENGTH6 = 4, 16
ENDS = [f"{side}{what}" for side in ("LOCAL", "REMOTE") for what in ("IP", "PORT", "HOST")]
TCP6 = {f"TCP6{name}": f"TCP{name}" for name in ENDS}
INTERFACE = "TCP6INTERFACE"
NO_TCP6: dict[str, str | None] = dict.fromkeys([*TCP6, INTERFACE])


def text(address: bytes) -> str:
    """Dotted decimal, or compact IPv6 (RFC 5952)."""
    return socket.inet_ntop(family(address), address)


def family(address: bytes) -> socket.AddressFamily:
    return socket.AF_INET if len(address) == LENGTH4 else socket.AF_INET6


def unmapped(address: bytes) -> bytes:
    """The IPv4 address that `address` stands for, if it is ::ffff:a.b.c.d; else itself."""
    return address[12:] if len(address) == LENGTH6 and address.startswith(MAPPED) else address


def scan4(string: str) -> tuple[bytes, int]:
    """Read a dotted quad at the start of `string`; return it and its length, (b"", 0) if there is none.

    As the originals read it: any number of digits, each number modulo 256,
    and what follows is the caller's affair.
    """
    numbers: list[int] = []
    place = 0
    while True:
        number, digits = scan_ulong(string[place:])
        if not digits:
            return b"", 0
        numbers.append(number % 256)
        place += digits
        if len(numbers) == LENGTH4:
            return bytes(numbers), place
        if string[place : place + 1] != ".":
            return b"", 0
        place += 1


def parse(string: str) -> bytes | None:
    """The address that `string` is, and nothing else: IPv4 as the originals take it, or IPv6."""
    address, length = scan4(string)
    if length and length == len(string):
        return address
    if ":" not in string:
        return None
    try:
        return socket.inet_pton(socket.AF_INET6, string)
    except (OSError, ValueError):  # ValueError: a NUL within
        return None


def parse_literal(host: bytes) -> bytes | None:
    """The address in a mail domain such as [1.2.3.4] or [IPv6:2001:db8::1] (RFC 5321, 4.1.3)."""
    if not (host.startswith(b"[") and host.endswith(b"]")):
        return None
    inside = host[1:-1].decode("latin-1")
    if inside[:5].lower() == "ipv6:":
        return parse(inside[5:]) if ":" in inside[5:] else None
    return parse(inside) if ":" not in inside else None


def literal(address: bytes) -> bytes:
    """The mail domain that means `address`."""
    return f"[{'' if len(address) == LENGTH4 else 'IPv6:'}{text(address)}]".encode()


def reverse_labels(address: bytes) -> str:
    """What precedes in-addr.arpa, ip6.arpa or a list's zone: 4.3.2.1. or nibbles, with a final dot."""
    parts = [str(byte) for byte in address] if len(address) == LENGTH4 else list(address.hex())
    return ".".join(reversed(parts)) + "."


def socket_name(address: bytes, port: int, interface: int = 0) -> tuple[str, int] | tuple[str, int, int, int]:
    """What bind and connect want; interface: the index of the one that a link-local address belongs to."""
    name = (text(address), port)
    return name if len(address) == LENGTH4 else (*name, 0, interface)


def of_socket_name(name: tuple[object, ...]) -> tuple[bytes, int]:
    """The (address, port) in what getpeername or accept gives for AF_INET or AF_INET6."""
    host, port = name[:2]
    host = str(host).partition("%")[0]  # fe80::1%eth0
    return unmapped(socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)), int(
        str(port)
    )


def interface_of_socket_name(name: tuple[object, ...]) -> int:
    """The index of the interface, for a link-local address; else 0."""
    return int(str(name[3])) if len(name) > 3 else 0


def port_number(text: str) -> int:
    """The port that `text` is, or that /etc/services has under that name.  Raises Fatal."""
    number, digits = scan_ulong(text)
    if digits == len(text):
        return number % 65_536
    try:
        return socket.getservbyname(text, "tcp")
    except OSError as error:
        raise Fatal(f"unable to figure out port number for {text}") from error


def host_port_program(operands: Sequence[str], synopsis: str) -> tuple[str, int, Sequence[str]]:
    """Host, port, and program with its arguments.

    Usage: something is missing.  Fatal: there is no such port, which counts
    before a program that is missing.
    """
    if len(operands) < 2:
        raise Usage(synopsis)
    host, port = operands[0], port_number(operands[1])
    if len(operands) == 2:
        raise Usage(synopsis)
    return host, port, operands[2:]


def environment(
    local: tuple[bytes, int],
    remote: tuple[bytes, int],
    *,
    local_host: str | None = None,
    remote_host: str | None = None,
    remote_info: str | None = None,
    interface: int = 0,
) -> dict[str, str | None]:
    """PROTO, TCPLOCAL* and TCPREMOTE* of a TCP connection; None: to be unset.

    Over IPv6 PROTO is TCP6 and the TCP6* variables of ucspi-tcp6 are set as well.
    interface: the index of the one to which a link-local address belongs.
    """
    over6 = len(remote[0]) == LENGTH6
    found: dict[str, str | None] = {
        "PROTO": "TCP6" if over6 else "TCP",
        "TCPLOCALIP": text(local[0]),
        "TCPLOCALPORT": str(local[1]),
        "TCPLOCALHOST": local_host,
        "TCPREMOTEIP": text(remote[0]),
        "TCPREMOTEPORT": str(remote[1]),
        "TCPREMOTEHOST": remote_host,
        "TCPREMOTEINFO": remote_info,
    }
    if not over6:
        return found | NO_TCP6
    return found | {name6: found[name] for name6, name in TCP6.items()} | {INTERFACE: _interface(interface)}


def _interface(index: int) -> str | None:
    try:
        return socket.if_indextoname(index) if index else None
    except OSError:  # it has gone since
        return None


def changed(env: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """The environment `env` with `changes` made; None: unset."""
    new = dict(env)
    for name, value in changes.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = value
    return new


def environment_of_tls(found: Mapping[str, str | None], keep_tcp: bool) -> dict[str, str | None]:
    """What `environment` found, as ucspi-ssl has it: SSLREMOTEIP for TCPREMOTEIP, PROTO SSL or SSL6.

    keep_tcp: the variables of TCP are set as well, PROTO excepted; else they are unset.
    """
    about = {name: value for name, value in found.items() if name.startswith("TCP")}
    renamed = {f"SSL{name[3:]}": value for name, value in about.items()}
    proto = "SSL6" if found["PROTO"] == "TCP6" else "SSL"
    kept = about if keep_tcp else dict.fromkeys(about)
    return {**found, **kept, **renamed, "PROTO": proto}


def local_addresses() -> frozenset[bytes]:
    """The addresses of this machine's interfaces at this moment."""
    import psutil  # 20 ms: imported only where it is needed

    found = set()
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                found.add(of_socket_name((address.address, 0))[0])
    return frozenset(found)


def is_me(address: bytes, local: Collection[bytes]) -> bool:
    """Would a connection to `address` come back to this machine, whose interfaces have `local`?

    0.0.0.0 and :: reach the machine itself, and so does all of 127/8.
    """
    plain = unmapped(address)
    if plain in (ANY4, ANY6, LOOPBACK6) or (len(plain) == LENGTH4 and plain[0] == 127):
        return True
    return plain in local
