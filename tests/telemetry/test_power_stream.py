from __future__ import annotations

import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edgetop.core.energy.curves import PowerCurve
from edgetop.core.sources import Unavailable, meter_of
from edgetop.telemetry import power_stream
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_feed import Connection, ProgramFeed, parse_command, parse_stream
from edgetop.telemetry.power_stream import ExecSource, StreamSource, exec_source
from edgetop.telemetry.power_text import describe, parse_header
from edgetop.telemetry.source import SourceLost, Values

HEADER = "# edgetop-power/1 kind=power unit=W scope=wall update=1.0"
COUNTER = "# edgetop-power/1 kind=energy unit=Wh scope=dc_in update=1.0"
UNIX_S = 1_782_936_360.0


class Moment:
    """A clock that a test sets, monotonic and wall time together."""

    def __init__(self) -> None:
        self.s = 1000.0

    def clock_us(self) -> int:
        return round(self.s * 1_000_000)

    def wall(self) -> float:
        return UNIX_S + self.s - 1000.0

    @property
    def host(self) -> Host:
        return Host(clock=self.clock_us)


class ScriptedFeed:
    """Gives what a test puts in: a text is a chunk, `None` the end."""

    name = "meter"

    def __init__(self, *chunks: str | None) -> None:
        self.chunks = list(chunks)
        self.starts = 0
        self.closed = 0

    def start(self) -> None:
        self.starts += 1

    def receive(self, timeout_s: float) -> bytes | None:
        chunk = self.chunks.pop(0) if self.chunks else ""
        return None if chunk is None else chunk.encode()

    def send(self, line: str) -> bool:
        return False

    def why_ended(self) -> str:
        return "meter exited with status 1"

    def close(self) -> None:
        self.closed += 1


def stream(moment: Moment, *chunks: str | None) -> tuple[StreamSource, ScriptedFeed]:
    feed = ScriptedFeed(*chunks)
    return StreamSource(Connection(feed, moment.clock_us), moment.host, wall_clock=moment.wall), feed


def open_stream(text: str) -> StreamSource:
    return StreamSource(Connection(parse_stream(text), Host().clock), Host())


def python(code: str) -> str:
    """A command that runs `code`."""
    return f"{shlex.quote(sys.executable)} -S -c {shlex.quote(code)}"


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for as long as a loaded machine may take."""
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true"
        threading.Event().wait(0.005)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that ended and is not waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_readings_since_the_last_one_are_averaged() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{HEADER}\n", "10\n")
    assert source.read() == (10.0,)
    moment.s += 0.5
    feed.chunks += ["11\n12\n1", "3\n"]
    assert source.read() == pytest.approx((12.0,))
    assert (source.info.name, source.info.channels[0].scope, source.info.period_s) == ("power.stream", "wall", 0.5)


def test_a_counter_is_not_averaged_and_is_in_joules() -> None:
    source, feed = stream(Moment(), f"{COUNTER}\n1.0\n")
    feed.chunks += ["1.001\n1.002\n"]
    assert source.read() == pytest.approx((3607.2,))


def test_a_reading_stands_until_the_next_one_and_not_for_ever() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{HEADER}\n10\n")
    source.read()
    moment.s += 4.9
    assert source.read() == (10.0,)
    moment.s += 0.2
    with pytest.raises(SourceLost, match="meter has said nothing for 5 s"):
        source.read()
    feed.chunks += [f"{HEADER}\n11\n"]
    moment.s += 1.1
    assert source.read() == (11.0,)


def test_lines_that_are_no_readings_are_missing_with_the_reason_and_the_next_good_one_counts() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{HEADER}\n10\n")
    source.read()
    moment.s += 0.5
    for line in ("nan", "-5", "99999", "Segmentation fault", '{"w":"x"}', "x" * 5000):
        feed.chunks += [f"{line}\n"]
        assert isinstance(source.read()[0], Unavailable)
    feed.chunks += ["nan\n\n# a remark\n", "12\n"]
    assert source.read() == (12.0,)


def test_a_line_without_end_is_not_gathered() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{HEADER}\n10\n")
    source.read()
    moment.s += 0.5
    feed.chunks += ["9" * 4000, "9" * 4000]
    assert source.read() == (Unavailable("a line is longer than 4096 bytes"),)
    feed.chunks += ["\n", "12\n"]
    assert source.read() == (12.0,)


STAMPED = "# edgetop-power/1 kind=power unit=W scope=dc_in update=0.1 window=0.1"


def stamped_line(t_s: float, watts: float) -> str:
    """A reading measured `t_s` after the test's clock showed 1000 s."""
    return f'{{"t": {UNIX_S + t_s:.6f}, "w": {watts:g}}}\n'


