"""Line ends, LF here and CR LF on the network, changed in streams that arrive in any pieces.  No I/O."""

from __future__ import annotations

CR, LF, CRLF = b"\r", b"\n", b"\r\n"


def with_cr(data: bytes) -> bytes:
    """Put a CR before every LF, whatever stands there already."""
    return data.replace(LF, CRLF)


class WithoutCr:
    """Takes off one CR before each LF; any other CR stays."""

    def __init__(self) -> None:
        self._held = b""  # a CR whose successor is not here yet

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        self._held = CR if data.endswith(CR) else b""
        return data.removesuffix(self._held).replace(CRLF, LF)

    def end(self) -> bytes:
        """What is left at the end of the stream."""
        return self._held


class FixedCr:
    """Puts a CR before each LF that has none."""

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        first = b""
        if self._after_cr and data.startswith(LF):
            first, data = LF, data[1:]
        if first or data:
            self._after_cr = data.endswith(CR)
        return first + data.replace(CRLF, LF).replace(LF, CRLF)

    def end(self) -> None:
        """Nothing is ever held back."""


def _visible(byte: int) -> bytes:
    """`byte` as `cat -v` shows it: ^X, ^?, M-x, M-^X, or itself."""
    meta, low = (b"M-", byte - 128) if byte >= 128 else (b"", byte)
    if byte in b"\t\n" or 32 <= low < 127:
        return meta + bytes([low])
    return meta + b"^" + bytes([low ^ 64])


_VISIBLE = [_visible(byte) for byte in range(256)]


def visible(data: bytes) -> bytes:
    """`data` without anything that a terminal would obey but tab and newline."""
    return b"".join([_VISIBLE[byte] for byte in data])
