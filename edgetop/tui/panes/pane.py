"""What a pane is, what it draws from (`View`), and the widget that draws one with its border."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Price
from edgetop.core.energy.scopes import SCOPE_LABELS
from edgetop.core.figures import TurnFigures
from edgetop.core.format import Column
from edgetop.core.quantity import Interval
from edgetop.core.records import DeviceInfo
from edgetop.core.sources import Scope, Unavailable, of_source
from edgetop.session.energy import SETTLED_US, energy_of
from edgetop.session.limits import decode_traffic
from edgetop.session.session import Session
from edgetop.session.snapshot import (
    Reading,
    RollingHistory,
    Snapshot,
    StepPhase,
    channel_history,
    decode_rate_history,
    phase_history,
    snapshot,
)
from edgetop.session.summary import turn_result
from edgetop.session.watch import APART_US, rate_history
from edgetop.tui.charts import ChartSeries, nice_y_max
from edgetop.tui.styled_text import Line, Role, Span, figure_text, fit, for_level, line_of, table, width_of
from edgetop.tui.themes import GlyphLevel
from edgetop.tui.widgets import LinesWidget

WHOLE_SESSION = "session"

SPANS: tuple[tuple[str, int], ...] = (
    ("30 s", 30 * US_PER_S),
    ("2 min", 120 * US_PER_S),
    ("10 min", 600 * US_PER_S),
    ("1 h", 3600 * US_PER_S),
    (WHOLE_SESSION, 0),
)
"""The spans of time that a graph may show, and their lengths; 0 stands for the whole session."""

DEFAULT_SPAN = "2 min"
"""Of a younger session the graphs show less, so that they are filled: see YOUNG_SPANS."""

YOUNG_SPANS: tuple[tuple[str, int], ...] = tuple(
    (f"{s} s", s * US_PER_S) for s in (15, 20, 25, 30, 40, 50, 60, 75, 90, 105)
)

STEP_MIN_US = 250_000
"""Shorter steps would show single tokens, and readings that most sensors do not give."""

SHRINK_SHARE = 1.1
"""An axis becomes shorter only when what it shows has fallen by a tenth below the shorter one."""

HISTORIES_MAX = 64

CONTEXT_TURNS, CONTEXT_TOKENS = 20, 4
"""Turns that the speed against the context is of, and the least tokens in one of its steps."""


class NumberedTurn(Struct, frozen=True):
    """A turn and its figures."""

    number: int
    figures: TurnFigures

    @property
    def j_per_token(self) -> Interval | None:
        """Gross, where it is known."""
        return None if self.figures.energy is None else self.figures.energy.j_per_token


TURN_NUMBER: Final = Column[NumberedTurn](heading="turn", text=lambda turn: str(turn.number))
TURN_TOKENS: Final = Column[NumberedTurn](heading="tokens", text=lambda turn: str(turn.figures.generated_tokens))
TURN_J_PER_TOKEN: Final = Column[NumberedTurn](
    heading="J/token", text=lambda turn: figure_text(None if turn.j_per_token is None else turn.j_per_token.value)
)
"""The columns that the tables of turns of several panes have."""


def turn_table(columns: Sequence[Column[NumberedTurn]], turns: Sequence[NumberedTurn], width: int) -> list[Line]:
    """A row for each turn, the headings above."""
    rows = [[column.text(turn) for column in columns] for turn in turns]
    return table([column.heading for column in columns], rows, width)


class Scales:
    """The ends of axes: of one monitor's graphs or, where `shared`, of those that stand side by side.

    Shared ones stay as they are during a drawing, in which the largest of each is found.
    """

    EXACT = frozenset({"span", "J/token", "highest power"})
    """Not made round figures."""

    def __init__(self, *, shared: bool = False) -> None:
        self._shared = shared
        self._ends: dict[str, float] = {}
        self._largest: dict[str, float] = {}

    def clear(self) -> None:
        """Forget the ends, as other graphs follow."""
        self._ends.clear()
        self._largest.clear()

    def end_of(self, name: str, largest: float) -> float:
        """The end of an axis on which the largest value is `largest`."""
        if self._shared:
            self._largest[name] = max(largest, self._largest.get(name, 0.0))
            return self._ends.setdefault(name, self._fitted(name, largest))
        self._ends[name] = self._fitted(name, largest)
        return self._ends[name]

    def fit(self) -> bool:
        """After a drawing, fit the shared ones to what was drawn; whether it has to be drawn again."""
        before, self._ends = self._ends, {name: self._fitted(name, value) for name, value in self._largest.items()}
        self._largest.clear()
        return any(before[name] != end for name, end in self._ends.items())

    def _fitted(self, name: str, largest: float) -> float:
        if name in self.EXACT:
            return largest
        before = self._ends.get(name, 0.0)
        stays = before > 0 and largest <= before <= nice_y_max(largest * SHRINK_SHARE)
        return before if stays else nice_y_max(largest)


class ChartHistory:
    """The series behind the graphs, at one moment of a session; each draw computes only what is new since the last."""

    def __init__(self, span: str = DEFAULT_SPAN, scales: Scales | None = None) -> None:
        self.span = span if span in {name for name, _ in SPANS} else DEFAULT_SPAN
        self.scales = Scales() if scales is None else scales
        self._histories: dict[tuple[str, int, int], RollingHistory[Any]] = {}
        self._turns: dict[int, TurnFigures] = {}
        self._session = Session()
        self._now: Snapshot | None = None
        self._turns_us = 0
        self._turns_version: tuple[int, float | None] = (0, None)

    def at(self, session: Session, now: Snapshot) -> ChartHistory:
        """Move to a moment of a session."""
        if session is not self._session:
            self._session = session
            self._histories.clear()
            self.scales.clear()
            self._turns.clear()
        self._now = now
        return self

    @property
    def work(self) -> int:
        """How many steps of series have been computed."""
        return sum(history.computed for history in self._histories.values())

    def change_span(self, step: int) -> None:
        """Show the next longer or shorter span."""
        names = [name for name, _ in SPANS]
        self.span = names[min(max(names.index(self.span) + step, 0), len(names) - 1)]
        self._histories.clear()
        self.scales.clear()

    def speed(self, columns: int) -> ChartSeries:
        """Decoded tokens per second in at most `columns` steps; where that would be blank, those of the last answer."""
        session, t_us = self._session, self._t_us
        index = session.turn_at(t_us)
        end_us, settled_us = t_us, t_us - SETTLED_US
        if index is not None and session.turns[index].token_t_us:
            last_us = session.turns[index].token_t_us[-1]
            span_us = self._shown_span(t_us)[1]
            if session.turns[index].finished_at(t_us) is None:
                # The next token is spread over all of the time since this one, however long that is.
                settled_us = min(settled_us, last_us)
            elif span_us and t_us - last_us >= span_us:
                end_us = last_us
        return self._series(
            "speed",
            columns,
            end_us,
            settled_us,
            lambda *steps: decode_rate_history(self._session, *steps),
            is_now=end_us == t_us,
        )

    def served(self, columns: int) -> ChartSeries:
        """Tokens per second of all watched servers together, in at most `columns` steps."""
        t_us = self._t_us
        # The count of a late poll is spread over the time since the one before.
        settled_us = t_us - SETTLED_US - APART_US
        return self._series("served", columns, t_us, settled_us, lambda *steps: rate_history(self._session, *steps))

    def power(self, columns: int) -> ChartSeries:
        """Power of the headline in watts, as far as the energy includes it."""
        account = energy_of(self._session, self._t_us)

        def compute(t_us: int, steps: int, step_us: int) -> list[float | None]:
            now = energy_of(self._session, self._t_us)
            until_us = min(t_us, now.until_us)
            begins_us = range((t_us // step_us + 1 - steps) * step_us, t_us + 1, step_us)
            return [now.mean_power(at, min(at + step_us, until_us)) if at < until_us else None for at in begins_us]

        power = None if self._now is None else self._now.power
        version = (account.revision, None if power is None or isinstance(power, Unavailable) else power.channels)
        return self._series("power", columns, self._t_us, account.until_us - SETTLED_US, compute, version)

    def joules(self, columns: int) -> ChartSeries:
        """The energy of all answers until then, in joules."""

        def compute(t_us: int, steps: int, step_us: int) -> list[float | None]:
            index = self._session.turn_at(t_us)
            turns = [] if index is None else self._session.turns[: index + 1]
            spans = []
            for place, turn in enumerate(turns):
                energy, finished = self._figures(place).energy, turn.finished_at(t_us)
                end_us = t_us if finished is None else finished.t_us
                spans.append((turn.started.t_us, end_us, 0.0 if energy is None else energy.gross_j.value))
            ends_us = ((t_us // step_us + 2 - steps + step) * step_us for step in range(steps))
            return [
                sum(
                    energy_j * min(1.0, (end_us - begin_us) / max(1, until_us - begin_us))
                    for begin_us, until_us, energy_j in spans
                    if end_us > begin_us
                )
                for end_us in ends_us
            ]

        return self._series("joules", columns, self._t_us, 0, compute)

    def speed_by_context(self, columns: int) -> ChartSeries:
        """Decoded tokens per second against the tokens that were in the context, over the last turns."""
        index = self._session.turn_at(self._t_us)
        gaps: list[tuple[int, int]] = []
        for turn in [] if index is None else self._session.turns[max(0, index + 1 - CONTEXT_TURNS) : index + 1]:
            progress = turn.progress(self._t_us)
            stamps_us = turn.token_t_us[: progress.stamps]
            if progress.prompt_tokens is not None and progress.counted and len(stamps_us) == progress.generated:
                gaps += [
                    (progress.prompt_tokens + at, after - before)
                    for at, (before, after) in enumerate(pairwise(stamps_us), 1)
                ]
        low, high = (min(gaps)[0], max(gaps)[0]) if gaps else (0, 1)
        count = max(1, min(columns, (high - low + 1) // CONTEXT_TOKENS))
        tokens, spans_us = [0] * count, [0] * count
        for at, gap_us in gaps:
            place = (at - low) * count // (high - low + 1)
            tokens[place] += 1
            spans_us[place] += gap_us
        rates = [
            US_PER_S * tokens[step * count // columns] / span_us
            if (span_us := spans_us[step * count // columns])
            else None
            for step in range(columns)
        ]
        largest = max((rate for rate in rates if rate is not None), default=0.0)
        return ChartSeries(
            values=rates,
            phases=[StepPhase("", turn_begins=False)] * columns,
            y_max=self.scales.end_of("by context", largest),
            span="",
            end_us=0,
            is_now=True,
            from_start=False,
            ends=(f"{low} in context", f"{high}"),
        )

    def channel(self, name: str, columns: int, *, unit: float = 1.0) -> ChartSeries:
        """The readings of a channel, in its own unit or in multiples of it."""
        t_us = self._t_us
        return self._series(
            name,
            columns,
            t_us,
            t_us - SETTLED_US,
            lambda *steps: channel_history(self._session, name, *steps),
            unit=unit,
        )

    def weights_read(self) -> tuple[float | None, float | None]:
        """Bytes of weights and KV cache that the last turn read in a second, and the bandwidth of where they lie."""
        index = self._session.turn_at(self._t_us)
        if index is None:
            return None, None
        progress = self._session.turns[index].progress(self._t_us)
        read = decode_traffic(self._session.prediction_at(self._t_us), progress)
        decode_s = progress.decode_us / US_PER_S
        return (read.read_bytes / decode_s, read.readable_bytes / decode_s) if read.readable_bytes else (None, None)

    @property
    def is_simulated(self) -> bool:
        """The power is computed, not measured, as the property `simulated` of its source says."""
        power = None if self._now is None else self._now.power
        names = () if power is None or isinstance(power, Unavailable) else power.channels
        found = (self._session.find_channel(name) for name in names)
        return any(each is not None and of_source(each[0].info).simulated for each in found)

    def power_parts(self) -> list[str]:
        """Channels in watts that are disjoint parts of the headline, so that they may be stacked.

        These are the meters that it is the sum of, or the component rails that its own sensor reads as well.
        """
        power = None if self._now is None else self._now.power
        if power is None or isinstance(power, Unavailable):
            return []
        infos = [found[0].info for name in power.channels if (found := self._session.find_channel(name)) is not None]
        if len(power.channels) > 1:
            infos = list({info.name: info for info in infos}.values())
            parts = [each for info in infos for each in info.channels if each.name in power.channels]
        else:
            parts = [each for info in infos for each in info.channels if each.scope == "component"]
        return [part.name for part in parts if part.unit == "W"]

    def turns(self, count: int) -> list[NumberedTurn]:
        """The last turns, oldest first. Final figures are cached."""
        session, t_us = self._session, self._t_us
        power = None if self._now is None else self._now.power
        # Another idle power changes the net energies of earlier turns too.
        idle_w = None if power is None or isinstance(power, Unavailable) else power.idle_w
        version = (energy_of(session, t_us).revision, idle_w)
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

    def earlier_j(self, count: int) -> float:
        """The energy of all turns before the last `count`, in joules."""
        index = self._session.turn_at(self._t_us)
        earlier = range(0 if index is None else max(0, index + 1 - count))
        return sum(energy.gross_j.value for place in earlier if (energy := self._figures(place).energy) is not None)

    @property
    def _t_us(self) -> int:
        return 0 if self._now is None else self._now.t_us

    def _figures(self, index: int) -> TurnFigures:
        known = self._turns.get(index)
        if known is not None:
            return known
        figures = turn_result(self._session, index, self._t_us).figures
        finished = self._session.turns[index].finished_at(self._t_us)
        final = figures.energy is None or figures.energy.final
        if final and finished is not None and finished.t_us + SETTLED_US <= self._t_us:
            self._turns[index] = figures
        return figures

    def _series(  # noqa: PLR0917 - what, how long, until when, what of it is final, and where it comes from
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
    ) -> ChartSeries:
        steps, step_us, repeat = self._steps(columns, t_us)
        window = (t_us, steps, step_us, settled_us)
        values = self._history(name, columns, step_us, compute).until(*window, version)
        phases = self._history(
            f"{name} phases", columns, step_us, lambda *steps: phase_history(self._session, *steps)
        ).until(*window)
        if unit != 1.0:
            values = [None if value is None else value / unit for value in values]
        largest = max((value for value in values if value is not None), default=0.0)
        return ChartSeries(
            values=[value for value in values for _ in range(repeat)],
            phases=[phase for phase in phases for _ in range(repeat)],
            y_max=self.scales.end_of(f"{name} in {unit:g}", largest),
            span=self._shown_span(t_us)[0],
            end_us=max(0, t_us),
            is_now=is_now,
            from_start=self.span == WHOLE_SESSION,
        )

    def _steps(self, columns: int, t_us: int) -> tuple[int, int, int]:
        """How many steps, how long, and over how many columns each is drawn."""
        _, span_us = self._shown_span(t_us)
        if not span_us:
            step_us = STEP_MIN_US
            while t_us // step_us + 1 > columns:
                step_us *= 2
            return max(1, t_us // step_us + 1), step_us, 1
        repeat = max(1, -(-columns * STEP_MIN_US // span_us))
        steps = max(1, columns // repeat)
        return steps, -(-span_us // steps), repeat

    def _shown_span(self, t_us: int) -> tuple[str, int]:
        """The span that was chosen; of a session that is younger than the usual one, the least that holds it."""
        own = (self.span, dict(SPANS)[self.span])
        if self.span != DEFAULT_SPAN:
            return own
        young, spans = YOUNG_SPANS, (*YOUNG_SPANS, own)
        end = self.scales.end_of("span", next((at for at, span in enumerate(young) if t_us <= span[1]), len(young)))
        return spans[int(end)]

    def _history(
        self, name: str, columns: int, step_us: int, compute: Callable[[int, int, int], list[Any]]
    ) -> RollingHistory[Any]:
        key = (name, columns, step_us)
        history = self._histories.get(key)
        if history is None:
            if len(self._histories) >= HISTORIES_MAX:
                self._histories.clear()
            history = self._histories[key] = RollingHistory(compute)
        return history


Recording = Literal["recording", "off", "trouble", "replay"]


class View(Struct, frozen=True, kw_only=True):
    """One moment of a session, ready to be drawn."""

    snapshot: Snapshot
    device: DeviceInfo
    level: GlyphLevel
    history: ChartHistory
    """The series behind the graphs."""
    recording: Recording = "recording"
    load_fraction: float | None = None
    """Progress of a load; `None` when nothing is being loaded or it is not known."""
    paused: bool = False
    """The display is paused; the session goes on."""
    heading: tuple[Line, ...] = ()
    """What the status line shows instead of model and device: a name, and facts, the most important first."""
    hidden: frozenset[str] = frozenset()
    """Titles of the panes that are hidden."""
    order: tuple[str, ...] = ()
    """Titles of the panes from the top; empty for the usual order."""
    focus: str = ""
    """Title of the pane with the focus; empty while the keys do not act on panes."""
    price: Price | None = None
    """What energy costs, if configured."""

    def value(self, channel: str) -> float | None:
        """The latest reading of a channel; `None` where it is missing."""
        reading = self.snapshot.readings.get(channel)
        return reading.value if isinstance(reading, Reading) else None

    def covers(self, scope: Scope) -> str:
        """What a power or an energy includes; that it is simulated where it is."""
        return "simulated power" if self.history.is_simulated else SCOPE_LABELS.get(scope, scope)

    def rails(self) -> list[tuple[str, float]]:
        """Channels in watts besides the headline, with their readings."""
        power = self.snapshot.power
        shown = () if isinstance(power, Unavailable) else power.channels
        return [
            (name, reading.value)
            for name, reading in self.snapshot.readings.items()
            if name.startswith("power.") and name not in shown and isinstance(reading, Reading)
        ]

    def missing(self, channel: str) -> Unavailable | None:
        """Why a channel has no reading; `None` where it has one."""
        reading = self.snapshot.readings.get(channel)
        if isinstance(reading, Reading):
            return None
        return reading or Unavailable("no source on this machine reads it")


def view_of(
    session: Session,
    t_us: int,
    level: GlyphLevel,
    *,
    recording: Recording = "recording",
    paused: bool = False,
    heading: tuple[Line, ...] = (),
    price: Price | None = None,
    history: ChartHistory | None = None,
) -> View:
    """The session as it was at `t_us` microseconds since it began.

    A caller that draws repeatedly passes the same `history` each time, so that graphs cost only what is new in them.
    """
    header = session.header
    now = snapshot(session, t_us)
    return View(
        snapshot=now,
        device=header.device if header is not None else DeviceInfo(hostname=""),
        level=level,
        history=(ChartHistory() if history is None else history).at(session, now),
        recording=recording,
        paused=paused,
        heading=heading,
        price=price,
    )


BORDER_COLUMNS, BORDER_ROWS = 4, 2
"""What a pane is wider and higher than the text in it."""

_CORNERS: dict[GlyphLevel, str] = {"braille": "╭╮╰╯─│", "block": "┌┐└┘─│", "ascii": "++++-|"}
_FOCUSED_CORNERS: dict[GlyphLevel, str] = {"braille": "┏┓┗┛━┃", "block": "╔╗╚╝═║", "ascii": "####=#"}
"""The pane with the focus is recognizable without colour."""


class Pane(ABC):
    """What one pane shows of a `View`. It has no state: everything that changes is in the view."""

    title: ClassVar[str]
    short: ClassVar[str]
    """Three letters, for the pane folded into one line."""
    rows_min: ClassVar[int]
    """Rows that the pane needs, border included."""
    rows_full: ClassVar[int]
    """Rows that show all of its text."""
    rows_ample: ClassVar[int]
    """Rows with which its graph has room, too."""
    growth_order: ClassVar[int]
    """Panes with a smaller number get spare rows first."""
    has_graph: ClassVar[bool] = True
    """The pane can use any number of rows."""

    @abstractmethod
    def headline(self, view: View) -> Line:
        """The one figure that counts, with its unit, for the border and for the folded line."""

    @abstractmethod
    def summary(self, view: View) -> list[Line]:
        """What follows the headline where the pane is folded into one line: several choices, the longest first."""

    @abstractmethod
    def render(self, view: View, width: int, height: int) -> list[Line]:
        """The pane's text in `width` by `height` cells, without the border. Lines beyond `height` are cut off."""

    @abstractmethod
    def render_zoomed(self, view: View, width: int, height: int) -> list[Line]:
        """The same with the whole screen for it."""

    def boxed(self, view: View, width: int, height: int, *, zoomed: bool = False) -> list[Line]:
        """The pane in `width` by `height` cells, border included."""
        inner_width, inner_height = width - BORDER_COLUMNS, height - BORDER_ROWS
        text = (self.render_zoomed if zoomed else self.render)(view, inner_width, inner_height)
        lines = [*text, *[()] * inner_height][:inner_height]
        return framed(self.title, self.headline(view), lines, width, view.level, focused=view.focus == self.title)


