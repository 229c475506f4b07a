"""What qmail-send reads from control/."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from qmail.control import Controls, lookup_set, lookup_table
from qmail.sending.bounces import Postmaster
from qmail.sending.rewriting import Rewriting

LIFETIME = 604800  # seconds: a week
CONCURRENCY = (10, 20)
CONCURRENCY_FILES = ("concurrencylocal", "concurrencyremote")
BOUNCE_BYTES = 50000


class Unreadable(Exception):
    """A control file cannot be read, or is missing and must not be; its name."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one qmail-send; concurrency as asked for, by channel."""

    rewriting: Rewriting
    postmaster: Postmaster
    lifetime: int
    concurrency: tuple[int, int]

    @classmethod
    def read(cls, home: str) -> Settings:
        """All settings of a mail home.  Raises Unreadable."""
        try:
            controls = Controls.of(home)
            return cls(
                Rewriting(
                    _locals(controls),
                    _virtual_domains(controls),
                    lookup_set(controls.lines("percenthack") or ()),
                    _text(controls, "envnoathost"),
                ),
                _postmaster(controls),
                controls.number("queuelifetime", LIFETIME),
                _concurrency(controls),
            )
        except OSError as error:
            raise Unreadable("controls") from error

    def reread(self, home: str) -> Settings:
        """What SIGHUP changes: locals, virtualdomains, concurrency, bouncemaxbytes.

        Raises Unreadable with the name of the file in the way; then nothing changes.
        """
        name = "me"
        try:
            controls = Controls.of(home)
            name = "locals"
            local_domains = _locals(controls)
            name = "virtualdomains"
            virtual_domains = _virtual_domains(controls)
            concurrency = []
            for name, default in zip(CONCURRENCY_FILES, self.concurrency, strict=True):
                concurrency.append(controls.number(name, default))
            name = "bouncemaxbytes"
            most_bytes = controls.number(name, BOUNCE_BYTES)
        except OSError as error:
            raise Unreadable(name) from error
        return dataclasses.replace(
            self,
            rewriting=dataclasses.replace(
                self.rewriting, local_domains=local_domains, virtual_domains=virtual_domains
            ),
            postmaster=dataclasses.replace(self.postmaster, most_bytes=most_bytes),
            concurrency=(concurrency[0], concurrency[1]),
        )


def _locals(controls: Controls) -> frozenset[bytes]:
    lines = controls.lines("locals", me=True)
    if lines is None:
        raise Unreadable("locals")
    return lookup_set(lines)


def _virtual_domains(controls: Controls) -> dict[bytes, bytes]:
    return lookup_table(controls.lines("virtualdomains") or ())


def _concurrency(controls: Controls) -> tuple[int, int]:
    local, remote = map(controls.number, CONCURRENCY_FILES, CONCURRENCY)
    return local, remote


def _text(controls: Controls, name: str) -> bytes:
    """A line that defaults to control/me, or as a last resort to its own name."""
    return controls.line(name, name.encode(), me=True) or b""


def _postmaster(controls: Controls) -> Postmaster:
    double_to = controls.line("doublebounceto", b"postmaster")
    return Postmaster(
        controls.line("bouncefrom", b"MAILER-DAEMON") or b"",
        _text(controls, "bouncehost"),
        double_to + b"@" + _text(controls, "doublebouncehost") if double_to else b"",
        controls.number("bouncemaxbytes", BOUNCE_BYTES),
    )
