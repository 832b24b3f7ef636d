"""What the graphs of the panes show: series over a span that the person chooses, and the top of their axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, log10
from typing import Any

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.figures import TurnFigures
from edgetop.core.records import Missing
from edgetop.session.energy_account import SETTLED_US, energy_account
from edgetop.session.history import StepPhase, channel_history, decode_rate_history, phase_history
from edgetop.session.rolling_history import RollingHistory
from edgetop.session.service_rates import APART_US, rate_history
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot
from edgetop.session.summary import account_of

WHOLE = "session"
SPANS: tuple[tuple[str, int], ...] = (
    ("30 s", 30 * US_PER_S),
    ("2 min", 120 * US_PER_S),
    ("10 min", 600 * US_PER_S),
    ("1 h", 3600 * US_PER_S),
    (WHOLE, 0),
)
"""The spans of time that a graph may show, and their lengths; 0 stands for the whole session."""
DEFAULT_SPAN = "2 min"
STEP_LEAST_US = 250_000
"""Shorter steps would show single tokens, and readings that most sensors do not give."""
SHRINK_SHARE = 1.1
"""An axis becomes shorter only when what it shows has fallen by a tenth below the shorter one."""
HISTORIES_AT_MOST = 64


class Trace(Struct, frozen=True):
    """One series, each of its values in an equal step of time; `None` where it is not known."""

    values: Sequence[float | None]
    phases: Sequence[StepPhase]
    top: float
    """Of the axis, which begins at 0."""
    span: str
    """How much time it shows, in words."""
    end_us: int
    """The moment it ends with, since the session began."""
    is_now: bool
    """That is the present; otherwise it stands still since then."""
    from_start: bool
    """The series begins with the session at the left edge; otherwise it ends at the right one."""


class NumberedTurn(Struct, frozen=True):
    """A turn and its figures."""

    number: int
    figures: TurnFigures


class Traces:
    """The series of one session, for a moment at a time."""

    def __init__(self, span: str = DEFAULT_SPAN) -> None:
        self.span = span if span in {name for name, _ in SPANS} else DEFAULT_SPAN
        self._histories: dict[tuple[str, int, int], RollingHistory[Any]] = {}
        self._tops: dict[str, float] = {}
        self._turns: dict[int, TurnFigures] = {}
        self._session = Session()
        self._now: Snapshot | None = None
        self._turns_us = 0
        self._turns_version: tuple[int, float | None] = (0, None)

    def at(self, session: Session, now: Snapshot) -> Traces:
        """Go to a moment of a session."""
        if session is not self._session:
            self._session = session
            self._histories.clear()
            self._tops.clear()
            self._turns.clear()
        self._now = now
        return self

    @property
    def work(self) -> int:
        """How many steps of series were computed so far."""
        return sum(history.computed for history in self._histories.values())

    def change_span(self, step: int) -> None:
        """Show the next longer or shorter span."""
        names = [name for name, _ in SPANS]
        self.span = names[min(max(names.index(self.span) + step, 0), len(names) - 1)]
        self._histories.clear()
        self._tops.clear()

    def speed(self, columns: int) -> Trace:
        """Decoded tokens per second in at most `columns` steps.

        While nothing is generated it stands still: it shows what was done last, and costs nothing.
        """
        session, t_us = self._session, self._t_us
        index = session.turn_at(t_us)
        end_us, settled_us = t_us, t_us - SETTLED_US
        if index is not None and session.turns[index].token_t_us:
            last_us = session.turns[index].token_t_us[-1]
            if session.turns[index].finished_at(t_us) is not None:
                end_us = min(t_us, last_us)
            else:
                # The next token may take long, and is spread over all of the time since this one.
                settled_us = min(settled_us, last_us)
        return self._trace(
            "speed",
            columns,
            end_us,
            settled_us,
            lambda *asked: decode_rate_history(self._session, *asked),
            is_now=end_us == t_us,
        )

    def served(self, columns: int) -> Trace:
        """Tokens per second of all watched servers together, in at most `columns` steps."""
        t_us = self._t_us
        # A look that comes later is spread over the time since the one before.
        settled_us = t_us - SETTLED_US - APART_US
        return self._trace("served", columns, t_us, settled_us, lambda *asked: rate_history(self._session, *asked))

    def power(self, columns: int) -> Trace:
        """Power of the headline in watts, up to the moment that the account of energy has come to."""
        account = energy_account(self._session, self._t_us)

        def compute(t_us: int, steps: int, step_us: int) -> list[float | None]:
            now = energy_account(self._session, self._t_us)
            begins_us = range((t_us // step_us + 1 - steps) * step_us, t_us + 1, step_us)
            return [None if at == t_us else now.mean_power(at, min(at + step_us, t_us)) for at in begins_us]

        power = None if self._now is None else self._now.power
        version = (account.revision, None if power is None or isinstance(power, Missing) else power.channels)
        return self._trace("power", columns, account.until_us, account.until_us - SETTLED_US, compute, version)

    def channel(self, name: str, columns: int, *, unit: float = 1.0) -> Trace:
        """The readings of a channel, in its own unit or in multiples of it."""
        t_us = self._t_us
        return self._trace(
            name,
            columns,
            t_us,
            t_us - SETTLED_US,
            lambda *asked: channel_history(self._session, name, *asked),
            unit=unit,
        )

    def parts_of_power(self) -> list[str]:
        """Channels in watts that lie side by side within the headline, so that they may stand upon each other.

        These are the parts that it is the sum of, or the component rails that its own sensor reads beside it.
        """
        power = None if self._now is None else self._now.power
        if power is None or isinstance(power, Missing):
            return []
        infos = [found[0].info for name in power.channels if (found := self._session.find_channel(name)) is not None]
        if len(power.channels) > 1:
            infos = list({info.name: info for info in infos}.values())
            parts = [each for info in infos for each in info.channels if each.name in power.channels]
        else:
            parts = [each for info in infos for each in info.channels if each.scope == "component"]
        return [part.name for part in parts if part.unit == "W"]

    def turns(self, count: int) -> list[NumberedTurn]:
        """The last turns, oldest first. The figures of those that are settled are kept."""
        session, t_us = self._session, self._t_us
        power = None if self._now is None else self._now.power
        # Another idle power changes the net energies of earlier turns too.
        idle_w = None if power is None or isinstance(power, Missing) else power.idle_w
        version = (energy_account(session, t_us).revision, idle_w)
        if t_us < self._turns_us or version != self._turns_version:
            self._turns.clear()
        self._turns_us, self._turns_version = t_us, version
        index = session.turn_at(t_us)
        if index is None or count < 1:
            return []
        return [
            NumberedTurn(session.turns[place].started.turn, self._figures(place))
            for place in range(max(0, index + 1 - count), index + 1)
        ]

    @property
    def _t_us(self) -> int:
        return 0 if self._now is None else self._now.t_us

    def _figures(self, index: int) -> TurnFigures:
        known = self._turns.get(index)
        if known is not None:
            return known
        figures = account_of(self._session, index, self._t_us).figures
        finished = self._session.turns[index].finished_at(self._t_us)
        final = figures.energy is None or figures.energy.final
        if final and finished is not None and finished.t_us + SETTLED_US <= self._t_us:
            self._turns[index] = figures
        return figures

    def _trace(  # noqa: PLR0917 - a series: its name, how long, until when, what of it stays, and where it comes from
        self,
        name: str,
        columns: int,
        t_us: int,
        settled_us: int,
        compute: Callable[[int, int, int], list[float | None]],
        version: object = None,
        *,
        is_now: bool = True,
        unit: float = 1.0,
    ) -> Trace:
        steps, step_us, repeat = self._steps(columns, t_us)
        asked = (t_us, steps, step_us, settled_us)
        values = self._history(name, columns, step_us, compute).until(*asked, version)
        phases = self._history(
            f"{name} phases", columns, step_us, lambda *each: phase_history(self._session, *each)
        ).until(*asked)
        if unit != 1.0:
            values = [None if value is None else value / unit for value in values]
        most = max((value for value in values if value is not None), default=0.0)
        return Trace(
            values=[value for value in values for _ in range(repeat)],
            phases=[phase for phase in phases for _ in range(repeat)],
            top=self._top(f"{name} in {unit:g}", most),
            span=self.span,
            end_us=max(0, t_us),
            is_now=is_now,
            from_start=self.span == WHOLE,
        )

    def _steps(self, columns: int, t_us: int) -> tuple[int, int, int]:
        """How many steps, how long, and over how many columns each is drawn."""
        span_us = dict(SPANS)[self.span]
        if not span_us:
            step_us = STEP_LEAST_US
            while t_us // step_us + 1 > columns:
                step_us *= 2
            return max(1, t_us // step_us + 1), step_us, 1
        repeat = max(1, -(-columns * STEP_LEAST_US // span_us))
        steps = max(1, columns // repeat)
        return steps, -(-span_us // steps), repeat

    def _history(
        self, name: str, columns: int, step_us: int, compute: Callable[[int, int, int], list[Any]]
    ) -> RollingHistory[Any]:
        key = (name, columns, step_us)
        history = self._histories.get(key)
        if history is None:
            if len(self._histories) >= HISTORIES_AT_MOST:
                self._histories.clear()
            history = self._histories[key] = RollingHistory(compute)
        return history

    def _top(self, name: str, most: float) -> float:
        before = self._tops.get(name, 0.0)
        top = before if most <= before <= nice_top(most * SHRINK_SHARE) else nice_top(most)
        self._tops[name] = top
        return top


def nice_top(most: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is not below `most`; 1 where that is not above 0."""
    if not most > 0:
        return 1.0
    power = 10.0 ** floor(log10(most))
    return next((step * power for step in (1, 2, 5) if step * power >= most), 10 * power)