def framed(
    title: str, headline: Line, lines: Sequence[Line], width: int, level: GlyphLevel, *, focused: bool = False
) -> list[Line]:
    """`lines` in a border `width` cells wide, with a title and as much of a headline as fits, its first span last."""
    corners = (_FOCUSED_CORNERS if focused else _CORNERS)[level]
    role: Role = "accent" if focused else "border"
    side = Span(corners[5], role)
    return [
        for_level(line, level)
        for line in (
            _top(title, headline, corners, role, width),
            *((side, Span(" "), *fit(line, width - BORDER_COLUMNS), Span(" "), side) for line in lines),
            (Span(corners[2] + corners[4] * (width - 2) + corners[3], role),),
        )
    ]


def _top(title: str, headline: Line, corners: str, role: Role, width: int) -> Line:
    left = (Span(corners[0] + corners[4] + " ", role), *line_of(Span(title, "title")), Span(" "))
    corner = Span(corners[1], role)
    for count in range(len(headline), 0, -1):
        right = (Span(" "), *headline[:count], Span(" "), corner)
        rule = width - width_of(left) - width_of(right)
        if rule >= 0:
            return (*left, Span(corners[4] * rule, role), *right)
    rule = width - width_of(left) - 1
    return (*left, Span(corners[4] * rule, role), corner) if rule >= 0 else (*fit(left, width - 1), corner)


class PaneWidget(LinesWidget):
    """Draws a pane and its border: Textual would repaint the whole border for a new figure in it."""

    DEFAULT_CSS = """
    PaneWidget { height: 5; width: 100%; }
    """

    def __init__(self, pane: Pane) -> None:
        super().__init__(id=pane.title)
        self.pane = pane
        self._view: View | None = None
        self._zoomed = False

    def show(self, view: View, *, zoomed: bool = False) -> None:
        """Draw `view` if the pane is visible."""
        self._view, self._zoomed = view, zoomed
        width, height = self.size
        if self.display and width > BORDER_COLUMNS and height > BORDER_ROWS:
            self.show_lines(self.pane.boxed(view, width, height, zoomed=zoomed), width)

    def on_resize(self) -> None:
        """Fill the new size with the last view."""
        if self._view is not None:
            self.show(self._view, zoomed=self._zoomed)
