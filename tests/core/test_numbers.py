"""Packed numbers are, bit for bit, the array that they stand for."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core import numbers
from edgetop.core.numbers import Numbers


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "BLOCK", 4)
        patch.setattr(numbers, "AT_ONCE", 12)
        yield


READINGS = st.one_of(
    st.floats(),
    st.integers(-(2**60), 2**60).map(float),
    st.integers(-10_000, 10_000).map(lambda whole: whole / 1000),
    st.sampled_from([nan, -0.0, 0.0, inf, -inf, 1e300, 5e-324, 2.0**53]),
)
COLUMNS = st.one_of(
    st.lists(READINGS, max_size=40),
    st.lists(st.integers(-500, 500).map(lambda whole: 8.7 + whole / 1000), max_size=40),
    st.lists(st.one_of(st.just(nan), st.integers(0, 99).map(float)), max_size=40),
)


@given(COLUMNS, st.integers(0, 40))
def test_a_column_of_readings_is_bit_for_bit_what_was_added(values: list[float], at_once: int) -> None:
    column, plain = Numbers("d", values[:at_once]), array("d", values)
    for value in values[at_once:]:
        column.append(value)
    assert len(column) == len(plain)
    assert column[:].tobytes() == array("d", column).tobytes() == plain.tobytes()
    assert (
        array("d", [column[index] for index in range(-len(plain), len(plain))]).tobytes() == (plain + plain).tobytes()
    )


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40),
    st.integers(-45, 45),
    st.integers(-45, 45),
    st.sampled_from([1, 2, 5, -1]),
)
def test_a_slice_is_that_of_an_array(values: list[int], begin: int, end: int, step: int) -> None:
    column, plain = Numbers("q", values), array("q", values)
    assert column == plain
    assert column[begin:end:step] == plain[begin:end:step]
    assert column[begin:] == plain[begin:]
    assert column[::step] == plain[::step]
    for index in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            column[index]


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(-2, 60), st.integers(0, 40))
def test_stamps_are_found_where_they_are_and_a_beginning_goes_on_by_itself(
    gaps: list[int], t_us: int, count: int
) -> None:
    stamps = list(accumulate(gaps))
    column = Numbers("q", stamps)
    assert column.bisect_left(t_us) == bisect_left(stamps, t_us)
    assert column.bisect_right(t_us) == bisect_right(stamps, t_us)
    first = column.first(count)
    assert first == array("q", stamps[:count])
    first.extend([7, 8, 9])
    first[-1] = 10
    assert first == array("q", [*stamps[:count], 7, 8, 10])
    assert column == array("q", stamps)
    assert first.bisect_right(-1) == 0


def test_only_the_last_one_can_be_changed() -> None:
    column = Numbers("q", range(20))
    with pytest.raises(IndexError):
        column[3] = 7
    assert column == array("q", range(20))


def test_an_hour_of_a_quick_sensor_takes_less_than_a_third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "BLOCK", 1024)
    readings = [8.7 + (index * 7919 % 401 - 200) / 1000 for index in range(8192)]
    column: Numbers[float] = Numbers("d")
    for value in readings:
        column.append(round(value, 3))
    packed_bytes = sum(len(block.data.data) for block in column._blocks if not isinstance(block.data, bytes))
    assert len(column._blocks) == 7
    assert packed_bytes < 7 * 1024 * 8 / 3
