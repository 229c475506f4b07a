"""What qmail-inject makes of a header: sender and recipients found, addresses rewritten, fields completed."""

from __future__ import annotations

from qmail import dates
from qmail.header.addresses import TooLong, rewritten
from qmail.header.tokens import (
    ATOM,
    COMMENT,
    MARKS,
    QUOTED,
    Unparsable,
    decode,
    unparse,
)
from qmail.quoting import needs_quotes, quote2
from qmail.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from qmail.header.addresses import Note
    from qmail.header.rewriting import Rewriter
    from qmail.header.tokens import Token

TO_CC = frozenset((b"to", b"cc"))
RECIPIENTS = frozenset((*TO_CC, b"bcc", b"apparently-to"))
RESENT_RECIPIENTS = frozenset((b"resent-to", b"resent-cc", b"resent-bcc"))
RESENT = RESENT_RECIPIENTS | {
    b"resent-sender", b"resent-from", b"resent-reply-to", b"resent-date", b"resent-message-id",
}  # fmt: skip
SENDERS = frozenset((
    b"return-path", b"sender", b"from", b"reply-to", b"return-receipt-to", b"errors-to",
    b"resent-sender", b"resent-from", b"resent-reply-to",
))  # fmt: skip
STAMPS = frozenset((b"date", b"message-id", b"mail-followup-to"))
HIDDEN = frozenset((b"bcc", b"resent-bcc", b"return-path", b"content-length"))
ADDRESSES = RECIPIENTS | RESENT_RECIPIENTS | SENDERS
KNOWN = ADDRESSES | RESENT | STAMPS
UNWANTED = {b"s": b"return-path", b"f": b"from", b"i": b"message-id"}  # by flags of QMAILINJECT
LONGEST_FIELD = 1 << 26  # bytes of a field that holds addresses
NOT_SHOWN = b"Cc: recipient list not shown: ;\n"


class Refused(ValueError):
    """What cannot be understood, and is not to be let pass, is `args[0]`, as bytes."""


class Identity:
    """Who sends, and how, as the environment tells it."""

    def __init__(self, environment: Mapping[bytes, bytes]) -> None:
        def first(*names: bytes) -> bytes | None:
            return next((environment[name] for name in names if name in environment), None)

        user = first(b"QMAILUSER", b"MAILUSER", b"USER", b"LOGNAME")
        self.user = b"anonymous" if user is None else user
        self.host = first(b"QMAILHOST", b"MAILHOST")
        self.sender_user = environment.get(b"QMAILSUSER", self.user)
        self.sender_host = environment.get(b"QMAILSHOST", self.host)
        self.name = first(b"QMAILNAME", b"MAILNAME", b"NAME")
        flags = environment.get(b"QMAILINJECT", b"")
        self.name_in_comment = b"c" in flags
        self.sender_per_recipient = b"r" in flags
        self.sender_per_message = b"m" in flags
        self.unwanted = frozenset(name for flag, name in UNWANTED.items() if flag in flags)


class Stamp:
    """What makes the dates and identifiers of a message: the time in seconds since 1970, the pid, a host."""

    def __init__(self, when: int, pid: int, host: bytes, local_time: bool = False) -> None:
        self.unique = b"%d.%d" % (when, pid)
        self.date = b"Date: %b\n" % dates.rfc822(when, local_time)
        self.message_id = b"Message-ID: <%b.%d.qmail@%b>\n" % (dates.digits(when), pid, host)


