"""qmail-remote(8): send a message to a host by SMTP, or QMTP where its MX asks for that.

SYNOPSIS   qmail-remote host sender recip [recip ...]   < message
DESCRIPTION  Writes a report on descriptor 1: for each recipient that came up
           r, h or s (taken, refused for good, refused for now), then K, Z or
           D for the message (taken, failed for now, failed for good); each
           with a text for people, and a NUL.
EXIT       0: the report says everything.  111: trouble that no report could tell.
FILES      control/helohost, control/me, control/smtproutes,
           control/timeoutconnect (60 seconds), control/timeoutremote (1200 seconds)
           queue/lock/tcpto: hosts that timed out
ENVIRONMENT  QMAILHOME; DNSCACHEIP
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qmail import home
from qmail.control import Controls, lookup_table
from qmail.remote_delivery import qmtp_client
from qmail.remote_delivery.exchangers import (
    QMTP_PORT,
    Exchanger,
    LookupLater,
    NoExchanger,
    NoSuchHost,
    NullExchanger,
    before_me,
    by_address,
    by_mx,
)
from qmail.remote_delivery.smtp_client import (
    Body,
    Encoder,
    PartialLine,
    Reply,
    ReplyReader,
    ReplyTooLong,
    Session,
)
from qmail.remote_delivery.tcpto_table import Table
from supervise import masks
from supervise.durable import write_all
from supervise.numbers import scan_ulong
from supervise.program import program
from ucspi import addresses
from ucspi.dns import Resolver
from ucspi.timed import Channel

SMTP_PORT = 25  # not what /etc/services says: that is for users
CHUNK = 65536  # bytes of the message at a time


class Abandon(Exception):
    """Nothing to send, or no way: `report` tells.  Its first byte is Z or D."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.report = text + b"\n\0"


USAGE = Abandon(b"DI (qmail-remote) was invoked improperly. (#5.3.5)")
NO_HOME = Abandon(b"ZUnable to switch to home directory. (#4.3.0)")
NO_CONTROLS = Abandon(b"ZUnable to read control files. (#4.3.0)")
NO_RESOURCES = Abandon(b"ZSystem resources temporarily unavailable. (#4.3.0)")
NO_MEMORY = Abandon(b"ZOut of memory. (#4.3.0)")
NO_CONNECTION = Abandon(b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)")
DNS_LATER = Abandon(b"ZSorry, I couldn't find any host by that name. (#4.1.2)")
NO_EXCHANGER = Abandon(b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)")
NULL_EXCHANGER = Abandon(b"DSorry, that domain does not accept mail. (#5.1.10)")
LOOP = Abandon(
    b"DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
    b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)"
)
UNREADABLE = b"ZUnable to read message. (#4.3.0)"
PARTIAL_LINE = b"DSMTP cannot transfer messages with partial final lines. (#5.6.2)"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the control files say."""

    helohost: bytes
    routes: dict[bytes, bytes]
    timeout_connect: int  # seconds
    timeout: int  # seconds

    @classmethod
    def read(cls, controls: Controls) -> Settings:
        helohost = controls.line("helohost", me=True)
        if helohost is None:
            raise NO_CONTROLS
        return cls(
            helohost,
            lookup_table(controls.lines("smtproutes") or []),
            controls.number("timeoutconnect", 60),
            controls.number("timeoutremote", 1200),
        )


@dataclass(frozen=True, slots=True)
class Route:
    """Where smtproutes sends a host's mail, instead of to its MX."""

    host: bytes
    port: int


@program("qmail-remote", helps=False, later=("ucspi.dns", "ucspi.dns_lookup"))
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        report = deliver([os.fsencode(argument) for argument in argv])
    except Abandon as abandon:
        report = abandon.report
    except MemoryError:
        report = NO_MEMORY.report
    write_all(1, report)
    return 0


def deliver(argv: Sequence[bytes]) -> bytes:
    """Send the message on descriptor 0; return the report.  Raises Abandon."""
    if len(argv) < 3:
        raise USAGE
    host, sender, *recipients = argv
    place = home.find()
    if not os.path.isdir(place):
        raise NO_HOME
    try:
        settings = Settings.read(Controls.of(place))
    except OSError as error:
        raise NO_CONTROLS from error
    route = route_of(host, settings.routes)
    exchangers = choose(host, route)
    table = Table(f"{place}/queue", time.time)
    for exchanger in exchangers:
        if table.should_wait(exchanger.address):
            continue
        for port, by_qmtp in ports(exchanger, route):
            connection = connect(exchanger.address, port, settings.timeout_connect, table)
            if not connection:
                continue
            with connection:
                channel = Channel(connection.fileno(), connection.fileno(), settings.timeout)
                partner = addresses.text(exchanger.address).encode()
                if by_qmtp:
                    return send_qmtp(channel, qmtp_client.Session(partner, sender, recipients))
                return send_smtp(channel, Session(partner, settings.helohost, sender, recipients))
    raise NO_CONNECTION


