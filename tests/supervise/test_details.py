"""supervise/details: what was written is read; whatever else is there is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervise.details import FILE, Details, read
from supervise.readiness import assignments

words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
moments = st.none() | st.integers(0, 2**63)


@given(
    st.builds(
        Details, st.integers(1, 2**63), words, moments, words, moments, st.booleans(), words | st.just("")
    )
)
def test_what_was_packed_is_unpacked(given_: Details) -> None:
    back = Details.unpack(given_.pack())
    assert all(getattr(back, name) == getattr(given_, name) for name in Details.__slots__)


@given(st.binary(max_size=200))
def test_any_content_is_details_or_a_value_error(content: bytes) -> None:
    try:
        assert Details.unpack(content).changed is not None
    except ValueError:
        pass


def test_no_file_and_no_sense(tmp_path: Path) -> None:
    assert read(0, str(tmp_path)) is None
    (tmp_path / "supervise").mkdir()
    (tmp_path / FILE).write_bytes(b"changed soon\n")
    assert read(0, str(tmp_path)) is None
    (tmp_path / FILE).write_bytes(Details(7).pack())
    assert read(7, str(tmp_path)) is not None
    assert read(8, str(tmp_path)) is None


@given(st.binary(max_size=300))
def test_what_a_service_says_of_itself_can_be_shown_on_one_line(datagram: bytes) -> None:
    for value in assignments(datagram).values():
        assert value.isprintable()
        assert len(value) <= 200


@pytest.mark.parametrize("moment", ["99999999999999999999", "-1", "x", "1e3"])
def test_a_moment_beyond_all_clocks_makes_it_none(moment: str) -> None:
    with pytest.raises(ValueError, match=r"moment|literal"):
        Details.unpack(f"changed 1\nstarts-at {moment}\n".encode())
