"""Replay: sessions side by side, playback bar, headings, differences at the play head.

While it plays, a few frames a second are drawn, whatever the speed; while it stands still nothing is. Below 100 columns
one session is shown at a time.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from importlib import import_module
from string import ascii_uppercase
from typing import ClassVar, Literal

from msgspec import Struct
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, Vertical
from textual.message import Message
from textual.timer import Timer

from edgetop.core.clock import Clock, monotonic_us
from edgetop.core.energy.duty import Price
from edgetop.core.format import format_bytes_short, format_clock, format_significant
from edgetop.core.text import one_line
from edgetop.session.replay import AlignmentName, Differences, Player, differences, prepare, tokens_until
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.turns import RecordedChat
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.keys import REPLAY, key_slots
from edgetop.tui.panes.column import PaneColumn
from edgetop.tui.panes.meters import Layout, TopMeters
from edgetop.tui.panes.view import view_of
from edgetop.tui.screens.base import BaseScreen, bindings
from edgetop.tui.screens.monitor import PaneActions
from edgetop.tui.styled_text import Line, Span, fit, for_level, joined, line_of, spread, width_of
from edgetop.tui.terminal_output import batched_paint
from edgetop.tui.themes import next_theme
from edgetop.tui.widgets import KeyBar, LinesWidget

ColumnLayout = Literal["beside", "stacked", "folded", "small"]
"""Panes beside the chat, below it, folded into lines above it, or one line for everything."""

BESIDE_COLUMNS, BESIDE_ROWS = 96, 22

STACKED_COLUMNS, STACKED_ROWS = 48, 30

TALL_ROWS, TALL_MORE = 40, 6
"""Where there are so many rows, panes below the chat have more than they need."""

SMALL_COLUMNS, SMALL_ROWS = 48, 14


class ReplayColumn(Vertical):
    """Meters, chat and panes of a recorded session."""

    DEFAULT_CSS = """
    ReplayColumn { width: 1fr; height: 1fr;
        .body { height: 1fr; layout: horizontal; }
        .chat-box { width: 1fr; height: 1fr; border: round $edge; padding: 0 1;
            border-title-style: bold; border-title-color: $foreground; }
        .chat-box.block { border: solid $edge; }
        .chat-box.ascii { border: ascii $edge; }
        .panes { width: 50; height: 1fr; }
        &.stacked .body { layout: vertical; }
        &.stacked .panes { width: 100%; }
        &.folded .panes, &.small .panes { display: none; }
        &.small .chat-box { border: none; padding: 0; }
        &.zoomed .panes { display: block; width: 1fr; }
        &.zoomed .chat-box { display: none; }
    }
    """

    def __init__(
        self, session: Session, heading: tuple[Line, ...], *, level: GlyphLevel, price: Price | None = None
    ) -> None:
        super().__init__()
        self._session = session
        self._heading = heading
        self._level: GlyphLevel = level
        self._price = price
        self._arrangement: ColumnLayout = "folded"
        self._tall = False
        self.panes = PaneColumn(classes="panes")
        self.chat = ChatView(level)
        self._recorded = RecordedChat(session, self.chat, level)

    def compose(self) -> ComposeResult:
        """Meters, chat and panes."""
        yield TopMeters()
        with Container(classes="body"):
            with Vertical(classes=f"chat-box {self._level}") as box:
                box.border_title = "chat"
                yield self.chat
            yield self.panes

    def lay_out(self, columns: int, rows: int) -> None:
        """Choose the arrangement that `columns` by `rows` cells have room for."""
        self._arrangement = arrangement(columns, rows)
        self._tall = rows >= TALL_ROWS
        self.fit_panes()

    def fit_panes(self) -> None:
        """Give the panes the room that they have in the arrangement, or all of it to a zoomed one."""
        for name in ("beside", "stacked", "folded", "small"):
            self.set_class(name == self._arrangement, name)
        self.set_class(bool(self.panes.zoomed), "zoomed")
        stacked = self._arrangement == "stacked" and not self.panes.zoomed
        self.panes.styles.height = self.panes.rows_least + (TALL_MORE if self._tall else 0) if stacked else "1fr"

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self._level = level
        self.query_one(".chat-box").remove_class(*LEVELS).add_class(level)
        self.chat.set_level(level)
        self._recorded.set_level(level)

    def show(self, t_us: int) -> Snapshot:
        """Show the session as it was at `t_us`, and tell what that was."""
        view = view_of(
            self._session,
            t_us,
            self._level,
            recording="replay",
            heading=self._heading,
            price=self._price,
            traces=self.panes.traces,
        )
        view = self.panes.with_layout(view)
        layout: Layout = (
            "small" if self._arrangement == "small" else "narrow" if self._arrangement == "folded" else "wide"
        )
        self.query_one(TopMeters).show(view, layout)
        if layout == "wide" or self.panes.zoomed:
            self.panes.show(view)
        self._recorded.show(t_us)
        return view.snapshot


def arrangement(columns: int, rows: int) -> ColumnLayout:
    """What a session has room for in so many cells."""
    if columns < SMALL_COLUMNS or rows < SMALL_ROWS:
        return "small"
    if columns >= BESIDE_COLUMNS and rows >= BESIDE_ROWS:
        return "beside"
    return "stacked" if columns >= STACKED_COLUMNS and rows >= STACKED_ROWS else "folded"


DIFFERING = ("model", "quantization", "device", "threads", "layers", "context", "size", "started")
"""Names of facts, in the order in which they tell sessions apart."""

ALIKE = ("device", "threads", "model", "quantization")
"""Those that are told where all sessions have them in common, too."""


def letter(index: int) -> str:
    """What a session is called beside the others: A, B ... Z, 27."""
    return ascii_uppercase[index] if index < len(ascii_uppercase) else str(index + 1)


def headings(sessions: Sequence[Session]) -> list[tuple[Line, ...]]:
    """For each session, its letter and its facts, the most telling first; none for a single one."""
    if len(sessions) < 2:
        return [()]
    facts = [_facts(session) for session in sessions]
    differing = [name for name in facts[0] if len({each[name] for each in facts}) > 1]
    # What they are of tells them apart, so that it does not matter when they were.
    differing = [name for name in differing if name != "started"] or differing
    alike = [name for name in ALIKE if name not in differing]
    return [
        (
            line_of(Span(letter(index), "headline")),
            *(line_of(Span(own[name], "accent")) for name in differing if own[name]),
            *(line_of(Span(own[name], "dim")) for name in alike if own[name]),
        )
        for index, own in enumerate(facts)
    ]


def _facts(session: Session) -> dict[str, str]:
    """By name, empty where it is not known. A session with several models goes by its last one."""
    header, load = session.header, session.loads[-1] if session.loads else None
    device = None if header is None else header.device
    facts = dict.fromkeys(DIFFERING, "")
    if device is not None and header is not None:
        facts["device"] = one_line(device.hostname)
        facts["started"] = one_line(header.started_at[:16].replace("T", " "))
    if load is None:
        return {**facts, "model": "no model"}
    threads, layers = load.settings.n_threads, load.settings.n_gpu_layers
    return {
        **facts,
        "model": one_line(load.model.name) or "unnamed model",
        "quantization": one_line(load.model.quantization),
        "threads": one_line(load.engine.name) if threads is None else f"{threads} thread{'' if threads == 1 else 's'}",
        "layers": f"{layers} layers {'offloaded' if load.settings.rpc_servers else 'on GPU'}" if layers else "",
        "context": "" if load.settings.n_ctx is None else f"ctx {load.settings.n_ctx}",
        "size": format_bytes_short(load.model.size_bytes),
    }


BAR_COLUMNS_LEAST = 8

MARK_COLUMNS = 3
"""Where turns are nearer to each other in the mean, their marks would say nothing."""


class Playback(Struct, frozen=True, kw_only=True):
    """What the line tells."""

    playing: bool
    speed: float
    position: float
    """Of the head: microseconds, or tokens."""
    length: float
    alignment: AlignmentName
    turn_begins: Sequence[float]
    """Positions at which turns begin."""
    place: str
    """Where the first session is, such as `turn 2/5, token 148`."""
    differences: Sequence[Differences]
    """Of the second session and those after it from the first."""

    @property
    def share(self) -> float:
        """The position as a share of the length."""
        return self.position / self.length if self.length > 0 else 1.0


class TransportLine(LinesWidget):
    """Two lines; the bar in the first can be clicked and dragged."""

    DEFAULT_CSS = """
    TransportLine { height: 2; width: 100%; padding: 0 1; }
    """

    class Scrubbed(Message):
        """The person put the head at a share of the length."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._bar = (0, 0)
        self._dragging = False

    def show(self, transport: Playback, level: GlyphLevel) -> None:
        """Draw it."""
        width = self.content_size.width
        if width > 0:
            lines, self._bar = draw(transport, width, level)
            self.show_lines(lines)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Put the head where the bar is pressed, and hold on to the mouse."""
        begin, width = self._bar
        x, y = event.x - self.styles.padding.left, event.y
        if y == 0 and begin <= x < begin + width:
            self._dragging = True
            self.capture_mouse()
            self._scrub(x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Take the head along."""
        if self._dragging:
            self._scrub(event.x - self.styles.padding.left)

    def on_mouse_up(self, _event: events.MouseUp) -> None:
        """Let it go."""
        if self._dragging:
            self._dragging = False
            self.release_mouse()

    def _scrub(self, x: int) -> None:
        begin, width = self._bar
        self.post_message(self.Scrubbed(min(max((x - begin) / max(1, width - 1), 0.0), 1.0)))


