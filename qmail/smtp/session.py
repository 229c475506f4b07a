"""An SMTP session as qmail-smtpd holds it, without I/O (RFC 5321, 1870, 1652, 2920).

qmail/receiving/incoming.py tells how a front end uses it.
"""

from __future__ import annotations

from qmail.receiving.incoming import NEED_INPUT, Begin, Body, Close, End
from qmail.smtp import paths
from qmail.smtp.data import DataDecoder, StrayNewline
from ucspi import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qmail.receiving.incoming import Event, NeedInput
    from qmail.smtp.policy import Policy

MAX_HOPS = 100
MAX_LINE = 1024 * 1024  # bytes; a longer command is one that memory has no room for
LF, CR = 0x0A, 0x0D
STRAY_NEWLINE = b"451 See https://cr.yp.to/docs/smtplf.html.\r\n"
TOO_BIG = b"552 sorry, that message size exceeds my databytes limit (#5.3.4)\r\n"
NO_CONTROLS = b"421 unable to read controls (#4.3.0)\r\n"
NO_MEMORY = b"421 out of memory (#4.3.0)\r\n"
HELP = b"214 paperpath: qmail in Python; see qmail-smtpd(8)\r\n"


class Session:
    """One client's session."""

    protocol = b"SMTP"

    def __init__(
        self,
        policy: Policy,
        peer_host: bytes,
        local: Callable[[], frozenset[bytes]] = addresses.local_addresses,
    ) -> None:
        """`peer_host`: what we call the client; `local`: asked for this machine's addresses if need be."""
        self._policy = policy
        self._peer_host = peer_host.lower()
        self._local_addresses = local
        self._input = bytearray()
        self._searched = 0  # bytes of the input known to hold no line end
        self._at_end = False
        self._closing: Close | None = None
        self._data: DataDecoder | None = None
        self._body_size = 0
        self._complete = False  # the message, and nobody has said yet what became of it
        self._helo: bytes | None = None
        self._sender: bytes | None = None  # since MAIL
        self._accepted_sender = b""  # since DATA, which needs another MAIL after it
        self._bad_sender = False
        self._recipients = bytearray()
        self._replies = [b"220 %b ESMTP\r\n" % policy.greeting]

    def receive(self, data: bytes) -> None:
        """Take what the client sent; b"" if it has closed the connection."""
        self._input += data
        self._at_end = not data

    def take_replies(self) -> bytes:
        """What is to be sent to the client now."""
        replies = b"".join(self._replies)
        self._replies.clear()
        return replies

    def next_event(self) -> Event:
        """What the front end has to do next."""
        while not self._closing:
            event = self._read_body() if self._data else self._read_command()
            if event:
                return event
        return self._closing

    def time_out(self) -> None:
        """The client has said nothing for too long."""
        self._close(b"451 timeout (#4.4.2)\r\n")

    def fail(self, error: Exception) -> None:
        """There is trouble here: with a control file, or with memory."""
        self._close(NO_MEMORY if isinstance(error, MemoryError) else NO_CONTROLS)

    def begun(self, opened: bool) -> None:
        """Answer to Begin: is there a message to write to?"""
        self._data = DataDecoder() if opened else None
        self._body_size = 0
        self._reply(b"354 go ahead\r\n" if opened else b"451 qqt failure (#4.3.0)\r\n")

    def ended(self, verdict: bytes, number: int, when: int) -> None:
        """Answer to End: the queue's verdict, the process that queued, the time in seconds since 1970."""
        assert self._data
        data, self._data, self._complete = self._data, None, False
        if not verdict:
            self._reply(b"250 ok %d qp %d\r\n" % (when, number))
        elif data.hops >= MAX_HOPS:
            self._reply(b"554 too many hops, this message is looping (#5.4.6)\r\n")
        elif self._too_big():
            self._reply(TOO_BIG)
        else:
            self._reply(b"%b %b\r\n" % (b"554" if verdict.startswith(b"D") else b"451", verdict[1:]))
        self._input[:0] = data.after or b""
        self._searched = 0

    def _reply(self, reply: bytes) -> None:
        self._replies.append(reply)

    def _close(self, reply: bytes = b"", code: int = 1) -> None:
        if reply:
            self._reply(reply)
        self._closing = Close(code)

    def _wait(self) -> NeedInput | None:
        if not self._at_end:
            return NEED_INPUT
        self._close()
        return None

    def _read_body(self) -> Event | None:
        assert self._data
        if self._complete:
            return End(self._accepted_sender, self._recipients, self._is_refused())
        if not self._input:
            return self._wait()
        wire = bytes(self._input)
        self._input.clear()
        try:
            body = self._data.feed(wire)
        except StrayNewline:
            self._close(STRAY_NEWLINE)
            return None
        self._body_size += len(body)
        self._complete = self._data.after is not None
        return Body(body) if body and not self._is_refused() else None

    def _is_refused(self) -> bool:
        assert self._data
        return self._data.hops >= MAX_HOPS or self._too_big()

    def _too_big(self) -> bool:
        return 0 < self._policy.databytes < self._body_size

    def _read_command(self) -> Event | None:
        end = self._input.find(LF, self._searched)
        if end < 0:
            self._searched = len(self._input)
            if self._searched > MAX_LINE:
                self._close(NO_MEMORY)
                return None
            return self._wait()
        line = bytes(self._input[: end - 1 if end and self._input[end - 1] == CR else end])
        del self._input[: end + 1]
        self._searched = 0
        return self._obey(line)

    def _obey(self, line: bytes) -> Event | None:
        verb, _, argument = line.partition(b"\0")[0].partition(b" ")
        command = COMMANDS.get(verb.lower())
        if command:
            return command(self, argument.lstrip(b" "))
        self._reply(b"502 unimplemented (#5.5.1)\r\n")
        return None

    def _greet(self, name: bytes) -> None:
        self._sender = None
        self._helo = None if name.lower() == self._peer_host else name

    def _obey_helo(self, name: bytes) -> None:
        self._greet(name)
        self._reply(b"250 %b\r\n" % self._policy.greeting)

    def _obey_ehlo(self, name: bytes) -> None:
        self._greet(name)
        lines = [self._policy.greeting, *self._extensions()]
        self._reply(b"".join(b"250-%b\r\n" % line for line in lines[:-1]) + b"250 %b\r\n" % lines[-1])

    def _extensions(self) -> list[bytes]:
        size = [b"SIZE %d" % self._policy.databytes] if self._policy.databytes else []
        return [b"PIPELINING", *size, b"8BITMIME"]

    def _obey_mail(self, argument: bytes) -> None:
        address, parameters = paths.parse(argument)
        address = self._own_host(address)
        if len(address) > paths.LONGEST:
            self._reply(b"555 syntax error (#5.5.4)\r\n")
            return
        if 0 < self._policy.databytes < paths.size_parameter(parameters):
            self._sender = None  # what follows is not for an earlier message
            self._reply(TOO_BIG)
            return
        self._sender = address
        self._bad_sender = self._policy.is_bad(address)
        self._recipients = bytearray()
        self._reply(b"250 ok\r\n")

    def _obey_rcpt(self, argument: bytes) -> None:
        if self._sender is None:
            self._reply(b"503 MAIL first (#5.5.1)\r\n")
            return
        address = self._own_host(paths.parse(argument)[0])
        if len(address) > paths.LONGEST:
            self._reply(b"555 syntax error (#5.5.4)\r\n")
        elif self._bad_sender:
            self._reply(b"553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)\r\n")
        elif self._policy.relay is None and not self._policy.hosts.allow(address):
            self._reply(b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)\r\n")
        else:
            self._recipients += b"T%b%b\0" % (address, self._policy.relay or b"")
            self._reply(b"250 ok\r\n")

    def _own_host(self, address: bytes) -> bytes:
        name = self._policy.local_ip_host
        return address if name is None else paths.at_name(address, name, self._is_me)

    def _is_me(self, packed: bytes) -> bool:
        return addresses.is_me(packed, self._local_addresses())

    def _obey_data(self, _argument: bytes) -> Event | None:
        if self._sender is None:
            self._reply(b"503 MAIL first (#5.5.1)\r\n")
        elif not self._recipients:
            self._reply(b"503 RCPT first (#5.5.1)\r\n")
        else:
            self._accepted_sender, self._sender = self._sender, None
            return Begin(self._helo)
        return None

    def _obey_rset(self, _argument: bytes) -> None:
        self._sender = None
        self._reply(b"250 flushed\r\n")

    def _obey_quit(self, _argument: bytes) -> None:
        self._close(b"221 %b\r\n" % self._policy.greeting, code=0)

    def _obey_help(self, _argument: bytes) -> None:
        self._reply(HELP)

    def _obey_noop(self, _argument: bytes) -> None:
        self._reply(b"250 ok\r\n")

    def _obey_vrfy(self, _argument: bytes) -> None:
        self._reply(b"252 send some mail, i'll try my best\r\n")


COMMANDS: dict[bytes, Callable[[Session, bytes], Event | None]] = {
    b"helo": Session._obey_helo,
    b"ehlo": Session._obey_ehlo,
    b"mail": Session._obey_mail,
    b"rcpt": Session._obey_rcpt,
    b"data": Session._obey_data,
    b"rset": Session._obey_rset,
    b"quit": Session._obey_quit,
    b"help": Session._obey_help,
    b"noop": Session._obey_noop,
    b"vrfy": Session._obey_vrfy,
}
