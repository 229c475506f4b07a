"""qmail-qmqpc(8): queue a mail message on another host, by QMQP.

SYNOPSIS
    qmail-qmqpc

DESCRIPTION
    Stands in for qmail-queue on a host without a queue (mini-qmail): install
    it as bin/qmail-queue.  It reads message and envelope as qmail-queue does
    and hands them to the first server of control/qmqpservers that takes a
    connection, each within 10 seconds; after that, an answer may take a
    minute at a time.

EXIT
    As qmail-queue: 0: the server has queued it.  31, 71: it refused, for good
    or for now.  54: message or envelope cannot be read.  55: control files.
    56: no socket.  61: no home.  72, 73: no connection, timed out or refused.
    74: the conversation broke off.  91: no envelope.

FILES
    HOME/control/qmqpservers: IP addresses, one on a line, tried in order.  A
    port other than 628 may follow after a colon; IPv6 addresses in brackets.

ENVIRONMENT
    QMAILHOME, QMAIL_CONTROLDIR: where the mail system is.
"""

from __future__ import annotations

import os
import signal
import socket

from qmail import home
from qmail.control import Controls
from qmail.netstrings import encode
from qmail.queueing.queue_socket import Parcel
from qmail.queueing.verdicts import (
    ADDRESS_TOO_LONG,
    BAD_CONTROL,
    BAD_ENVELOPE,
    BAD_HOME,
    CONNECTION_FAILED,
    CONNECTION_REJECTED,
    CONNECTION_TIMED_OUT,
    NO_NETWORK,
    OUT_OF_MEMORY,
    QUEUED,
    READ_ERROR,
    REJECTED,
    TEMPORARILY_REJECTED,
    WRITE_ERROR,
    Refused,
)
from supervise.numbers import scan_ulong
from supervise.program import program
from ucspi import addresses, timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PORT = 628
CONNECT_TIMEOUT = 10  # seconds
TIMEOUT = 60  # seconds
READ = 64 * 1024  # bytes
LONGEST_ADDRESS = 64 * 1024  # bytes; the server decides what is too long, this is only a bound
ANSWERS = {b"K": QUEUED, b"Z": TEMPORARILY_REJECTED, b"D": REJECTED}
NO_ANSWER = bytes(set(range(256)) - set(b"KZD"))  # what may precede it, as the length of a netstring does


@program("qmail-qmqpc")
def main(_: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        return _queue(_servers())
    except Refused as refused:
        return refused.code
    except MemoryError:
        return OUT_OF_MEMORY


def _servers() -> list[bytes]:
    where = home.find()
    if not os.path.isdir(where):
        raise Refused(BAD_HOME)
    try:
        servers = Controls.of(where).lines("qmqpservers")
    except OSError as error:
        raise Refused(BAD_CONTROL) from error
    if servers is None:
        raise Refused(BAD_CONTROL)
    return servers


def _queue(servers: Sequence[bytes]) -> int:
    message = Parcel()
    try:
        size = _keep_message(message)
        envelope = _read_envelope()
        trouble = BAD_CONTROL
        for server in servers:
            where = address(server.decode("latin-1"))
            if where:
                try:
                    connection = _connect(*where)
                except TimeoutError:
                    trouble = CONNECTION_TIMED_OUT
                except OSError:
                    trouble = CONNECTION_REJECTED
                else:
                    with connection:
                        return _converse(connection.fileno(), message.fd, size, envelope)
        return trouble
    finally:
        message.close()


def _keep_message(parcel: Parcel) -> int:
    size = 0
    while data := _read(0):
        size += len(data)
        try:
            parcel.write(data)
        except OSError as error:
            raise Refused(WRITE_ERROR) from error
    return size


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, READ)
    except OSError as error:
        raise Refused(READ_ERROR) from error


def _read_envelope() -> bytearray:
    """The envelope as QMQP has it: a netstring for the sender and for each recipient."""
    encoded = bytearray()
    letter = b"F"
    for field in _fields():
        if not field and letter == b"T":
            return encoded
        if not field.startswith(letter):
            break
        encoded += encode(field[1:])
        letter = b"T"
    raise Refused(BAD_ENVELOPE)


def _fields() -> Iterator[bytes]:
    """The parts of the envelope that end in NUL."""
    rest = b""
    while data := _read(1):
        *fields, rest = (rest + data).split(b"\0")
        yield from fields
        if len(rest) > LONGEST_ADDRESS:
            raise Refused(ADDRESS_TOO_LONG)


def address(server: str) -> tuple[bytes, int] | None:
    """The address and port of a line of qmqpservers; None if it is no address: names are not looked up."""
    if server.startswith("["):
        inside, _, rest = server[1:].partition("]")
        packed = addresses.parse(inside)
    else:
        packed, length = addresses.scan4(server)
        rest = server[length:]
    if not packed:
        return None
    port, digits = scan_ulong(rest[1:]) if rest.startswith(":") else (PORT, 1)
    return packed, port % 65_536 if digits else PORT


def _connect(packed: bytes, port: int) -> socket.socket:
    """Raises OSError: no connection; Refused: no socket."""
    try:
        connection = socket.socket(addresses.family(packed), socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(NO_NETWORK) from error
    try:
        connection.settimeout(CONNECT_TIMEOUT)
        connection.connect((addresses.text(packed), port))
    except OSError:
        connection.close()
        raise
    return connection


def _converse(fd: int, message: int, size: int, envelope: bytearray) -> int:
    """Hand the message over and hear the answer."""
    try:
        heading = b"%d:" % size
        timed.write(fd, b"%d:%b" % (len(heading) + size + 1 + len(envelope), heading), TIMEOUT)
        offset = 0
        while data := os.pread(message, READ, offset):
            offset += len(data)
            timed.write(fd, data, TIMEOUT)
        timed.write(fd, b"".join([b",", envelope, b","]), TIMEOUT)
        return _answer(fd)
    except OSError as error:
        raise Refused(CONNECTION_FAILED) from error


def _answer(fd: int) -> int:
    while data := timed.read(fd, 1024, TIMEOUT):
        verdict = data.lstrip(NO_ANSWER)[:1]
        if verdict:
            return ANSWERS[verdict]
    raise Refused(CONNECTION_FAILED)
