"""What the live, watch and replay screens share: meters, panes, their keys, the layout by size, and when to redraw.

The decoding threads wait for each other after every layer, so what the screen takes of one core all of them lose. Text
and panes therefore have a fixed share of a core: on a slow board they are drawn less often.

On the live and watch screens one timer drives everything: it processes what engine and sampler have sent, appends text
to the chat, and every few ticks draws the panes. Nothing else wakes this process while a model decodes.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.timer import Timer
from textual.widget import Widget

from edgetop.core.energy.duty import Price
from edgetop.core.format import format_bytes_short
from edgetop.live.chat_session import LiveSession
from edgetop.live.live_session import WatchSession
from edgetop.settings.options import DELAY
from edgetop.tui.keys import LIVE, KeySlot, ScreenKeys, key_slots
from edgetop.tui.panes.column import PaneColumn
from edgetop.tui.panes.meters import TopMeters
from edgetop.tui.panes.pane import PaneWidget, Recording, View, view_of
from edgetop.tui.styled_text import Line, Span, line_of, sentence, width_of
from edgetop.tui.terminal_output import batched_paint
from edgetop.tui.themes import LEVELS, GlyphLevel
from edgetop.tui.widgets import BaseScreen, KeyBar

if TYPE_CHECKING:
    from edgetop.live.fleet import FleetSession

# When to redraw

TEXT_SHARE = 0.0025
PANES_SHARE = 0.0025
"""Of one core. Sensors and the journal take that much and more, and all together are to stay below one percent."""

TEXT_STEPS_S = (0.25, 0.35, 0.5)
"""Shorter steps would cost tokens without being read any sooner; longer ones stutter."""

PANES_STEP_S, PANES_MAX_S = 0.5, 5.0

LEARNING = 0.2
"""Weight of the latest cost in the moving average."""


class RedrawBudget:
    """How often text and panes may be drawn, from what they cost in processor time of this thread."""

    def __init__(self, unlimited_below_s: float, clock: Callable[[], float] = time.thread_time) -> None:
        """A refresh interval shorter than `unlimited_below_s` is the user's choice, and has no budget."""
        self._unlimited_below_s = unlimited_below_s
        self._clock = clock
        self._text_s = 0.0
        self._panes_s = 0.0
        self._drew = False

    @contextmanager
    def measured(self) -> Iterator[None]:
        """One round: text is appended, and the panes are drawn where `draws` is called inside."""
        self._drew = False
        begin_s = self._clock()
        yield
        cost_s = self._clock() - begin_s
        if self._drew:
            self._panes_s += LEARNING * (max(0.0, cost_s - self._text_s) - self._panes_s)
        else:
            self._text_s += LEARNING * (cost_s - self._text_s)

    def draws(self) -> None:
        """The panes are drawn in this round."""
        self._drew = True

    @property
    def text_every_s(self) -> float:
        """Seconds from one round to the next."""
        affordable_s = self._text_s / TEXT_SHARE
        return next((step_s for step_s in TEXT_STEPS_S if step_s >= affordable_s), TEXT_STEPS_S[-1])

    def panes_every_s(self, delay_s: float) -> float:
        """Seconds from one drawing of the panes to the next, not less than `delay_s`."""
        if delay_s < self._unlimited_below_s:
            return delay_s
        affordable_s = math.ceil(self._panes_s / PANES_SHARE / PANES_STEP_S) * PANES_STEP_S
        return max(delay_s, min(affordable_s, PANES_MAX_S))


# The key line

KEYS_COLUMNS = 58
"""Our own cost is shown where the keys have this much room left."""


class KeyLine(KeyBar):
    """The keys that work now, the refresh interval, and our own cost."""

    in_panes = False
    """The panes have the keyboard, not the prompt."""

    def show(
        self, view: View, *, delay_s: float, keys: ScreenKeys = LIVE, idle: frozenset[str] = frozenset({"stop"})
    ) -> None:
        """Draw it without the actions called as in `idle`, which can do nothing now; the others are in the help."""
        width = self.content_size.width
        if width > 0:
            costs = _own_cost(view, delay_s)
            cells = (2 + width_of(cost) for cost in costs)
            paused = line_of(Span(f"PAUSED: {keys.key_of('pause')} resumes", "warning")) if view.paused else ()
            self.show_keys(
                shown_slots(keys, in_panes=self.in_panes, idle=idle),
                view.level,
                before=paused,
                rights=costs,
                reserved=next((needed for needed in cells if width - needed >= KEYS_COLUMNS), 0),
            )


