"""Who owns the other end of a connection, by the server on its port 113 (RFC 1413)."""

from __future__ import annotations

import socket
import time

from ucspi import addresses, timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    Address = tuple[bytes, int]

PORT = 113
MAX_INFO = 257  # bytes; the original's
MAX_ANSWER = 8192  # bytes; white space does not count in the name, but it must end
BLANKS = b" \t\r"
_BEFORE_NAME = 3  # colons: ports : USERID : system : name


class Answer:
    """Picks the name out of an answer, fed in pieces.  Does no I/O.

    As the original, it takes whatever follows the third colon, without
    blanks, up to the newline, and asks no more of the form.
    """

    def __init__(self) -> None:
        self._fed = 0
        self._colons = 0
        self._name = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """The name once it is complete; None: more is needed.  ValueError: it goes on for ever."""
        for byte in data:
            if byte == 0x0A:
                return bytes(self._name)
            if byte in BLANKS:
                continue
            if self._colons < _BEFORE_NAME:
                self._colons += byte == 0x3A
                continue
            self._name.append(byte)
            if len(self._name) >= MAX_INFO:
                return bytes(self._name)
        self._fed += len(data)
        if self._fed > MAX_ANSWER:
            raise ValueError("no end of the answer in sight")
        return None


def ask(remote: Address, local: Address, timeout: float) -> bytes | None:
    """Ask `remote`'s host who connected from there to `local`.

    None if it does not say within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    try:
        with socket.socket(addresses.family(remote[0]), socket.SOCK_STREAM) as sock:
            sock.bind((addresses.text(local[0]), 0))
            sock.settimeout(max(timeout, 0.001))
            sock.connect((addresses.text(remote[0]), PORT))
            timed.write(sock.fileno(), b"%d , %d\r\n" % (remote[1], local[1]), deadline - time.monotonic())
            answer = Answer()
            while data := timed.read_until(sock.fileno(), 256, deadline):
                name = answer.feed(data)
                if name is not None:
                    return name
    except (OSError, ValueError):
        pass
    return None
