"""qmail-newmrh makes a database that qmail-smtpd consults, or leaves the old one as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import run
from queues import MailHome, make_home
from traces import needs_strace, strace

from qmail.control import Controls
from qmail.receiving.rcpthosts import RcptHosts, domains


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    made = make_home(tmp_path / "home")
    made.control("rcpthosts", "few.example\n")
    made.control("morercpthosts", "# comment\nMany.Example \t\n\n.sub.example\nlast.example")
    return made


def allowed(mail_home: MailHome, *hosts: str) -> list[bool]:
    control = RcptHosts(Controls(str(mail_home.path / "control")))
    return [control.allow(b"x@" + host.encode()) for host in hosts]


def test_hosts_are_found_in_either_file(mail_home: MailHome) -> None:
    hosts = ("few.example", "MANY.example", "a.sub.example", "last.example", "sub.example", "# comment", "")
    assert allowed(mail_home, *hosts) == [True, False, False, False, False, False, False]
    assert run("qmail-newmrh", env=mail_home.environment()).returncode == 0
    assert allowed(mail_home, *hosts) == [True, True, True, True, False, False, False]


def test_a_hundred_thousand_hosts(mail_home: MailHome) -> None:
    mail_home.control("morercpthosts", "".join(f"host{number}.example\n" for number in range(100_000)))
    assert run("qmail-newmrh", env=mail_home.environment()).returncode == 0
    assert allowed(mail_home, "host0.example", "host99999.example", "host100000.example") == [
        True,
        True,
        False,
    ]


READING = "unable to read control/morercpthosts"
WRITING = "unable to write to control/morercpthosts.tmp"


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        ("rm morercpthosts", f"{READING}: file does not exist"),
        ("rm morercpthosts; mkdir morercpthosts", f"{READING}: is a directory"),
        ("mkdir morercpthosts.tmp", f"{WRITING}: is a directory"),
    ],
)
def test_trouble_is_said_and_the_old_database_stands(mail_home: MailHome, break_it: str, said: str) -> None:
    assert run("qmail-newmrh", env=mail_home.environment()).returncode == 0
    assert run("sh", "-c", break_it, cwd=mail_home.path / "control").returncode == 0
    done = run("qmail-newmrh", env=mail_home.environment())
    assert (done.returncode, done.stderr) == (111, f"qmail-newmrh: fatal: {said}\n".encode())
    assert allowed(mail_home, "many.example") == [True]


@needs_strace
@pytest.mark.parametrize("fault", ["fsync:error=EIO:when=1", "rename:error=EIO:when=1"])
def test_a_database_that_is_not_on_disk_is_not_used(mail_home: MailHome, tmp_path: Path, fault: str) -> None:
    assert run("qmail-newmrh", env=mail_home.environment()).returncode == 0
    before = (mail_home.path / "control/morercpthosts.cdb").read_bytes()
    mail_home.control("morercpthosts", "other.example\n")
    done = strace(tmp_path / "trace", ["qmail-newmrh"], f"--inject={fault}", env=mail_home.environment())
    assert done.injected
    assert done.code == 111
    assert (mail_home.path / "control/morercpthosts.cdb").read_bytes() == before


def test_the_domains_of_an_address() -> None:
    assert list(domains(b"a@b@X.y.Z")) == [b"x.y.z", b".y.z", b".z"]
    assert list(domains(b"a@.y")) == [b".y"]
    assert list(domains(b"a@")) == []