@lru_cache(maxsize=8)
def shown_slots(keys: ScreenKeys, *, in_panes: bool, idle: frozenset[str]) -> Sequence[KeySlot]:
    """The key to the other mode, and the keys of this one that can do something."""
    escape = "Panes" if "stop" in idle else "Stop"
    other, label = ("enter_prompt", "Prompt") if in_panes else ("leave_prompt", escape)
    first = [KeySlot(keys.key_of(other), label, (key,)) for key in keys.keys if key.name == other and key.keys]
    if in_panes and "stop" not in idle:
        # An answer runs: what stops it comes before all else, as in the prompt.
        leaving = [key for key in keys.keys if key.name == "leave_prompt" and key.keys]
        first = [*(KeySlot(keys.key_of(key.name), "Stop", (key,)) for key in leaving), *first]
    return [*first, *key_slots([key for key in keys.keys if key.name not in idle], typing=not in_panes)]


def _own_cost(view: View, delay_s: float) -> Sequence[Line]:
    """What edgetop costs and how often it draws, the longest text first."""
    cost = view.snapshot.own_cost
    percent = "n/a" if cost.cpu_percent is None else f"{cost.cpu_percent:.1f} % cpu"
    text = f"edgetop {percent} {format_bytes_short(cost.rss_bytes)}"
    return [line_of(Span(each, "dim")) for each in (f"{text} · every {delay_s:g} s", text, f"edgetop {percent}")]


# One session on the screen

Layout = Literal["wide", "stacked", "narrow", "small"]
"""Panes beside the main box, below it, folded into lines above it, or one line for everything."""

TALL_ROWS, TALL_MORE = 40, 6
"""With so many rows, stacked panes have more than they need."""


class Monitor(Vertical):
    """Meters, and below them a main box (a chat, a list) and the panes, laid out by size."""

    DEFAULT_CSS = """
    Monitor { width: 1fr; height: 1fr;
        .body { height: 1fr; layout: horizontal; }
        .main { width: 1fr; height: 1fr; border: round $edge; padding: 0 1;
            border-title-style: bold; border-title-color: $foreground; }
        .main.block { border: solid $edge; }
        .main.ascii { border: ascii $edge; }
        .panes { width: 46%; min-width: 50; height: 1fr; }
        &.stacked .body { layout: vertical; }
        &.stacked .panes { width: 100%; min-width: 0; }
        &.narrow .panes, &.small .panes { display: none; }
        &.small .main { border: none; padding: 0; }
        &.zoomed .panes { display: block; width: 1fr; min-width: 0; }
        &.zoomed .main { display: none; }
    }
    """
    STACKED: ClassVar[tuple[int, int] | None] = None
    """Columns and rows from which on panes are stacked below the main box; never, where it is `None`."""
    WIDE: ClassVar[tuple[int, int]] = (100, 23)
    """Columns and rows, without the keys, from which on the panes are beside the main box."""
    SMALL: ClassVar[tuple[int, int]] = (60, 15)
    """Below this there is one line above the main box."""

    def __init__(self, main: Widget, title: str, level: GlyphLevel) -> None:
        super().__init__()
        self.main = main
        main.border_title = title
        main.add_class("main", level)
        self.meters = TopMeters()
        self.panes = PaneColumn(classes="panes")
        self.layout_name: Layout = "narrow"
        self._tall = False

    def compose(self) -> ComposeResult:
        """Meters, main box and panes."""
        yield self.meters
        with Container(classes="body"):
            yield self.main
            yield self.panes

    def on_resize(self, _event: events.Resize) -> None:
        """Draw for the new size: what the screen does for it may come before its parts have theirs."""
        if isinstance(self.screen, MonitorScreen):
            self.screen.draw_soon()

    def set_level(self, level: GlyphLevel) -> None:
        """Draw the border of the main box with other glyphs."""
        self.main.remove_class(*LEVELS).add_class(level)

    def fit_into(self, columns: int, rows: int) -> None:
        """Choose the layout for `columns` by `rows` cells."""

        def has_room(least: tuple[int, int]) -> bool:
            return columns >= least[0] and rows >= least[1]

        if not has_room(self.SMALL):
            self.layout_name = "small"
        elif has_room(self.WIDE):
            self.layout_name = "wide"
        else:
            self.layout_name = "stacked" if self.STACKED is not None and has_room(self.STACKED) else "narrow"
        self._tall = rows >= TALL_ROWS
        self.fit_panes()

    def fit_panes(self) -> None:
        """Give the panes the room that they have in the layout, or all of it to a zoomed one."""
        zoomed = ("zoomed",) if self.panes.zoomed else ()
        self.set_classes((self.layout_name, *zoomed))
        stacked = self.layout_name == "stacked" and not self.panes.zoomed
        self.panes.styles.height = self.panes.rows_min + (TALL_MORE if self._tall else 0) if stacked else "1fr"

    def show(self, view: View) -> View:
        """Draw meters and panes. Returns `view` with the layout of the panes."""
        view = self.panes.with_layout(view)
        is_zoomed = bool(self.panes.zoomed)
        # The lines of the other panes would take what a zoomed one is to have.
        alone = is_zoomed and self.layout_name == "narrow"
        layout = "wide" if alone or self.layout_name == "stacked" else self.layout_name
        self.meters.show(view, layout)
        if layout == "wide" or is_zoomed:
            self.panes.show(view)
        return view


