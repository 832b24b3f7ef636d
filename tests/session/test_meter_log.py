"""Logs of meters as their programs write them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edgetop.session.meter_log import LogError, MeterLog, read_log

TIMES = [0.1 * k for k in range(40)]
WATTS = [5.0 + (k % 7) * 0.25 for k in range(40)]
VOLTS = 5.0


def rows(line: str, *, begin: float = 0.0, factor: float = 1.0) -> str:
    """A line for each reading, of which `t`, `w`, `a` and `v` are known."""
    return "".join(
        line.format(
            k=k, t=(begin + t) * factor, ms=t * 1e3, us=t * 1e6, clock=f"12:00:{k // 10:02d}.{k % 10 * 100:03d}",
            w=w, mw=w * 1e3, a=w / VOLTS, v=VOLTS, ma=w / VOLTS * 1e3, ua=w / VOLTS * 1e6,
        )
        for k, (t, w) in enumerate(zip(TIMES, WATTS, strict=True))
    )  # fmt: skip


LOGS: dict[str, str] = {
    # Joulescope UI, recorded statistics
    "joulescope statistics": "#time,current,voltage,power,charge,energy\n" + rows("{t:.1f},{a:.5f},{v},{w:.5f},0,0\n"),
    # Joulescope UI, exported samples
    "joulescope export": "#time (s),current (A),voltage (V)\n" + rows("{t:.3f},{a:.6g},{v}\n"),
    # the logger of FNIRSI's USB meters: an empty line first, blanks between
    "fnirsi": "\ntimestamp sample_in_packet voltage_V current_A dp_V dn_V temp_C_ema energy_Ws capacity_As\n"
    + rows("{t:.3f} 0 {v:.5f} {a:.5f} 3.035 0.072 28.2 0.0 0.0\n", begin=1774531584.0),
    # WITRN's, reformatted with decimal commas
    "witrn": "time (HH:MM:SS,MS);voltage (V);current (A);D+ (V); D- (V);temp (deg)\n"
    + rows("{clock};{v:.3f};{a:.5f};0.1;0.1;25\n").replace(".", ","),
    "milliwatts": "Timestamp [ms];Power [mW]\n" + rows("{ms:.0f};{mw:.1f}\n"),
    "microseconds": "time_us\tpower_mW\n" + rows("{us:.0f}\t{mw:.1f}\n"),
    "iso": "datetime,power_w\n" + rows("2026-11-30T{clock}Z,{w}\n"),
    "local": '"Date Time","Voltage(V)","Current(mA)"\n' + rows('"2026-11-30 {clock}",{v},{ma:.2f}\n'),
    "units below": "time;U;I\ns;V;mA\n" + rows("{t:.2f};{v};{ma:.3f}\n"),
    "comments": "# Meter 3000, serial 17\n# calibrated\n\nTime(s),Voltage(V),Current(A),Power(W)\n"
    + rows("{t:.2f},{v},{a:.5f},{w:.5f}\n"),
    "amperes": "t,amps,volts\n" + rows("{t:.2f},{a:.5f},{v}\n"),
    "index and time": "Index,Time(s),Voltage(V),Current(A),Capacity(Ah),Temperature('C),\n"
    + rows("{k},{t:.2f},{v},{a:.5f},0,21,\n"),
    "unix ms": "timestamp,power\n" + rows("{t:.0f},{w:.4f}\n", begin=1774531584.0, factor=1000),
    "utf-16": "time (s),power (W)\n" + rows("{t:.2f},{w:.5f}\n"),
}  # fmt: skip


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "log.csv"
    path.write_text(text, encoding=encoding)
    return path


def matches(log: MeterLog) -> None:
    assert log.power_w == pytest.approx(np.array(WATTS), rel=2e-3)
    assert log.t_s - log.t_s[0] == pytest.approx(np.array(TIMES), abs=2e-3)
    assert log.period_s == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("name", LOGS)
def test_a_log_whose_headings_tell_enough_is_read_without_options(tmp_path: Path, name: str) -> None:
    matches(read_log(written(tmp_path, LOGS[name], "utf-16" if name == "utf-16" else "utf-8")))


def test_a_power_profiler_has_no_voltage_and_is_told_it(tmp_path: Path) -> None:
    path = written(tmp_path, "Timestamp(ms),Current(uA),D0-D7\n" + rows("{t:.2f},{ua:.3f},00000000\n", factor=1000))
    with pytest.raises(LogError, match="no voltage") as failed:
        read_log(path)
    assert "--voltage" in failed.value.hint
    matches(read_log(path, volts=VOLTS))


def test_one_channel_of_otii_is_told_its_unit(tmp_path: Path) -> None:
    path = written(tmp_path, "Timestamp,Value\n" + rows("{t:.4f},{a:.6f}\n"))
    with pytest.raises(LogError, match="unit") as failed:
        read_log(path)
    assert "--unit" in failed.value.hint
    matches(read_log(path, unit="A", volts=VOLTS))


def test_without_headings_columns_are_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, rows("{t:.2f},{k},{w:.5f}\n"))
    with pytest.raises(LogError, match="time") as failed:
        read_log(path)
    assert "--time-column" in failed.value.hint
    matches(read_log(path, time_column="1", column="3", unit="W"))


def test_several_rails_are_not_guessed_between(tmp_path: Path) -> None:
    path = written(tmp_path, "time (s),Main power (W),Total power (W)\n" + rows("{t:.2f},{w},9\n"))
    with pytest.raises(LogError, match="several columns"):
        read_log(path)
    matches(read_log(path, column="Main power (W)"))


def test_a_counter_of_energy_becomes_power(tmp_path: Path) -> None:
    energy_j = np.cumsum(np.array(WATTS) * 0.1)
    text = "time (s),energy (mWh)\n" + "".join(f"{t:.2f},{j / 3.6:.6f}\n" for t, j in zip(TIMES, energy_j, strict=True))
    log = read_log(written(tmp_path, text), column="2")
    assert log.averaged
    assert log.power_w == pytest.approx(np.array(WATTS[1:]), rel=1e-3)


def test_lines_that_are_no_readings_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = ("time (s),power (W)\n" + rows("{t:.2f},{w:.5f}\n")).splitlines()
    lines[6:6] = ["overload,OL", "0.5"]
    log = read_log(written(tmp_path, "\n".join([*lines, "4.0"])))
    matches(log)
    assert log.unread == 3


def test_disorder_is_sorted_and_whole_seconds_are_shared_out(tmp_path: Path) -> None:
    lines = rows("{t:.2f},{w:.5f}\n").splitlines()
    lines[10], lines[11] = lines[11], lines[10]
    matches(read_log(written(tmp_path, "time (s),power (W)\n" + "\n".join(lines))))
    coarse = "".join(f"12:00:{k // 10:02d},{w}\n" for k, w in enumerate(WATTS))
    matches(read_log(written(tmp_path, "time,power\n" + coarse)))


def test_midnight_is_gone_through(tmp_path: Path) -> None:
    stamps = [f"23:59:5{8 + k // 10}.{k % 10}00" if k < 20 else f"00:00:0{k // 10 - 2}.{k % 10}00" for k in range(40)]
    matches(
        read_log(written(tmp_path, "time,power\n" + "".join(f"{t},{w}\n" for t, w in zip(stamps, WATTS, strict=True))))
    )


@pytest.mark.parametrize(
    "text", ["", "\n\n", "hello\n", "time,power\n", "time,power\n1,2\n", "\x00\x00\x00", "a;b;c\nd;e;f\n"]
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(LogError) as failed:
        read_log(written(tmp_path, text))
    assert "\n" not in failed.value.what
    assert failed.value.hint


def test_numbers_that_cannot_be_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = ("time (s),power (W)\n" + rows("{t:.2f},{w:.5f}\n")).splitlines()
    lines[6:6] = ["0.45,1e308", "0.45,-1e300", "1e308,5", "-1e12,5", "0.45,nan", "inf,5"]
    log = read_log(written(tmp_path, "\n".join(lines)))
    matches(log)
    assert (log.rows, log.unread) == (len(TIMES), 6)
    stamped = "datetime,power_w\n9999-12-31T23:59:59-23:59,5\n" + rows("2026-11-30T{clock}Z,{w}\n")
    log = read_log(written(tmp_path, stamped))
    matches(log)
    assert log.unread == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,power\n" + "1,2\n" * 40, "its times do not go on"),
        ("time,power\n" + "".join(f"{k},{k}\n" for k in range(40)) + "7" * 200_000, "a line of more than 65536"),
        ("time,power\n" + "9" * 100_000 + "x,1\n" * 3, "no lines of numbers"),
        ("_" * 100_000 + "," + "_ (" * 50_000 + "\n" + "".join(f"{k},{k}\n" for k in range(40)), "the time"),
        (",".join("a" * 2000) + "\n" + "1," * 2000 + "1\n", "no lines of numbers"),
    ],
    ids=["one moment", "no end", "digits", "headings", "fields"],
)
def test_a_log_that_is_made_to_hurt_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LogError, match=said):
        read_log(written(tmp_path, text))


def test_hostile_headings_reach_no_terminal(tmp_path: Path) -> None:
    with pytest.raises(LogError) as failed:
        read_log(written(tmp_path, "\x1b[31mtime,\x1b]0;x\x07power\n" + rows("{t:.2f},{w:.5f}\n")))
    assert "\x1b" not in failed.value.hint


def test_a_long_log_is_averaged_on_the_way(tmp_path: Path) -> None:
    """300,000 readings of 100 kHz take no more than some megabytes."""
    path = tmp_path / "long.csv"
    with path.open("w") as opened:
        opened.write("Timestamp(ms),Current(uA)\n")
        opened.writelines(f"{k / 100:.2f},{1e6 + k % 1000}\n" for k in range(300_000))
    tracemalloc.start()
    log = read_log(path, volts=5.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert log.rows == 300_000
    assert len(log.t_s) == 300
    assert log.averaged
    assert log.power_w == pytest.approx(np.full(300, 5.0 * (1 + 499.5e-6)), rel=1e-6)
    assert peak < 60 * 2**20
