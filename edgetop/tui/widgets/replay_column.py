"""One session of a replay: the live screen's meters, chat and panes, at the moment it is given."""

from __future__ import annotations

from typing import Literal

from textual.app import ComposeResult
from textual.containers import Container, Vertical

from edgetop.core.energy.supply import Price
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.recorded_chat import RecordedChat
from edgetop.tui.view import view_of
from edgetop.tui.widgets import energy_pane, memory_pane, power_pane, tokens_pane
from edgetop.tui.widgets.chat_view import ChatView
from edgetop.tui.widgets.lines import Line
from edgetop.tui.widgets.pane import Pane
from edgetop.tui.widgets.top_meters import Layout, TopMeters

Arrangement = Literal["beside", "stacked", "folded", "small"]
"""Panes beside the chat, below it, folded into lines above it, or one line for everything."""
BESIDE_COLUMNS, BESIDE_ROWS = 96, 22
STACKED_COLUMNS, STACKED_ROWS = 48, 30
TALL_ROWS = 40
SMALL_COLUMNS, SMALL_ROWS = 48, 14


class ReplayColumn(Vertical):
    """Meters, chat and panes of a recorded session."""

    DEFAULT_CSS = """
    ReplayColumn { width: 1fr; height: 1fr;
        .body { height: 1fr; layout: horizontal; }
        .chat-box { width: 1fr; height: 1fr; border: round $panel-lighten-2; padding: 0 1;
            border-title-style: bold; border-title-color: $foreground; }
        .chat-box.block { border: solid $panel-lighten-2; }
        .chat-box.ascii { border: ascii $panel-lighten-2; }
        .panes { width: 50; height: 1fr; }
        .tokens { height: 1fr; }
        .memory, .power { height: 5; }
        .energy { height: 6; }
        &.stacked .body { layout: vertical; }
        &.stacked .panes { width: 100%; height: auto; }
        &.stacked .tokens { height: 6; }
        &.stacked .memory { height: 4; }
        &.stacked .energy { height: 6; }
        &.stacked.tall .tokens, &.stacked.tall .power, &.stacked.tall .energy { height: 7; }
        &.folded .panes, &.small .panes { display: none; }
        &.small .chat-box { border: none; padding: 0; }
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
        self._arrangement: Arrangement = "folded"
        self.chat = ChatView(level)
        self._recorded = RecordedChat(session, self.chat, level)

    def compose(self) -> ComposeResult:
        """Meters, chat and panes."""
        yield TopMeters()
        with Container(classes="body"):
            with Vertical(classes=f"chat-box {self._level}") as box:
                box.border_title = "chat"
                yield self.chat
            with Vertical(classes="panes"):
                for pane in (tokens_pane, memory_pane, power_pane, energy_pane):
                    yield Pane(pane.TITLE, pane.draw)

    def lay_out(self, columns: int, rows: int) -> None:
        """Choose the arrangement that `columns` by `rows` cells have room for."""
        self._arrangement = arrangement(columns, rows)
        for name in ("beside", "stacked", "folded", "small"):
            self.set_class(name == self._arrangement, name)
        self.set_class(rows >= TALL_ROWS, "tall")

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
            hidden=frozenset(pane.title for pane in self.query(Pane) if not pane.display),
            price=self._price,
        )
        layout: Layout = (
            "small" if self._arrangement == "small" else "narrow" if self._arrangement == "folded" else "wide"
        )
        self.query_one(TopMeters).show(view, layout)
        if layout == "wide":
            for pane in self.query(Pane):
                pane.show(view)
        self._recorded.show(t_us)
        return view.snapshot


def arrangement(columns: int, rows: int) -> Arrangement:
    """What a session has room for in so many cells."""
    if columns < SMALL_COLUMNS or rows < SMALL_ROWS:
        return "small"
    if columns >= BESIDE_COLUMNS and rows >= BESIDE_ROWS:
        return "beside"
    return "stacked" if columns >= STACKED_COLUMNS and rows >= STACKED_ROWS else "folded"
