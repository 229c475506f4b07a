"""A whole Postfix of the test's own: queue and configuration in one directory, one port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

DOMAIN = "postfix.example"
MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.{domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtputf8_enable = no
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {home}/mail
virtual_mailbox_maps = static:box/Maildir/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
alias_maps =
maillog_file = {home}/log
maillog_file_prefixes = {home}
{more}
"""


def installed() -> bool:
    """Is there a Postfix to run?"""
    return shutil.which("postfix", path="/usr/sbin:/usr/bin") is not None


@contextlib.contextmanager
def running(home: Path, port: int, more: str = "") -> Iterator[Path]:
    """Run Postfix with SMTP on `port`; yields the Maildir of everyone at DOMAIN.  Needs root.

    `more` is appended to main.cf.
    """
    owner = pwd.getpwnam("postfix")
    (home / "mail/box").mkdir(parents=True)
    (home / "data").mkdir()
    (home / "queue").mkdir()
    for place in (home / "mail/box", home / "data"):
        shutil.chown(place, owner.pw_uid, owner.pw_gid)
    (home / "main.cf").write_text(
        MAIN.format(home=home, domain=DOMAIN, uid=owner.pw_uid, gid=owner.pw_gid, more=more)
    )
    (home / "master.cf").write_text(master(port))
    postfix(home, "start")
    try:
        yield home / "mail/box/Maildir"
    finally:
        postfix(home, "stop")


def master(port: int) -> str:
    """Debian's master.cf with SMTP on `port` alone, and nothing in a chroot."""
    lines = Path("/etc/postfix/master.cf").read_text().splitlines()
    services = [re.sub(r"^smtp(\s+)inet", rf"127.0.0.1:{port}\1inet", line) for line in lines]
    return "\n".join(re.sub(r"^(\S+\s+\S+\s+\S+\s+\S+\s+)y", r"\1n", line) for line in services) + "\n"


def postfix(home: Path, command: str) -> None:
    done = subprocess.run(
        ["/usr/sbin/postfix", "-c", str(home), command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
