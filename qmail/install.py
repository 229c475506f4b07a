"""qmail-install(8): make a mail system.

SYNOPSIS   qmail-install --private DIR [--host NAME] [--smtp-port N] [--pop3-port N]
DESCRIPTION  Makes a complete instance in DIR, owned by whoever runs it: no
           root, no accounts, ports above 1024 on 127.0.0.1.  Run again, it
           adds what is new and brings its own files up to date; what the
           owner has changed or removed stays so, and is named.
OPTIONS    --host NAME     the mail name; default: the machine's
           --smtp-port N   default 2525
           --pop3-port N   default 1110
           An option that is not given keeps its value of the last run.
EXIT       0.  100: wrong usage, or DIR cannot be used.  111: trouble with the system.
FILES      DIR/bin       links to all programs
           DIR/control, DIR/queue, DIR/alias, DIR/tcp.smtp
           DIR/users     one assignment: every local address is delivered in DIR/home
           DIR/home      .qmail-default, and .qmail-ext files of your own; Maildir
           DIR/service   qmail-send and qmail-smtpd, for svscan
           DIR/log       what multilog keeps of them
           DIR/.instance what qmail-install chose and made here
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import pwd
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from qmail.instance import Instance
from qmail.queueing import queue_layout
from supervise import children
from supervise.program import PERMANENT, Fatal, program, say, unable_to

SMTP_PORT, POP3_PORT = "2525", "1110"
SYNOPSIS = "qmail-install --private DIR [--host NAME] [--smtp-port N] [--pop3-port N]"


class Arguments(argparse.ArgumentParser):
    """argparse that fails as our other programs do."""

    def error(self, message: str) -> NoReturn:
        raise Fatal(f"{message}\nqmail-install: usage: {SYNOPSIS}", PERMANENT)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a private instance is made with."""

    home: Path  # absolute
    host: str
    smtp_port: str
    pop3_port: str

    def fill(self, template: str) -> str:
        """A service template with the places of this instance in it."""
        return template.replace("@HOME@", shlex.quote(str(self.home))).replace("@SMTP_PORT@", self.smtp_port)


@program("qmail-install", helps=False)
def main(argv: Sequence[str]) -> int:
    parser = Arguments(
        prog="qmail-install",
        description=__doc__,
        usage=SYNOPSIS,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--private", metavar="DIR", required=True, type=Path, help=argparse.SUPPRESS)
    for option in ("--host", "--smtp-port", "--pop3-port"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    given = parser.parse_args(list(argv))
    home = Path(os.path.abspath(given.private))
    with unable_to(f"make {home}"):
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        instance = Instance.load(home)
        settings = Settings(
            home,
            checked_host(given.host or instance.options.get("host") or default_host()),
            checked_port(given.smtp_port or instance.options.get("smtp-port", SMTP_PORT), "--smtp-port"),
            checked_port(given.pop3_port or instance.options.get("pop3-port", POP3_PORT), "--pop3-port"),
        )
        check_home(home)
        instance.options |= {
            "host": settings.host, "smtp-port": settings.smtp_port, "pop3-port": settings.pop3_port
        }  # fmt: skip
        make(instance, settings)
    return report(instance, settings)


def default_host() -> str:
    """The machine's name, with a domain."""
    name = os.uname().nodename.lower()
    return name if "." in name else f"{name}.localdomain"


def checked_host(host: str) -> str:
    if not host or not all(c.isascii() and (c.isalnum() or c in "-._") for c in host) or host.startswith("."):
        raise Fatal(f"--host: not a host name: {host}", PERMANENT)
    return host


def checked_port(port: str, option: str) -> str:
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Fatal(f"{option}: not a port: {port}", PERMANENT)
    return port


def check_home(home: Path) -> None:
    """users/assign has no way to write some characters, and a control file none for the end of a line."""
    if any(c in str(home) for c in ":\n\0"):
        raise Fatal(f"{home}: a home may not have a colon or a newline in its name", PERMANENT)


def make(instance: Instance, settings: Settings) -> None:
    """Make everything; the ledger is written last, so that a run cut short is simply run again."""
    home = settings.home
    for name in ("bin", "control", "alias", "users", "home", "service", "log"):
        (home / name).mkdir(exist_ok=True)
    link_programs(home / "bin")
    for name, content in contents(settings).items():
        instance.put(name, content.encode(), 0o644)
    for name in ("rc", "qmail-send/run", "qmail-send/log/run", "qmail-smtpd/run", "qmail-smtpd/log/run"):
        template = (templates() / "private" / name).read_text()
        place = name if name == "rc" else f"service/{name}"
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        instance.put(place, settings.fill(template).encode(), 0o755)
    if not (home / "queue").exists():
        queue_layout.create(str(home / "queue"))
    if not (home / "home/Maildir").exists():
        run(home, "maildirmake", f"{home}/home/Maildir")
    compile_tables(home)
    instance.save()


def contents(settings: Settings) -> dict[str, str]:
    """The text files of an instance that are the owner's to change."""
    host = settings.host
    labels = host.split(".")
    many = len(labels) > 2  # as config-fast: the domain of a host with two dots or more
    owner = pwd.getpwuid(os.getuid()).pw_name if known_user() else str(os.getuid())
    return {
        "control/me": f"{host}\n",
        "control/defaultdomain": f"{'.'.join(labels[1:]) if many else host}\n",
        "control/plusdomain": f"{'.'.join(labels[-2:]) if many else host}\n",
        "control/locals": f"{host}\nlocalhost\n",
        "control/rcpthosts": f"{host}\nlocalhost\n",
        "control/defaultdelivery": "./Maildir/\n",
        "control/concurrencyincoming": "40\n",
        "users/assign": f"+:{owner}:{os.getuid()}:{os.getgid()}:{settings.home}/home:-::\n.\n",
        "home/.qmail-default": "./Maildir/\n",
        "tcp.smtp": '127.:allow,RELAYCLIENT=""\n:allow\n',
    }


def known_user() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def templates() -> Path:
    """The service templates: in the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    return next(
        place for place in (here / "service-templates", here.parent / "service-templates") if place.exists()
    )


def link_programs(directory: Path) -> None:
    """Link every command of the toolkit; what the owner put in a link's place stays."""
    scripts = Path(sys.prefix) / "bin"
    for entry in importlib.metadata.distribution("paperpath").entry_points:
        link = directory / entry.name
        if link.is_symlink() and not link.exists():
            link.unlink()  # to an installation that is gone
        if not link.is_symlink() and not link.exists():
            link.symlink_to(scripts / entry.name)


def compile_tables(home: Path) -> None:
    """users/cdb and tcp.smtp.cdb, from what stands in users/assign and tcp.smtp now."""
    run(home, "qmail-newu")
    with (home / "tcp.smtp").open("rb") as rules:
        run(home, "tcprules", f"{home}/tcp.smtp.cdb", f"{home}/tcp.smtp.tmp", stdin=rules.fileno())


def run(home: Path, name: str, *arguments: str, stdin: int = 0) -> None:
    env = {**os.environ, "QMAILHOME": str(home)}
    code = children.wait(children.spawn([f"{home}/bin/{name}", *arguments], env, {0: stdin}))
    if code:
        raise Fatal(f"{name} failed with exit code {code}")


def report(instance: Instance, settings: Settings) -> int:
    for line in instance.kept:
        say(f"kept {line}", 1)
    say(f"{settings.home}: mail system of {settings.host}, SMTP on 127.0.0.1 port {settings.smtp_port}", 1)
    if os.getuid() == 0:
        say("warning: this instance runs as root; made by an ordinary user it is safer", 1)
    return 0
