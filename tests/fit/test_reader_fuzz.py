from __future__ import annotations

import random
import struct
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetop.core.gguf import GgufArray, GgufError, GgufIncompleteError, read_header
from tests.support.gguf_files import ARRAY, STRING, array, gguf, model_bytes, pair, text
from tests.support.mutated_gguf import DATA_BYTES, examine, good_headers, mutated

HEADERS = good_headers()


def test_good_headers_are_read() -> None:
    assert {examine(header, DATA_BYTES) for header in HEADERS} == {"read"}


@pytest.mark.parametrize("seed", range(4))
def test_mutated_headers_are_read_or_refused_with_place_and_reason(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    outcomes = Counter(
        examine(mutated(chance, HEADERS), chance.choice((None, DATA_BYTES, DATA_BYTES))) for _ in range(800)
    )
    assert set(outcomes) == {"read", "refused", "incomplete"}, "the mutations must reach all of the reader"
    assert min(outcomes.values()) > 20, outcomes


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(st.data())
def test_a_structure_of_hostile_values_is_read_or_refused(data: st.DataObject) -> None:
    scalars = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 2**32 - 1])
    pairs = data.draw(
        st.lists(
            st.builds(
                pair,
                st.one_of(
                    st.sampled_from(["general.architecture", "general.alignment", "llama.block_count", "split.count"]),
                    st.text(max_size=4),
                ),
                scalars,
                st.one_of(
                    st.binary(max_size=24),
                    st.builds(text, st.sampled_from(["llama", "clip", ""])),
                    st.builds(lambda kind, count, rest: struct.pack("<IQ", kind, count) + rest, scalars, st.integers(0, 2**64 - 1), st.binary(max_size=40)),  # noqa: E501
                ),
            ),
            max_size=4,
        )
    )  # fmt: skip
    tensors = data.draw(st.lists(st.binary(max_size=60), max_size=3))
    examine(gguf(pairs, tensors, 64), data.draw(st.sampled_from([None, 2**30])))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 700))
def test_texts_are_skipped_as_they_are_read_one_by_one(seed: int, count: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    lengths = [
        chance.choice((0, 1, 7, 30, 63, 64, 65, 300)) if chance.random() < 0.1 else 6 for _ in range(1100 + count)
    ]
    header = gguf([
        pair("k", ARRAY, array(STRING, [text("x" * length) for length in lengths])),
        pair("end", STRING, text("reached")),
    ])  # fmt: skip
    read = read_header(header)
    assert (read.metadata["k"], read.metadata["end"]) == (GgufArray(len(lengths), None), "reached")
    cut = chance.randrange(60, len(header))
    with pytest.raises(GgufError) as refused:
        read_header(header[:cut])
    assert refused.value.offset <= cut
    with pytest.raises(GgufIncompleteError) as incomplete:
        read_header(header[:cut], size_bytes=len(header))
    assert cut < incomplete.value.needed_bytes <= len(header)


def test_any_beginning_of_a_header_asks_for_more_and_comes_to_an_end() -> None:
    whole = model_bytes("jamba")
    header = read_header(whole)
    n_bytes, asked = 1, 0
    while (needed := _needed_bytes(whole, n_bytes)) is not None:
        assert n_bytes < needed <= header.data_offset
        n_bytes, asked = needed, asked + 1
    assert asked > 500
    assert read_header(whole[:n_bytes], size_bytes=len(whole)) == header


def _needed_bytes(whole: bytes, n_bytes: int) -> int | None:
    try:
        read_header(whole[:n_bytes], size_bytes=len(whole))
    except GgufIncompleteError as error:
        return error.needed_bytes
    return None


def test_memory_stays_within_bounds_however_broken_a_real_header_is(small_model: Path) -> None:
    with small_model.open("rb") as file:
        small_header = file.read(2 * 2**20)
    chance = random.Random(9)  # noqa: S311 - to be repeated
    inputs = [mutated(chance, [small_header]) for _ in range(40)]
    tracemalloc.start()
    try:
        for data in inputs:
            examine(data, DATA_BYTES)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 32 * 2**20
