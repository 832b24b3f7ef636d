from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.format import (
    format_bytes,
    format_bytes_short,
    format_clock,
    format_count,
    format_duration,
    format_rate,
    format_seconds,
    format_significant,
    format_time,
    time_left,
)


def test_a_missing_number_is_not_a_zero() -> None:
    for formatted in (format_bytes, format_bytes_short, format_count, format_seconds, format_duration, format_rate):
        assert formatted(None) == "n/a"


@pytest.mark.parametrize(
    ("size_bytes", "long", "short"),
    [
        (0, "0 B", "0B"),
        (999, "999 B", "999B"),
        (98362432, "93.8 MiB", "94M"),
        (1023 * 2**20, "0.999 GiB", "1.0G"),
        (int(7.9 * 2**30), "7.90 GiB", "7.9G"),
    ],
)
def test_sizes_are_binary(size_bytes: int, long: str, short: str) -> None:
    assert format_bytes(size_bytes) == long
    assert format_bytes_short(size_bytes) == short


@pytest.mark.parametrize(
    ("span_s", "text"),
    [
        (0.0005, "0.50 ms"),
        (0.081, "81 ms"),
        (0.42, "0.42 s"),
        (12.44, "12.4 s"),
        (192, "3 min 12 s"),
        (22200, "6 h 10 min"),
    ],
)
def test_spans_choose_their_unit(span_s: float, text: str) -> None:
    assert format_seconds(span_s) == text


def test_other_figures() -> None:
    assert format_count(134_515_008) == "135M"
    assert format_rate(12.44) == "12.4 tok/s"
    assert format_clock(761.9) == "00:12:41"
    assert format_duration(2 * 86400 + 4 * 3600) == "2 d 4 h"


@given(st.floats(1e-6, 1e6))
def test_three_significant_digits_are_within_half_a_unit_of_the_last(value: float) -> None:
    assert float(format_significant(value)) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("share", "elapsed_s", "text"),
    [(0, 1, ""), (0.25, 10, ", 30 s left"), (0.1, 100, ", about 15 min left"), (0.01, 100, ", about 2 h 45 min left")],
)
def test_the_time_that_is_left_is_told_once_something_is_done(share: float, elapsed_s: float, text: str) -> None:
    assert time_left(share, elapsed_s) == text


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_a_moment_is_that_of_the_clock_here_also_on_the_days_when_it_is_changed(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for begin in (datetime(2026, 3, 7, tzinfo=timezone.utc), datetime(2026, 10, 3, tzinfo=timezone.utc)):
            for quarter in range(35 * 96):
                moment = begin + timedelta(minutes=15 * quarter)
                wanted = moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")
                assert format_time(moment.isoformat()) == wanted
        assert format_time("2026-03-29T01:30:59.5Z") == format_time("2026-03-29T01:30:59.5+00:00")
        assert format_time("2026-13-29T01:30:59Z") == "2026-13-29T01:30:59Z"
    finally:
        monkeypatch.undo()
        time.tzset()
