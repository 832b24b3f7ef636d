"""The connection to a stream of readings: its lines with the time they came, and its being started again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgetop.core.clock import US_PER_S, Clock
from edgetop.core.records import Missing
from edgetop.telemetry.power_feed import Feed
from edgetop.telemetry.power_text import Header, parse_header
from edgetop.telemetry.source import SourceLost

TIMEOUT_S = 5.0
"""A program must answer, and a stream begin, within this time."""
_LINE_BYTES = 4096
_CHUNKS = 16
"""A stream that says more than this many chunks at once is heard out at the next reading."""
_RESTART_S = (1.0, 60.0)
"""A stream that ended is started again after the one, then after twice as long each time up to the other."""
_STEADY_S = 60.0
"""One that ran for so long may be started again at once."""


class Line(NamedTuple):
    """A line without its end, and when it came, in microseconds."""

    text: str
    t_us: int


class Connection:
    """A feed from its header on. Not open until `open`, and after it ended."""

    def __init__(self, feed: Feed, clock: Clock, *, timeout_s: float = TIMEOUT_S) -> None:
        self.name = feed.name
        self.header: Header | None = None
        """What the stream measures, once it was open."""
        self.is_open = False
        self.rejected = ""
        """Why something was left out, since it was set to nothing."""
        self.ended = Missing("")
        """Why it is not open any more."""
        self._feed = feed
        self._clock = clock
        self._timeout_s = timeout_s
        self._unfinished = b""
        self._lines: list[Line] = []
        self._started_us = self._restart_us = 0
        self._restart_s = _RESTART_S[0]

    def open(self) -> Header:
        """Start the stream and read its header. Raises SourceLost."""
        self._started_us = self._clock()
        self._unfinished = b""
        self._lines = []
        deadline_us = self._deadline_us(self._timeout_s)
        try:
            self._feed.start()
            while not self._lines:
                self._take(self._next_chunk(deadline_us))
            header = self._same_as_before(parse_header(self._lines.pop(0).text))
        except SourceLost as lost:
            self.stop(lost.missing)
            raise
        self.header = header
        self.is_open = True
        return header

    def reopen(self) -> None:
        """Start it again when it is time to. Raises SourceLost before that, and when it does not start."""
        wait_us = self._restart_us - self._clock()
        if wait_us > 0:
            raise SourceLost(f"{self.ended.reason}; tried again in {wait_us / US_PER_S:.0f} s", self.ended.mend)
        self.open()

    def gather(self, is_enough: Callable[[list[Line]], bool], timeout_s: float | None = None) -> list[Line]:
        """The lines up to one with which `is_enough` of all that came.

        Waits for it as long as a stream may take to begin, and raises SourceLost when there is none by then; with
        `timeout_s` no longer than that, and gives what came.
        """
        deadline_us = self._deadline_us(self._timeout_s if timeout_s is None else timeout_s)
        lines: list[Line] = []
        try:
            while True:
                lines += self._lines
                self._lines = []
                if is_enough(lines) or not self.is_open:
                    return lines
                if timeout_s is None:
                    self._take(self._next_chunk(deadline_us))
                elif not self._take_some(self._feed.receive(self._remaining_s(deadline_us))):
                    return lines
        except SourceLost as lost:
            self.stop(lost.missing)
            raise

    def receive(self) -> list[Line]:
        """What has come, without waiting. The stream may have ended with it."""
        for _ in range(_CHUNKS):
            if not self._take_some(self._feed.receive(0.0)):
                break
        lines, self._lines = self._lines, []
        return lines

    def send(self, line: str) -> bool:
        """See `Feed.send`."""
        return self._feed.send(line)

    def stop(self, why: Missing) -> None:
        """End it; it can be started again after a while."""
        self.is_open = False
        self._feed.close()
        self.ended = why
        now_us = self._clock()
        if now_us - self._started_us > _STEADY_S * US_PER_S:
            self._restart_s = _RESTART_S[0]
        self._restart_us = now_us + round(self._restart_s * US_PER_S)
        self._restart_s = min(2 * self._restart_s, _RESTART_S[1])

    def close(self) -> None:
        """End it for good."""
        self.is_open = False
        self._feed.close()

    def _same_as_before(self, header: Header) -> Header:
        if header != (self.header or header):
            raise SourceLost(f"{self.name} measures something else than before", "start edgetop again")
        return header

    def _deadline_us(self, timeout_s: float) -> int:
        return self._clock() + round(timeout_s * US_PER_S)

    def _remaining_s(self, deadline_us: int) -> float:
        return max(0.0, (deadline_us - self._clock()) / US_PER_S)

    def _next_chunk(self, deadline_us: int) -> bytes:
        chunk = self._feed.receive(self._remaining_s(deadline_us))
        if chunk is None:
            raise SourceLost(self._feed.why_ended(), "try it in a shell")
        if not chunk:
            missing = f", but {self.rejected}" if self.rejected else ""
            raise SourceLost(f"{self.name} gives no reading within {self._timeout_s:g} s{missing}")
        return chunk

    def _take_some(self, chunk: bytes | None) -> bool:
        if chunk is None:
            self.stop(Missing(self._feed.why_ended()))
        elif chunk:
            self._take(chunk)
        return bool(chunk)

    def _take(self, chunk: bytes) -> None:
        """Note the lines that `chunk` completes, blank ones left out."""
        *complete, self._unfinished = (self._unfinished + chunk).split(b"\n")
        now_us = self._clock()
        if len(self._unfinished) > _LINE_BYTES:
            self._unfinished = b""
            self.rejected = f"a line is longer than {_LINE_BYTES} bytes"
        self._lines += [Line(line.decode("utf-8", "replace").rstrip(), now_us) for line in complete if line.strip()]
