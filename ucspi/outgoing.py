"""Connections to servers: which addresses are tried, how long, and what the program then knows of them.

This is what tcpclient and sslclient share: options, looking up, connecting,
environment.
"""

from __future__ import annotations

import errno
import os

from supervise.errors import reason
from supervise.numbers import leading_number, scan_ulong
from supervise.program import TEMPORARY, Fatal, say, unable_to
from ucspi import addresses, timed, verbosity
from ucspi.dns import Resolver
from ucspi.verbosity import ERRORS, EVERYTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    Address = tuple[bytes, int]
else:
    import _socket as socket  # the same without enums and selectors, which would cost 6 ms

LETTERS = "46dDvqQhHrRi:p:t:T:l:I:"
LOOPBACK = "127.0.0.1"
SHORTEST = 0.001  # seconds; 0 would mean not to wait for the connection at all


class Wanted:
    """What the options ask of a connection."""

    def __init__(self, name: str) -> None:
        self.name = name  # of the program, for its messages
        self.verbosity = ERRORS
        self.delay = True  # let the system gather small pieces
        self.remote_host = True
        self.remote_info = True
        self.local_host: str | None = None  # None: look it up
        self.info_timeout = 26  # seconds
        self.timeouts = (2, 58)  # seconds; for a first and a second round over the addresses
        self.local_address = b""
        self.local_port = 0
        self.interface = 0  # index; for link-local addresses
        self.want4 = self.want6 = True

    def take(self, letter: str, argument: str) -> bool:
        """Take one option of LETTERS; False: its argument makes no sense."""
        lower = letter.lower()
        if lower == "d":
            self.delay = letter == "d"
        elif letter in verbosity.OPTIONS:
            self.verbosity = verbosity.OPTIONS[letter]
        elif lower == "h":
            self.remote_host = letter == "h"
        elif lower == "r":
            self.remote_info = letter == "r"
        elif letter in "46":
            self.want4, self.want6 = letter == "4", letter == "6"
        elif letter == "l":
            self.local_host = argument
        else:
            return self._take_number_or_address(letter, argument)
        return True

    def _take_number_or_address(self, letter: str, argument: str) -> bool:
        number, digits = scan_ulong(argument)
        if letter == "T":  # x+y
            self.timeouts = (number, leading_number(argument[digits:].removeprefix("+")))
        elif letter == "t":
            self.info_timeout = number
        elif letter == "p":
            self.local_port = number % 65_536
        elif letter == "i":
            self.local_address = addresses.parse(argument) or addresses.scan4(argument)[0]
            return bool(self.local_address)
        elif letter == "I":
            try:
                self.interface = socket.if_nametoindex(argument)
            except OSError:
                return False
        return True

    def say(self, line: str, level: int = ERRORS) -> None:
        if self.verbosity >= level:
            say(f"{self.name}: {line}")


def connect(wanted: Wanted, host: str, port: int) -> socket.socket:
    """A connection to the first of the addresses of `host` that takes it.

    Each address has the first of the timeouts; those that let it pass are
    tried again with the second.  SystemExit 111: none; each failure has been
    said.  Fatal: there is nothing to try.
    """
    todo = _addresses(wanted, host)
    first, second = wanted.timeouts
    rounds = [first + second] if len(todo) == 1 or not second else [first, second]
    for timeout in rounds:
        late: list[bytes] = []
        for address in todo:
            try:
                return _connect(wanted, address, port, timeout)
            except OSError as error:
                if error.errno == errno.ETIMEDOUT and timeout is not rounds[-1]:
                    late.append(address)
                else:
                    at = f"{addresses.text(address)} port {port}"
                    wanted.say(f"unable to connect to {at}: {reason(error)}")
        todo = late
    raise SystemExit(TEMPORARY)


def _addresses(wanted: Wanted, host: str) -> list[bytes]:
    if host in ("", "0"):
        host = LOOPBACK if wanted.want4 else "::1"
    try:
        _, found = Resolver.from_environment().qualified(host, wanted.want4, wanted.want6)
    except OSError as error:
        raise Fatal(f"temporarily unable to figure out IP address for {host}: {reason(error)}") from error
    if wanted.local_address:
        found = [address for address in found if len(address) == len(wanted.local_address)]
    if not found:
        raise Fatal(f"no IP address for {host}")
    return found


def _connect(wanted: Wanted, address: bytes, port: int, timeout: float) -> socket.socket:
    """OSError: no connection; ETIMEDOUT in good time, or the system's own."""
    family = addresses.family(address)
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:  # a system without IPv6: the next address may do
            raise
        raise Fatal(f"unable to create socket: {reason(error)}") from error
    try:
        if wanted.local_address or wanted.local_port:
            local = wanted.local_address or bytes(len(address))
            with unable_to("bind socket"):
                sock.bind(addresses.socket_name(local, wanted.local_port, wanted.interface))
        sock.settimeout(min(max(timeout, SHORTEST), timed.LONGEST))
        try:
            sock.connect(addresses.socket_name(address, port, wanted.interface))
        except TimeoutError as error:
            raise TimeoutError(errno.ETIMEDOUT, "timed out") from error
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    if not wanted.delay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def variables(wanted: Wanted, sock: socket.socket) -> dict[str, str | None]:
    """The TCP variables of the connection, after the look-ups asked for; None: to be unset."""
    with unable_to("get local address"):
        local = addresses.of_socket_name(sock.getsockname())
    with unable_to("get remote address"):
        peer = sock.getpeername()
    remote = addresses.of_socket_name(peer)
    wanted.say(f"connected to {addresses.text(remote[0])} port {remote[1]}", EVERYTHING)
    return addresses.environment(
        local,
        remote,
        local_host=_name(local[0]) if wanted.local_host is None else wanted.local_host,
        remote_host=_name(remote[0]) if wanted.remote_host else None,
        remote_info=_owner(remote, local, wanted.info_timeout) if wanted.remote_info else None,
        interface=addresses.interface_of_socket_name(peer),
    )


def _name(address: bytes) -> str | None:
    """The name by DNS, "" if it has none; None if that cannot be known."""
    try:
        return Resolver.from_environment().name_of(address)
    except OSError:
        return None


def _owner(remote: Address, local: Address, timeout: float) -> str | None:
    from ucspi import ident

    info = ident.ask(remote, local, timeout)
    return None if info is None else os.fsdecode(info)


def free_6_and_7() -> None:
    """Close these descriptors, if they are open: they will be the connection's."""
    for fd in (6, 7):
        try:
            os.close(fd)
        except OSError:
            continue


def leave_on_6_and_7(sock: socket.socket) -> None:
    """Make 6 and 7 the descriptors of the connection, for the program that follows."""
    fd = sock.detach()
    for number in (6, 7):
        with unable_to(f"set up descriptor {number}"):
            if fd == number:
                os.set_inheritable(fd, True)
            else:
                os.dup2(fd, number)
    if fd not in (6, 7):
        os.close(fd)