def handed_over(source: StreamSource) -> list[tuple[float, float | Unavailable]]:
    """Times since the test began, and values, of what has come."""
    return [(round(each.t_us / 1e6 - 1000, 3), each.values[0]) for each in source.read_stamped()]


def test_a_stamped_reading_is_recorded_with_its_own_time_however_late_it_comes() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{STAMPED}\n", stamped_line(-1.5, 4))
    assert [channel.name for channel in source.info.channels] == ["power.stream", "clock.stream"]
    assert handed_over(source) == [(-1.5, 4.0)]
    for i in range(1, 5):
        moment.s = 1000 + i / 10
        feed.chunks += [stamped_line(i / 10 - 1.5, 4 + i)]
        assert handed_over(source) == [(round(i / 10 - 1.5, 3), 4.0 + i)]
    assert handed_over(source) == []


def test_stamped_lines_out_of_order_are_sorted_also_across_two_calls() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{STAMPED}\n", stamped_line(0, 1))
    handed_over(source)
    moment.s += 0.4
    feed.chunks += [stamped_line(0.3, 4), stamped_line(0.1, 2)]
    assert handed_over(source) == [(0.1, 2.0)]
    moment.s += 0.2
    feed.chunks += [stamped_line(0.5, 6), stamped_line(0.2, 3), stamped_line(0.4, 5)]
    assert handed_over(source) == [(0.2, 3.0)]
    moment.s += 0.4
    feed.chunks += [stamped_line(0.9, 7)]
    assert handed_over(source) == [(0.3, 4.0), (0.4, 5.0), (0.5, 6.0)]


def test_a_meter_whose_clock_is_ahead_is_set_right_by_when_its_lines_come() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{STAMPED}\n", stamped_line(3600, 1))
    first = source.read_stamped()[0]
    assert first.values == (1.0, 0.125)
    assert 0 <= 1000 - first.t_us / 1e6 <= 0.25
    moment.s += 0.1
    feed.chunks += [stamped_line(3600.1, 2)]
    assert source.read_stamped()[0].t_us - first.t_us == pytest.approx(100_000, abs=10)


def test_a_meter_whose_clock_is_set_back_goes_on() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{STAMPED}\n", stamped_line(0, 1))
    handed_over(source)
    moment.s += 1
    feed.chunks += [stamped_line(-49, 2)]
    ((_, rejected),) = handed_over(source)
    assert rejected == Unavailable("the reading is 49 s older than the one before")
    moment.s += 0.1
    feed.chunks += [stamped_line(-48.9, 3)]
    assert handed_over(source) == [(0.975, 3.0)]


def test_a_reading_that_is_old_stands_for_nothing() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{HEADER}\n", stamped_line(-3, 7))
    assert source.read()[0] == 7.0
    moment.s += 1
    feed.chunks += [stamped_line(-59, 8)]
    feed.chunks += [stamped_line(-2, 9)]
    assert source.read()[0] == 9.0


def test_a_stream_that_comes_with_an_old_reading_first_is_rejected_with_the_reason() -> None:
    with pytest.raises(SourceLost, match="the reading is 60 s old"):
        stream(Moment(), f"{HEADER}\n", stamped_line(-60, 7))


def test_silence_is_not_filled_with_the_last_reading() -> None:
    moment = Moment()
    source, _ = stream(moment, f"{STAMPED}\n5\n")
    assert handed_over(source) == [(0.0, 5.0)]
    for _ in range(19):
        moment.s += 0.1
        assert handed_over(source) == []
    moment.s += 0.2
    with pytest.raises(SourceLost, match="said nothing for 2 s"):
        source.read_stamped()


def test_lines_without_stamps_that_come_together_were_measured_one_after_the_other() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{STAMPED}\n5\n")
    handed_over(source)
    moment.s += 0.4
    feed.chunks += ["6\n7\n8\n9\n"]
    assert handed_over(source) == [(0.1, 6.0), (0.2, 7.0), (0.3, 8.0), (0.4, 9.0)]


def test_a_meter_faster_than_it_is_recorded_is_averaged() -> None:
    moment = Moment()
    header = "# edgetop-power/1 kind=power unit=W scope=dc_in update=0.001"
    source, feed = stream(moment, f"{header}\n", stamped_line(0, 1))
    handed_over(source)
    moment.s += 0.04
    feed.chunks += ["".join(stamped_line(i / 1000, i) for i in range(1, 41))]
    assert handed_over(source) == [(0.02, 10.5), (0.04, 30.5)]


