"""Replay: sessions side by side, playback bar, headings, differences at the play head.

While it plays, a few frames a second are drawn, whatever the speed; while it is paused, none. Below 100 columns one
session is shown at a time.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from string import ascii_uppercase

from msgspec import Struct
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.timer import Timer

from edgetop.core.clock import Clock, monotonic_us
from edgetop.core.energy.duty import Price
from edgetop.core.errors import EdgetopError
from edgetop.core.format import format_bytes_short, format_clock, format_significant, format_time, plural
from edgetop.core.text import one_line
from edgetop.session.replay import AlignmentName, Differences, Player, differences, prepare, tokens_until
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.controller import RecordedChat
from edgetop.tui.keys import REPLAY, key_slots
from edgetop.tui.panes.pane import Scales, view_of
from edgetop.tui.screens.monitor import Monitor, MonitorScreen
from edgetop.tui.styled_text import Line, Span, fit, for_level, joined, line_of, paragraph, spread, width_of
from edgetop.tui.terminal_output import batched_paint
from edgetop.tui.themes import GlyphLevel
from edgetop.tui.widgets import KeyBar, LinesWidget

FRAME_S = 0.25
"""Nobody reads more frames than this, least of all over SSH."""

PREPARE_US, PAUSE_S = 15_000, 0.001
"""The sessions are prepared in portions of so much work, with a short pause for keys between them."""

SIDE_BY_SIDE_COLUMNS = 100
"""Below this one session at a time is shown."""

MONITOR_COLUMNS_MIN = 48

CONCLUSION_SHARE = 12
"""The conclusion has at most a line for so many rows."""


class ReplayMonitor(Monitor):
    """Meters, chat and panes of a recorded session."""

    STACKED, WIDE, SMALL = (48, 30), (96, 22), (48, 14)

    def __init__(
        self, session: Session, heading: tuple[Line, ...], *, level: GlyphLevel, price: Price | None = None
    ) -> None:
        chat = ChatView(level)
        super().__init__(Vertical(chat), "chat", level)
        self.chat = chat
        self._session = session
        self._heading = heading
        self._level: GlyphLevel = level
        self._price = price
        self._recorded = RecordedChat(session, chat, level)

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        super().set_level(level)
        self._level = level
        self.chat.set_level(level)
        self._recorded.set_level(level)

    def show_moment(self, t_us: int) -> Snapshot:
        """Show the session as it was at `t_us`, and return its snapshot."""
        view = view_of(
            self._session,
            t_us,
            self._level,
            recording="replay",
            heading=self._heading,
            price=self._price,
            history=self.panes.history,
        )
        self._recorded.show(t_us)
        return self.show(view).snapshot


# What tells sessions apart

DIFFERING = ("model", "quantization", "device", "threads", "layers", "context", "size", "started")
"""Names of facts, the most important first."""

ALIKE = ("device", "threads", "model", "quantization")
"""Facts that are shown even where all sessions have them in common."""


def letter(index: int) -> str:
    """The name of a session among several: A, B ... Z, 27."""
    return ascii_uppercase[index] if index < len(ascii_uppercase) else str(index + 1)


def headings(sessions: Sequence[Session]) -> list[tuple[Line, ...]]:
    """For each session, its letter and its facts, the most important first; none for a single session."""
    if len(sessions) < 2:
        return [()]
    facts = [_facts(session) for session in sessions]
    differing = [name for name in facts[0] if len({each[name] for each in facts}) > 1]
    # The time matters only where nothing else differs.
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
    """Facts by name, empty where not known. A session with several models has the last one."""
    header, load = session.header, session.loads[-1] if session.loads else None
    device = None if header is None else header.device
    facts = dict.fromkeys(DIFFERING, "")
    if device is not None and header is not None:
        facts["device"] = one_line(device.hostname)
        facts["started"] = one_line(format_time(header.started_at))
    if load is None:
        return {**facts, "model": "no model"}
    threads, layers = load.settings.n_threads, load.settings.n_gpu_layers
    return {
        **facts,
        "model": one_line(load.model.name) or "unnamed model",
        "quantization": one_line(load.model.quantization),
        "threads": one_line(load.engine.name) if threads is None else plural(threads, "thread"),
        "layers": f"{layers} layers {'offloaded' if load.settings.rpc_servers else 'on GPU'}" if layers else "",
        "context": "" if load.settings.n_ctx is None else f"ctx {load.settings.n_ctx}",
        "size": format_bytes_short(load.model.size_bytes),
    }


def _whole_claims(conclusion: str, width: int, rows: int) -> list[Line]:
    """As many claims of a conclusion, from the first on, as have room: a part of one might say something else."""
    claims = conclusion.removesuffix(".").split("; ")
    texts = (f"{'; '.join(claims[:count])}." for count in range(len(claims), 0, -1) if conclusion)
    return next((lines for text in texts if len(lines := paragraph(text, width, "headline")) <= rows), [])


# The playback bar

BAR_COLUMNS_MIN = 8

MARK_COLUMNS = 3
"""Where turns have fewer columns on average they are not marked."""


class Playback(Struct, frozen=True, kw_only=True):
    """What the playback bar shows."""

    playing: bool
    speed: float
    position: float
    """Of the play head, in microseconds or tokens."""
    length: float
    alignment: AlignmentName
    turn_begins: Sequence[float]
    """Positions at which turns begin."""
    position_text: str
    """Where the first session is, such as `turn 2/5, token 148`."""
    differences: Sequence[Differences]
    """From the first session, of the second and those after it."""


class PlaybackBar(LinesWidget):
    """Two lines; the bar in the first one can be clicked and dragged."""

    DEFAULT_CSS = """
    PlaybackBar { height: 2; width: 100%; padding: 0 1; }
    """

    class Seeked(Message):
        """The play head was moved to a share of the length."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._bar = (0, 0)
        self._dragging = False

    def show(self, playback: Playback, level: GlyphLevel) -> None:
        """Draw it."""
        width = self.content_size.width
        if width > 0:
            lines, self._bar = _playback_lines(playback, width, level)
            self.show_lines(lines)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Move the play head to the mouse, and capture it."""
        begin, width = self._bar
        x, y = event.x - self.styles.padding.left, event.y
        if y == 0 and begin <= x < begin + width:
            self._dragging = True
            self.capture_mouse()
            self._seek(x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag the play head."""
        if self._dragging:
            self._seek(event.x - self.styles.padding.left)

    def on_mouse_up(self, _event: events.MouseUp) -> None:
        """Release the mouse."""
        if self._dragging:
            self._dragging = False
            self.release_mouse()

    def _seek(self, x: int) -> None:
        begin, width = self._bar
        self.post_message(self.Seeked(min(max((x - begin) / max(1, width - 1), 0.0), 1.0)))


