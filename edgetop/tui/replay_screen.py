"""Replay: recorded sessions side by side at one play head, in the live screen's own panes.

While it plays, a few frames a second are drawn, whatever the speed; while it stands still nothing is. Below 100 columns
one session is shown at a time.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from importlib import import_module
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.timer import Timer

from edgetop.core.clock import Clock, monotonic_us
from edgetop.core.energy.supply import Price
from edgetop.session.alignment import AlignmentName, tokens_until
from edgetop.session.differences import differences
from edgetop.session.player import Player
from edgetop.session.preparation import prepare
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.tui.bindings import bindings
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.keyed_screen import KeyedScreen
from edgetop.tui.keymap import places
from edgetop.tui.line_paint import together
from edgetop.tui.pane_actions import PaneActions
from edgetop.tui.replay_headings import headings
from edgetop.tui.replay_keys import REPLAY
from edgetop.tui.themes import next_theme
from edgetop.tui.widgets.key_bar import KeyBar
from edgetop.tui.widgets.lines import Span, line_of
from edgetop.tui.widgets.pane_column import PaneColumn
from edgetop.tui.widgets.replay_column import ReplayColumn
from edgetop.tui.widgets.replay_transport import Transport, TransportLine

FRAME_S = 0.25
"""More frames than this no one reads, over SSH least of all."""
PREPARING_US, BREATHING_S = 15_000, 0.001
"""Keys are looked at after so much work on the sessions, and a little time is left to them."""
SIDE_BY_SIDE_COLUMNS = 100
"""Where the screen has less than this, one session at a time is shown."""
COLUMN_LEAST = 48


class ReplayScreen(PaneActions, KeyedScreen[None]):
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
        self.call_after_refresh(import_module, "edgetop.tui.markdown")
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
        with together(self):
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

    def _transport(self, moments: Sequence[int], snapshots: Sequence[Snapshot]) -> Transport:
        player = self.player
        first, *others = snapshots
        session = player.sessions[0]
        turns, tokens = 0 if first.turn is None else first.summary.turns, tokens_until(session, moments[0])
        return Transport(
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
            for place in places(self.keys.keys)
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
