"""The watch screen: the device's meters and panes, and in place of the chat the model servers that others use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical

from edgetop.core.energy.supply import Price
from edgetop.live.watch_session import WatchSession
from edgetop.settings.declared.screen import DELAY
from edgetop.tui.bindings import bindings
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.keyed_screen import KeyedScreen
from edgetop.tui.line_paint import together
from edgetop.tui.live_screen import DELAYS_S, SMALL_COLUMNS, SMALL_ROWS, WIDE_COLUMNS, WIDE_ROWS
from edgetop.tui.pace import Pace
from edgetop.tui.pane_actions import PaneActions
from edgetop.tui.services_list import lines_of
from edgetop.tui.themes import next_theme
from edgetop.tui.traces import Traces
from edgetop.tui.view import Recording, View, view_of
from edgetop.tui.watch_keys import WATCH
from edgetop.tui.widgets.key_line import KeyLine
from edgetop.tui.widgets.lines import Line, LinesWidget, Span, for_level, line_of
from edgetop.tui.widgets.pane_column import PaneColumn
from edgetop.tui.widgets.top_meters import Layout, TopMeters

TICK_S = 1.0
"""Servers are looked at once a second, and so is what they gave."""
TOLD_S = 6.0


class WatchScreen(PaneActions, KeyedScreen[None]):
    """Watches until it is left."""

    TABLE = WATCH
    BINDINGS: ClassVar[list[Binding]] = bindings(WATCH)  # type: ignore[assignment]
    DEFAULT_CSS = """
    WatchScreen {
        layout: vertical;
        #body { height: 1fr; }
        #services-box { width: 1fr; border: round $edge; padding: 0 1;
            border-title-style: bold; border-title-color: $foreground; }
        #services-box.block { border: solid $edge; }
        #services-box.ascii { border: ascii $edge; }
        #services { height: 1fr; }
        #panes { width: 50; }
        &.folded #panes { display: none; }
        &.zoomed #panes { display: block; width: 1fr; }
        &.zoomed #services-box { display: none; }
        &.small KeyLine { display: none; }
        &.small #services-box { border: none; padding: 0; }
    }
    """

    def __init__(
        self, watch: WatchSession, *, level: GlyphLevel, delay_s: float = 1.0, price: Price | None = None
    ) -> None:
        super().__init__()
        self._watch = watch
        self._level: GlyphLevel = level
        self._delay_s = delay_s
        self._price = price
        self._pace = Pace(DELAY.default)
        self._paused = False
        self._since_draw_s = 0.0
        self._skipped = 0
        """Lines of the list above the first one that is shown."""
        self._traces = Traces()
        self._panes = PaneColumn(id="panes")
        self._services = LinesWidget(id="services")

    def compose(self) -> ComposeResult:
        """Meters, services and panes, key line."""
        yield TopMeters(id="top")
        with Horizontal(id="body"):
            with Vertical(id="services-box") as box:
                box.border_title = "model servers"
                yield self._services
            yield self._panes
        keys = KeyLine(id="keys")
        keys.in_panes = True
        yield keys

    def on_mount(self) -> None:
        """Begin to tick."""
        self._apply_glyphs()
        self.set_interval(TICK_S, self._tick)
        self.call_after_refresh(self._tick)

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout that the new size has room for."""
        columns, rows = event.size
        small = columns < SMALL_COLUMNS or rows < SMALL_ROWS
        self.set_class(small, "small")
        self.set_class(small or columns < WIDE_COLUMNS or rows < WIDE_ROWS, "folded")
        self._draw_soon()

    def _tick(self) -> None:
        self._since_draw_s += TICK_S
        with self._pace.measured(), together(self):
            self._watch.pump()
            self._watch.check()
            if self._since_draw_s >= self._draw_every_s and not self._paused:
                self._draw()

    @property
    def _draw_every_s(self) -> float:
        # Whether a model that others use decodes just now is told by its server too late to act upon.
        return self._pace.panes_every_s(self._delay_s)

    def _draw(self) -> None:
        self._since_draw_s = 0.0
        self._pace.draws()
        if not self.is_whole:
            return
        view = self._panes.with_layout(self._view())
        self.query_one(TopMeters).show(view, self._layout)
        if self._panes.zoomed or not self.has_class("folded"):
            self._panes.show(view)
        self._draw_services()
        self.query_one(KeyLine).show(view, delay_s=self._draw_every_s, keys=self.keys)

    def _draw_services(self) -> None:
        width, height = self._services.size
        if width < 1 or height < 1:
            return
        lines = lines_of(self._watch.rows, width, self._level, looked=self._watch.has_looked)
        self._skipped = min(self._skipped, max(0, len(lines) - height))
        shown = lines[self._skipped : self._skipped + height]
        below = len(lines) - self._skipped - len(shown)
        if below > 0:
            shown[-1] = line_of(Span(f"{below + 1} more lines: {self.keys.key_of('down')}", "dim"))
        self._services.show_lines([for_level(line, self._level) for line in shown])

    def _view(self) -> View:
        recorder = self._watch.recorder
        recording: Recording = "off" if not recorder.kept else "trouble" if recorder.trouble else "recording"
        return view_of(
            self._watch.session,
            self._watch.now_us(),
            self._level,
            recording=recording,
            paused=self._paused,
            heading=self._heading(),
            price=self._price,
            traces=self._traces,
        )

    def _heading(self) -> tuple[Line, ...]:
        header = self._watch.session.header
        count = len(self._watch.rows)
        found = f"{count or 'no'} model process{'' if count == 1 else 'es'}"
        host = "" if header is None else header.device.hostname
        return (
            line_of(Span("edgetop watch" if self._layout != "small" else "watch", "title")),
            *(line_of(Span(fact, "dim")) for fact in (found, host) if fact),
        )

    @property
    def _layout(self) -> Layout:
        return "small" if self.has_class("small") else "narrow" if self.has_class("folded") else "wide"

    def _draw_soon(self) -> None:
        self.call_after_refresh(self._draw)

    # Actions of the keys

    def pane_columns(self) -> Sequence[PaneColumn]:
        """What the keys of the panes act upon."""
        return (self._panes,)

    def panes_changed(self) -> None:
        """Make room for a zoomed pane, or take it back."""
        self.set_class(bool(self._panes.zoomed), "zoomed")
        self._draw_soon()

    def action_sessions(self) -> None:
        """Show what was recorded, to compare and to replay it."""
        from edgetop.tui.session_pages import open_sessions  # noqa: PLC0415 - few watches need it

        open_sessions(self.app, self._watch.store, self._level, self._price)

    def action_scroll(self, lines: int) -> None:
        """Move the list by lines."""
        self._skipped = max(0, self._skipped + lines)
        self._draw_services()

    def action_pause(self) -> None:
        """Freeze the display or let it go on."""
        self._paused = not self._paused
        self._draw()

    def action_slower(self) -> None:
        """Draw less often."""
        self._change_delay(1)

    def action_faster(self) -> None:
        """Draw more often, but no more often than there is something new."""
        self._change_delay(-1)

    def _change_delay(self, step: int) -> None:
        delays_s = [delay_s for delay_s in DELAYS_S if delay_s >= TICK_S]
        nearest = min(range(len(delays_s)), key=lambda index: abs(delays_s[index] - self._delay_s))
        self._delay_s = delays_s[min(max(nearest + step, 0), len(delays_s) - 1)]
        self._draw()

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        next_theme(self.app)
        self._draw_soon()

    def action_next_glyphs(self) -> None:
        """Change between braille, block and ASCII."""
        self._level = LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)]
        self._apply_glyphs()
        self._draw_soon()

    def _apply_glyphs(self) -> None:
        self.query_one("#services-box").remove_class(*LEVELS).add_class(self._level)

    def action_screenshot(self) -> None:
        """Save what is on the screen as SVG in the working folder."""
        try:
            told = f"The screen is saved as {self.app.save_screenshot()}."
        except OSError as error:
            told = f"The picture could not be saved: {error.strerror}."
        self.app.notify(told, timeout=TOLD_S, markup=False)
