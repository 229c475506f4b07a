"""qmail-inject(8): completes a mail message and queues it.

SYNOPSIS
qmail-inject [ -nNaAhH ] [ -fsender ] [ recip ... ]

DESCRIPTION
qmail-inject reads a message from standard input, adds what its header lacks,
completes the addresses in it, and feeds it to qmail-queue.  A last line
without a newline gets one.

The recipients are those named as arguments; if there are none, those in To,
Cc, Bcc and Apparently-To, or, if there is any Resent- field, in Resent-To,
Resent-Cc and Resent-Bcc.  The envelope sender is that of -f, else of
Return-Path, else made from the environment.

An address without a host gets the default host name; a host name that ends in
a plus sign gets the plus domain, another one without a dot the default
domain.  Source routes are cut off.  Lists of addresses are folded anew at 80
columns.  Bcc, Resent-Bcc, Return-Path and Content-Length are taken out.

A field of recipients that cannot be parsed stays as it is.  Any other field
of addresses that cannot is an error.

OPTIONS
-a        use the arguments only
-h        use the header's recipients only
-A        arguments if there are any, else the header (the default)
-H        both
-f sender the envelope sender
-N        queue the message (the default)
-n        print the message, with its sender as Return-Path, instead

ENVIRONMENT
  QMAILUSER, MAILUSER, USER, LOGNAME  the sender's box; the first one set counts
  QMAILHOST, MAILHOST                 the sender's host
  QMAILNAME, MAILNAME, NAME           the sender's name
  QMAILSUSER, QMAILSHOST              box and host of the envelope sender
  QMAILINJECT      letters: c the name goes into a comment; s, f, i drop
                   Return-Path, From, Message-ID; m, r give each message, each
                   recipient, an envelope sender of its own
  QMAILMFTFILE     a file with addresses of mailing lists: a message to one of
                   them gets a Mail-Followup-To
  QMAILDEFAULTDOMAIN, QMAILDEFAULTHOST, QMAILIDHOST, QMAILPLUSDOMAIN
                   in place of the control files
  QMAILQUEUE       a program to run in place of bin/qmail-queue
  QMAILHOME, QMAIL_CONTROLDIR
                   the mail home and its control files, if not the usual ones

FILES
control/me, control/defaultdomain, control/defaulthost, control/idhost,
control/plusdomain, each of one line; control/me counts for a missing one.
control/datelocaltime, if it holds a number other than 0: the Date is local
time, with the zone's offset.

EXIT
0: done.  100: the message or the command line is wrong.  111: try again later.
"""

from __future__ import annotations

import os
import time

from qmail import home
from qmail.control import Controls, lookup_set, read_file, significant
from qmail.header.addresses import TooLong
from qmail.header.fields import Reader
from qmail.header.rewriting import Rewriter
from qmail.header.tokens import Unparsable, decode, tokenise, unquote
from qmail.injection import Identity, Injection, Refused, Stamp, until_nul
from qmail.queueing import enqueue
from qmail.quoting import quote2
from supervise.durable import write_all
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, TEMPORARY, Fatal, program, say, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from qmail.header.tokens import Token
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

BLOCK = 65536


class Request:
    """What the command line asks for."""

    def __init__(self) -> None:
        self.strategy = "A"  # which recipients: a, h, A or H
        self.queue = True
        self.sender: bytes | None = None
        self.recipients: list[bytes] = []

    @property
    def from_header(self) -> bool:
        """Are the header's recipients wanted?"""
        return self.strategy in "hH" or (self.strategy == "A" and not self.recipients)


@program("qmail-inject")
def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        return _inject(argv, os.environb)
    except BadOption as error:
        say(f"qmail-inject: {error}")
    except Refused as error:
        complaint = b"qmail-inject: fatal: unable to parse this line:\n" + error.args[0]
        with unable_to("complain"):
            os.write(2, complaint)
    except (MemoryError, TooLong):
        raise Fatal("out of memory") from None
    return PERMANENT


def _inject(argv: Sequence[str], environment: Mapping[bytes, bytes]) -> int:
    when = int(time.time())
    lists = _mailing_lists(environment)
    mail_home = home.find()
    try:
        os.chdir(mail_home)
    except OSError:
        raise Fatal("internal bug") from None
    rewriter, stamp = _settings(mail_home, environment, when)
    request = _read_options(argv, rewriter)
    injection = Injection(Identity(environment), rewriter, stamp, request.sender, lists)
    try:
        return _finish(request, injection, mail_home)
    finally:
        injection.close()


