"""An OpenSMTPD of the test's own.  Needs root, and Debian's package unpacked, as it conflicts with Postfix:

    apt-get download opensmtpd && dpkg -x opensmtpd_*.deb /opt/opensmtpd

It wants its users, spool and programs at fixed places; they are made for it alone, in a mount namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from programs import eventually, running

PLACE = Path("/opt/opensmtpd")
DOMAIN = "opensmtpd.test"
SETUP = """
set -e
mount --make-rprivate /
mount --bind {home}/passwd /etc/passwd
mount --bind {home}/group /etc/group
mount -t tmpfs none /var/spool
mkdir -m 711 /var/spool/smtpd
mount -t tmpfs none /var/lib
mkdir -p /var/lib/opensmtpd/empty
mount -t tmpfs none /run
mount --bind {place}/usr/libexec /usr/libexec
exec {place}/usr/sbin/smtpd -d -f {home}/smtpd.conf
"""
CONFIGURATION = """
listen on {address} port {port} hostname mx.{domain}
table people {{ "joe@{domain}" = "box" }}
action "deliver" maildir "{home}/mail/Maildir" virtual <people>
match from any for domain "{domain}" action "deliver"
"""
USERS = ("opensmtpd", "opensmtpq", "box")
FIRST_UID = 3500  # of numbers that nobody here has


def usable() -> bool:
    """Is there an OpenSMTPD that can be run here?"""
    return os.geteuid() == 0 and bool(shutil.which("unshare")) and (PLACE / "usr/sbin/smtpd").exists()


@contextlib.contextmanager
def opensmtpd(home: Path, address: str, port: int) -> Iterator[Path]:
    """Run it at `address`; yields the new/ of joe@DOMAIN's Maildir.  It knows nobody else.

    Every user must be able to reach `home`.
    """
    users = {name: FIRST_UID + number for number, name in enumerate(USERS)}
    _write(
        home / "passwd",
        "/etc/passwd",
        [f"{name}:x:{n}:{n}::{home}/mail:/bin/sh" for name, n in users.items()],
    )
    _write(home / "group", "/etc/group", [f"{name}:x:{n}:" for name, n in users.items()])
    configuration = CONFIGURATION.format(address=address, port=port, domain=DOMAIN, home=home)
    (home / "smtpd.conf").write_text(configuration)
    (home / "mail").mkdir(mode=0o755)
    os.chown(home / "mail", users["box"], users["box"])
    script = SETUP.format(home=home, place=PLACE)
    with running("unshare", "--mount", "sh", "-c", script, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: process.poll() is not None or _greets(address, port), "OpenSMTPD greets")
        assert process.poll() is None, "OpenSMTPD would not start"
        yield home / "mail/Maildir/new"


def _write(path: Path, original: str, lines: list[str]) -> None:
    path.write_text(Path(original).read_text() + "".join(f"{line}\n" for line in lines))


def _greets(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 5) as connection:
        return connection.recv(3) == b"220"
    return False