def route_of(host: bytes, routes: dict[bytes, bytes]) -> Route | None:
    """The route for `host`: its own, else that of the longest .domain it ends in, else the one for all.

    An empty route means the MX after all.
    """
    name = host.lower()
    ends = [0, *(place for place, byte in enumerate(name) if byte == ord(".") and place), len(name)]
    found = next((routes[name[end:]] for end in ends if name[end:] in routes), b"")
    if not found:
        return None
    bracket = found.find(b"]") if found.startswith(b"[") else -1  # an IPv6 literal has colons
    colon = found.find(b":", bracket + 1)
    if colon < 0:
        return Route(found, SMTP_PORT)
    return Route(found[:colon], scan_ulong(found[colon + 1 :])[0] % 65536)


def choose(host: bytes, route: Route | None) -> list[Exchanger]:
    """Where to try, in order.  Raises Abandon."""
    name = route.host if route else host
    try:
        resolver = Resolver.from_environment()
        if route:
            return by_address(resolver, bracketed(name))
        nearer = before_me(by_mx(resolver, host), addresses.local_addresses())
    except NoSuchHost as error:
        safe = name.translate(masks.printable(b"?", besides=b" "))
        raise Abandon(b"DSorry, I couldn't find any host named " + safe + b". (#5.1.2)") from error
    except LookupLater as error:
        raise DNS_LATER from error
    except NoExchanger as error:
        raise NO_EXCHANGER from error
    except NullExchanger as error:
        raise NULL_EXCHANGER from error
    except OSError as error:
        raise NO_RESOURCES from error
    if not nearer:
        raise LOOP
    return nearer


def bracketed(host: bytes) -> bytes:
    """[2001:db8::1] of a route, as a domain literal."""
    return b"[IPv6:" + host[1:] if host.startswith(b"[") and b":" in host and b"IPv6" not in host else host


def ports(exchanger: Exchanger, route: Route | None) -> Iterator[tuple[int, bool]]:
    """The (port, is it QMTP) to try: QMTP first where the MX asks for it."""
    if not route and exchanger.wants_qmtp:
        yield QMTP_PORT, True
    yield (route.port if route else SMTP_PORT), False


def connect(address: bytes, port: int, timeout: int, table: Table) -> socket.socket | None:
    """A connection, or None; the table learns of time-outs."""
    try:
        connection = socket.socket(addresses.family(address), socket.SOCK_STREAM)
    except OSError as error:
        raise NO_RESOURCES from error
    try:
        connection.settimeout(max(timeout, 0.001))
        connection.connect((addresses.text(address), port))
        connection.setblocking(True)
    except OSError as error:
        connection.close()
        table.note(address, isinstance(error, TimeoutError))
        return None
    table.note(address, timed_out=False)
    return connection


def message() -> Iterator[bytes]:
    """The message on descriptor 0, in chunks.  OSError: unreadable."""
    while chunk := os.read(0, CHUNK):
        yield chunk


def send_smtp(channel: Channel, session: Session) -> bytes:
    """Drive the session to its end; return the report."""
    steps = session.steps()
    replies = ReplyReader()
    try:
        step = next(steps)
        while True:
            if step is Body.SEND:
                reason = transmit(channel, session)
                if reason:
                    return session.abandoned(reason)
            elif step:
                channel.write(step)
            step = steps.send(await_reply(channel, replies))
    except StopIteration:
        quit_politely(channel)
        return bytes(session.report)
    except (OSError, ReplyTooLong):
        return session.dropped()


def await_reply(channel: Channel, replies: ReplyReader) -> Reply:
    while not (reply := replies.next()):
        wire = channel.read(4096)
        if not wire:
            raise ConnectionResetError
        replies.feed(wire)
    return reply


def transmit(channel: Channel, session: Session) -> bytes | None:
    """Send the message and its end; the reason if that cannot be done."""
    encoder = Encoder()
    chunks = message()
    while True:
        try:
            chunk = next(chunks, None)
        except OSError:
            return UNREADABLE
        if chunk is None:
            break
        channel.write(encoder.feed(chunk))
    try:
        end = encoder.end()
    except PartialLine:
        return PARTIAL_LINE
    session.critical = True
    channel.write(end)
    return None


def quit_politely(channel: Channel) -> None:
    """Say QUIT; waiting for the answer would be too much."""
    try:
        channel.write(b"QUIT\r\n")
    except OSError:
        return


def send_qmtp(channel: Channel, session: qmtp_client.Session) -> bytes:
    """Hand the message over by QMTP; return the report."""
    try:
        size = os.fstat(0).st_size - os.lseek(0, 0, os.SEEK_CUR)
        chunks = message()
    except OSError:
        return session.abandoned(UNREADABLE)
    try:
        channel.write(session.begin(size))
        for chunk in chunks:
            channel.write(chunk)
        session.critical = True
        channel.write(session.end())
        while not session.complete:
            wire = channel.read(4096)
            if not wire:
                return session.dropped()
            session.feed(wire)
    except qmtp_client.NotQmtp:
        return session.improper()
    except OSError:
        return session.dropped()
    return session.report()