def test_a_stream_that_ended_is_started_again_after_longer_and_longer() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{HEADER}\n10\n")
    source.read()
    waited = []
    for _ in range(8):
        feed.chunks += [None]
        with pytest.raises(SourceLost, match="exited with status 1"):
            source.read()
        starts, began_s = feed.starts, moment.s
        feed.chunks = [f"{HEADER}\n11\n"]
        while feed.starts == starts:
            moment.s += 0.25
            with suppress(SourceLost):
                assert source.read() == (11.0,)
        waited.append(moment.s - began_s)
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60]
    moment.s += 61
    feed.chunks = ["12\n", None]
    assert source.read() == (12.0,)
    with pytest.raises(SourceLost, match="tried again in 1 s"):
        source.read()


def test_the_last_words_of_a_stream_are_heard() -> None:
    source, feed = stream(Moment(), f"{HEADER}\n10\n")
    feed.chunks += ["14\n", None]
    assert source.read() == (12.0,)
    with pytest.raises(SourceLost):
        source.read()


def test_a_stream_that_comes_back_as_another_meter_is_not_taken_for_the_same() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{HEADER}\n10\n")
    feed.chunks += [None]
    source.read()
    moment.s += 2
    feed.chunks += [f"{COUNTER}\n10\n"]
    with pytest.raises(SourceLost, match="something else than before"):
        source.read()


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ((None,), "exited with status 1"),
        (("",), "no reading within"),
        ((f"{HEADER}\n", ""), "no reading within"),
        ((f"{HEADER}\n", "nan\n", ""), "but 'nan' is not a reading"),
        ((f"{HEADER}\n", "inf\n", None), "exited with status 1; 'inf' is not a reading"),
        (("12.5 W\n",), "nor a header"),
    ],
)
def test_a_stream_without_header_or_reading_is_no_source_and_is_ended(
    chunks: tuple[str | None, ...], said: str
) -> None:
    feed = ScriptedFeed(*chunks)
    with pytest.raises(SourceLost, match=said):
        StreamSource(Connection(feed, Moment().clock_us), Moment().host)
    assert feed.closed == 1


def test_a_program_is_a_stream_and_ends_with_its_source(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import os, subprocess, sys
child = subprocess.Popen(["sleep", "1000"])
print({HEADER!r}, 21.5, sep="\\n", flush=True)
open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}\\n")
child.wait()
"""
    source = open_stream(python(code))
    assert source.read() == (21.5,)
    until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    program, child = map(int, pids.read_text().split())
    assert is_running(program)
    assert is_running(child)
    source.close()
    until(lambda: not is_running(program) and not is_running(child))


def test_a_program_that_will_not_end_is_killed() -> None:
    code = f"""
import signal, os
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print({HEADER!r}, os.getpid() / 1e4, sep="\\n", flush=True)
signal.pause()
"""
    source = open_stream(python(code))
    (value,) = source.read()
    assert isinstance(value, float)
    pid = round(value * 1e4)
    assert is_running(pid)
    source.close()
    assert not is_running(pid)


def test_a_program_that_dies_is_lost_with_its_status_and_started_again() -> None:
    moment = Moment()
    code = f"import sys; print({HEADER!r}, 5, sep='\\n', flush=True); sys.exit(3)"
    source = StreamSource(Connection(parse_stream(python(code)), moment.clock_us), moment.host, wall_clock=moment.wall)

    def is_lost() -> bool:
        try:
            source.read()
        except SourceLost as lost:
            return "exited with status 3" in lost.missing.reason
        return False

    until(is_lost)
    moment.s += 1.5
    assert source.read() == (5.0,)
    source.close()


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_socket_is_a_stream_that_may_be_dropped_and_taken_up_again(family: str, tmp_path: Path) -> None:
    if family == "tcp":
        server = socket.create_server(("127.0.0.1", 0))
        text = f"tcp:127.0.0.1:{server.getsockname()[1]}"
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / "meter"))
        server.listen()
        text = f"unix:{tmp_path / 'meter'}"
    connections: list[socket.socket] = []

    def serve() -> None:
        for power_w in (30, 31):
            connection, _ = server.accept()
            connections.append(connection)
            connection.sendall(f"{HEADER}\n{power_w}\n".encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    moment = Moment()
    source = StreamSource(Connection(parse_stream(text), moment.clock_us), moment.host, wall_clock=moment.wall)
    assert source.read() == (30.0,)
    connections[0].close()
    with pytest.raises(SourceLost, match="closed the connection"):
        source.read()
    moment.s += 1.5
    assert source.read() == (31.0,)
    source.close()
    thread.join()
    connections[1].close()
    server.close()
    with pytest.raises(SourceLost, match="refused"):
        open_stream(text)


@pytest.mark.parametrize("text", ["tcp:host", "tcp::80", "tcp:host:0", "tcp:host:70000", "", "'unbalanced", "  "])
def test_what_is_neither_address_nor_command_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|command"):
        parse_stream(text)


def test_an_address_may_be_of_either_internet_protocol() -> None:
    assert parse_stream("tcp:[::1]:4040").name == "::1:4040"
    assert parse_stream("tcp://meter.lan:4040").name == "meter.lan:4040"


def test_a_program_is_run_for_each_reading_without_a_shell(tmp_path: Path) -> None:
    counter = tmp_path / "count; echo"
    code = f"""
