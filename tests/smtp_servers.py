"""An SMTP server that answers as it is told, and remembers what it heard."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping

POLITE = {
    "": b"220 mx.test ESMTP\r\n",  # the greeting
    "EHLO": b"250-mx.test\r\n250 8BITMIME\r\n",
    "HELO": b"250 mx.test\r\n",
    "MAIL": b"250 sender ok\r\n",
    "RCPT": b"250 recipient ok\r\n",
    "DATA": b"354 go ahead\r\n",
    ".": b"250 taken\r\n",
    "QUIT": b"221 bye\r\n",
}
SILENCE = b""
"""A reply that never comes."""


class Server:
    """What was said to it: `commands` of all connections, and the bytes of `messages` up to the last dot."""

    def __init__(self, listener: socket.socket, replies: Mapping[str, bytes | None]) -> None:
        self.commands: list[bytes] = []
        self.messages: list[bytes] = []
        self._listener = listener
        self._replies = {**POLITE, **replies}

    def serve(self) -> None:
        """Take one connection after the other, until the listener is shut down."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(60)
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            goes_on = self._reply(connection, "")
            while goes_on:
                line = lines.readline()
                if not line:
                    return
                self.commands.append(line)
                verb = line.split()[0].decode("latin-1").upper() if line.strip() else "?"
                goes_on = self._reply(connection, verb)
                if verb == "DATA" and goes_on and self._replies[verb].startswith(b"3"):  # type: ignore[union-attr]
                    self.messages.append(b"".join(iter(lines.readline, b".\r\n")))
                    goes_on = self._reply(connection, ".")

    def _reply(self, connection: socket.socket, verb: str) -> bool:
        """Answer, or hang up: a reply of None."""
        reply = self._replies.get(verb, b"500 what?\r\n")
        if reply is None:
            return False
        connection.sendall(reply)
        return True


@contextlib.contextmanager
def smtp_server(
    address: str = "127.0.0.1", port: int = 0, replies: Mapping[str, bytes | None] | None = None
) -> Iterator[tuple[Server, int]]:
    """Serve on a port of `address`, which is yielded too.  `replies`, by verb, are in place of polite ones.

    "" is the greeting, "." what follows a message; SILENCE says nothing, None hangs up.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        server = Server(listener, replies or {})
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield server, listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
