"""A power cut at any moment: what was reported as queued is there afterwards, whole.

The file system is shut down as by a power cut (nothing that is not on disk
gets there any more), unmounted, mounted again, and looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import run, running
from queues import MailHome, make_home

SHUT_DOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
NOTHING_MORE = struct.pack("I", 2)  # not even the journal
SENDER = """
import os, sys
from qmail.queueing import enqueue, envelope
for number in range(int(sys.argv[3])):
    name = b"%s.%d" % (os.fsencode(sys.argv[2]), number)
    message = enqueue.open_message(sys.argv[1])
    message.write(name + b"\\n" + b"x" * 5000 + b"\\nend\\n")
    if message.commit(envelope.encode(name, [b"d@e.f"])):
        break
    os.write(1, name + b"\\n")
"""

HAS_MKFS = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a file system of its own"),
    pytest.mark.skipif(not HAS_MKFS, reason="mkfs.ext4 is not installed"),
]


class Disk:
    """A small ext4, whose power can be cut."""

    def __init__(self, image: Path, place: Path) -> None:
        self.image = image
        self.place = place
        with image.open("wb") as file:
            file.truncate(128 << 20)
        assert run("mkfs.ext4", "-q", "-F", image).returncode == 0
        place.mkdir()

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        mount = run("mount", "-o", "loop", self.image, self.place)
        if mount.returncode:  # a container that has no loop devices, or may not mount
            pytest.skip(f"a file system cannot be mounted here: {mount.stderr.decode()}")
        try:
            yield
        finally:
            assert run("umount", "-l", self.place).returncode == 0

    def cut_power(self) -> None:
        fd = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUT_DOWN, NOTHING_MORE)
        finally:
            os.close(fd)


def accepted_until_cut(disk: Disk, home: MailHome, writers: int, each: int, enough: int) -> set[bytes]:
    """Queue from several processes at once, cut the power after `enough` messages; return what was accepted.

    No process queues more than `each`, so that a sync of the next message
    does not put on disk what the one before left out.
    """
    read, write = os.pipe()
    with contextlib.ExitStack() as stack, open(read, "rb") as reports:
        with open(write, "wb") as ours:
            for number in range(writers):
                argv = (sys.executable, "-c", SENDER, str(home.path), str(number), str(each))
                sender = running(*argv, env=home.environment(), stdin=-1, stdout=ours, stderr=-3)
                stack.enter_context(sender)
        lines = [reports.readline() for _ in range(enough)]
        disk.cut_power()
        if each > enough:
            lines += reports.readlines()  # of those that are told of trouble, and go
    return {line.strip() for line in lines}


@pytest.mark.parametrize(
    ("writers", "each", "enough"), [(1, 1, 1), (1, 2, 2), (8, 1, 8), (8, 9999, 30), (8, 9999, 75)]
)
def test_no_accepted_message_is_lost_or_torn(tmp_path: Path, writers: int, each: int, enough: int) -> None:
    disk = Disk(tmp_path / "image", tmp_path / "disk")
    with disk.mounted():
        home = make_home(disk.place / "home")
        os.sync()
        accepted = accepted_until_cut(disk, home, writers, each, enough)
    assert len(accepted) >= enough
    with disk.mounted():
        names = {queued.envelope.split(b"\0")[2][1:] for queued in home.queued()}
        assert accepted <= names
        for queued in home.queued():
            assert queued.envelope.endswith(b"\0Td@e.f\0")
            assert queued.message.endswith(b"\nend\n")
