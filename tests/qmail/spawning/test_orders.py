"""The pipes of qmail-send and its spawners: any chunking gives the same, and nothing piles up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.spawning.orders import (
    MAX_ORDER,
    MAX_TEXT,
    MOST_SLOTS,
    Order,
    OrderReader,
    Report,
    ReportReader,
    announced,
    announcement,
    encode_order,
    encode_report,
)

fields = st.binary(max_size=20).map(lambda field: field.replace(b"\0", b"n"))
widths = st.sampled_from([1, 2])


@st.composite
def chunks(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(st.data(), widths, st.lists(st.tuples(st.integers(0, 255), fields, fields, fields)))
def test_orders_come_back_as_they_were_in_any_chunks(
    data: st.DataObject, width: int, parts: list[tuple[int, bytes, bytes, bytes]]
) -> None:
    orders = [Order(slot * (257 if width == 2 else 1), m, s, r) for slot, m, s, r in parts]
    reader = OrderReader(width)
    wire = b"".join(encode_order(order, width) for order in orders)
    assert [order for chunk in data.draw(chunks(wire)) for order in reader.feed(chunk)] == orders


@given(st.data(), widths, st.lists(st.tuples(st.integers(0, 255), fields)))
def test_reports_come_back_as_they_were_in_any_chunks(
    data: st.DataObject, width: int, parts: list[tuple[int, bytes]]
) -> None:
    reports = [Report(slot * (257 if width == 2 else 1), text) for slot, text in parts]
    reader = ReportReader(width)
    wire = b"".join(encode_report(report, width) for report in reports)
    assert [report for chunk in data.draw(chunks(wire)) for report in reader.feed(chunk)] == reports


@given(widths, st.binary(max_size=200))
def test_garbage_means_the_same_whole_and_byte_by_byte(width: int, wire: bytes) -> None:
    whole, bytewise = OrderReader(width), OrderReader(width)
    assert whole.feed(wire) == [order for byte in wire for order in bytewise.feed(bytes([byte]))]
    reports, bytewise_reports = ReportReader(width), ReportReader(width)
    assert reports.feed(wire) == [r for byte in wire for r in bytewise_reports.feed(bytes([byte]))]


@pytest.mark.parametrize("step", [1, 1000, MAX_ORDER, 10 * MAX_ORDER])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("long_field", [0, 1, 2])
def test_an_endless_order_is_known_by_its_slot_and_the_next_one_is_fine(
    step: int, width: int, long_field: int
) -> None:
    parts = [b"0/23", b"s@x", b"r@y"]
    parts[long_field] = b"a" * (MAX_ORDER + 1)
    fine = Order(8, b"0/24", b"", b"r@z")
    wire = encode_order(Order(7, parts[0], parts[1], parts[2]), width) + encode_order(fine, width)
    reader = OrderReader(width)
    orders = [order for at in range(0, len(wire), step) for order in reader.feed(wire[at : at + step])]
    assert orders == [Order(7, b"", b"", b"", whole=False), fine]


def test_no_order_takes_more_than_its_bound_of_memory() -> None:
    reader = OrderReader()
    for _ in range(100):
        assert reader.feed(b"x" * MAX_ORDER) == []
        assert len(reader._buffer) <= MAX_ORDER


@pytest.mark.parametrize("step", [1, 100, 10**6])
def test_a_text_is_cut_where_qmail_send_cuts_it(step: int) -> None:
    wire = encode_report(Report(3, b"Z" + b"x" * 20000)) + encode_report(Report(0, b"K"))
    reader = ReportReader()
    reports = [report for at in range(0, len(wire), step) for report in reader.feed(wire[at : at + step])]
    assert reports == [Report(3, b"Z" + b"x" * (MAX_TEXT - 1)), Report(0, b"K")]


def test_slots_may_be_zero_bytes_and_texts_empty() -> None:
    assert ReportReader().feed(b"\0K\0\0\0") == [Report(0, b"K"), Report(0, b"")]
    assert ReportReader(2).feed(b"\0\0K\0\0\1\0") == [Report(0, b"K"), Report(256, b"")]


def test_a_nul_in_a_text_ends_it() -> None:
    assert encode_report(Report(1, b"Da\0b")) == b"\1Da\0"


@pytest.mark.parametrize(
    ("limit", "said", "width"),
    [(120, b"x", 1), (255, b"\xff", 1), (256, b"\0\1", 2), (MOST_SLOTS, b"\xe8\xfd", 2)],
)
def test_the_length_of_the_announcement_tells_the_width_of_slots(limit: int, said: bytes, width: int) -> None:
    assert announcement(limit) == said
    assert announced(said) == (limit, width)