def _mailing_lists(environment: Mapping[bytes, bytes]) -> frozenset[bytes] | None:
    file = environment.get(b"QMAILMFTFILE")
    if file is None:
        return None
    try:
        content = read_file(os.fsdecode(file))
    except OSError:
        raise Fatal("read error") from None
    return None if content is None else lookup_set(significant(content))


def _settings(mail_home: str, environment: Mapping[bytes, bytes], when: int) -> tuple[Rewriter, Stamp]:
    """What the control files and the environment say.  Raises Refused."""
    try:
        controls = Controls.of(mail_home)

        def setting(name: str) -> bytes:
            line = controls.line(name, name.encode(), me=True)
            return environment.get(b"QMAIL" + name.upper().encode(), line or b"")

        domain = _suffix(b"." + setting("defaultdomain"))
        host = _suffix(b"@" + setting("defaulthost"))
        plus = _suffix(b"." + setting("plusdomain"))
        local_time = bool(controls.number("datelocaltime", 0))
        return Rewriter(host, domain, plus), Stamp(when, os.getpid(), setting("idhost"), local_time)
    except OSError:
        raise Fatal("read error") from None


def _suffix(text: bytes) -> list[Token]:
    try:
        return tokenise(decode(text))
    except Unparsable:
        raise Refused(text) from None


def _read_options(argv: Sequence[str], rewriter: Rewriter) -> Request:
    """Raises BadOption, Refused."""
    request = Request()
    options = Options(argv, "aAhHnNf:")
    for letter, argument in options:
        if letter == "f":
            request.sender = unquote(rewriter.rewrite(_suffix(quote2(os.fsencode(argument)))))
        elif letter in "nN":
            request.queue = letter == "N"
        else:
            request.strategy = letter
    if request.strategy != "h":
        request.recipients = [_recipient(os.fsencode(word), rewriter) for word in options.operands]
    return request


def _recipient(word: bytes, rewriter: Rewriter) -> bytes:
    try:
        tokens = tokenise(decode(quote2(word)))
    except Unparsable:
        raise Fatal(f"unable to parse address: {os.fsdecode(word)}", PERMANENT) from None
    return until_nul(unquote(rewriter.rewrite(tokens)))


def _finish(request: Request, injection: Injection, mail_home: str) -> int:
    reader = Reader(_read)
    with unable_to("keep the header"):
        for name, field in reader.fields():
            injection.take(name, field)
    sender = injection.sender()
    message = merged(injection.additions(), injection.header(), reader.body())
    if not request.queue:
        _print(b"Return-Path: <%b>\n" % quote2(sender), message)
        return 0
    return _queue(mail_home, message, injection.envelope(request.recipients, request.from_header))


def _read() -> bytes:
    try:
        return os.read(0, BLOCK)
    except OSError:
        raise Fatal("read error") from None


def merged(beginning: bytes, *sources: Iterable[bytes]) -> Iterator[bytes]:
    """All of it, in blocks worth writing."""
    held = [beginning]
    length = len(beginning)
    for source in sources:
        for piece in source:
            held.append(piece)
            length += len(piece)
            if length >= BLOCK:
                yield b"".join(held)
                held.clear()
                length = 0
    yield b"".join(held)


def _print(beginning: bytes, message: Iterator[bytes]) -> None:
    """Print it.  As in the original, nobody listening is no error."""
    for block in message:
        try:
            write_all(1, beginning + block)
        except OSError:
            pass
        beginning = b""


def _queue(mail_home: str, message: Iterator[bytes], envelope: bytes) -> int:
    try:
        queue = enqueue.open_message(mail_home)
    except OSError:
        raise Fatal("unable to run qmail-queue") from None
    try:
        for block in message:
            queue.write(block)
        verdict = queue.commit(envelope)
    except BaseException:
        queue.abandon()
        raise
    if verdict:
        raise Fatal(os.fsdecode(verdict[1:]), PERMANENT if verdict.startswith(b"D") else TEMPORARY)
    return 0
