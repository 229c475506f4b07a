"""tcpserver(8): accept TCP connections, and run a program for each.

SYNOPSIS
    tcpserver [ -146UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ]
        [ -u uid ] [ -b backlog ] [ -l localname ] [ -t timeout ] [ -I interface ] host port program

DESCRIPTION
    Listens on an address and a port, and runs the program, which may have
    arguments, for each connection, with the network as its descriptors 0 and 1.

    host is an address or a name, of which the first address is taken.  0 means
    all addresses of this machine by IPv4, :: all by IPv6, :0 all by both.  With
    a host that begins with a slash it is a Unix socket of that name, and port
    is not used.  port is a number, or a name in /etc/services; 0 is any free
    one.  Sockets that systemd hands over (LISTEN_FDS) are used in place of host
    and port.

    A program of this toolkit is loaded once, and run for one connection after
    another by a few processes; any other one is executed each time.

    TERM ends the server; connections go on to their ends.  HUP lets it look for
    the program again, forget how many connections were made of late, and go on
    with fresh processes.  ALRM (svc -a) or USR1 writes a list of the connections
    to the log.

OPTIONS
    -c n     no more than n connections at a time (40); later ones wait
    -x cdb   decide by rules that tcprules has compiled; they may change at any time
    -X       with -x, allow all connections while there is no such file
    -B text  send text as soon as a client is connected
    -l name  this machine's name, for TCPLOCALHOST; else it is looked up
    -h, -H   look up the client's name (-h, the rule), or do not
    -p, -P   believe the name only if it has the client's address (-p), or always
    -r, -R   ask the client's machine for the user (-r, the rule), or do not
    -t n     ... for n seconds at most (26)
    -g gid, -u uid, -U
             run as this group and user; -U takes both from $GID and $UID
    -1       print the port number when ready
    -4, -6   have an address of IPv4, or of IPv6; both together with host 0 or ::
             is :0
    -I name  the interface, of a host that is a link-local IPv6 address
    -b n     have n connections wait to be accepted (20)
    -o, -O   leave IP options alone, or kill them (-O, the rule)
    -d, -D   delay small packets (-d, the rule), or never (-D)
    -q, -Q, -v
             say nothing, errors only (-Q, the rule), or everything

EXIT
    0: TERM came.  100: usage.  111: it cannot listen.

ENVIRONMENT
    The program finds PROTO (TCP), TCPLOCALIP, TCPLOCALPORT, TCPLOCALHOST,
    TCPREMOTEIP, TCPREMOTEPORT, TCPREMOTEHOST and TCPREMOTEINFO, those unset of
    which nothing is known; by IPv6 PROTO is TCP6, all are there as TCP6... too,
    and TCP6INTERFACE names the interface of a link-local client.  On a
    Unix socket PROTO is UNIX, with UNIXLOCALPATH, UNIXREMOTEPID, UNIXREMOTEEUID
    and UNIXREMOTEEGID; rules know such a client as unix.

    These variables, when a rule sets them, are orders to tcpserver:

    MAXCONNIP      so many connections at a time from one address (IPv6: a /64)
    MAXRATEIP      so many within a minute
    GREETDELAY     refuse who says anything in so many seconds, before the program
                   starts (for protocols in which the server speaks first)
    PROXYPROTOCOL  this is a proxy: take the client's address from the header that
                   it sends (PROXY protocol, version 1 or 2), and look up the
                   rules again for that one.  MAXCONNIP and MAXRATEIP do not count
                   such clients.
    DIEMSG         what a client is told who is refused
"""

from __future__ import annotations

import dataclasses
import gc
import os
import socket

from supervise import chain, children, descriptors, signals
from supervise.accounts import enter_group
from supervise.errors import reason
from supervise.numbers import leading_number
from supervise.options import BadOption, Options
from supervise.program import Fatal, Usage, program, say, unable_to
from supervise.signals import SignalPipe
from ucspi import addresses, connection, listeners, verbosity
from ucspi.connection import Arrival, Dropped, Policy
from ucspi.rules import Rules
from ucspi.server import Ready, Server, caught
from ucspi.verbosity import SILENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ucspi.server import Service

