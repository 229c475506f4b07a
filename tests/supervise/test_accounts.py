"""A name stands for one user and all of its groups; who becomes it keeps nothing else."""

from __future__ import annotations

import os
import pwd
import sys

import pytest
from programs import run

from supervise import accounts


def test_a_name_is_looked_up_with_all_its_groups() -> None:
    me = pwd.getpwuid(os.getuid())
    account = accounts.look_up(me.pw_name)
    assert account is not None
    assert (account.name, account.uid, account.gid, account.home) == (*me[0:1], *me[2:4], me.pw_dir)
    assert account.gid in account.groups


def test_numbers_stand_for_themselves() -> None:
    account = accounts.look_up("1234:5678")
    assert account is not None
    assert (account.uid, account.gid, account.groups) == (1234, 5678, (5678,))


@pytest.mark.parametrize(
    "name",
    ["", "no such account", "1234", "1:", ":1", "1:-1", "4294967295:0", "0:4294967295", "\u0661:1", "a\0b",
     "9" * 5000 + ":1"],
)  # fmt: skip
def test_nobody_has_a_name_that_is_none(name: str) -> None:
    assert accounts.look_up(name) is None


def _in_a_child(*steps: str) -> tuple[int, str]:
    """What the `steps` print in a child interpreter that may change its user."""
    done = run(sys.executable, "-c", "\n".join(("import os; from supervise import accounts", *steps)))
    return done.returncode, done.stdout.decode()


SHOW = "print(os.getresuid(), os.getresgid(), sorted(os.getgroups()))"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_root_becomes_a_user_for_good() -> None:
    code, shown = _in_a_child("accounts.become(1234, 5678, [5678, 99])", SHOW)
    assert (code, shown) == (0, "(1234, 1234, 1234) (5678, 5678, 5678) [99, 5678]\n")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who then has no rights")
def test_a_user_cannot_even_become_itself() -> None:
    code, shown = _in_a_child(
        "accounts.become(1234, 5678, [5678])",
        "try: accounts.become(1234, 5678, [5678])",
        "except PermissionError as error: print(error.errno)",
    )
    assert (code, shown) == (0, "1\n")