def _playback_lines(playback: Playback, width: int, level: GlyphLevel) -> tuple[list[Line], tuple[int, int]]:
    """The lines in `width` cells, and where the bar begins in the first one and its length."""
    mark = (">" if playback.playing else "||") if level == "ascii" else "▶" if playback.playing else "‖"
    state = Span(f"{mark} {playback.speed:g}x", "headline" if playback.playing else "warning")
    clock = f"{_position(playback, playback.position)} / {_position(playback, playback.length)}"
    left = line_of(state, f"  {clock}  ")
    room = width - width_of(left)
    if room < BAR_COLUMNS_MIN:
        left = line_of(state, f" {_position(playback, playback.position)} ")
        room = max(1, width - width_of(left))
    below = [line_of("align: ", Span(playback.alignment, "accent")), *_difference_parts(playback.differences)]
    second = spread(joined(below, width), [line_of(Span(playback.position_text, "dim"))], width)
    lines = [fit((*left, *_bar(playback, room, level)), width), second]
    return [for_level(line, level) for line in lines], (width_of(left), room)


def _bar(playback: Playback, width: int, level: GlyphLevel) -> Line:
    """What has been played and what has not, with a mark where a turn begins."""
    done, head, ahead, done_turn, turn = "=>-++" if level == "ascii" else "━╸─┻┴"
    cells = [done if cell < _cell(playback, playback.position, width) else ahead for cell in range(width)]
    marked = playback.turn_begins if len(playback.turn_begins) * MARK_COLUMNS <= width else ()
    for begin in marked:
        cell = _cell(playback, begin, width)
        cells[cell] = done_turn if cells[cell] in {done, done_turn} else turn
    at = _cell(playback, playback.position, width)
    cells[at] = head
    return (Span("".join(cells[: at + 1]), "accent"), Span("".join(cells[at + 1 :]), "dim"))


def _cell(playback: Playback, position: float, width: int) -> int:
    share = position / playback.length if playback.length > 0 else 1.0
    return min(width - 1, max(0, round(share * (width - 1))))