USAGE = (
    "tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] "
    "[ -u uid ] [ -b backlog ] [ -l localname ] [ -t timeout ] host port program"
)
LETTERS = "dDvqQhHrR1UXx:t:u:g:l:b:B:c:pPoO46"
INTERFACE = "I:"  # which is another option of sslserver
ANY = {"": "0.0.0.0", "0": "0.0.0.0"}
DUAL = ":0"
SWITCHES = {
    "d": ("delay", True), "D": ("delay", False), "P": ("paranoid", False), "p": ("paranoid", True),
    "O": ("kill_options", True), "o": ("kill_options", False), "H": ("remote_host", False),
    "h": ("remote_host", True), "R": ("remote_info", False), "r": ("remote_info", True),
    "X": ("rules_optional", True),
}  # fmt: skip

FLAGS = {"1": "print_port", "4": "want4", "6": "want6"}
NUMBERS = {"b": "backlog", "c": "limit", "u": "uid", "g": "gid"}


class Settings:
    """What the command line asks for: options one by one, then operands."""

    def __init__(self, env: Mapping[str, str], policy: Policy) -> None:
        """`policy` is what holds without any option."""
        self.host, self.port = "", 0
        self.program: Sequence[str] = ()
        self.print_port = self.want4 = self.want6 = False
        self.backlog, self.limit, self.uid, self.gid = 20, 40, 0, 0
        self.interface = ""
        self.policy = policy
        self._changes: dict[str, object] = {}
        self._env = env

    def take(self, letter: str, argument: str) -> None:
        """Take one option of LETTERS, or INTERFACE."""
        changes, number = self._changes, leading_number(argument)
        if letter in SWITCHES:
            name, value = SWITCHES[letter]
            changes[name] = value
        elif letter in verbosity.OPTIONS:
            changes["verbosity"] = verbosity.OPTIONS[letter]
        elif letter == "x":
            changes["rules"] = Rules(argument)
        elif letter == "l":
            changes["local_host"] = argument
        elif letter == "B":
            changes["banner"] = os.fsencode(argument)
        elif letter == "I":
            self.interface = argument
        elif letter == "t":
            changes["ident_timeout"] = min(number, 1 << 20)
        elif letter == "U":
            self.uid = leading_number(self._env["UID"]) if "UID" in self._env else self.uid
            self.gid = leading_number(self._env["GID"]) if "GID" in self._env else self.gid
        elif letter in FLAGS:
            setattr(self, FLAGS[letter], True)
        else:
            setattr(self, NUMBERS[letter], number)

    def finish(self, operands: Sequence[str], usage: str) -> None:
        """Take host, port and program, after all options.  Usage, Fatal: one is missing, or no port."""
        self.policy = dataclasses.replace(self.policy, **self._changes)  # type: ignore[arg-type]
        self.host, self.port, self.program = addresses.host_port_program(operands, usage)


@program("tcpserver", resident=True, later=("ucspi.dns", "ucspi.dns_lookup"))
def main(argv: Sequence[str]) -> int:
    settings, options = Settings(os.environ, Policy()), Options(argv, LETTERS + INTERFACE)
    try:
        for letter, argument in options:
            settings.take(letter, argument)
    except BadOption as error:
        say(f"tcpserver: {error}")
        raise Usage(USAGE) from error
    return serve(settings, options.operands, USAGE, lambda: ProgramService(settings.program, settings.policy))


def serve(
    settings: Settings,
    operands: Sequence[str],
    usage: str,
    make: Callable[[], Service],
    *,
    rights_first: bool = False,
) -> int:
    """Be the server until TERM; `make` the service before the rights are given up, or after."""
    try:
        settings.finish(operands, usage)
        return _serve(settings, make, rights_first)
    except Fatal as error:
        if settings.policy.verbosity == SILENT:
            return error.code
        raise


def _serve(settings: Settings, make: Callable[[], Service], rights_first: bool) -> int:
    _occupy_standard_descriptors()
    sockets = listeners.inherited(os.environ) or [_listen(settings)]
    try:
        service = None if rights_first else make()
        _drop_rights(settings)
        service = service or make()
        with SignalPipe(caught()) as signals:
            if settings.print_port:
                with unable_to("write output"):
                    os.write(1, b"%d\n" % _port_of(sockets[0]))
            _let_go_of_input_and_output()
            gc.collect()
            gc.freeze()  # what is there now, children share
            return Server(sockets, service, settings.policy, settings.limit).run(signals)
    finally:
        for sock in sockets:
            sock.close()


