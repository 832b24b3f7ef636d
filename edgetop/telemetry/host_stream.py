"""Another machine's power, from the stream that `edgetop power --stream` prints there.

Each reading is stamped with when it was measured, on our clock, and beside it stands how far off that may be. The
machine is pinged for it, where it answers: `host_clock` says why lines alone do not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edgetop.core.clock import US_PER_S
from edgetop.core.records import Missing, SourceInfo
from edgetop.telemetry.host_clock import HostClock
from edgetop.telemetry.power_connection import Connection, Line
from edgetop.telemetry.power_stream import stale_s
from edgetop.telemetry.power_text import Header, HostLine, Pong, describe_host, parse_host_line
from edgetop.telemetry.source import Host, SourceLost, Stamped, Values

PERIOD_S: Final = (0.25, 0.5)
"""Readings are handed over this often at most and at least; they are stamped, so that nothing is lost by waiting."""
PING_S = 2.0
"""In between the clocks drift apart by a fifth of a millisecond at most."""
FIRST_PINGS = 5
"""So many follow each other at once: the quickest one counts."""
PINGS_KEPT = 8
"""An answer to an older one is not understood any more."""
PONG_S = 0.3
FIRST_PONG_S = 1.0
SILENT = "it has said nothing for {:.0f} s"


class HostSource:
    """The power of one host, whose readings come several at once. It is started again when it ends or falls silent."""

    blocking = True

    def __init__(self, connection: Connection, name: str, host: Host) -> None:
        """Wait for a first reading, and before that for the header. Raises SourceLost when they do not come."""
        self._connection = connection
        self._clock = host.clock
        self._header: Header = connection.header if connection.is_open and connection.header else connection.open()
        self._host_clock = HostClock()
        self._asked: dict[int, int] = {}
        """When each ping left that is not answered yet."""
        self._pings = 0
        self._ping_due_us = 0
        self._heard_us = self._stamped_us = 0
        self._number: int | None = None
        self.info: SourceInfo = describe_host(
            self._header,
            host=name,
            path=connection.name,
            period_s=min(max(PERIOD_S[0], self._header.update_s), PERIOD_S[1]),
        )
        self._waiting = self._begin()
        """What came before it was first read."""

    def read(self) -> Values:
        """See Source: the latest reading."""
        stamped = self.read_stamped()
        return stamped[-1].values if stamped else (Missing("nothing has come since the last reading"),) * 2

    def read_stamped(self) -> Sequence[Stamped]:
        """See StampedSource. Raises SourceLost when the stream ended or fell silent."""
        connection = self._connection
        if not connection.is_open:
            connection.reopen()
            self._waiting = self._begin()
        lines = connection.receive()
        if connection.is_open and self._header.answers_pings and self._clock() >= self._ping_due_us:
            lines += self._ping(PONG_S)
        waiting, self._waiting = self._waiting, []
        stamped = [*waiting, *self._understood(lines)]
        if stamped:
            return stamped
        silent_s = (self._clock() - self._heard_us) / US_PER_S
        if connection.is_open and silent_s > stale_s(self._header):
            connection.stop(Missing(SILENT.format(silent_s)))
        if not connection.is_open:
            raise SourceLost(connection.ended.reason, connection.ended.mend)
        return ()

    def close(self) -> None:
        """End the program or the connection."""
        self._connection.close()

    def _begin(self) -> list[Stamped]:
        """From the header to the first reading; a stream that began anew may be that of a machine started anew."""
        self._host_clock = HostClock()
        self._asked.clear()
        self._number = None
        self._pings = 0
        self._heard_us = self._clock()
        pinged = self._header.answers_pings
        lines = self._ping(FIRST_PONG_S) if pinged else []
        found = self._understood(lines)
        while not found:
            found = self._understood(self._connection.gather(bool))
        return found

    def _ping(self, timeout_s: float) -> list[Line]:
        """Ask for the time there, and give what comes until the answer."""
        self._pings += 1
        number = self._pings
        now_us = self._clock()
        self._ping_due_us = now_us + (0 if number < FIRST_PINGS else round(PING_S * US_PER_S))
        self._asked[number] = now_us
        self._asked.pop(number - PINGS_KEPT, None)
        if not self._connection.send(f"ping {number}\n"):
            return []
        answer = f"pong {number} "
        return self._connection.gather(lambda lines: any(line.text.startswith(answer) for line in lines), timeout_s)

    def _understood(self, lines: Sequence[Line]) -> list[Stamped]:
        """The readings among the lines; first all that tell of the clock are taken in."""
        told: list[tuple[HostLine, Line]] = []
        rejected = self._connection.rejected
        self._connection.rejected = ""
        for line in lines:
            self._heard_us = line.t_us
            try:
                found = parse_host_line(line.text, self._header)
            except ValueError as error:
                rejected = str(error)
                continue
            if isinstance(found, Pong):
                asked_us = self._asked.pop(found.number, None)
                if asked_us is not None:
                    self._host_clock.answered(asked_us, round(found.told_s * US_PER_S), line.t_us)
                continue
            if found.number is not None and self._number is not None and found.number <= self._number:
                rejected = f"reading {found.number} came after reading {self._number}"
                continue
            self._number = found.number
            if found.sent_s is not None:
                self._host_clock.arrived(round(found.sent_s * US_PER_S), line.t_us)
            told.append((found, line))
        stamped = [each for found, line in told for each in self._stamped(found, line)]
        if rejected and not stamped:
            stamped = self._at(self._clock(), Missing(rejected))
        return stamped

    def _stamped(self, found: HostLine, line: Line) -> list[Stamped]:
        """One line's reading; none of a sign of life."""
        if found.sent_s is None:
            # Without its clock a reading is taken to be as old as a line can be.
            self._host_clock.arrived(line.t_us, line.t_us)
            measured_us = self._host_clock.here_us(line.t_us)
        else:
            measured_us = self._host_clock.here_us(round((found.sent_s - found.age_s) * US_PER_S))
        if found.missing:
            return self._at(measured_us, Missing(found.missing))
        if found.value is None:
            return []
        age_s = (line.t_us - measured_us) / US_PER_S
        if age_s > stale_s(self._header):
            return self._at(line.t_us, Missing(f"the reading was {age_s:.0f} s old when it came"))
        return self._at(measured_us, found.value)

    def _at(self, t_us: int, value: float | Missing) -> list[Stamped]:
        if t_us <= self._stamped_us:
            return []
        self._stamped_us = t_us
        half_width_s = value if isinstance(value, Missing) else self._host_clock.half_width_s
        return [Stamped(t_us, (value, half_width_s))]