def _position(playback: Playback, position: float) -> str:
    if playback.alignment == "token":
        return f"{int(position)}" if position is not playback.length else f"{int(position)} tok"
    clock = format_clock(position / 1e6)
    return clock.removeprefix("00:") if playback.length < 3600e6 else clock


def _difference_parts(found: Sequence[Differences]) -> list[Line]:
    """Parts of a line; those without room are left out."""
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


class ReplayScreen(MonitorScreen):
    """Plays recorded sessions; their files are not changed."""

    TABLE = REPLAY
    DEFAULT_CSS = """
    ReplayScreen { layout: vertical;
        #monitors { height: 1fr; }
        #conclusion { height: 0; width: 100%; padding: 0 1; }
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
        plays: bool = False,
        paths: Sequence[Path] = (),
    ) -> None:
        """`sessions` are one or more, complete ones. A frame is drawn every `frame_s`.

        `plays` begins to play at once, from the first prompt on and without the idle time. Of the files in
        `paths` it is said what a comparison of them says.
        """
        super().__init__()
        self.player = Player(sessions, alignment, cuts_idle=plays)
        self._plays = plays
        self._level: GlyphLevel = level
        self._clock = clock
        self.frame_s = frame_s
        self._drawn_us = 0
        self._draw_pending = False
        self._first = 0
        """Index of the first session that is shown."""
        self.monitors: Sequence[ReplayMonitor] = [
            ReplayMonitor(session, heading, level=level, price=price)
            for session, heading in zip(sessions, headings(sessions), strict=True)
        ]
        self._scales = Scales(shared=True)
        for monitor in self.monitors:
            monitor.panes.history.scales = self._scales
        self._paths = paths
        self._conclusion = ""
        self._preparation = prepare(sessions)
        self.prepared = False
        """All figures are computed, so that seeking is quick."""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Sessions side by side, playback bar, keys."""
        with Horizontal(id="monitors"):
            yield from self.monitors
        yield LinesWidget(id="conclusion")
        yield PlaybackBar(id="playback")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Show the beginning, and prepare the rest."""
        next(self._preparation)
        # Imported now, since the first finished answer would wait for it.
        self.call_after_refresh(import_module, "edgetop.tui.chat.markdown")
        self._timer = self.set_interval(self.frame_s, self._tick, pause=True)
        if self._plays:
            if self.player.cuts_idle:
                self.player.jump_turn(1)
            self.action_play_or_pause()
        self.draw_soon()
        self.run_worker(self._prepare())
        if len(self._paths) > 1:
            self.run_worker(self._conclude, thread=True)

    def _conclude(self) -> None:
        from edgetop.session.compare.compare import compare  # noqa: PLC0415 - brings numpy
        from edgetop.session.compare.reading import read_all  # noqa: PLC0415 - the same
        from edgetop.session.compare.wording import conclusion  # noqa: PLC0415 - the same

        try:
            text = conclusion(compare(read_all(self._paths)))
        except EdgetopError:
            return  # the recordings are played all the same
        self.call_from_worker(self._show_conclusion, text)

    def _show_conclusion(self, text: str) -> None:
        self._conclusion = text
        self._fit_into(*self.size)

    def on_unmount(self) -> None:
        """Undo the freezing of the prepared figures."""
        gc.unfreeze()

    def on_resize(self, event: events.Resize) -> None:
        """Choose how many sessions are shown, and how."""
        self._fit_into(event.size.width, event.size.height)

    def _fit_into(self, columns: int, rows: int) -> None:
        shown = self._shown(columns)
        lines = _whole_claims(self._conclusion, max(1, columns - 2), rows // CONCLUSION_SHARE)
        below = self.query_one("#conclusion", LinesWidget)
        below.styles.height = len(lines)
        below.show_lines([for_level(line, self._level) for line in lines])
        for index, monitor in enumerate(self.monitors):
            monitor.display = (index - self._first) % len(self.monitors) < shown
            monitor.fit_into(columns // shown, rows - 3 - len(lines))
        self.draw_soon()

    def _shown(self, columns: int) -> int:
        """How many sessions have room side by side."""
        return 1 if columns < SIDE_BY_SIDE_COLUMNS else min(len(self.monitors), columns // MONITOR_COLUMNS_MIN)

    # Playback

    def _tick(self) -> None:
        now_us = self._clock()
        self.player.advance(now_us - self._drawn_us)
        self._drawn_us = now_us
        if not self.player.playing and self._timer is not None:
            self._timer.pause()
        with batched_paint(self):
            self._draw()

    async def _prepare(self) -> None:
        """Prepare all moments of the sessions, in portions."""
        end_us = monotonic_us() + PREPARE_US
        for _ in self._preparation:
            if monotonic_us() > end_us:
                await asyncio.sleep(PAUSE_S)
                end_us = monotonic_us() + PREPARE_US
        # A collection that went through all that was made here would delay a frame by 40 ms now and then.
        gc.collect()
        gc.freeze()
        self.prepared = True
        self.draw_soon()

    def draw_soon(self) -> None:
        """Draw everything once, after the next refresh of the layout."""
        if not self._draw_pending:
            self._draw_pending = True
            self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        self._draw_pending = False
        if not self.can_draw:
            return
        player = self.player
        moments = player.moments
        snapshots = self._show_moments(moments)
        if self._scales.fit():
            snapshots = self._show_moments(moments)
        self.query_one(PlaybackBar).show(self._playback(moments, snapshots), self._level)
        self._draw_keys()

    def _show_moments(self, moments: Sequence[int]) -> list[Snapshot]:
        return [
            monitor.show_moment(t_us) if monitor.display else snapshot(session, t_us)
            for monitor, session, t_us in zip(self.monitors, self.player.sessions, moments, strict=True)
        ]

    def _playback(self, moments: Sequence[int], snapshots: Sequence[Snapshot]) -> Playback:
        player = self.player
        first, *others = snapshots
        session = player.sessions[0]
        turns, tokens = 0 if first.turn is None else first.summary.turns, tokens_until(session, moments[0])
        cut = "idle time cut  " if player.cuts_idle else ""
        return Playback(
            playing=player.playing,
            speed=player.speed,
            position=player.position,
            length=player.length,
            alignment=player.alignment,
            turn_begins=player.turn_begins,
            position_text=f"{cut}turn {turns}/{len(session.turns)}  token {tokens}",
            differences=[differences(first, other) for other in others],
        )

    def _draw_keys(self) -> None:
        unused = {"align"} if len(self.monitors) == 1 else set()
        if self._shown(self.size.width) == len(self.monitors):
            unused.add("next_session")
        shown = [
            slot._replace(label="Pause") if slot.label == "Play" and self.player.playing else slot
            for slot in key_slots(self.keys.keys)
            if slot.actions[0].name not in unused
        ]
        right = line_of(Span("" if self.prepared else "computing energy", "dim"))
        self.query_one(KeyBar).show_keys(shown, self._level, rights=[right])

    @on(PlaybackBar.Seeked)
    def _on_seeked(self, message: PlaybackBar.Seeked) -> None:
        self.player.seek_share(message.share)
        self.draw_soon()

    # Actions of the keys

    def action_play_or_pause(self) -> None:
        """Play or pause."""
        self.player.play_or_pause()
        self._drawn_us = self._clock()
        if self._timer is not None:
            if self.player.playing:
                self._timer.resume()
            else:
                self._timer.pause()
        self.draw_soon()

    def action_step(self, direction: int) -> None:
        """Move by a token."""
        self.player.step(direction)
        self.draw_soon()

    def action_jump_turn(self, direction: int) -> None:
        """Move by a turn."""
        self.player.jump_turn(direction)
        self.draw_soon()

    def action_scrub(self, hundredths: int) -> None:
        """Move by hundredths of the length."""
        self.player.seek_share(self.player.share + hundredths / 100)
        self.draw_soon()

    def action_to_start(self) -> None:
        """Move to the beginning."""
        self.player.seek(0.0)
        self.draw_soon()

    def action_to_end(self) -> None:
        """Move to the end."""
        self.player.seek(self.player.length)
        self.draw_soon()

    def action_change_speed(self, steps: int) -> None:
        """Play faster or slower."""
        self.player.change_speed(steps)
        self.draw_soon()

    def action_align(self) -> None:
        """Align the sessions in the next way."""
        self.player.align_next()
        self.draw_soon()

    def action_flip(self) -> None:
        """Show the next session, where not all of them have room."""
        if self._shown(self.size.width) < len(self.monitors):
            self._first = (self._first + 1) % len(self.monitors)
            self._fit_into(*self.size)

    def action_scroll_chat(self, lines: int) -> None:
        """Move the chats by lines."""
        for monitor in self.monitors:
            monitor.chat.action_move(lines)

    def action_page_chat(self, pages: int) -> None:
        """Move the chats by pages."""
        for monitor in self.monitors:
            monitor.chat.action_page(pages)

    def action_close(self) -> None:
        """Close the replay."""
        self.dismiss(None)
