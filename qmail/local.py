"""qmail-local(8): deliver a message to one user, or forward it, as his dot-qmail(5) file says.

SYNOPSIS   qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty

           The message is on descriptor 0, in a file.  It is for
           local@domain, which is controlled by homedir/.qmail, dash and ext.
           If there is no such file and dash is empty, or if the file is
           empty, aliasempty takes its place.
OPTIONS    -n    only say what would be done with each line
           -N    deliver (default)
EXIT       0: delivered; how is told on descriptor 1.  100: it cannot be.
           111: try again later.  The reason is told on descriptor 2.
FILES      homedir/.qmail*, homedir/Maildir, and whatever the lines name
           control/conf-patrn: bits, in octal, that the modes of the home
           directory and of its .qmail files must not have (002)
ENVIRONMENT
           A program gets USER HOME LOCAL HOST HOST2 HOST3 HOST4 RECIPIENT
           EXT EXT2 EXT3 EXT4 DEFAULT SENDER NEWSENDER DTLINE RPLINE UFLINE.
"""

from __future__ import annotations

import errno
import os
import time

from qmail import home
from qmail.local_delivery import dotqmail, instructions
from qmail.local_delivery.delivery import Delivery, Undelivered
from qmail.local_delivery.instructions import Instructions, Stop
from supervise import chain, children, environment
from supervise.errors import reason
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, TEMPORARY, Usage, program, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Sequence

    from qmail.queueing import enqueue
else:
    import _signal as signal  # the same without enums, at a fifth of the time

SYNOPSIS = "qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty"
CHUNK = 64 * 1024  # bytes
DONE, SKIP_THE_REST = 0, 99
REFUSALS = frozenset({100, 64, 65, 70, 76, 77, 78, 112})
"""Exit codes by which a program says that it will never take the message."""


LATER = (
    "qmail.local_delivery.maildir", "qmail.local_delivery.mbox", "qmail.queueing.enqueue",
    "qmail.queueing.intake", "qmail.bouncesaying", "qmail.condredirect", "qmail.dot_forward",
    "qmail.except_", "qmail.forward", "qmail.preline", "qmail.qreceipt",
)  # fmt: skip
"""What deliveries need on the way."""


@program("qmail-local", later=LATER)
def main(argv: Sequence[str]) -> int:
    options = Options(argv, "nN")
    real = True
    try:
        for letter, _ in options:
            real = letter == "N"
    except BadOption as error:
        say(f"qmail-local: {error}")
        raise Usage(SYNOPSIS) from error
    if len(options.operands) != 8 or not options.operands[1].startswith("/"):
        raise Usage(SYNOPSIS)
    os.umask(0o077)
    sigpipe = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        _deliver(Delivery(map(os.fsencode, options.operands)), real)
    except Stop as stop:
        if str(stop):
            say(str(stop))
        return stop.code
    finally:
        signal.signal(signal.SIGPIPE, sigpipe)
    return 0


def _deliver(delivery: Delivery, real: bool) -> None:
    mail_home = home.find()  # before chdir
    try:
        os.chdir(delivery.home)
    except OSError as error:
        raise Stop(f"Unable to switch to {os.fsdecode(delivery.home)}: {reason(error)}. (#4.3.0)") from error
    forbidden = instructions.forbidden_bits(mail_home)
    instructions.check_home(forbidden, real)
    if real:
        _refuse_loop(delivery.delivered_to)
    _Run(delivery, mail_home, real).follow(instructions.find(delivery, forbidden))


def _rewind() -> None:
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as error:
        raise Stop("Unable to rewind message. (#4.3.0)") from error


def _refuse_loop(delivered_to: bytes) -> None:
    """Refuse a message whose header has our own line already."""
    _rewind()
    line, seen = b"\n" + delivered_to, b"\n"
    while data := _read_message():
        seen += data
        header, end, _ = seen.partition(b"\n\n")
        if line in (header + b"\n" if end else header):
            raise Stop("This message is looping: it already has my Delivered-To line. (#5.4.6)", PERMANENT)
        if end:
            return
        seen = seen[-len(line) :]


def _read_message() -> bytes:
    try:
        return os.read(0, CHUNK)
    except OSError as error:
        raise Stop(f"Unable to read message: {reason(error)}. (#4.3.0)") from error


