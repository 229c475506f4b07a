"""The home is found by $QMAILHOME, by the bin/ the program was called through, or is /var/qmail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qmail import home


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QMAILHOME", raising=False)
    monkeypatch.delenv("QMAIL_CONTROLDIR", raising=False)


def test_the_variable_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QMAILHOME", "relative")
    monkeypatch.chdir(tmp_path)
    assert home.find() == f"{tmp_path}/relative"


def test_the_bin_called_through_decides_and_its_link_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "bin").symlink_to("/usr/bin")
    monkeypatch.setattr(sys, "argv", [f"{tmp_path}/bin/qmail-inject"])
    assert home.find() == str(tmp_path)


def test_a_bin_without_control_beside_it_is_not_a_mail_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(sys, "argv", [f"{tmp_path}/bin/qmail-inject"])
    assert home.find() == "/var/qmail"


def test_the_control_directory_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert home.control_directory("/h") == "/h/control"
    monkeypatch.setenv("QMAIL_CONTROLDIR", "/etc/qmail")
    assert home.control_directory("/h") == "/etc/qmail"
    monkeypatch.setenv("QMAIL_CONTROLDIR", "control2")
    assert home.control_directory("/h") == "/h/control2"


def test_a_bare_name_was_found_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/qmail-smtpd").touch()
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}/bin:/usr/bin")
    monkeypatch.setattr(sys, "argv", ["qmail-smtpd"])
    assert home.find() == str(tmp_path)
    monkeypatch.setattr(sys, "argv", ["qmail-nothing"])
    assert home.find() == "/var/qmail"