# The screens


class DisplayOptions(NamedTuple):
    """Glyphs, refresh interval and price of energy."""

    level: GlyphLevel
    delay_s: float
    price: Price | None


class MonitorScreen(BaseScreen[None]):
    """The base of live, watch and replay; each key acts on all of its monitors at once."""

    monitors: Sequence[Monitor]

    @property
    def help_notes(self) -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
        """Why there is no power, and what would give it."""
        missing = self.monitors[0].panes.missing_power
        if missing is None:
            return ()
        return [
            (
                "No power",
                [
                    ("why", sentence(missing.reason)),
                    ("what to do", sentence(missing.hint or "`edgetop doctor` says more")),
                ],
            )
        ]

    @abstractmethod
    def _draw(self) -> None:
        """Draw everything."""

    def draw_soon(self) -> None:
        """Draw everything after the next refresh of the layout."""
        self.call_after_refresh(self._draw)

    def give_keys_to_panes(self) -> None:
        """Let the keys act on the panes, where something else may have the keyboard."""

    def panes_changed(self) -> None:
        """Apply and draw what the keys have changed."""
        for monitor in self.monitors:
            monitor.fit_panes()
        self.draw_soon()

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        super().set_level(level)
        for monitor in self.monitors:
            monitor.set_level(level)
        self.draw_soon()

    def on_click(self, event: events.Click) -> None:
        """Focus the pane that was clicked; a double click zooms it."""
        if not isinstance(event.widget, PaneWidget):
            return
        for monitor in self.monitors:
            monitor.panes.focus_on(event.widget.pane.title)
        self.give_keys_to_panes()
        if event.chain == 2:
            self.action_zoom_pane()
        self.panes_changed()

    def action_toggle_pane(self, number: int) -> None:
        """Show or hide a pane."""
        self._change_panes(lambda panes: panes.toggle(number))

    def action_focus_pane(self, step: int) -> None:
        """Move the focus to the pane below or above."""
        self._change_panes(lambda panes: panes.move_focus(step))

    def action_zoom_pane(self) -> None:
        """Zoom the focused pane, or show all again."""
        self._change_panes(lambda panes: panes.zoom())

    def action_change_span(self, step: int) -> None:
        """Show a longer or shorter time in the graphs."""
        self._change_panes(lambda panes: panes.history.change_span(step))

    def action_move_pane(self, step: int) -> None:
        """Move the focused pane one place down or up."""
        self._change_panes(lambda panes: panes.move_pane(step))

    def _change_panes(self, change: Callable[[PaneColumn], None]) -> None:
        for monitor in self.monitors:
            change(monitor.panes)
        self.panes_changed()

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        super().action_next_theme()
        self.draw_soon()


