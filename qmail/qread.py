"""qmail-qread(8): list the messages that qmail-send has preprocessed, and their recipients.

SYNOPSIS
    qmail-qread

DESCRIPTION
    For each message: when it entered the queue, its number and size, its
    sender, `bouncing` if some recipients have failed for good; then each
    recipient, `done` if no further try will be made.  Bytes that are no
    printable ASCII show as _.

EXIT
    0: printed, perhaps with warnings.  111: the queue cannot be read.

FILES
    queue/info, queue/mess, queue/local, queue/remote, queue/bounce
"""

from __future__ import annotations

import os

from qmail import dates, home
from qmail.queueing.queue_layout import Queue
from qmail.sending.envelope import Records, TooLong
from supervise import masks
from supervise.durable import write_all
from supervise.errors import reason
from supervise.program import TEMPORARY, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PRINTABLE = masks.printable(b"_")
CHUNK = 65536  # bytes


class Stop(Exception):
    """The queue cannot be read; the text for the last line."""


@program("qmail-qread")
def main(argv: Sequence[str]) -> int:
    del argv
    try:
        queue = enter(f"{home.find()}/queue")
        for directory in queue.directories("info"):
            for number in numbers(directory):
                for line in message(queue, number):
                    write_all(1, line)
    except Stop as stop:
        write_all(1, os.fsencode(f"{stop}\n"))
        return TEMPORARY
    except BrokenPipeError:
        return TEMPORARY
    return 0


def enter(path: str) -> Queue:
    """Go to the queue and learn its layout."""
    try:
        os.chdir(path)
        return Queue.recognise(".")
    except OSError as error:
        raise Stop(f"fatal: unable to chdir: {reason(error)}") from error


def numbers(directory: str) -> list[int]:
    """The messages that have a file in `directory`, in its order."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise Stop(f"fatal: unable to opendir {directory[2:]}: {reason(error)}") from error
    return [int(name) for name in names if name.isdecimal() and name.isascii()]


def message(queue: Queue, number: int) -> Iterator[bytes]:
    """The lines for one message; a warning in place of what cannot be read."""
    try:
        size = os.stat(queue.mess(number)).st_size
        bouncing = os.path.exists(queue.bounce(number))
        with open(queue.info(number), "rb", buffering=0) as info:
            sender = b"".join(records(info.fileno(), 1))[1:]
            when = int(os.fstat(info.fileno()).st_mtime)
    except (OSError, TooLong) as error:
        yield trouble(number, error)
        return
    text = dates.rfc822(when).removesuffix(b" -0000") + b" GMT  #%d  %d  <%b> " % (number, size, sender)
    yield (text + (b" bouncing" if bouncing else b"")).translate(PRINTABLE) + b"\n"
    yield from recipients(number, queue.local(number), b"\tlocal\t")
    yield from recipients(number, queue.remote(number), b"\tremote\t")


def recipients(number: int, path: str, channel: bytes) -> Iterator[bytes]:
    """A line for each recipient in local/N or remote/N."""
    marks = {b"T": channel, b"D": b"  done" + channel}
    try:
        with open(path, "rb", buffering=0) as file:
            for record in records(file.fileno()):
                if record[:1] in marks:
                    yield marks[record[:1]] + record[1:].translate(PRINTABLE) + b"\n"
    except FileNotFoundError:
        return
    except (OSError, TooLong) as error:
        yield trouble(number, error)


def records(fd: int, most: int | None = None) -> Iterator[bytes]:
    """The records of an open file, at most `most`."""
    cutter = Records()
    while data := os.read(fd, CHUNK):
        found = cutter.feed(data)[:most]
        yield from found
        if most and found:
            return


def trouble(number: int, error: OSError | TooLong) -> bytes:
    why = reason(error) if isinstance(error, OSError) else "a record has no end"
    return f"warning: trouble with #{number}: {why}\n".encode()
