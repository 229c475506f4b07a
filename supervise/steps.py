"""Calls that a process makes ready for its child: to find out what to call costs memory, and is done once."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Step = tuple[Callable[..., object], tuple[object, ...]]


def take(steps: Iterable[Step]) -> None:
    """Make the calls."""
    for step, arguments in steps:
        step(*arguments)
