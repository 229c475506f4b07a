"""The descriptors of a process are known, and kept apart from those that its output goes to."""

from __future__ import annotations

import os
import sys

import pytest
from programs import run

from supervise import descriptors


def test_they_are_known_without_proc_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known = descriptors.opened()

    def no_proc(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", no_proc)
    assert descriptors.opened() == known


def test_signals_never_arrive_at_a_standard_descriptor() -> None:
    code = """
import os, signal
from supervise.signals import SignalPipe
out = os.dup(1)
os.closerange(0, 3)
with SignalPipe([signal.SIGHUP]) as signals:
    os.kill(os.getpid(), signal.SIGHUP)
    os.write(out, repr((min(signals.descriptors()) > 2, signals.arrived() == {1})).encode())
"""
    assert run(sys.executable, "-c", code).stdout.startswith(b"(True, True)")
