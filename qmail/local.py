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
ENVIRONMENT
           A program gets USER HOME LOCAL HOST HOST2 HOST3 HOST4 RECIPIENT
           EXT EXT2 EXT3 EXT4 DEFAULT SENDER NEWSENDER DTLINE RPLINE UFLINE.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from qmail import dotqmail, home
from qmail.delivery import Delivery
from supervise import chain
from supervise.errors import reason, temporary
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, TEMPORARY, Usage, program, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Sequence

    from qmail import enqueue
else:
    import _signal as signal  # the same without enums, at a fifth of the time

SYNOPSIS = "qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty"
WRITABLE = 0o002
"""These bits of the mode of a home directory or a .qmail file mean that others might give the orders."""
MOST_INSTRUCTIONS = 64 * 1024 * 1024  # bytes
CHUNK = 64 * 1024  # bytes
DONE, SKIP_THE_REST = 0, 99
REFUSALS = frozenset({100, 64, 65, 70, 76, 77, 78, 112})
"""Exit codes by which a program says that it will never take the message."""
LATER_OPENS = (errno.EPERM, errno.EACCES)


class Stop(Exception):
    """The delivery ends here with an exit code; `str(error)`, if any, tells why."""

    def __init__(self, text: str = "", code: int = TEMPORARY) -> None:
        super().__init__(text)
        self.code = code


@program("qmail-local")
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
    _check_home(real)
    if real:
        _refuse_loop(delivery.delivered_to)
    fd, default, forwards_only = _find_instructions(delivery)
    instructions = _read_instructions(fd) if fd is not None else b""
    if not instructions:
        instructions, forwards_only = delivery.default, False
    _Run(delivery, mail_home, real, default, forwards_only).follow(instructions)


def _check_home(real: bool) -> None:
    try:
        mode = os.stat(".").st_mode
    except OSError as error:
        raise Stop(f"Unable to stat home directory: {reason(error)}. (#4.3.0)") from error
    if mode & WRITABLE:
        raise Stop("Uh-oh: home directory is writable. (#4.7.0)")
    if mode & stat.S_ISVTX:
        if real:
            raise Stop("Home directory is sticky: user is editing his .qmail file. (#4.2.1)")
        say("Warning: home directory is sticky.")


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


def _find_instructions(delivery: Delivery) -> tuple[int | None, bytes | None, bool]:
    """The open .qmail file or None, what DEFAULT is (None: left alone), and whether it may only forward."""
    for name, default in dotqmail.file_names(delivery.dash, delivery.ext):
        found = _open_regular(name)
        if found:
            return found[0], default, bool(found[1] & stat.S_IXUSR)
    if delivery.dash:
        raise Stop("Sorry, no mailbox here by that name. (#5.1.1)", PERMANENT)
    return None, None, False


def _open_regular(name: bytes) -> tuple[int, int] | None:
    """The .qmail file `name`, open, and its mode; None if it is not there, or no file."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if temporary(error) or error.errno in LATER_OPENS:
            raise _unable_to_open(name, error) from error
        return None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        return None
    if mode & WRITABLE:
        os.close(fd)
        raise Stop("Uh-oh: .qmail file is writable. (#4.7.0)")
    return fd, mode


def _unable_to_open(name: bytes, error: OSError) -> Stop:
    return Stop(f"Unable to open {os.fsdecode(name)}: {reason(error)}. (#4.3.0)")


def _read_instructions(fd: int) -> bytes:
    """All of the .qmail file `fd`, which is closed."""
    try:
        instructions = bytearray()
        while data := os.read(fd, CHUNK):
            instructions += data
            if len(instructions) > MOST_INSTRUCTIONS:
                raise Stop("Out of memory. (#4.3.0)")
        return bytes(instructions)
    except OSError as error:  # what the original says then
        raise Stop("Out of memory. (#4.3.0)") from error
    finally:
        os.close(fd)


class _Run:
    """Follows the instructions, line by line; forwards go out together, after all else succeeded."""

    def __init__(
        self, delivery: Delivery, mail_home: str, real: bool, default: bytes | None, forwards_only: bool
    ) -> None:
        self._delivery = delivery
        self._mail_home = mail_home
        self._real = real
        self._default = default
        self._forwards_only = forwards_only
        self._now = time.time()
        self._counts = {dotqmail.FORWARD: 0, dotqmail.PROGRAM: 0, "file": 0}
        self._recipients: list[bytes] = []

    def follow(self, instructions: bytes) -> None:
        """Do what the lines say, and tell how many there were.  Raises Stop."""
        self._new_sender = self._owner()
        for kind, text in self._lines(instructions):
            if self._line(kind, text) == SKIP_THE_REST:
                break
        queued = self._forward() if self._recipients else None
        counts = self._counts
        _tell(b"did %d+%d+%d" % (counts["file"], counts[dotqmail.FORWARD], counts[dotqmail.PROGRAM]))
        if queued:
            _tell(b"qp %d" % queued)

    def _lines(self, instructions: bytes) -> Iterator[tuple[str, bytes]]:
        try:
            yield from dotqmail.parse(instructions)
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
        from qmail import maildir, mbox

        delivery = self._delivery
        header = delivery.return_path + delivery.delivered_to
        _rewind()
        try:
            if kind == dotqmail.MAILDIR:
                maildir.deliver(path, header, 0)
            else:
                mbox.deliver(path, delivery.from_line(self._now) + header, 0)
        except (maildir.Undelivered, mbox.Undelivered) as error:
            raise Stop(str(error)) from error

    def _program(self, command: bytes) -> int:
        """Run a command with the message on its descriptor 0; 99 if it says that this is enough."""
        _rewind()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            code = chain.wait(chain.spawn(["/bin/sh", "-c", os.fsdecode(command)], self._environment()))
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

    def _owner(self) -> bytes:
        """The sender for forwards: the list's owner if he has a file, with VERP if he has two."""
        delivery = self._delivery
        if delivery.sender in (b"", b"#@[]"):
            return delivery.sender
        owner, owner_default = dotqmail.owner_names(delivery.dash, delivery.ext)
        if not _exists(owner):
            return delivery.sender
        if not _exists(owner_default):
            return delivery.local + b"-owner@" + delivery.host
        return delivery.local + b"-owner-@" + delivery.host + b"-@[]"

    def _forward(self) -> int:
        """Queue the message for the recipients; return the number of the process that did."""
        from qmail import enqueue, envelope

        _rewind()
        before = dict(os.environ)
        chain.replace_environment(self._environment())  # for a $QMAILQUEUE
        try:
            message = enqueue.open_message(self._mail_home)
            message.write(self._delivery.delivered_to)
            _copy_to(message)
            verdict = message.commit(envelope.encode(self._new_sender, self._recipients))
        except OSError as error:
            raise _unable_to_fork(error) from error
        finally:
            chain.replace_environment(before)
        if verdict:
            code = PERMANENT if verdict.startswith(b"D") else TEMPORARY
            raise Stop(f"Unable to forward message: {os.fsdecode(verdict[1:])}.", code)
        return message.number


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


def _exists(name: bytes) -> bool:
    try:
        os.stat(name)
    except OSError as error:
        if temporary(error):
            raise _unable_to_open(name, error) from error
        return False
    return True


def _tell(line: bytes) -> None:
    say(os.fsdecode(line), 1)
