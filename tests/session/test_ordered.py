from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.session import summary
from edgetop.session.summary import SortedRuns


@given(st.lists(st.lists(st.integers(0, 100), max_size=30)), st.data())
def test_the_pieces_of_a_stretch_are_sorted_and_hold_it_whole(portions: list[list[int]], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "LEAF", 4)
        patch.setattr(summary, "FAN", 3)
        row = SortedRuns()
        for portion in portions:
            row.extend(portion)
        values = [value for portion in portions for value in portion]
        begin = data.draw(st.integers(0, len(values)))
        end = data.draw(st.integers(begin, len(values)))
        pieces = row.pieces(begin, end)
    assert all(list(piece) == sorted(piece) for piece in pieces)
    assert sorted(value for piece in pieces for value in piece) == sorted(values[begin:end])
    assert len(row) == len(values)


def test_a_long_row_is_some_dozens_of_pieces() -> None:
    row = SortedRuns()
    row.extend(range(300_000))
    assert len(row.pieces(0, 299_999)) < 40
