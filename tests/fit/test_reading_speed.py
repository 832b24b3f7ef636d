from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.fit.assessment import MARGIN_SHARE, PACES, Reader, pace_of
from edgetop.settings import options


def test_a_mean_reader_takes_five_tokens_a_second() -> None:
    assert Reader().tokens_per_s == pytest.approx(238 / 60 * 1.3)


@pytest.mark.parametrize(
    ("words_per_minute", "pace"),
    [
        (301, "comfortable"),
        (299, "usable"),
        (176, "usable"),
        (174, "too slow for reading"),
        (0, "too slow for reading"),
    ],
)
def test_paces_end_where_slow_and_fast_readers_do(words_per_minute: float, pace: str) -> None:
    assert pace_of(words_per_minute / 60 * 1.3, Reader()) == pace


@given(rate=st.floats(0, 1e4), faster=st.floats(1, 100), words=st.floats(10, 1000))
def test_what_is_faster_is_never_less_comfortable(rate: float, faster: float, words: float) -> None:
    reader = Reader(words_per_minute=words)
    assert PACES.index(pace_of(rate * faster, reader)) <= PACES.index(pace_of(rate, reader))


def test_the_settings_begin_with_the_defaults_of_the_verdict() -> None:
    assert options.WORDS_PER_MINUTE.default == Reader().words_per_minute
    assert options.TOKENS_PER_WORD.default == Reader().tokens_per_word
    assert options.MEMORY_MARGIN.default == MARGIN_SHARE * 100
