"""Options as the originals read them: clustered letters, `--` or an operand ends them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class BadOption(ValueError):
    """An unknown letter, or one whose argument is missing; `str(error)` as the originals say it."""


class Options:
    """Iterate over the (letter, argument) pairs of `arguments`; then `operands` is what follows them.

    `letters` is getopt's: a colon after a letter that takes an argument, which
    may stand in the same word or be the next one; two colons if it may be
    missing and stands in the same word only.  A word that begins with `--`
    ends the options and is dropped.  Raises BadOption.
    """

    def __init__(self, arguments: Sequence[str], letters: str) -> None:
        self._words = list(arguments)
        self._letters = letters
        self.operands: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, str]]:
        words = self._words
        while words and words[0].startswith("-") and words[0] != "-":
            cluster = words.pop(0)[1:]
            if cluster.startswith("-"):
                break
            yield from self._read(cluster, words)
        self.operands = words

    def _read(self, cluster: str, words: list[str]) -> Iterator[tuple[str, str]]:
        while cluster:
            letter, cluster = cluster[0], cluster[1:]
            place = self._letters.find(letter) if letter != ":" else -1
            if place < 0:
                raise BadOption(f"illegal option -- {letter}")
            if self._letters[place + 1 : place + 2] != ":":
                yield letter, ""
                continue
            if self._letters[place + 1 : place + 3] == "::":
                yield letter, cluster
                return
            if not cluster and not words:
                raise BadOption(f"option requires an argument -- {letter}")
            yield letter, cluster or words.pop(0)
            return