def draw(transport: Playback, width: int, level: GlyphLevel) -> tuple[list[Line], tuple[int, int]]:
    """The lines in `width` cells, and where the bar begins in the first one and how long it is."""
    mark = (">" if transport.playing else "=") if level == "ascii" else "▶" if transport.playing else "‖"
    state = Span(f"{mark} {transport.speed:g}x", "headline" if transport.playing else "warning")
    clock = f"{_position(transport, transport.position)} / {_position(transport, transport.length)}"
    left = line_of(state, f"  {clock}  ")
    room = width - width_of(left)
    if room < BAR_COLUMNS_LEAST:
        left = line_of(state, f" {_position(transport, transport.position)} ")
        room = max(1, width - width_of(left))
    below = [line_of("align: ", Span(transport.alignment, "accent")), *_differing(transport.differences)]
    second = spread(joined(below, width), [line_of(Span(transport.place, "dim"))], width)
    lines = [fit((*left, *_bar(transport, room, level)), width), second]
    return [for_level(line, level) for line in lines], (width_of(left), room)


def _bar(transport: Playback, width: int, level: GlyphLevel) -> Line:
    """The way that is behind the head and the way before it, with a mark where a turn begins."""
    done, head, ahead, done_turn, turn = "=>-++" if level == "ascii" else "━╸─┻┴"
    cells = [done if cell < _cell(transport, transport.position, width) else ahead for cell in range(width)]
    marked = transport.turn_begins if len(transport.turn_begins) * MARK_COLUMNS <= width else ()
    for begin in marked:
        cell = _cell(transport, begin, width)
        cells[cell] = done_turn if cells[cell] in {done, done_turn} else turn
    at = _cell(transport, transport.position, width)
    cells[at] = head
    return (Span("".join(cells[: at + 1]), "accent"), Span("".join(cells[at + 1 :]), "dim"))


