"""dot-qmail(5) says the same whatever surrounds a line, and no address reaches a file outside the home."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.local_delivery import dotqmail
from qmail.local_delivery.dotqmail import FORWARD, LIST, MAILDIR, MBOX, PROGRAM, BlankFirstLine

lines = st.lists(
    st.sampled_from([b".", b"/", b"|", b"&", b"#", b"+", b"list", b" ", b"\t", b"\0", b"a"])
).map(b"".join)


def parsed(instructions: bytes) -> list[tuple[str, bytes]] | None:
    try:
        return list(dotqmail.parse(instructions))
    except BlankFirstLine:
        return None


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (b"./Mailbox", MBOX, b"./Mailbox"),
        (b".", MBOX, b"."),
        (b"/abs", MBOX, b"/abs"),
        (b"./Maildir/", MAILDIR, b"./Maildir/"),
        (b"/", MAILDIR, b"/"),
        (b"./Maildir/ \t ", MAILDIR, b"./Maildir/"),
        (b"./Maildir/\r", MBOX, b"./Maildir/\r"),
        (b"|cmd arg\t", PROGRAM, b"cmd arg"),
        (b"|", PROGRAM, b""),
        (b"&joe@x", FORWARD, b"joe@x"),
        (b"& joe@x", FORWARD, b" joe@x"),
        (b"joe@x", FORWARD, b"joe@x"),
        (b"&", FORWARD, b""),
        (b"&&", FORWARD, b"&"),
        (b"+list", LIST, b""),
        (b"+list \t", LIST, b""),
        (b"+list\0x", LIST, b""),
        (b"./a\0/", MAILDIR, b"./a\0/"),
    ],
)
def test_a_line_means(line: bytes, kind: str, text: bytes) -> None:
    assert parsed(line) == [(kind, text)]
    assert parsed(b"#\n" + line + b"\n\n") == [(kind, text)]


@pytest.mark.parametrize("line", [b"#", b"# ./x", b"#\0", b"+", b"+lists", b"++list", b"+ list"])
def test_a_line_means_nothing(line: bytes) -> None:
    assert parsed(line) == []


@pytest.mark.parametrize("first", [b"\n", b" ", b"\t\t\t", b" \t \n./A\n", b"\0", b"\0./A", b""])
def test_a_blank_first_line_is_an_error(first: bytes) -> None:
    assert parsed(first) is None


@pytest.mark.parametrize("later", [b"", b" ", b"\t", b" \t", b"\0", b"\0./A"])
def test_a_blank_line_further_down_is_none(later: bytes) -> None:
    assert parsed(b"#\n" + later + b"\n./B\n") == [(MBOX, b"./B")]


@given(st.lists(lines))
def test_each_line_speaks_for_itself(several: list[bytes]) -> None:
    together = parsed(b"#\n" + b"\n".join(several))
    assert together == [said for line in several for said in parsed(b"#\n" + line) or []]


@given(lines, st.text(alphabet=" \t", max_size=5).map(str.encode))
def test_blanks_at_the_end_say_nothing(line: bytes, blanks: bytes) -> None:
    assert parsed(line + blanks) == parsed(line) == parsed(line + blanks + b"\n")


@given(st.binary())
def test_no_bytes_are_too_wild(instructions: bytes) -> None:
    for kind, text in parsed(b"#" + instructions) or []:
        assert kind in (MBOX, MAILDIR, PROGRAM, FORWARD, LIST)
        assert b"\n" not in text


@pytest.mark.parametrize(
    ("dash", "ext", "names"),
    [
        (b"", b"", [(b"", None), (b"default", b"")]),
        (b"-", b"", [(b"-", None), (b"-default", b"")]),
        (b"-", b"a", [(b"-a", None), (b"-default", b"a")]),
        (b"-", b"a-", [(b"-a-", None), (b"-a-default", b""), (b"-default", b"a-")]),
        (b"-", b"A-b.C", [(b"-a-b:c", None), (b"-a-default", b"b.C"), (b"-default", b"A-b.C")]),
        (b"-", b"x-Default", [(b"-x-default", b"Default"), (b"-x-default", b"Default"),
                              (b"-default", b"x-Default")]),
        (b"+", b"--", [(b"+--", None), (b"+--default", b""), (b"+-default", b"-"), (b"+default", b"--")]),
    ],
)  # fmt: skip
def test_the_files_looked_for(dash: bytes, ext: bytes, names: list[tuple[bytes, bytes | None]]) -> None:
    assert list(dotqmail.file_names(dash, ext)) == [(b".qmail" + name, default) for name, default in names]


@given(st.binary(max_size=30).filter(lambda ext: b"\0" not in ext))
def test_no_extension_climbs_out_of_the_home(ext: bytes) -> None:
    for name, default in dotqmail.file_names(b"-", ext):
        assert b"." not in name[1:]
        assert default is None or ext.endswith(default)


def test_owner_files_have_the_whole_extension() -> None:
    assert dotqmail.owner_names(b"-", b"L.x") == (b".qmail-l:x-owner", b".qmail-l:x-owner-default")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (b"forward a@b.c", [b"forward", b"a@b.c"]),
        (b" \tdot-forward  .forward ", [b"dot-forward", b".forward"]),
        (b"", []),
        (b"  ", []),
        *((b"forward a" + bytes([special]), []) for special in b"'\"\\$`|&;<>()*?[]#~=!{}\n\0\x80^"),
    ],
)
def test_a_shell_is_spared_only_what_means_nothing_to_it(command: bytes, words: list[bytes]) -> None:
    assert dotqmail.plain_words(command) == words
