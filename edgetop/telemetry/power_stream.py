"""Meters that the user brings along: a program run for every reading, or a stream of readings. See `power_text`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from edgetop.core.clock import US_PER_S
from edgetop.core.records import Missing
from edgetop.telemetry.power_connection import TIMEOUT_S, Connection, Line
from edgetop.telemetry.power_feed import ProgramFeed, parse_command
from edgetop.telemetry.power_text import Header, Reading, describe, parse_header, parse_reading
from edgetop.telemetry.source import Host, SourceLost, Values

_EXEC_PERIOD_S = 1.0
_EXEC_SHARE = 3.0
"""A program is run no more often than it takes three times as long; the sampler drops what takes half a period."""
_STREAM_PERIOD_S = (0.02, 0.5)
_ANSWER_BYTES = 65536

WallClock = Callable[[], float]
"""Unix time in seconds."""


class ExecSource:
    """A program that prints the header and one reading, and is run again for the next."""

    blocking = True

    def __init__(
        self, program: ProgramFeed, host: Host, *, timeout_s: float = TIMEOUT_S, wall_clock: WallClock = time.time
    ) -> None:
        """Take a first reading. Raises SourceLost when there is none."""
        self._program = program
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        before_us = host.clock()
        lines = self._run()
        took_s = (host.clock() - before_us) / US_PER_S
        self._header = parse_header(lines[0])
        period_s = max(_EXEC_PERIOD_S, self._header.update_s, _EXEC_SHARE * took_s)
        self.info = describe(self._header, name="power.exec", driver="exec", path=program.name, period_s=period_s)
        first = self._reading(lines)
        if isinstance(first, Missing):
            raise SourceLost(first.reason, first.mend)

    def read(self) -> Values:
        """Run the program. Raises SourceLost when it fails, takes too long or says nothing."""
        return (self._reading(self._run()),)

    def close(self) -> None:
        """End the program if it runs."""
        self._program.close()

    def _reading(self, lines: list[str]) -> float | Missing:
        try:
            reading = parse_reading(lines[-1], self._header)
        except ValueError as error:
            return Missing(str(error))
        age_s = _age_s(reading, self._wall_clock())
        if age_s > stale_s(self._header):
            return Missing(f"the reading is {age_s:.0f} s old")
        return reading.value

    def _run(self) -> list[str]:
        deadline_s = time.monotonic() + self._timeout_s
        output = b""
        try:
            self._program.start()
            while (chunk := self._program.receive(deadline_s - time.monotonic())) is not None:
                output += chunk
                if not chunk or len(output) > _ANSWER_BYTES:
                    said = "did not end within" if not chunk else "prints more than a reading in"
                    raise SourceLost(f"{self._program.name} {said} {self._timeout_s:g} s", "try the command in a shell")
            if self._program.wait(deadline_s - time.monotonic()) != 0:
                raise SourceLost(self._program.why_ended(), "try the command in a shell")
        finally:
            self._program.close()
        lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
        if not lines:
            raise SourceLost(f"{self._program.name} prints nothing", "try the command in a shell")
        return lines


class StreamSource:
    """Readings that come by themselves. Those that came since the last one asked for are averaged, counters are not."""

    blocking = True

    def __init__(self, connection: Connection, host: Host, *, wall_clock: WallClock = time.time) -> None:
        """Wait for a first reading, and before that for the header. Raises SourceLost when they do not come."""
        self._connection = connection
        self._clock = host.clock
        self._wall_clock = wall_clock
        self._readings: list[Reading] = []
        self._last, self._last_us = 0.0, 0
        self._header = connection.header if connection.is_open and connection.header else connection.open()
        connection.gather(self._take_all)
        self.info = describe(
            self._header,
            name="power.stream",
            driver="stream",
            path=connection.name,
            period_s=min(max(_STREAM_PERIOD_S[0], self._header.update_s / 2), _STREAM_PERIOD_S[1]),
        )

    def read(self) -> Values:
        """Watts or joules. Raises SourceLost when the stream ended or fell silent; it is then started again later."""
        connection = self._connection
        if connection.is_open:
            self._take(connection.receive())
        else:
            connection.reopen()
            connection.gather(self._take_all)
        readings, rejected = self._readings, connection.rejected
        self._readings, connection.rejected = [], ""
        if readings:
            mean = math.fsum(reading.value for reading in readings) / len(readings)
            self._last = mean if self._header.kind == "power" else readings[-1].value
            self._last_us = self._clock() - round(_age_s(readings[-1], self._wall_clock()) * US_PER_S)
            return (self._last,)
        if rejected:
            return (Missing(rejected),)
        silent_s = (self._clock() - self._last_us) / US_PER_S
        if silent_s > stale_s(self._header):
            connection.stop(Missing(f"{connection.name} has said nothing for {silent_s:.0f} s", "check the meter"))
        if not connection.is_open:
            raise SourceLost(connection.ended.reason, connection.ended.mend)
        return (self._last,)

    def close(self) -> None:
        """End the program or the connection."""
        self._connection.close()

    def _take_all(self, lines: list[Line]) -> bool:
        """Take all lines anew; whether there is a reading among them."""
        self._readings = []
        self._take(lines)
        return bool(self._readings)

    def _take(self, lines: list[Line]) -> None:
        for line in lines:
            try:
                reading = parse_reading(line.text, self._header)
            except ValueError as error:
                self._connection.rejected = str(error)
                continue
            age_s = _age_s(reading, self._wall_clock())
            if age_s > stale_s(self._header):
                self._connection.rejected = f"the reading is {age_s:.0f} s old"
            else:
                self._readings.append(reading)


def _age_s(reading: Reading, now_unix_s: float) -> float:
    """Seconds since it was measured; one that claims to come from the future was measured when it was received."""
    return 0.0 if reading.unix_s is None else max(0.0, now_unix_s - reading.unix_s)


def stale_s(header: Header) -> float:
    """For how long a reading stands for what comes after it."""
    return max(5 * header.update_s, 2.0)


def exec_source(command: str, host: Host) -> ExecSource:
    """The meter that `command` is when run again and again.

    Raises ValueError when it is not a command, SourceLost when it gives no plausible reading.
    """
    return ExecSource(parse_command(command), host)
