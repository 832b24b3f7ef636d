from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.sources import of_channel
from edgetop.telemetry.power_text import (
    EXAMPLE,
    WHOLE_EXAMPLE,
    Header,
    MeterReading,
    describe,
    parse_header,
    parse_reading,
)
from edgetop.telemetry.source import SourceLost

WATTS = Header(kind="power", factor=1.0, scope="wall")


def test_a_header_says_what_is_measured_and_how_well() -> None:
    header = parse_header(
        "# edgetop-power/1 kind=power unit=mW scope=dc_in update=0.1 window=0.05 gain=0.01 offset=0.2 max=60"
    )
    assert header == Header(
        kind="power", factor=1e-3, scope="dc_in", update_s=0.1, window_s=0.05, gain=0.01, offset_w=0.2, p_max_w=60.0
    )


def test_what_a_header_may_leave_out_is_not_known_rather_than_zero() -> None:
    header = parse_header("# edgetop-power/1 kind=energy unit=Wh scope=wall")
    assert (header.factor, header.window_s, header.gain, header.update_s) == (3600.0, None, None, 1.0)


def test_the_example_that_is_shown_to_users_is_right() -> None:
    assert parse_header(EXAMPLE) == WATTS
    printed = subprocess.run(["sh", "-c", WHOLE_EXAMPLE], capture_output=True, text=True, check=True).stdout
    first, reading = printed.splitlines()
    assert parse_reading(reading, parse_header(first)) == MeterReading(12.34)


def test_a_plain_number_is_watts_at_the_boards_input_and_says_that_it_is_taken_so() -> None:
    header = parse_header(" 6.5\n")
    assert (header.kind, header.scope, parse_reading("6.5", header).value) == ("power", "board_input", 6.5)
    info = describe(header, name="power.exec", driver="exec", path="watts.sh", period_s=1.0)
    assert of_channel(info, "power.exec").flags == ("assumed-scope", "slow")


def test_what_a_header_declares_is_kept() -> None:
    header = parse_header("# edgetop-power/1 kind=power unit=mW scope=wall lsb=100 gain=0.01 offset=0.2 max=60")
    known = of_channel(describe(header, name="power.exec", driver="exec", path="", period_s=1.0), "power.exec")
    assert known.lsb_w == pytest.approx(0.1)
    assert (known.gain, known.offset_w, known.p_max_w) == (0.01, 0.2, 60.0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("watts: 12.34", "neither a number nor a header"),
        ("# edgetop-power/2 kind=power unit=W scope=wall", "neither a number nor a header"),
        ("# edgetop-power/1 kind=current unit=A scope=wall", "neither power nor energy"),
        ("# edgetop-power/1 kind=power unit=J scope=wall", "unit=J is not one of W mW"),
        ("# edgetop-power/1 kind=power unit=W", "scope= is not one of wall"),
        ("# edgetop-power/1 kind=power unit=W scope=house", "scope=house"),
        ("# edgetop-power/1 kind=power unit=W scope=wall updaet=1", "'updaet=1'"),
        ("# edgetop-power/1 kind=power unit=W scope=wall scope=dc_in", "'scope=dc_in'"),
        ("# edgetop-power/1 kind=power unit=W scope=wall update=0", "cannot be"),
        ("# edgetop-power/1 kind=power unit=W scope=wall gain=-0.1", "gain=-0.1"),
        ("# edgetop-power/1 kind=power unit=W scope=wall gain=nan", "gain=nan"),
        ("# edgetop-power/1 kind=power unit=W scope=wall window=1e99", "window=1e99"),
        ("# edgetop-power/1 kind=power unit=W scope=wall window=90000", "window=90000 .*: 0 to 86400"),
        ("# edgetop-power/1 kind=power unit=W scope=wall update=1e5", "update=1e5 .*: 0 to 86400"),
        ("# edgetop-power/1 kind=power unit=W scope=wall gain=1.5", "gain=1.5 .*: 0 to 1"),
        ("# edgetop-power/1 kind=power unit=W scope=wall offset=1e5", "offset=1e5"),
        ("# edgetop-power/1 kind=power unit=W scope=wall max=1e7", "max=1e7"),
        ("# edgetop-power/1 kind=energy unit=J scope=wall lsb=1e7", "lsb=1e7"),
        ("# edgetop-power/1 kind=energy unit=J scope=wall lsb=inf", "lsb=inf"),
        ("\x1b]0;title\x07", r"\\x1b"),
    ],
)
def test_a_header_that_is_wrong_is_refused_with_one_that_is_right(line: str, said: str) -> None:
    with pytest.raises(SourceLost, match=said) as lost:
        parse_header(line)
    assert EXAMPLE in lost.value.missing.hint


