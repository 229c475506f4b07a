"""users/cdb: who gets the mail for a local part, as qmail-newu compiles it from users/assign.

Under the empty key it has the characters that wildcards end with; under
`!joe NUL` what is assigned to joe, under `!joe-` what is assigned to all
that begins with joe-, to which the rest of the local part is appended:

    user NUL uid NUL gid NUL home NUL dash NUL ext
"""

from __future__ import annotations

from dataclasses import dataclass

from supervise.numbers import leading_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Table(Protocol):
        """An open cdb; looking a key up may raise OSError."""

        def find(self, key: bytes) -> bytes | None: ...


ID_BITS = 0xFFFFFFFF


class Incomplete(ValueError):
    """A field is missing."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Whose mail it is, and what qmail-local is to be told of it."""

    user: bytes
    uid: int
    gid: int
    home: bytes
    dash: bytes
    ext: bytes


def find(table: Table, local: bytes) -> bytes | None:
    """What is assigned to a local part, a NUL behind each field; None: nothing.

    Raises LookupError if this is no users/cdb, and what the table raises.
    """
    ends = table.find(b"")
    if ends is None:
        raise LookupError
    key = b"!" + local.lower()
    found = table.find(key + b"\0")
    if found is not None:
        return found + b"\0"
    for length in range(len(key), 0, -1):
        if length == 1 or key[length - 1] in ends:
            found = table.find(key[:length])
            if found is not None:
                return found + local[length - 1 :] + b"\0"
    return None


def parse(fields: bytes) -> Assignment:
    """The assignment that users/cdb or qmail-getpw gives.  Raises Incomplete."""
    parts = fields.split(b"\0", 6)
    if len(parts) < 7:
        raise Incomplete
    user, uid, gid, home, dash, ext, _ = parts
    return Assignment(user, leading_number(uid) & ID_BITS, leading_number(gid) & ID_BITS, home, dash, ext)