class Injection:
    """Takes the fields of a message; then has its sender, its recipients, and its complete header.

    sender: of the envelope, if it is settled before.
    lists: lower-case addresses of mailing lists, which ask for a
    Mail-Followup-To; None if that is not to be made.
    """

    def __init__(
        self, identity: Identity, rewriter: Rewriter, stamp: Stamp,
        sender: bytes | None = None, lists: frozenset[bytes] | None = None,
    ) -> None:  # fmt: skip
        self._sender = sender
        self._identity = identity
        self._rewriter = rewriter
        self._stamp = stamp
        self._lists = lists
        self._seen: set[bytes] = set()
        self._saved = Spool()
        self._recipients = Spool()
        self._resent_recipients = Spool()
        self._to_cc: list[bytes] = []

    def close(self) -> None:
        for spool in (self._saved, self._recipients, self._resent_recipients):
            spool.close()

    def take(self, name: bytes, field: Iterable[bytes]) -> None:
        """Take the next field, in pieces.  Raises Refused, TooLong."""
        if name in self._identity.unwanted:
            return
        if name in KNOWN:
            self._seen.add(name)
        if name in ADDRESSES:
            field = (self._rewritten(name, whole(field)),)
        if name not in HIDDEN:
            for piece in field:
                self._saved.put(piece)

    def _rewritten(self, name: bytes, field: bytes) -> bytes:
        try:
            return rewritten(field, self._rewriter, self._note(name))
        except Unparsable:
            if name in SENDERS:
                raise Refused(field) from None
            return field

    def _note(self, name: bytes) -> Note | None:
        """What wants to know the addresses in a field."""
        if name == b"return-path":
            return self._note_sender
        if name in RESENT_RECIPIENTS:
            return self._note_resent_recipient
        if name in TO_CC and self._lists is not None:
            return self._note_to_cc
        return self._note_recipient if name in RECIPIENTS else None

    def _note_sender(self, address: bytes) -> None:
        if self._sender is None:
            self._sender = address + (b"-@[]" if self._identity.sender_per_recipient else b"")

    def _note_recipient(self, address: bytes) -> None:
        self._recipients.put(b"T%b\0" % until_nul(address))

    def _note_resent_recipient(self, address: bytes) -> None:
        self._resent_recipients.put(b"T%b\0" % until_nul(address))

    def _note_to_cc(self, address: bytes) -> None:
        self._note_recipient(address)
        self._to_cc.append(address)

    @property
    def resent(self) -> bool:
        """Is this a message sent again?"""
        return not self._seen.isdisjoint(RESENT)

    def envelope(self, recipients: Iterable[bytes], from_header: bool) -> bytes:
        """The envelope for qmail-queue: to `recipients`, and to those that the header names if wanted."""
        named = (self._resent_recipients if self.resent else self._recipients).blocks() if from_header else ()
        given = [b"T%b\0" % recipient for recipient in recipients]
        return b"".join([b"F%b\0" % self.sender(), *given, *named, b"\0"])

    def sender(self) -> bytes:
        """The one given, or that of the first Return-Path, or that of the environment.  Raises Refused."""
        if self._sender is None:
            self._own_field("Return-Path", self._default_sender(), self._note_sender)
        return until_nul(self._sender or b"")

    def _default_sender(self) -> list[Token]:
        user = self._identity.sender_user
        if self._identity.sender_per_message:
            user += b"-" + self._stamp.unique
        if self._identity.sender_per_recipient:
            user += b"-"
        return [(QUOTED, decode(user)), *_at(self._identity.sender_host)]

    def _default_from(self) -> bytes:
        who = self._identity
        kind = QUOTED if needs_quotes(who.user) else ATOM
        address: list[Token] = [(kind, decode(who.user)), *_at(who.host)]
        if who.name is not None and who.name_in_comment:
            address = [*address, (COMMENT, decode(who.name))]
        elif who.name is not None:
            address = [(QUOTED, decode(who.name)), MARKS["<"], *address, MARKS[">"]]
        return self._own_field("From", address)

    def _own_field(self, name: str, contents: list[Token], note: Note | None = None) -> bytes:
        field = unparse([(ATOM, name), MARKS[":"], *contents])
        try:
            return rewritten(field, self._rewriter, note)
        except Unparsable:
            raise Refused(field) from None

    def additions(self) -> bytes:
        """The fields that the header lacked.  Raises Refused."""
        prefix = b"Resent-" if self.resent else b""
        added: list[bytes] = []
        if self._lacks(prefix, b"date"):
            added.append(prefix + self._stamp.date)
        if self._lacks(prefix, b"message-id"):
            added.append(prefix + self._stamp.message_id)
        if self._lacks(prefix, b"from"):
            added.append(prefix + self._default_from())
        if self._lacks(prefix, b"to", b"cc"):
            added.append(prefix + NOT_SHOWN)
        if not prefix:
            added.append(self._followup())
        return b"".join(added)

    def header(self) -> Iterator[bytes]:
        """What was there, rewritten, in pieces."""
        return self._saved.blocks()

    def _lacks(self, prefix: bytes, *names: bytes) -> bool:
        return self._seen.isdisjoint(prefix.lower() + name for name in names)

    def _followup(self) -> bytes:
        """Mail-Followup-To, for a message to a mailing list that has none."""
        if self._lists is None or b"mail-followup-to" in self._seen:
            return b""
        if self._lists.isdisjoint(address.lower() for address in self._to_cc):
            return b""
        readers = [quote2(until_nul(address)) for address in reversed(self._to_cc)]
        return b"Mail-Followup-To: " + b",\n  ".join(readers) + b"\n"


def _at(host: bytes | None) -> list[Token]:
    return [] if host is None else [MARKS["@"], (ATOM, decode(host))]


def until_nul(address: bytes) -> bytes:
    """What an envelope can hold of `address`."""
    return address.partition(b"\0")[0]


def whole(pieces: Iterable[bytes]) -> bytes:
    """A field in one piece.  Raises TooLong."""
    parts: list[bytes] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > LONGEST_FIELD:
            raise TooLong
        parts.append(piece)
    return b"".join(parts)