@pytest.mark.parametrize(
    ("line", "header", "reading"),
    [
        ("12.34", WATTS, MeterReading(12.34)),
        (" 0 ", WATTS, MeterReading(0.0)),
        ("1.5e1", WATTS, MeterReading(15.0)),
        ("12340", Header(kind="power", factor=1e-3, scope="wall"), MeterReading(12.34)),
        ('{"t":1782936360.25,"w":12.34}', WATTS, MeterReading(12.34, 1782936360.25)),
        ('{"w":12,"note":"other keys are passed over"}', WATTS, MeterReading(12.0)),
        ('{"w":12.34}', Header(kind="power", factor=1e-3, scope="wall"), MeterReading(12.34)),
        ('{"j":36000}', Header(kind="energy", factor=3600.0, scope="wall"), MeterReading(36000.0)),
        ("10", Header(kind="energy", factor=3600.0, scope="wall"), MeterReading(36000.0)),
        ("-0.1", Header(kind="power", factor=1.0, scope="wall", offset_w=0.2), MeterReading(-0.1)),
    ],
)
def test_a_reading_is_a_number_in_the_headers_unit_or_json_in_its_own(
    line: str, header: Header, reading: MeterReading
) -> None:
    assert parse_reading(line, header) == reading


@pytest.mark.parametrize(
    "line",
    [
        "nan",
        "inf",
        "-1",
        "1_000",
        "0x10",
        "12.34 W",
        "1e99",
        "20000",
        "{",
        '{"w":NaN}',
        '{"w":"12"}',
        '{"w":true}',
        '{"w":-1}',
        '{"w":20000}',
        '{"j":12}',
        '{"w":null}',
        '{"t":"now","w":1}',
        '{"t":1e308,"w":1}',
        '{"t":-1e308,"w":1}',
        '{"t":-1,"w":1}',
        "{" * 5000,
        '{"w":' + "[" * 5000,
        "٣",
    ],
)
def test_what_cannot_be_a_reading_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_reading(line, WATTS)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "replace")))
def test_whatever_a_line_holds_it_is_a_plausible_number_or_refused(line: str) -> None:
    try:
        reading = parse_reading(line, WATTS)
    except ValueError:
        return
    assert 0 <= reading.value <= WATTS.p_max_w


def test_a_meter_slower_than_it_is_asked_keeps_its_own_timing() -> None:
    header = Header(kind="power", factor=1.0, scope="wall", update_s=1.0, gain=0.03, offset_w=0.5)
    info = describe(header, name="power.exec", driver="exec", path="meter", period_s=0.5)
    known = of_channel(info, "power.exec")
    assert (known.update_s, known.window_s, known.gain, known.offset_w) == (1.0, None, 0.03, 0.5)
    assert (known.total, known.flags, info.channels[0].scope) == (True, ("slow",), "wall")


def test_a_meter_faster_than_it_is_asked_is_averaged_over_the_time_between() -> None:
    header = Header(kind="power", factor=1.0, scope="dc_in", update_s=0.001, window_s=0.0)
    info = describe(header, name="power.stream", driver="stream", path="", period_s=0.02, averaged=True)
    known = of_channel(info, "power.stream")
    assert (known.update_s, known.window_s, known.flags) == (0.02, 0.02, ())


def test_a_counter_is_in_joules_and_has_no_window() -> None:
    header = Header(kind="energy", factor=3600.0, scope="wall", window_s=1.0)
    info = describe(header, name="power.stream", driver="stream", path="", period_s=0.5)
    assert (info.kind, info.channels[0].name, info.channels[0].unit) == ("energy", "energy.stream", "J")
    assert of_channel(info, "energy.stream").window_s is None