class _Run:
    """Follows the instructions, line by line; forwards go out together, after all else succeeded."""

    def __init__(self, delivery: Delivery, mail_home: str, real: bool) -> None:
        self._delivery = delivery
        self._mail_home = mail_home
        self._real = real
        self._now = time.time()
        self._counts = {dotqmail.FORWARD: 0, dotqmail.PROGRAM: 0, "file": 0}
        self._recipients: list[bytes] = []

    def follow(self, found: Instructions) -> None:
        """Do what the lines say, and tell how many there were.  Raises Stop."""
        self._default, self._forwards_only = found.default, found.forwards_only
        self._new_sender = instructions.new_sender(self._delivery)
        for kind, text in self._lines(found.text):
            if self._line(kind, text) == SKIP_THE_REST:
                break
        queued = self._forward() if self._recipients else None
        counts = self._counts
        _tell(b"did %d+%d+%d" % (counts["file"], counts[dotqmail.FORWARD], counts[dotqmail.PROGRAM]))
        if queued:
            _tell(b"qp %d" % queued)

    def _lines(self, text: bytes) -> Iterator[tuple[str, bytes]]:
        try:
            yield from dotqmail.parse(text)
        except dotqmail.BlankFirstLine as error:
            raise Stop("Uh-oh: first line of .qmail file is blank. (#4.2.1)") from error

    def _line(self, kind: str, text: bytes) -> int:
        if kind == dotqmail.LIST:
            self._forwards_only = True
            return DONE
        self._counts[kind if kind in self._counts else "file"] += 1
        if self._forwards_only and kind != dotqmail.FORWARD:
            what = "prog" if kind == dotqmail.PROGRAM else "file"
            raise Stop(f"Uh-oh: .qmail has {what} delivery but has x bit set. (#4.7.0)")
        if not self._real:
            _tell(kind.encode() + b" " + text)
            return DONE
        text = text.partition(b"\0")[0]
        if kind == dotqmail.FORWARD:
            self._recipients.append(text)
        elif kind == dotqmail.PROGRAM:
            return self._program(text)
        else:
            self._file(kind, text)
        return DONE

    def _file(self, kind: str, path: bytes) -> None:
        from qmail.local_delivery import maildir, mbox

        delivery = self._delivery
        header = delivery.return_path + delivery.delivered_to
        _rewind()
        try:
            if kind == dotqmail.MAILDIR:
                maildir.deliver(path, header, 0)
            else:
                mbox.deliver(path, delivery.from_line(self._now) + header, 0)
        except Undelivered as error:
            raise Stop(str(error)) from error

    def _program(self, command: bytes) -> int:
        """Run a command with the message on its descriptor 0; 99 if it says that this is enough."""
        _rewind()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            code = children.wait(children.spawn(_argv(command), self._environment()))
        except OSError as error:
            raise _unable_to_run(error) from error
        finally:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        if code < 0:
            raise Stop("Aack, child crashed. (#4.3.0)")
        if code not in (DONE, SKIP_THE_REST):
            raise Stop(code=PERMANENT if code in REFUSALS else TEMPORARY)
        return code

    def _environment(self) -> dict[str, str]:
        return self._delivery.environment(self._default, self._new_sender, self._now)

    def _forward(self) -> int:
        """Queue the message for the recipients; return the number of the process that did."""
        from qmail.queueing import enqueue, envelope

        _rewind()
        before = dict(os.environ)
        environment.replace(self._environment())  # for a $QMAILQUEUE
        try:
            message = enqueue.open_message(self._mail_home)
            message.write(self._delivery.delivered_to)
            _copy_to(message)
            verdict = message.commit(envelope.encode(self._new_sender, self._recipients))
        except OSError as error:
            raise _unable_to_fork(error) from error
        finally:
            environment.replace(before)
        if verdict:
            code = PERMANENT if verdict.startswith(b"D") else TEMPORARY
            raise Stop(f"Unable to forward message: {os.fsdecode(verdict[1:])}.", code)
        return message.number


def _argv(command: bytes) -> list[str]:
    """What to run for a command line: the shell, or the toolkit's own program that it would run at once."""
    words = [os.fsdecode(word) for word in dotqmail.plain_words(command)]
    try:
        if words and chain.find(words[0])[1]:
            return words
    except OSError:  # let the shell complain
        pass
    return ["/bin/sh", "-c", os.fsdecode(command)]


def _copy_to(message: enqueue.Message) -> None:
    try:
        while data := os.read(0, CHUNK):
            message.write(data)
    except OSError:
        message.fail()


def _unable_to_run(error: OSError) -> Stop:
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return _unable_to_fork(error)
    return Stop(f"Unable to run /bin/sh: {reason(error)}. (#4.3.0)")


def _unable_to_fork(error: OSError) -> Stop:
    return Stop(f"Unable to fork: {reason(error)}. (#4.3.0)")


def _tell(line: bytes) -> None:
    say(os.fsdecode(line), 1)
