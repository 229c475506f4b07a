"""Maildirs: a message is written in tmp/, synced, linked into new/, and safe once new/ is synced."""

from __future__ import annotations

import errno
import os
import socket
import time

from qmail.local_delivery.delivery import Undelivered
from qmail.local_delivery.time_limit import TimeIsUp, TimeLimit
from supervise.durable import write_all
from supervise.errors import temporary

CHUNK = 64 * 1024  # bytes
DELIVERY_LIMIT = 86400  # seconds
ABANDONED = 129600  # seconds without access, after which a file in tmp/ is nobody's: 36 hours
NAMELESS = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""What file systems and kernels say that have no files without a name."""
NAMED = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
TRIES = 3


def unique_name(nanoseconds: int, pid: int, host: str) -> bytes:
    """A name that no other message in the Maildir has: qmail's `time.pid.host`.

    One process delivers many messages in a second here, so six digits of
    microseconds follow those of the pid.
    """
    seconds, fraction = divmod(nanoseconds, 10**9)
    host = host.replace("/", "\\057").replace(":", "\\072")
    return os.fsencode(f"{seconds}.{pid}{fraction // 1000:06}.{host}")


def deliver(directory: bytes, header: bytes, message: int) -> None:
    """Put `header` and what can still be read from `message` into the Maildir `directory`.

    On return it is on disk under its name in new/.  Raises Undelivered; then
    it is not there (or, should a directory that cannot be synced come back
    with it, once too often).
    """
    try:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _no_maildir(error) from error
    try:
        with TimeLimit(DELIVERY_LIMIT):
            _deliver(place, header, message)
    except TimeIsUp as error:
        raise Undelivered("Timeout on maildir delivery. (#4.3.0)") from error
    except OSError as error:
        if error.errno == errno.EACCES and not os.access(directory, os.X_OK, effective_ids=True):
            raise _no_maildir(error) from error
        raise Undelivered("Temporary error on maildir delivery. (#4.3.0)") from error
    finally:
        os.close(place)


def _no_maildir(error: OSError) -> Undelivered:
    if temporary(error):
        return Undelivered("Temporary error on maildir delivery. (#4.3.0)")
    return Undelivered("Unable to chdir to maildir. (#4.2.1)")


def _deliver(place: int, header: bytes, message: int) -> None:
    fd, tmp = _create(place)
    try:
        _copy(header, message, fd)
        os.fsync(fd)
        _enter_new(place, tmp, fd)
    finally:
        os.close(fd)
        if tmp:
            _remove(place, tmp)


def _create(place: int) -> tuple[int, bytes | None]:
    """A new file in tmp/, and its name; None if it needs none there, which saves entering and removing it."""
    try:
        return os.open(b"tmp", NAMELESS, 0o644, dir_fd=place), None
    except OSError as error:
        if error.errno not in NO_NAMELESS:
            raise
    for left in reversed(range(TRIES)):
        name = b"tmp/" + _new_name()
        try:
            return os.open(name, NAMED, 0o644, dir_fd=place), name
        except FileExistsError:
            if not left:
                raise
    raise AssertionError


def _new_name() -> bytes:
    return unique_name(time.time_ns(), os.getpid(), socket.gethostname())


def _copy(header: bytes, message: int, fd: int) -> None:
    data = header
    while data:
        write_all(fd, data)
        data = _read(message)


def _read(message: int) -> bytes:
    try:
        return os.read(message, CHUNK)
    except OSError as error:
        raise Undelivered("Unable to read message. (#4.3.0)") from error


def _enter_new(place: int, tmp: bytes | None, fd: int) -> None:
    """Link the synced file `fd` into new/, and see to it that the link is on disk."""
    new = b"new/" + (tmp.removeprefix(b"tmp/") if tmp else _new_name())
    directory = _open_to_sync(b"new", place)
    try:
        source = tmp or b"/proc/self/fd/%d" % fd
        os.link(source, new, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=tmp is None)
        try:
            os.fsync(fd if directory is None else directory)
        except BaseException:
            _remove(place, new)
            raise
    finally:
        if directory is not None:
            os.close(directory)


def _open_to_sync(path: bytes, place: int) -> int | None:
    """The directory, open; None if its owner may not read it: syncing the file again must do then."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
    except PermissionError:
        return None


def _remove(place: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=place)
    except OSError:
        pass


def scan(subdirectories: tuple[str, ...], now: int) -> list[str]:
    """The messages in the present Maildir's `subdirectories`, as `new/name`, oldest first.

    Those dated `now` (seconds since 1970) or later are left for the next time,
    so that no message changes its place.  Raises OSError.
    """
    found = []
    for subdirectory in subdirectories:
        with os.scandir(subdirectory) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        for name in names:
            path = f"{subdirectory}/{name}"
            modified = _time(path, "st_mtime_ns")
            if modified is not None and modified // 10**9 < now:
                found.append((modified // 10**9, path))
    found.sort(key=lambda message: message[0])
    return [path for _, path in found]


def clean(now: int) -> None:
    """Remove what deliveries long ago left in the present Maildir's tmp/."""
    try:
        names = os.listdir("tmp")
    except OSError:
        return
    for name in names:
        accessed = _time(f"tmp/{name}", "st_atime_ns")
        if not name.startswith(".") and accessed is not None and now > accessed // 10**9 + ABANDONED:
            try:
                os.unlink(f"tmp/{name}")
            except OSError:
                continue


def _time(path: str, field: str) -> int | None:
    try:
        return int(getattr(os.stat(path), field))
    except OSError:
        return None