class RecordingScreen(MonitorScreen):
    """The base of live and watch: one session that goes on, drawn by a timer."""

    DELAYS_S: ClassVar[Sequence[float]] = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
    """Refresh intervals of the panes that the keys step through."""

    def __init__(
        self,
        recorded: LiveSession | WatchSession | FleetSession,
        monitor: Monitor,
        *,
        level: GlyphLevel,
        delay_s: float,
        price: Price | None,
    ) -> None:
        super().__init__()
        self.monitors = (monitor,)
        self._recorded = recorded
        if recorded.alerts is not None:
            recorded.alerts.ring = self._ring
        self._monitor = monitor
        self._panes = monitor.panes
        self._level = level
        self._delay_s = delay_s
        self._price = price
        self._paused = False
        self._budget = RedrawBudget(DELAY.default)
        self._timer: Timer | None = None
        self._timer_s = 0.0
        self._since_draw_s = 0.0

    def compose(self) -> ComposeResult:
        """Monitor and key line."""
        yield self._monitor
        yield KeyLine(id="keys")

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout for the new size."""
        self.fit_into(event.size.width, event.size.height - 1)
        self.draw_soon()

    def fit_into(self, columns: int, rows: int) -> None:
        """Choose the layout for `columns` by `rows` cells, the keys left out."""
        self._monitor.fit_into(columns, rows)

    def _ring(self) -> None:
        self.app.bell()

    @abstractmethod
    def _pump(self) -> None:
        """Process what has come since the last tick."""

    @abstractmethod
    def _next_tick_s(self) -> float:
        """Seconds to the next tick."""

    def _view(self) -> View:
        recorder = self._recorded.recorder
        recording: Recording = "off" if not recorder.is_recorded else "trouble" if recorder.trouble else "recording"
        return view_of(
            self._recorded.session,
            self._recorded.now_us(),
            self._level,
            recording=recording,
            paused=self._paused,
            price=self._price,
            history=self._panes.history,
        )

    def _idle_actions(self) -> frozenset[str]:
        """Names of the actions that can do nothing now."""
        return frozenset()

    def _drawn(self, view: View) -> None:
        """Draw what only this screen has."""

    def _tick_every(self, interval_s: float) -> None:
        if interval_s == self._timer_s:
            return
        if self._timer is not None:
            self._timer.stop()
        self._timer_s = interval_s
        self._timer = self.set_interval(interval_s, self._tick)

    def _tick(self) -> None:
        with self._budget.measured(), batched_paint(self):
            self._pump()
            if self._recorded.is_ended_by_alert:
                self.app.exit()
            self._since_draw_s += self._timer_s
            if self._since_draw_s >= self._draw_every_s and not self._paused:
                self._draw()
        self._tick_every(self._next_tick_s())

    @property
    def _draw_every_s(self) -> float:
        return self._budget.panes_every_s(self._delay_s)

    def _draw(self) -> None:
        self._since_draw_s = 0.0
        self._budget.draws()
        if not self.can_draw:
            return
        view = self._monitor.show(self._view())
        self.query_one(KeyLine).show(view, delay_s=self._draw_every_s, keys=self.keys, idle=self._idle_actions())
        self._drawn(view)

    def action_pause(self) -> None:
        """Pause the display, or resume it."""
        self._paused = not self._paused
        self._draw()

    def action_slower(self) -> None:
        """Draw the panes less often."""
        self._change_delay(1)

    def action_faster(self) -> None:
        """Draw the panes more often."""
        self._change_delay(-1)

    def _change_delay(self, step: int) -> None:
        nearest = min(range(len(self.DELAYS_S)), key=lambda index: abs(self.DELAYS_S[index] - self._delay_s))
        self._delay_s = self.DELAYS_S[min(max(nearest + step, 0), len(self.DELAYS_S) - 1)]
        self._draw()
