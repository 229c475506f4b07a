"""multilog's script: its actions, and which line goes where.  Does no I/O."""

from __future__ import annotations

import os
from itertools import compress
from operator import not_

from supervise.log_lines import LOOKED_AT
from supervise.numbers import leading_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervise.log_lines import Batch

    Match = Callable[[bytes], object]

SIZE, LEAST_SIZE, MOST_SIZE = 99_999, 4_096, 16_777_215  # bytes of current
COUNT, LEAST_COUNT = 10, 2  # files, current being one
ECHOED = 200  # bytes of a line that `e` prints


class Select:
    """`+pattern` or `-pattern`: select, or deselect, the lines that match."""

    def __init__(self, pattern: bytes, chosen: bool) -> None:
        self.match = compiled(pattern)
        self.chosen = chosen


class Echo:
    """`e`: print the selected lines on descriptor 2."""


class Status:
    """`=file`: keep the last selected line in a file."""

    def __init__(self, file: str) -> None:
        self.file = file


class Directory:
    """`./dir` or `/dir`: append the selected lines to a log of so many files of such a size."""

    def __init__(self, path: str, size: int, count: int, processor: str | None) -> None:
        self.path = path
        self.size = size
        self.count = count
        self.processor = processor


Action = Select | Echo | Status | Directory


def parse(argv: Sequence[str]) -> list[Action]:
    """The actions of a script.  Words that mean nothing are passed over; none is an error."""
    actions: list[Action] = []
    size, count, processor = SIZE, COUNT, None
    for word in argv:
        kind, rest = word[:1], word[1:]
        if kind == "s":
            size = min(max(leading_number(rest), LEAST_SIZE), MOST_SIZE)
        elif kind == "n":
            count = max(leading_number(rest), LEAST_COUNT)
        elif kind == "!":
            processor = rest
        elif kind in ("+", "-"):
            actions.append(Select(os.fsencode(rest), kind == "+"))
        elif kind == "e":
            actions.append(Echo())
        elif kind == "=":
            actions.append(Status(rest))
        elif kind in (".", "/"):
            actions.append(Directory(word, size, count, processor))
    return actions


def labels_lines(argv: Sequence[str]) -> bool:
    """Whether the script says `t`: its first word begins with that letter."""
    return bool(argv) and argv[0].startswith("t")


def compiled(pattern: bytes) -> Match | None:
    """What tells whether a line, without its newline, matches `pattern`; None if every line does.

    A star matches up to the first occurrence of the character after it, and
    never more; at the end it matches the rest.  All else matches itself.
    """
    if pattern == b"*":
        return None
    import re

    expression = b""
    for at, character in enumerate(pattern):
        following = re.escape(pattern[at + 1 : at + 2])
        if character != ord("*"):
            expression += re.escape(pattern[at : at + 1])
        elif following:
            expression += b"[^%b]*+(?=%b)" % (following, following)
        else:
            return re.compile(expression).match
    return re.compile(expression + rb"\Z").match


class Router:
    """Says what of each batch every Echo, Status and Directory of a script gets."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self.actions = actions
        self._selects = any(isinstance(action, Select) for action in actions)
        targets = [action.file for action in actions if isinstance(action, Status)]
        targets += ["" for action in actions if isinstance(action, Echo)]
        self._in_turn = len(set(targets)) < len(targets)  # where two write, each line comes before the next
        self._looks = self._selects or any(isinstance(action, Echo | Status) for action in actions)
        self._long: frozenset[int] = frozenset()  # the actions for which the long line is selected

    def route(self, batch: Batch) -> list[tuple[Action, bytes]]:
        """Pairs of an action and its bytes: whole text for an Echo or a Directory, a line for a Status.

        Should memory run out, nothing has changed, and the same can be routed again.
        """
        if not self._in_turn:
            return self._route(batch)
        long = self._long
        try:
            return [pair for part in batch.apart() for pair in self._route(part)]
        except MemoryError:
            self._long = long
            raise

    def _route(self, batch: Batch) -> list[tuple[Action, bytes]]:
        if not self._looks:
            everything = batch.tail + batch.lines + batch.head
            return [(action, everything) for action in self.actions]
        lines = batch.lines.split(b"\n")
        lines.pop()
        selection = _Selection(lines, batch.head)
        wanted: list[tuple[Action, bytes]] = []
        long = set()
        for number, action in enumerate(self.actions):
            if isinstance(action, Select):
                selection.change(action)
                continue
            if selection.head:
                long.add(number)
            wanted.append((action, self._wanted(number, action, batch, selection)))
        routed = [(action, text) for action, text in wanted if text]
        if batch.head or batch.tail.endswith(b"\n"):
            self._long = frozenset(long)
        return routed

    def _wanted(self, number: int, action: Action, batch: Batch, selection: _Selection) -> bytes:
        if isinstance(action, Echo):
            return selection.echoed()
        if isinstance(action, Status):
            return selection.last()
        tail = batch.tail if not self._selects or number in self._long else b""
        return tail + selection.text(batch.lines)


class _Selection:
    """The lines of a batch, and which of them are selected at one place of the script."""

    def __init__(self, lines: list[bytes], head: bytes) -> None:
        self._lines = lines
        self._looked_at = lines
        if max(map(len, lines), default=0) > LOOKED_AT:
            self._looked_at = [line[:LOOKED_AT] for line in lines]
        self._flags: Sequence[object] | bool = True  # one for each line, or one for all
        self._head = head
        self.head = bool(head)  # whether the head is selected

    def change(self, action: Select) -> None:
        """Go past a `+` or a `-`."""
        match, chosen = action.match, action.chosen
        if self._head and self.head != chosen and (not match or match(self._head[:LOOKED_AT])):
            self.head = chosen
        if self._flags is chosen:
            return
        if not match:
            self._flags = chosen
        elif isinstance(self._flags, bool):
            found = map(match, self._looked_at)
            self._flags = list(found if chosen else map(not_, found))
        elif chosen:
            self._flags = [
                flag or match(line) for flag, line in zip(self._flags, self._looked_at, strict=True)
            ]
        else:
            self._flags = [
                flag and not match(line) for flag, line in zip(self._flags, self._looked_at, strict=True)
            ]

    def _selected(self, lines: list[bytes]) -> list[bytes]:
        if isinstance(self._flags, bool):
            return lines if self._flags else []
        return list(compress(lines, self._flags))

    def text(self, whole: bytes) -> bytes:
        """The selected lines, and the head if it is.  `whole` is the text of all lines."""
        if self._flags is True:
            text = whole
        else:
            chosen = self._selected(self._lines)
            text = b"\n".join([*chosen, b""]) if chosen else b""
        return text + self._head if self.head else text

    def echoed(self) -> bytes:
        """The beginnings of the selected lines, dots for what is left out."""
        lines = [*self._selected(self._looked_at), *([self._head] if self.head else [])]
        return b"".join(line[:ECHOED] + (b"...\n" if len(line) > ECHOED else b"\n") for line in lines)

    def last(self) -> bytes:
        """The last selected line as `=file` holds it: newlines fill it up to LOOKED_AT + 1 bytes."""
        if self.head:
            return self._head[:LOOKED_AT] + b"\n"
        selected = self._selected(self._looked_at)
        return selected[-1].ljust(LOOKED_AT + 1, b"\n") if selected else b""
