"""Whose mail this host takes in: control/rcpthosts and control/morercpthosts.cdb."""

from __future__ import annotations

from qmail.control import lookup_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmail.control import Controls


class RcptHosts:
    """The hosts of `rcpthosts`, and a database of more, which is opened when a host is not among them."""

    __slots__ = ("_database", "_hosts")

    def __init__(self, controls: Controls) -> None:
        """Raises OSError."""
        listed = controls.lines("rcpthosts")
        self._hosts = None if listed is None else lookup_set(listed)
        self._database = f"{controls.directory}/morercpthosts.cdb"

    def allow(self, address: bytes) -> bool:
        """Is mail for `address` taken in?  Without rcpthosts, or without an @, it is.  Raises OSError."""
        if self._hosts is None or b"@" not in address:
            return True
        names = list(domains(address))
        return any(name in self._hosts for name in names) or self._in_database(names)

    def _in_database(self, names: list[bytes]) -> bool:
        from ucspi.cdb import Reader  # for those who have such a file

        try:
            reader = Reader.open(self._database)
        except FileNotFoundError:
            return False
        with reader:
            return any(reader.find(name) is not None for name in names)


def domains(address: bytes) -> Iterator[bytes]:
    """`host.example.org`, `.example.org` and `.org` of an address, in lower case."""
    host = address.rpartition(b"@")[2].lower()
    if host:
        yield host
    dot = host.find(b".", 1)
    while dot >= 0:
        yield host[dot:]
        dot = host.find(b".", dot + 1)
