"""The table of timed-out hosts keeps the original's form, and leaves a host alone after two timeouts."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from qmail.remote_delivery.tcpto_table import RECORD, SIZE, Record, Table, change, read, should_wait

FOUR, SIX = bytes([1, 2, 3, 4]), bytes(range(16))
EMPTY = [Record(bytes(4), 0, 0)] * (SIZE // RECORD)

records = st.builds(
    Record, st.binary(min_size=4, max_size=4), st.integers(0, 255), st.integers(0, 2**32 - 1),
    st.binary(min_size=7, max_size=7),
)  # fmt: skip


def after(table: list[Record], *events: tuple[bytes, bool, int]) -> list[Record]:
    """The table after (address, timed out?, time) events."""
    for address, timed_out, now in events:
        changed = change(table, address, timed_out, now)
        if changed:
            table = [*table[: changed[0]], changed[1], *table[changed[0] + 1 :]]
    return table


def test_record_has_the_originals_bytes() -> None:
    packed = Record(FOUR, 3, 0x01020304).pack()
    assert packed == bytes([1, 2, 3, 4, 3, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0])


@given(records)
def test_record_survives_packing(record: Record) -> None:
    assert Record.unpack(record.pack()) == record


def test_one_timeout_is_forgiven_and_two_are_not_for_an_hour() -> None:
    for address in (FOUR, SIX):
        once = after(EMPTY, (address, True, 1000))
        assert not should_wait(once, address, 1001, 0)
        twice = after(once, (address, True, 2000))
        assert should_wait(twice, address, 2001, 0)
        assert should_wait(twice, address, 2000 + 60 * 64 - 1, 0)
        assert not should_wait(twice, address, 2000 + 60 * 64, 0)
        assert should_wait(twice, address, 2000 + 60 * 64, 31)


def test_timeouts_within_two_minutes_count_once() -> None:
    table = after(EMPTY, (FOUR, True, 1000), (FOUR, True, 1119))
    assert not should_wait(table, FOUR, 1120, 0)


def test_an_answer_forgives_all() -> None:
    table = after(EMPTY, (FOUR, True, 1000), (FOUR, True, 2000), (FOUR, False, 2001))
    assert not should_wait(table, FOUR, 2002, 0)


def test_an_answer_of_an_unknown_host_changes_nothing() -> None:
    assert change(EMPTY, FOUR, False, 1000) is None


def test_full_table_gives_up_the_record_worth_least() -> None:
    table = after(EMPTY, *((bytes([10, 0, 0, n]), True, 1000 + n) for n in range(64)))
    table = after(table, (FOUR, True, 5000))
    assert [record.address for record in table].count(FOUR) == 1
    assert bytes([10, 0, 0, 0]) not in [record.address for record in table]


def test_missing_or_short_table_delays_nobody(tmp_path: Path) -> None:
    table = Table(str(tmp_path), lambda: 1000.0)
    table.note(FOUR, True)
    assert not table.should_wait(FOUR)
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock/tcpto").write_bytes(bytes(20))
    table.note(FOUR, True)
    assert not table.should_wait(FOUR)
    with (tmp_path / "lock/tcpto").open("rb") as file:
        assert len(read(file.fileno())) == 1
