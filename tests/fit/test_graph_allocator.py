"""The plan of a compute graph's buffer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgetop.fit.compute_buffer import Graph, GraphTensor


def test_a_result_is_freed_after_its_last_reader_and_its_place_taken_again() -> None:
    graph = Graph()
    first = graph.operation(1024)
    second = graph.operation(1024, first)
    third = graph.operation(1024, second)
    graph.operation(1024, third)
    assert graph.buffer_bytes() == 2048


def test_an_operation_in_place_takes_no_memory_of_its_own_where_nobody_else_reads_its_source() -> None:
    graph = Graph()
    source = graph.operation(1024)
    graph.operation(1024, source, in_place=True)
    assert graph.buffer_bytes() == 1024

    shared = Graph()
    source = shared.operation(1024)
    other = shared.operation(1024, source, in_place=True)
    shared.operation(1024, source, other)
    assert shared.buffer_bytes() == 3072


def test_a_view_keeps_its_source_and_is_not_written_over() -> None:
    graph = Graph()
    source = graph.operation(1024)
    turned = graph.operation(1024, graph.view(source), in_place=True)
    graph.operation(32, turned)
    assert graph.buffer_bytes() == 2048


def test_the_smallest_hole_that_is_large_enough_is_taken() -> None:
    graph = Graph()
    large, wall = graph.operation(4096), graph.operation(32)
    small, last = graph.operation(1024), graph.operation(32)
    graph.store(large)
    graph.store(small)
    fits_small = graph.operation(1024)  # lies where the small one was, so that the large hole stays whole
    fits_large = graph.operation(4096)
    graph.store(wall, last, fits_small, fits_large)
    assert graph.buffer_bytes() == 4096 + 32 + 1024 + 32


def test_inputs_lie_before_everything_and_sizes_are_rounded_up() -> None:
    graph = Graph()
    given_in = graph.input(5)
    graph.operation(33, given_in)
    assert graph.buffer_bytes() == 32 + 64


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_the_buffer_holds_what_is_alive_at_once_and_never_more_than_everything(
    steps: list[tuple[int, int, bool]],
) -> None:
    graph = Graph()
    results: list[GraphTensor] = []
    sizes: list[int] = []
    read_until: list[int] = []
    for number, (size, back, in_place) in enumerate(steps):
        source = number - 1 - back
        sources = (results[source],) if source >= 0 else ()
        if source >= 0:
            read_until[source] = number
        results.append(graph.operation(size, *sources, in_place=in_place))
        sizes.append(-(-size // 32) * 32)
        read_until.append(len(steps))  # what nobody reads stays
    alive_at_once = [
        sum(size for size, until in zip(sizes[: now + 1], read_until, strict=False) if until > now)
        for now in range(len(steps))
    ]
    assert max(alive_at_once) <= graph.buffer_bytes() <= sum(sizes)
