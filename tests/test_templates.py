"""The service directories in the package are complete: scripts that sh understands, each with a log."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from qmail.install import templates

SCRIPTS = sorted(path for path in templates().rglob("*") if path.name in ("run", "rc"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(templates())))
def test_script_is_one(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0


@pytest.mark.parametrize("name", ["qmail-send", "qmail-smtpd"])
@pytest.mark.parametrize("kind", [".", "private"])
def test_service_has_a_log(kind: str, name: str) -> None:
    for part in ("run", "log/run"):
        assert (templates() / kind / name / part).is_file()
