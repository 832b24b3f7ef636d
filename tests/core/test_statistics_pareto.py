from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.statistics import front

points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)


def test_the_front_is_named_from_the_fastest_to_the_thriftiest() -> None:
    assert front([(10, 5), (20, 7), (15, 8), (5, 1), (20, 9)]) == [1, 0, 3]


@given(points)
def test_nothing_on_the_front_is_beaten_and_everything_else_is(given_points: list[tuple[int, int]]) -> None:
    def beaten(point: tuple[int, int]) -> bool:
        return any(other[0] >= point[0] and other[1] <= point[1] and other != point for other in given_points)

    assert sorted(front(given_points)) == [index for index, each in enumerate(given_points) if not beaten(each)]
