"""The watch screen and its list of model servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical

from edgetop.core.energy.duty import Price
from edgetop.core.format import format_bytes_short, format_rate
from edgetop.inference.server.usage import Slot, Usage
from edgetop.live.server_monitor import ServerStatus
from edgetop.live.watch_session import WatchSession
from edgetop.settings.options import DELAY
from edgetop.telemetry.model_processes import LOOKED_FOR
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.keys import WATCH
from edgetop.tui.panes.column import PaneColumn
from edgetop.tui.panes.meters import Layout, TopMeters
from edgetop.tui.panes.view import ChartHistory, Recording, View, view_of
from edgetop.tui.screens.base import BaseScreen, bindings
from edgetop.tui.screens.monitor import (
    DELAYS_S,
    SMALL_COLUMNS,
    SMALL_ROWS,
    WIDE_COLUMNS,
    WIDE_ROWS,
    KeyLine,
    PaneActions,
    RedrawBudget,
)
from edgetop.tui.styled_text import Line, Role, Span, fit, for_level, joined, line_of, shortened, spread, width_of, wrap
from edgetop.tui.terminal_output import batched_paint
from edgetop.tui.themes import next_theme
from edgetop.tui.widgets import LinesWidget

NOTHING = (
    "No model process runs on this device.",
    f"Looked for: {LOOKED_FOR}.",
    "A server elsewhere, or in a container: edgetop watch --server URL",
)

LOOKING = "Looking for model processes."

_STATES = {
    "answers": "answers",
    "loading": "loads its model",
    "busy": "busy",
    "silent": "no answer",
    "down": "ended",
    "refuses": "refuses",
}

_INDENT = "  "


def lines_of(rows: Sequence[ServerStatus], width: int, level: GlyphLevel, *, looked: bool) -> list[Line]:
    """The whole list in `width` cells."""
    if not rows:
        texts = NOTHING if looked else (LOOKING,)
        return [line_of(Span(row.rstrip(), "dim" if number else "text")) for number, text in enumerate(texts)
                for row in wrap(text, width)]  # fmt: skip
    lines: list[Line] = []
    for row in rows:
        lines += [*([()] if lines else []), *_lines(row, width, level)]
    return [line if width_of(line) <= width else fit(line, width) for line in lines]


def _lines(row: ServerStatus, width: int, level: GlyphLevel) -> list[Line]:
    state, role = _state(row)
    right = line_of(Span(state, role))
    name = line_of(Span(f"{row.number} ", "dim"), Span(row.kind, "title"))
    models = ", ".join(row.models) or "model not known"
    room = width - sum(len(span.text) for span in (*name, *right)) - 3
    short = line_of(Span(state.rpartition("  ")[2], role))
    left = line_of(*name, " ", Span(shortened(models, max(8, room), level), "accent"))
    lines = [spread(left, [right, short], width)]
    lines.append((Span(_INDENT), *joined(_facts(row), width - len(_INDENT))))
    usage = row.usage
    if usage is not None and usage.slots:
        lines += [_slot_line(slot) for slot in usage.slots if slot.doing != "idle"]
    for words, of in _reasons(row):
        lines += [line_of(_INDENT, Span(text, of)) for text in wrap(words, max(8, width - len(_INDENT)))]
    return lines


def _state(row: ServerStatus) -> tuple[str, Role]:
    usage = row.usage
    if row.state is None:
        return ("no address", "warning") if row.trouble is not None else ("not asked", "dim")
    if row.state != "answers" or usage is None:
        return _STATES[row.state], "bad" if row.state in {"silent", "refuses"} else "warning"
    if usage.running is None:
        return "answers", "good"
    waiting = f" {usage.waiting} waiting" if usage.waiting else ""
    rate = f"{format_rate(row.tokens_per_s)}  " if row.tokens_per_s is not None and usage.running else ""
    return (f"{rate}{usage.running} running{waiting}" if usage.running or waiting else "idle"), "good"


def _facts(row: ServerStatus) -> list[Line]:
    """What it takes, and where it is; the first ones before later ones."""
    usage = row.usage
    facts = [
        f"{row.cpu_percent:.0f} % cpu" if row.cpu_percent is not None else "",
        format_bytes_short(row.resident_bytes) if row.resident_bytes is not None else "",
        f"gpu {format_bytes_short(row.gpu_bytes)}" if row.gpu_bytes is not None else "",
        _context(usage),
        f"{usage.tokens} tok" if usage is not None and isinstance(usage.tokens, int) else "",
        row.address.partition("://")[2] or "",
        f"pid {row.pid}" if row.pid is not None else "",
        f"{row.threads} threads" if row.threads else "",
        row.version,
    ]
    return [line_of(Span(fact, "dim" if number > 4 else "text")) for number, fact in enumerate(facts) if fact]


def _context(usage: Usage | None) -> str:
    return "" if usage is None or usage.context_share is None else f"ctx {usage.context_share:.0%}"


def _slot_line(slot: Slot) -> Line:
    parts = [f"{_INDENT}slot {slot.number} {slot.doing}"]
    if slot.generated:
        parts.append(f"{slot.generated} tok")
    if slot.context_used is not None and slot.n_ctx:
        parts.append(f"ctx {slot.context_used}/{slot.n_ctx}")
    return line_of(Span("  ".join(parts), "graph"))


def _reasons(row: ServerStatus) -> list[tuple[str, Role]]:
    """Why something is not known, and what would make it."""
    found: list[tuple[str, Role]] = []
    usage = row.usage
    missing = row.trouble if usage is None else usage.no_count
    if missing is not None and row.state != "down":
        words = f"{missing.reason[:1].upper()}{missing.reason[1:]}"
        found.append((f"{words}: {missing.hint}." if missing.hint else f"{words}.", "dim" if usage else "warning"))
    if not row.is_open:
        found.append(("Another user's process: with sudo more of it is shown.", "dim"))
    return found


TICK_S = 1.0
"""Servers are looked at once a second, and so is what they gave."""

TOLD_S = 6.0


class WatchScreen(PaneActions, BaseScreen[None]):
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
        self._pace = RedrawBudget(DELAY.default)
        self._paused = False
        self._since_draw_s = 0.0
        self._skipped = 0
        """Lines of the list above the first one that is shown."""
        self._traces = ChartHistory()
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
        with self._pace.measured(), batched_paint(self):
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
        from edgetop.tui.screens.sessions import open_sessions  # noqa: PLC0415 - few watches need it

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
