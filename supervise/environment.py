"""The environment of this process, changed as a whole or for a while, without decoding what stays."""

from __future__ import annotations

import os
import time
from posix import environ  # the dictionary within os.environ: bytes, and read without running Python

from supervise.steps import take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervise.steps import Step


def replace(env: Mapping[str, str]) -> None:
    """Make `env` the whole environment.  ValueError: there can be no such variable."""
    wanted = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    changes: dict[bytes, bytes | None] = dict.fromkeys(environ.keys() - wanted.keys())
    changes.update((name, value) for name, value in wanted.items() if environ.get(name) != value)
    take(_steps(changes))


def steps(changes: Mapping[str, str | None]) -> list[Step]:
    """The calls that set the variables, or unset (None) them.  ValueError: there can be no such variable."""
    return _steps(
        {os.fsencode(name): None if value is None else os.fsencode(value) for name, value in changes.items()}
    )


def _steps(changes: Mapping[bytes, bytes | None]) -> list[Step]:
    if any(b"=" in name or b"\0" in name + (value or b"") for name, value in changes.items()):
        raise ValueError("no name or value of a variable")
    values = {name: value for name, value in changes.items() if value is not None}
    steps: list[Step] = [(environ.update, (values,))]
    steps += [(os.putenv, setting) for setting in values.items()]
    for name in changes.keys() - values.keys():
        steps += [(environ.pop, (name, None)), (os.unsetenv, (name,))]
    return [*steps, (time.tzset, ())] if b"TZ" in changes else steps
