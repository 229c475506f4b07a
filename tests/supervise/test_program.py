"""What the interpreter does to its process at the start is undone before a program of ours sees it."""

from __future__ import annotations

import pytest
from programs import environment, run


@pytest.mark.parametrize("value", [None, "", "no_such", "C.UTF-8", "\udcff\n"])
def test_lc_ctype_is_handed_on_as_it_came(value: str | None) -> None:
    env = environment() if value is None else environment(LC_CTYPE=value)
    ours = run("pgrphack", "/usr/bin/env", "-0", env=env).stdout
    assert ours == run("/usr/bin/env", "-0", env=env).stdout
