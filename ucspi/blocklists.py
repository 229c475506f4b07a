"""Is a client listed?  What lists of addresses in the DNS are asked, and what follows from their answers.

Here are only the rules; rblsmtpd asks.
"""

from __future__ import annotations

from supervise import masks
from ucspi import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    Outcome = tuple[Any, ...] | OSError | None
    """What a question brought: records, a failure, or nothing yet."""

LOOKUP_ERROR = b"temporary RBL lookup error"
MAX_TEXT = 200  # bytes of a reason
ACCEPT, REJECT, BOUNCE = "accept", "reject", "bounce"


class List:
    """One -r or -a, with the options that stood before it.

    anti: who is on it is welcome.  bounce: who is on it may not try again.
    fail_closed: its failure counts against the client.
    """

    def __init__(self, base: str, *, anti: bool, bounce: bool, fail_closed: bool) -> None:
        self.base = base
        self.anti = anti
        self.bounce = bounce
        self.fail_closed = fail_closed

    def questions(self, client: str) -> list[tuple[str, str]]:
        """The (name, kind) to look up: a text for the one who is blocked, or an address."""
        name = reversed_address(client) + self.base
        if not self.anti:
            return [(name, "TXT")]
        return [(name, "A"), (name, "AAAA")] if ":" in client else [(name, "A")]


class Verdict:
    """What becomes of the client: `kind` ACCEPT, REJECT or BOUNCE, with `text` as the reason."""

    def __init__(self, kind: str, text: bytes = b"") -> None:
        self.kind = kind
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))

    def reply(self) -> bytes:
        """The line that refuses: 451 to try again later, 553 never to."""
        code = b"451 " if self.kind == REJECT else b"553 "
        return code + self.text[:MAX_TEXT].translate(masks.printable(b"?"))


def by_variable(value: bytes | None) -> Verdict | None:
    """What RBLSMTPD says: empty, welcome; -text, never again; text, later.  None: not set."""
    if value is None:
        return None
    if value.startswith(b"-"):
        return Verdict(BOUNCE, value[1:])
    return Verdict(REJECT, value) if value else Verdict(ACCEPT)


def reversed_address(client: str) -> str:
    """`client` as it stands before a list's name: 4.3.2.1. or the nibbles of an IPv6 address.

    Whatever is no address is turned round at its dots, as in the original.
    """
    address = addresses.parse(client)
    if address and len(address) == addresses.LENGTH6:
        return addresses.reverse_labels(addresses.unmapped(address))
    return "".join(f"{part}." for part in reversed(client.split("."))) if client else ""


def decide(lists: Sequence[List], client: str, outcomes: Sequence[Outcome]) -> Verdict | None:
    """What follows from `outcomes`, those of the lists' questions in order; None: wait for more.

    The first list that has something to say decides.  After a failed look-up
    a lasting refusal becomes a temporary one: the failed list might have
    spoken for the client.
    """
    left: Iterator[Outcome] = iter(outcomes)
    doubtful = False
    for asked in lists:
        answers = [next(left) for _ in asked.questions(client)]
        records = [record for answer in answers if isinstance(answer, tuple) for record in answer]
        if records:
            verdict = _listed(asked, records)
        elif None in answers:
            return None
        elif any(isinstance(answer, OSError) for answer in answers):
            doubtful = True
            verdict = _failed(asked)
        else:
            verdict = None
        if verdict:
            return Verdict(REJECT, verdict.text) if doubtful and verdict.kind == BOUNCE else verdict
    return Verdict(ACCEPT)


def _listed(asked: List, records: Sequence[bytes]) -> Verdict | None:
    if asked.anti:
        return Verdict(ACCEPT)
    text = b"".join(records)
    return Verdict(BOUNCE if asked.bounce else REJECT, text) if text else None


def _failed(asked: List) -> Verdict | None:
    """-c: an unanswered list may list the client, an unanswered anti-list not.  -C: the other way round."""
    if asked.anti:
        return None if asked.fail_closed else Verdict(ACCEPT)
    return Verdict(REJECT, LOOKUP_ERROR) if asked.fail_closed else None