def _listen(settings: Settings) -> socket.socket:
    if settings.host.startswith("/"):
        return listeners.unix(settings.host, settings.backlog)
    both = settings.want4 and settings.want6
    host = ANY.get(settings.host, settings.host)
    if host in ("0.0.0.0", "::") and settings.want6:
        host = DUAL if both else "::"
    if host == DUAL:
        return listeners.tcp(addresses.ANY6, settings.port, settings.backlog, dual=True)
    interface = _interface(settings.interface) if settings.interface else 0
    return listeners.tcp(_address(host, settings), settings.port, settings.backlog, interface=interface)


def _interface(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise Fatal(f"unable to find interface {name}") from error


def _address(host: str, settings: Settings) -> bytes:
    """The first address of `host`: of IPv4 if there is any, unless -6 asks for the other."""
    literal = addresses.parse(host)
    if literal:
        return literal
    from ucspi import dns

    try:
        resolver = dns.Resolver.from_environment()
        found = [] if settings.want6 and not settings.want4 else resolver.qualified(host, want6=False)[1]
        if not found and (settings.want6 or not settings.want4):
            found = resolver.qualified(host, want4=False)[1]
    except OSError as error:
        problem = f"temporarily unable to figure out IP address for {host}: {reason(error)}"
        raise Fatal(problem) from error
    if not found:
        raise Fatal(f"no IP address for {host}")
    return found[0]


def _drop_rights(settings: Settings) -> None:
    if settings.gid:
        with unable_to("set gid"):
            enter_group(settings.gid, [settings.gid])
    if settings.uid:
        with unable_to("set uid"):
            os.setuid(settings.uid)


def _port_of(sock: socket.socket) -> int:
    return 0 if sock.family == socket.AF_UNIX else int(sock.getsockname()[1])


def _occupy_standard_descriptors() -> None:
    """Have something as descriptors 0, 1 and 2, lest a socket become one of them."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


def _let_go_of_input_and_output() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    descriptors.arrange({0: null, 1: null})
    os.close(null)


class ProgramService:
    """Runs `argv` for each connection that the policy admits."""

    _file: str | None  # where PATH led to at the start, or at the last HUP

    def __init__(self, argv: Sequence[str], policy: Policy) -> None:
        self._argv = tuple(argv)
        self._policy = policy
        self._env = dict(os.environ)
        self._defaults = signals.not_ignored()
        self.reload()
        if policy.remote_host or policy.local_host is None:
            import ucspi.dns
            import ucspi.dns_lookup  # noqa: F401  70 ms, that no child shall spend

    @property
    def reusable(self) -> bool:
        return self._program is not None

    def reload(self) -> None:
        self._program = chain.preload_all(self._argv)
        try:
            self._file = chain.find(self._argv[0])[0]
        except OSError:  # perhaps it is still to come
            self._file = None

    def serve(self, arrival: Arrival) -> int:
        policy = self._policy
        try:
            env = addresses.changed(self._env, connection.admit(0, arrival, policy))
            if self._program:
                return chain.call(self._program, self._argv, env, self._file)
            try:
                chain.run(self._argv, env)
            except OSError as error:
                raise Dropped(f"unable to run {self._argv[0]}: {reason(error)}") from error
        except Dropped as drop:
            if str(drop):
                policy.warn(f"dropping connection, {drop}")
            return drop.code

    def start(self, sock: socket.socket, arrival: Arrival) -> int | None:
        if self._program or not self._file:
            return None
        visit = connection.Visit(sock, arrival, self._policy)
        changes = visit.at_once()
        if not changes:
            return None
        env, network = addresses.changed(self._env, changes), dict.fromkeys((0, 1), sock.fileno())
        try:
            pid = children.spawn_file(self._file, self._argv, env, network, self._defaults)
        except OSError:
            return None  # a child says why
        visit.log_admitted(pid)
        return pid

    def ready(self, sock: socket.socket, arrival: Arrival) -> Ready:
        visit = connection.Visit(sock, arrival, self._policy)
        changes = visit.at_once()
        if self._program and changes:
            try:
                call = chain.Call(self._program, self._argv, changes, self._file)
            except Exception:  # the process will meet it, too, and say so
                pass
            else:
                return Ready(call.run, visit.log_admitted)
        return Ready(lambda: self.serve(arrival))
