"""What happens to a connection before its program runs: look-ups, rules, limits, environment, log.

This is done in the connection's own process, so that a slow name server or
client holds up nobody else; what waits for nobody, the server may do itself.
"""

from __future__ import annotations

import dataclasses
import marshal
import os
import socket
import struct
import time

from supervise import masks
from supervise.errors import reason
from supervise.numbers import leading_number
from supervise.program import PERMANENT, TEMPORARY, say
from ucspi import addresses, ident, proxy, timed
from ucspi.rules import Rules, Verdict
from ucspi.verbosity import ERRORS, EVERYTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Address = tuple[bytes, int]

SAFE = masks.printable(b"?", besides=b" %:")
SAFE_LENGTH = 100  # bytes of a name in the log
CREDENTIALS = struct.Struct("=iII")  # SO_PEERCRED's pid, uid, gid
NOWHERE = (addresses.ANY6, 0)
UNIX_ADDRESS = "unix"  # what rules and log call a client of a Unix socket
NO_RULES = Verdict(None, "no rules")
PATIENCE = 60  # seconds, for a client to take the banner
PROXY_TIMEOUT = 10  # seconds, for all of a proxy's header
LONGEST_DELAY = 600  # seconds

# Variables of rules that are orders to the server:
MOST_PRESENT = b"MAXCONNIP"
MOST_RECENT = b"MAXRATEIP"
GREETING_DELAY = b"GREETDELAY"
PROXY_PROTOCOL = b"PROXYPROTOCOL"
GOODBYE = b"DIEMSG"
ORDERS = frozenset((MOST_PRESENT, MOST_RECENT, GREETING_DELAY, PROXY_PROTOCOL))


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """A connection as it was accepted.

    remote: None over a Unix socket.  local: None, if the socket must be asked.
    present, recent: connections from this address that there are, and that
    there were in the last minute, both with this one.
    interface: the index of the one that a link-local client is on; else 0.
    """

    remote: Address | None
    local: Address | None = None
    present: int = 1
    recent: int = 1
    interface: int = 0

    def packed(self) -> bytes:
        """For a process that cannot see it, which makes it again by `unpacked`."""
        return marshal.dumps((self.remote, self.local, self.present, self.recent, self.interface))

    @classmethod
    def unpacked(cls, data: bytes) -> Arrival:
        return cls(*marshal.loads(data))


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """What a server does with each connection.  `program` begins its log lines."""

    program: str = "tcpserver"
    verbosity: int = ERRORS
    kill_options: bool = True
    delay: bool = True
    banner: bytes = b""
    remote_host: bool = True
    paranoid: bool = False
    remote_info: bool = True
    ident_timeout: float = 26  # seconds
    rules: Rules | None = None
    rules_optional: bool = False  # a missing file allows everyone
    local_host: str | None = None  # None: look it up

    def log(self, line: str, level: int = EVERYTHING) -> None:
        if self.verbosity >= level:
            say(f"{self.program}: {line}")

    def warn(self, problem: str) -> None:
        self.log(f"warning: {problem}", ERRORS)

    @property
    def asks_nobody(self) -> bool:
        """Whether a connection is decided on without a wait for anyone."""
        return not (self.remote_host or self.remote_info or self.local_host is None or self.banner)


class Dropped(Exception):
    """The connection is over; `str(error)` says why, unless the rules say so."""

    def __init__(self, message: str, code: int = TEMPORARY) -> None:
        super().__init__(message)
        self.code = code


class dropping:  # with dropping("print banner"): ...
    """Turn an OSError of the block into Dropped: unable to <action>: <reason>."""

    def __init__(self, action: str) -> None:
        self.action = action

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if isinstance(error, OSError):
            raise Dropped(f"unable to {self.action}: {reason(error)}") from error