import pathlib, sys
path = pathlib.Path(sys.argv[1])
count = len(path.read_text()) if path.exists() else 0
path.write_text("x" * (count + 1))
print({HEADER!r}, count + 0.5, sep="\\n")
"""
    source = exec_source(f"{python(code)} {shlex.quote(str(counter))}", Host())
    told: list[Values] = [source.read(), source.read()]
    assert told == [(1.5,), (2.5,)]
    assert (source.info.name, source.info.driver, source.info.channels[0].scope) == ("power.exec", "exec", "wall")
    assert source.info.period_s >= 1.0


def test_a_program_that_takes_long_is_run_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_stream, "_children_cpu_s", lambda: 0.0)
    moment = Moment()

    def clock_us() -> int:
        moment.s += 2.0
        return moment.clock_us()

    command = python(f"print({HEADER!r}, 5, sep='\\n')")
    source = ExecSource(parse_command(command), Host(clock=clock_us))
    assert source.info.period_s == pytest.approx(3.0)
    assert source.pause_s == pytest.approx(3.0)


def test_a_program_that_took_long_once_is_run_as_often_as_before_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_stream, "_children_cpu_s", lambda: 0.0)
    moment = Moment()
    took_s = iter([4.0, *[0.0] * 20])

    def clock_us() -> int:
        moment.s += next(took_s, 0.0)
        return moment.clock_us()

    source = ExecSource(parse_command(python("print(5)")), Host(clock=clock_us))
    for _ in range(4):
        source.read()
    assert source.pause_s < 4.0


def test_a_program_that_takes_the_processor_is_run_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    spent_s = iter([0.0, 0.2])
    monkeypatch.setattr(power_stream, "_children_cpu_s", lambda: next(spent_s))
    source = ExecSource(parse_command(python(f"print({HEADER!r}, 5, sep='\\n')")), Moment().host)
    assert source.pause_s == pytest.approx(4.0)


def test_a_program_read_less_often_than_it_updates_keeps_its_window() -> None:
    header = "# edgetop-power/1 kind=power unit=W scope=dc_in update=1 window=1"
    info = describe(parse_header(header), name="power.exec", driver="exec", path="", period_s=3.0)
    meter = meter_of(info, info.channels[0])
    assert meter is not None
    assert (meter.poll_s, meter.update_s, meter.window_s) == (3.0, 1.0, 1.0)
    assert PowerCurve(meter).window_s == 1.0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(4)", "exited with status 4"),
        (f"print({HEADER!r}, 5, sep='\\n'); raise SystemExit(1)", "exited with status 1"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("pass", "prints nothing"),
        ("print('12.5 W')", "nor a header"),
        (f"print({HEADER!r})", "is not a reading"),
        (f"print({HEADER!r}, 'nan', sep='\\n')", "'nan' is not a reading"),
        (f"print({HEADER!r}, '{{\"t\":1,\"w\":5}}', sep='\\n')", "s old"),
        ("while True: print('y' * 4096)", "prints more than a reading"),
    ],
)
def test_a_program_that_gives_no_reading_is_no_source_and_says_why(code: str, said: str) -> None:
    with pytest.raises(SourceLost, match=said):
        exec_source(python(code), Host())


def test_a_program_that_hangs_is_ended_at_the_time_out() -> None:
    code = "import signal, sys; sys.stdout.write('# edge'); sys.stdout.flush(); signal.pause()"
    program = parse_command(python(code))
    with pytest.raises(SourceLost, match=r"did not end within 0\.2 s"):
        ExecSource(program, Host(), timeout_s=0.2)
    assert program.receive(0.0) is None


def test_a_program_that_is_not_there_is_no_source() -> None:
    with pytest.raises(SourceLost, match="No such file"):
        exec_source("/nowhere/meter --watts", Host())


def test_a_program_that_begins_to_fail_is_lost_and_comes_back(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    code = f"import os, sys; os.path.exists({str(broken)!r}) and sys.exit(7); print({HEADER!r}, 5, sep='\\n')"
    source = exec_source(python(code), Host())
    broken.touch()
    with pytest.raises(SourceLost, match="exited with status 7"):
        source.read()
    broken.unlink()
    assert source.read() == (5.0,)


def test_a_feed_that_nobody_closes_ends_with_its_owner() -> None:
    feed = ProgramFeed(
        [sys.executable, "-S", "-c", "import os, signal; print(os.getpid(), flush=True); signal.pause()"]
    )
    feed.start()
    pid = int(feed.receive(20.0) or b"0")
    assert is_running(pid)
    del feed
    until(lambda: not is_running(pid))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_stream_of_plain_numbers_is_read_from_its_first_line_on() -> None:
    moment = Moment()
    source, _ = stream(moment, "12.5\n")
    assert source.info.channels[0].scope == "board_input"
    assert source.read()[0] == 12.5


class FloodingFeed(ScriptedFeed):
    """Always has something more to say, as `yes` has; each chunk takes a while of the test's clock."""

    def __init__(self, moment: Moment, line: bytes, *, beginning: bytes = b"", bytes_per_s: float = 1e9) -> None:
        super().__init__()
        self.moment, self.line, self.beginning, self.bytes_per_s = moment, line, beginning, bytes_per_s
        self.given_bytes = 0

    def receive(self, timeout_s: float) -> bytes | None:
        chunk, self.beginning = self.beginning or self.line * (65536 // len(self.line)), b""
        self.given_bytes += len(chunk)
        self.moment.s += len(chunk) / self.bytes_per_s
        return chunk


UNUSABLE = [
    pytest.param(b"\x1b]52;c;eA==\x07 bad\n", id="bad"),
    pytest.param(HEADER.encode() + b"\n", id="headers"),
    pytest.param(b"a" * 65536, id="no line end"),
    pytest.param(b"\0", id="nul"),
]


@pytest.mark.parametrize("beginning", [b"", f"{HEADER}\n".encode()], ids=["from the start", "after a header"])
@pytest.mark.parametrize("line", UNUSABLE)
def test_a_flood_of_unusable_lines_ends_with_a_reason(line: bytes, beginning: bytes) -> None:
    moment = Moment()
    feed = FloodingFeed(moment, line, beginning=beginning)
    with pytest.raises(SourceLost):
        StreamSource(Connection(feed, moment.clock_us), moment.host, wall_clock=moment.wall)
    assert feed.given_bytes < 2 << 20
    assert feed.closed


@pytest.mark.parametrize("line", UNUSABLE[:3])
def test_unusable_lines_that_come_slowly_end_when_a_stream_should_have_begun(line: bytes) -> None:
    moment = Moment()
    feed = FloodingFeed(moment, line, beginning=f"{HEADER}\n".encode(), bytes_per_s=100_000)
    with pytest.raises(SourceLost, match="gives no reading within 5 s"):
        StreamSource(Connection(feed, moment.clock_us), moment.host, wall_clock=moment.wall)
    assert moment.s < 1007


def test_a_flood_of_readings_is_too_much_and_twenty_thousand_a_second_are_not() -> None:
    moment = Moment()
    feed = FloodingFeed(moment, b"12.345678\n", beginning=f"{HEADER}\n12\n".encode(), bytes_per_s=200_000)
    source = StreamSource(Connection(feed, moment.clock_us), moment.host, wall_clock=moment.wall)
    for _ in range(10):
        assert source.read() == pytest.approx((12.3,), abs=0.4)
    feed.bytes_per_s = 1e9
    source.read()
    with pytest.raises(SourceLost, match="says more than 256 KiB a second"):
        source.read()


def test_the_rest_of_an_overlong_line_is_no_reading() -> None:
    moment = Moment()
    source, feed = stream(moment, f"{HEADER}\n10\n")
    source.read()
    moment.s += 0.5
    feed.chunks += ["x" * 5000, "\n7\n"]
    assert source.read() == (7.0,)
    feed.chunks += ["x" * 5000, " \n", f"{'9' * 5000}\n"]
    assert isinstance(source.read()[0], Unavailable)
    moment.s += 0.5
    feed.chunks += ["x" * 5000, "88", "99\n", "8\n"]
    assert source.read() == (8.0,)
