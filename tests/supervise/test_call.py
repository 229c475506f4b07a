"""A program called in this process gives its exit code and sees its own arguments, again and again."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence

import pytest

from supervise import chain, environment, errors
from supervise.program import Fatal, Program


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    argv, env = sys.argv, dict(os.environ)
    yield
    sys.argv = argv
    environment.replace(env)


def test_a_called_program_sees_its_arguments_and_environment() -> None:
    seen = []

    def body(arguments: Sequence[str]) -> int:
        seen.append((list(arguments), sys.argv, dict(os.environ)))
        return len(arguments)

    called = Program("called", body, resident=False, helps=False)
    assert chain.call(called, ["called", "a", "b"], {"ONE": "1"}) == 2
    assert chain.call(called, ["called"]) == 0
    assert seen == [(["a", "b"], ["called", "a", "b"], {"ONE": "1"}), ([], ["called"], {"ONE": "1"})]


def test_a_called_program_may_die_and_is_called_again(capfd: pytest.CaptureFixture[str]) -> None:
    def body(arguments: Sequence[str]) -> int:
        raise Fatal("too bad", 100)

    called = Program("called", body, resident=False, helps=False)
    assert [chain.call(called, ["called"]) for _ in range(2)] == [100, 100]
    assert capfd.readouterr().err == "called: fatal: too bad\n" * 2


def test_a_full_disk_is_temporary_and_a_missing_file_is_not() -> None:
    assert errors.temporary(OSError(errno.ENOSPC, ""))
    assert not errors.temporary(OSError(errno.ENOENT, ""))
