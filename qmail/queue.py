"""qmail-queue(8): queue a mail message for delivery.

SYNOPSIS
    qmail-queue

DESCRIPTION
    Reads a message from descriptor 0, then its envelope from descriptor 1:
    the letter F, the sender's address and a NUL; for each recipient the
    letter T, the address and a NUL; a final NUL.  It puts a Received line on
    top of the message and changes nothing else.  When it exits 0, message and
    envelope are on disk and qmail-send has been told.

    It is not setuid.  A user who may not write the queue has the message
    queued by qmail-queued, which learns his uid from the kernel.

    The programs of qmail run $QMAILQUEUE in its place if that is set.

EXIT
    0: queued.  It prints nothing; 11 to 40 are lasting failures, others temporary.
    11: an address of more than 1002 bytes.
    51: out of memory.  52: it took more than 24 hours.  53: write error, as when
    the disk is full.  54: message or envelope could not be read to the end.
    61, 62, 63, 64, 65, 66: trouble with the home directory, the queue directory,
    queue/pid, queue/mess, queue/intd, queue/todo.
    74: qmail-queued broke off.  81: a bug.  91: no envelope.
    Other programs with this interface also use 31: rejected for good;
    55: unreadable configuration; 56: no network; 71: rejected for now;
    72, 73: no connection; 82: rejected as descriptor 6 says.

FILES
    HOME/queue; HOME/queued/socket, of qmail-queued

ENVIRONMENT
    QMAILHOME: the mail home.  TMPDIR: where a large message waits for qmail-queued.
"""

from __future__ import annotations

import os

from qmail import home
from qmail.queueing import intake
from qmail.queueing.envelope import EnvelopeReader
from qmail.queueing.verdicts import INTERNAL_BUG, OUT_OF_MEMORY, READ_ERROR, TIMED_OUT, Refused
from supervise.program import program, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from types import FrameType

    from qmail.queueing.accept import Entry
    from qmail.queueing.queue_socket import HandOver
else:
    import _signal as signal  # the same without enums, which would cost 4 ms

MESSAGE, ENVELOPE = 0, 1  # descriptors
READ = 64 * 1024  # bytes
IGNORED = (
    signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT,
    signal.SIGXCPU, signal.SIGXFSZ, signal.SIGVTALRM, signal.SIGPROF,
)  # fmt: skip


@program("qmail-queue")
def main(_: Sequence[str]) -> int:
    try:
        _prepare_signals()
        return _queue(home.find())
    except Refused as refused:
        return refused.code
    except MemoryError:
        return OUT_OF_MEMORY
    except Exception:  # who runs it knows this code for a bug, and no other
        import traceback

        say(traceback.format_exc().rstrip())
        return INTERNAL_BUG
    finally:
        signal.alarm(0)


def _prepare_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o033)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(intake.DEATH)


def _too_late(_number: int, _frame: FrameType | None) -> None:
    raise Refused(TIMED_OUT)


def _queue(mail_home: str) -> int:
    entry = intake.begin(mail_home)
    try:
        _read_message(entry)
        _read_envelope(entry)
        signal.alarm(0)  # a message that is handed to qmail-send must not be refused any more
    except BaseException:
        entry.abandon()
        raise
    return entry.commit()


def _read_message(entry: Entry | HandOver) -> None:
    while data := _read(MESSAGE):
        entry.write(data)
    entry.end_message()


def _read_envelope(entry: Entry | HandOver) -> None:
    reader = EnvelopeReader()
    while not reader.done:
        data = _read(ENVELOPE)
        if not data:
            reader.end()
        accepted = reader.feed(data)
        entry.write_envelope(memoryview(data)[:accepted])


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, READ)
    except OSError as error:
        raise Refused(READ_ERROR) from error
