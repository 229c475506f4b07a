"""Options are read as getopt reads them: clusters, arguments in the word or after it, `--`, and errors."""

from __future__ import annotations

import pytest

from supervise.options import BadOption, Options


def read(letters: str, *words: str) -> tuple[list[tuple[str, str]], list[str]]:
    options = Options(words, letters)
    return list(options), options.operands


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ([], [])),
        (("x", "-a"), ([], ["x", "-a"])),
        (("-ab", "x"), ([("a", ""), ("b", "")], ["x"])),
        (("-fx", "-f", "y", "z"), ([("f", "x"), ("f", "y")], ["z"])),
        (("-afx",), ([("a", ""), ("f", "x")], [])),
        (("-a", "--", "-b"), ([("a", "")], ["-b"])),
        (("--anything", "-b"), ([], ["-b"])),
        (("-", "-b"), ([], ["-", "-b"])),
        (("-f", ""), ([("f", "")], [])),
        (("-q", "15"), ([("q", "")], ["15"])),
        (("-q15m", "-a"), ([("q", "15m"), ("a", "")], [])),
        (("-aq15m", "-a"), ([("a", ""), ("q", "15m"), ("a", "")], [])),
    ],
)
def test_what_is_read(words: tuple[str, ...], expected: tuple[list[tuple[str, str]], list[str]]) -> None:
    assert read("abf:q::", *words) == expected


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("-z",), "illegal option -- z"),
        (("-az",), "illegal option -- z"),
        (("-:",), "illegal option -- :"),
        (("-f",), "option requires an argument -- f"),
    ],
)
def test_what_is_wrong(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(BadOption, match=f"^{problem}$"):
        read("abf:q::", *words)