def admit(fd: int, arrival: Arrival, policy: Policy) -> dict[str, str | None]:
    """Do all that precedes the program on the socket `fd`, which stays the caller's.

    Returns what to change in the environment (None: unset).  Raises Dropped.
    """
    known = socket.AF_INET if arrival.remote else socket.AF_UNIX  # spares the questions: nothing looks at it
    sock = socket.socket(known, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        return Visit(sock, arrival, policy).admit()
    finally:
        sock.detach()


class Visit:
    """One connection on its way to its program."""

    def __init__(self, sock: socket.socket, arrival: Arrival, policy: Policy) -> None:
        self.sock = sock
        self.policy = policy
        self.arrival = arrival
        self.remote = arrival.remote
        self.local = arrival.local
        self.proxied = False

    @property
    def ip(self) -> str:
        return addresses.text(self.remote[0]) if self.remote else UNIX_ADDRESS

    def admit(self) -> dict[str, str | None]:
        policy = self.policy
        policy.log(f"pid {os.getpid()} from {self.ip}")
        if self.remote:
            self._set_options()
        if policy.banner:
            with dropping("print banner"):
                timed.write(self.sock.fileno(), policy.banner, PATIENCE)
        self._see_through_proxy()
        return self._admit_tcp(self.remote) if self.remote else self._admit_unix()

    def _set_options(self) -> None:
        try:
            if self.policy.kill_options:
                self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, None, 0)
            if not self.policy.delay:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # a client that has gone already; reading will tell
            pass

    def _see_through_proxy(self) -> None:
        """If the rules call the client a proxy, take from its header whom it speaks for."""
        rules = self.policy.rules
        with self._reading_rules():
            if not (rules and rules.mention(PROXY_PROTOCOL)):
                return
        if PROXY_PROTOCOL not in dict(self._verdict(None, None).variables):
            return
        reader = proxy.HeaderReader()
        deadline = time.monotonic() + PROXY_TIMEOUT
        try:
            with dropping("read PROXY header"):
                while reader.wanted:
                    data = timed.read_until(self.sock.fileno(), reader.wanted, deadline)
                    if not data:
                        raise Dropped("unable to read PROXY header: connection closed")
                    reader.feed(data)
        except proxy.BadHeader as error:
            raise Dropped(f"bad PROXY header: {error}") from error
        header = reader.header
        if header and header.source:
            self.remote, self.local, self.proxied = header.source, header.destination, True

    def _admit_tcp(self, remote: Address) -> dict[str, str | None]:
        policy, local = self.policy, self._local()
        local_host = self._name_of(local[0]) if policy.local_host is None else policy.local_host
        host = self._remote_host(remote[0]) if policy.remote_host else None
        info = self._remote_info(remote, local) if policy.remote_info else None
        variables = self._decide(host, info, self._ends(local, remote, local_host, host, info))
        interface = 0 if self.proxied else self.arrival.interface
        env = addresses.environment(
            local, remote, local_host=local_host, remote_host=host, remote_info=info, interface=interface
        )
        return env | variables if variables else env

    def _local(self) -> Address:
        if self.local is None:
            with dropping("get local address"):
                self.local = addresses.of_socket_name(self.sock.getsockname())
        return self.local

    def at_once(self) -> dict[str, str | None] | None:
        """What `admit` would return, of a plain connection; the log is still to be told.

        None if it is refused, or has to wait for anything: `admit` must see to it.
        """
        policy, remote = self.policy, self.remote
        if not remote or not policy.asks_nobody:
            return None
        try:
            verdict = self._verdict(None, None)
            local = self._local()
        except Dropped:
            return None
        variables = dict(verdict.variables)
        if not verdict.allowed or not ORDERS.isdisjoint(variables):
            return None
        self._set_options()
        env = addresses.environment(
            local, remote, local_host=policy.local_host, interface=self.arrival.interface
        )
        return env | _settings(variables)

    def log_admitted(self, pid: int) -> None:
        """Log what `admit` would have logged, of a connection that the process `pid` already has."""
        if self.policy.verbosity >= EVERYTHING and self.remote:
            self.policy.log(f"pid {pid} from {self.ip}")
            ends = self._ends(self._local(), self.remote, self.policy.local_host, None, None)
            self.policy.log(f"ok {pid} {ends}")

    def _ends(
        self, local: Address, remote: Address, local_host: str | None, host: str | None, info: str | None
    ) -> str:
        """The two ends of the connection, for the log."""
        here = f"{_safe(local_host)}:{addresses.text(local[0])}:{local[1]}"
        return f"{here} {_safe(host)}:{self.ip}:{_safe(info)}:{remote[1]}"

    def _admit_unix(self) -> dict[str, str | None]:
        with dropping("get local address"):
            path = os.fsdecode(self.sock.getsockname())
            peer = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        pid, uid, gid = CREDENTIALS.unpack(peer)
        name = f"{_safe(self.policy.local_host)}:{_safe(path)}"
        variables = self._decide(None, None, f"{name} {UNIX_ADDRESS}:{pid}:{uid}:{gid}")
        env = dict.fromkeys(addresses.environment(NOWHERE, NOWHERE))  # none of them
        env |= {"PROTO": "UNIX", "UNIXLOCALPATH": path, "UNIXREMOTEPID": str(pid)}
        return env | {"UNIXREMOTEEUID": str(uid), "UNIXREMOTEEGID": str(gid)} | variables

    def _name_of(self, address: bytes) -> str | None:
        from ucspi import dns

        try:
            return dns.Resolver.from_environment().name_of(address) or None
        except OSError:
            return None

    def _remote_host(self, address: bytes) -> str | None:
        host = self._name_of(address)
        if not (host and self.policy.paranoid):
            return host
        from ucspi import dns

        over4 = len(address) == addresses.LENGTH4
        try:
            found = dns.Resolver.from_environment().ip(host, want4=over4, want6=not over4)
        except OSError:
            return None
        return host if address in found else None

    def _remote_info(self, remote: Address, local: Address) -> str | None:
        info = None if self.proxied else ident.ask(remote, local, self.policy.ident_timeout)
        return None if info is None else os.fsdecode(info.partition(b"\0")[0])

    def _reading_rules(self) -> dropping:
        return dropping(f"read {self.policy.rules.path}" if self.policy.rules else "read rules")

    def _verdict(self, host: str | None, info: str | None) -> Verdict:
        rules = self.policy.rules
        if not rules:
            return NO_RULES
        with self._reading_rules():
            try:
                return rules.look_up(self.ip, host, info)
            except FileNotFoundError:
                if not self.policy.rules_optional:
                    raise
                return NO_RULES

    def _decide(self, host: str | None, info: str | None, ends: str) -> dict[str, str | None]:
        """Let the rules decide, log it, and return the variables that they set.  Raises Dropped."""
        verdict = self._verdict(host, info)
        orders = dict(verdict.variables)
        problem = self._over_limit(orders) if verdict.allowed and orders else ""
        allowed = verdict.allowed and not problem
        self.policy.log(f"{'ok' if allowed else 'deny'} {os.getpid()} {ends}")
        if not allowed:
            self._say_goodbye(orders.get(GOODBYE))
            raise Dropped(problem, PERMANENT)
        return _settings(orders)

    def _over_limit(self, orders: Mapping[bytes, bytes]) -> str:
        """What is wrong with the connection by the limits that its rule sets; "" if nothing is."""
        if not self.proxied:  # a proxy's connections are counted as its own
            for name, count, what in (
                (MOST_PRESENT, self.arrival.present, "connections"),
                (MOST_RECENT, self.arrival.recent, "connections within a minute"),
            ):
                if name in orders and count > leading_number(orders[name]):
                    return f"{count} {what} from {self.ip}"
        delay = leading_number(orders.get(GREETING_DELAY, b""))
        if delay and _speaks(self.sock, min(delay, LONGEST_DELAY)):
            return f"early talker {self.ip}"
        return ""

    def _say_goodbye(self, text: bytes | None) -> None:
        if text:
            try:
                timed.write(self.sock.fileno(), text + b"\r\n", PROXY_TIMEOUT)
            except OSError:
                pass


def _speaks(sock: socket.socket, seconds: float) -> bool:
    """Whether the client sends anything, or leaves, within `seconds`."""
    try:
        timed.wait(sock.fileno(), timed.READABLE, seconds)
    except TimeoutError:
        return False
    return True


def _settings(variables: Mapping[bytes, bytes]) -> dict[str, str | None]:
    """The variables of a rule as an environment has them; one without a name cannot be in it."""
    return {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items() if name}


def _safe(text: str | None) -> str:
    """`text` for the log: nothing in it can be taken for a field's end, or for another line."""
    raw = os.fsencode(text or "")
    return raw[:SAFE_LENGTH].translate(SAFE).decode("ascii") + ("..." if len(raw) >= SAFE_LENGTH else "")