def _cell(transport: Playback, position: float, width: int) -> int:
    share = position / transport.length if transport.length > 0 else 1.0
    return min(width - 1, max(0, round(share * (width - 1))))


def _position(transport: Playback, position: float) -> str:
    if transport.alignment == "token":
        return f"{int(position)}" if position is not transport.length else f"{int(position)} tok"
    clock = format_clock(position / 1e6)
    return clock.removeprefix("00:") if transport.length < 3600e6 else clock


def _differing(found: Sequence[Differences]) -> list[Line]:
    """As parts of a line, of which those are left out that there is no room for."""
    lines: list[Line] = []
    for index, each in enumerate(found, 1):
        figures = [
            _signed(each.decode_tokens_per_s, "tok/s"),
            _signed(each.j_per_token, "J/token"),
            None if each.rss_bytes is None else f"{_sign(each.rss_bytes)}{format_bytes_short(abs(each.rss_bytes))} RSS",
        ]
        known = [line_of(Span(figure, "headline")) for figure in figures if figure is not None]
        first, *others = known or [line_of(Span("n/a", "dim"))]
        lines += [line_of(Span(f"{letter(index)}−{letter(0)}  ", "title"), *first), *others]
    return lines


def _signed(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{_sign(value)}{format_significant(abs(value), 2)} {unit}"


def _sign(value: float) -> str:
    return "+" if value > 0 else "−" if value < 0 else ""


FRAME_S = 0.25
"""More frames than this no one reads, over SSH least of all."""

PREPARING_US, BREATHING_S = 15_000, 0.001
"""Keys are looked at after so much work on the sessions, and a little time is left to them."""

SIDE_BY_SIDE_COLUMNS = 100
"""Where the screen has less than this, one session at a time is shown."""

COLUMN_LEAST = 48


class ReplayScreen(PaneActions, BaseScreen[None]):
    """Plays sessions that were recorded; their files are not touched."""

    TABLE = REPLAY
    BINDINGS: ClassVar[list[Binding]] = bindings(REPLAY)  # type: ignore[assignment]
    DEFAULT_CSS = """
    ReplayScreen { layout: vertical;
        #columns { height: 1fr; }
    }
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        *,
        level: GlyphLevel,
        alignment: AlignmentName = "turn",
        price: Price | None = None,
        clock: Clock = monotonic_us,
        frame_s: float = FRAME_S,
    ) -> None:
        """`sessions` are one or more, and complete; nothing is added to them. A frame is drawn every `frame_s`."""
        super().__init__()
        self.player = Player(sessions, alignment)
        self._level: GlyphLevel = level
        self._clock = clock
        self.frame_s = frame_s
        self._drawn_us = 0
        self._drawing = False
        self._first = 0
        """Index of the first session that is shown."""
        self._columns = [
            ReplayColumn(session, heading, level=level, price=price)
            for session, heading in zip(sessions, headings(sessions), strict=True)
        ]
        self._preparation = prepare(sessions)
        self.prepared = False
        """All figures are there, wherever the head is put."""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Sessions side by side, transport, keys."""
        with Horizontal(id="columns"):
            yield from self._columns
        yield TransportLine(id="transport")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Show the beginning, and prepare for all else."""
        next(self._preparation)
        # The first finished answer would wait for it.
        self.call_after_refresh(import_module, "edgetop.tui.chat.markdown")
        self._timer = self.set_interval(self.frame_s, self._tick, pause=True)
        self._draw_soon()
        self.run_worker(self._prepare())

    def on_unmount(self) -> None:
        """Let what was kept go."""
        gc.unfreeze()

    def on_resize(self, event: events.Resize) -> None:
        """Choose how many sessions are shown, and how."""
        self._fit_in(event.size.width, event.size.height)

    def _fit_in(self, columns: int, rows: int) -> None:
        shown = self._shown(columns)
        for index, column in enumerate(self._columns):
            column.display = (index - self._first) % len(self._columns) < shown
            column.lay_out(columns // shown, rows - 3)
        self._draw_soon()

    def _shown(self, columns: int) -> int:
        """How many sessions have room side by side."""
        return 1 if columns < SIDE_BY_SIDE_COLUMNS else min(len(self._columns), columns // COLUMN_LEAST)

    # Time

    def _tick(self) -> None:
        now_us = self._clock()
        self.player.advance(now_us - self._drawn_us)
        self._drawn_us = now_us
        if not self.player.playing and self._timer is not None:
            self._timer.pause()
        with batched_paint(self):
            self._draw()

    async def _prepare(self) -> None:
        """Prepare all moments of the sessions; between two portions of that work all else has its turn."""
        end_us = monotonic_us() + PREPARING_US
        for _ in self._preparation:
            if monotonic_us() > end_us:
                await asyncio.sleep(BREATHING_S)
                end_us = monotonic_us() + PREPARING_US
        # What was made here stays; to be gone through again and again would hold up a frame by 40 ms now and then.
        gc.collect()
        gc.freeze()
        self.prepared = True
        self._draw_soon()

    def _draw_soon(self) -> None:
        if not self._drawing:
            self._drawing = True
            self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        self._drawing = False
        if not self.is_whole:
            return
        player = self.player
        moments = player.moments
        snapshots = [
            column.show(t_us) if column.display else snapshot(session, t_us)
            for column, session, t_us in zip(self._columns, player.sessions, moments, strict=True)
        ]
        self.query_one(TransportLine).show(self._transport(moments, snapshots), self._level)
        self._draw_keys()

    def _transport(self, moments: Sequence[int], snapshots: Sequence[Snapshot]) -> Playback:
        player = self.player
        first, *others = snapshots
        session = player.sessions[0]
        turns, tokens = 0 if first.turn is None else first.summary.turns, tokens_until(session, moments[0])
        return Playback(
            playing=player.playing,
            speed=player.speed,
            position=player.position,
            length=player.length,
            alignment=player.alignment,
            turn_begins=player.turn_begins,
            place=f"turn {turns}/{len(session.turns)}  token {tokens}",
            differences=[differences(first, other) for other in others],
        )

    def _draw_keys(self) -> None:
        useless = {"align"} if len(self._columns) == 1 else set()
        if self._shown(self.size.width) == len(self._columns):
            useless.add("next_session")
        shown = [
            place._replace(label="Pause") if place.label == "Play" and self.player.playing else place
            for place in key_slots(self.keys.keys)
            if place.actions[0].name not in useless
        ]
        told = line_of(Span("" if self.prepared else "adding up energy", "dim"))
        self.query_one(KeyBar).show_keys(shown, self._level, rights=[told])

    @on(TransportLine.Scrubbed)
    def _on_scrubbed(self, message: TransportLine.Scrubbed) -> None:
        self.player.seek_share(message.share)
        self._draw_soon()

    # Actions of the keys

    def action_play_or_pause(self) -> None:
        """Play on, or stand still."""
        self.player.play_or_pause()
        self._drawn_us = self._clock()
        if self._timer is not None:
            if self.player.playing:
                self._timer.resume()
            else:
                self._timer.pause()
        self._draw_soon()

    def action_step(self, direction: int) -> None:
        """Go by a token."""
        self.player.step(direction)
        self._draw_soon()

    def action_jump_turn(self, direction: int) -> None:
        """Go by a turn."""
        self.player.jump_turn(direction)
        self._draw_soon()

    def action_scrub(self, hundredths: int) -> None:
        """Go by hundredths of the way."""
        self.player.seek_share(self.player.share + hundredths / 100)
        self._draw_soon()

    def action_to_start(self) -> None:
        """Go to the beginning."""
        self.player.seek(0.0)
        self._draw_soon()

    def action_to_end(self) -> None:
        """Go to the end."""
        self.player.seek(self.player.length)
        self._draw_soon()

    def action_change_speed(self, steps: int) -> None:
        """Play faster or slower."""
        self.player.change_speed(steps)
        self._draw_soon()

    def action_align(self) -> None:
        """Put the sessions beside each other in the next way."""
        self.player.align_next()
        self._draw_soon()

    def action_flip(self) -> None:
        """Show the next session, where not all of them have room."""
        if self._shown(self.size.width) < len(self._columns):
            self._first = (self._first + 1) % len(self._columns)
            self._fit_in(*self.size)

    def pane_columns(self) -> Sequence[PaneColumn]:
        """Those of every session."""
        return [column.panes for column in self._columns]

    def panes_changed(self) -> None:
        """Make room for a zoomed pane, or take it back."""
        for column in self._columns:
            column.fit_panes()
        self._draw_soon()

    def action_scroll_chat(self, lines: int) -> None:
        """Move the chats by lines."""
        for column in self._columns:
            column.chat.action_move(lines)

    def action_page_chat(self, pages: int) -> None:
        """Move the chats by pages."""
        for column in self._columns:
            column.chat.action_page(pages)

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        next_theme(self.app)
        self._draw_soon()

    def action_next_glyphs(self) -> None:
        """Change between braille, block and ASCII."""
        self._level = LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)]
        for column in self._columns:
            column.set_level(self._level)
        self._draw_soon()

    def action_close(self) -> None:
        """Leave."""
        self.dismiss(None)
