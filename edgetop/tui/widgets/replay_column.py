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
from edgetop.tui.widgets.chat_view import ChatView
from edgetop.tui.widgets.lines import Line
from edgetop.tui.widgets.pane_column import PaneColumn
from edgetop.tui.widgets.top_meters import Layout, TopMeters

Arrangement = Literal["beside", "stacked", "folded", "small"]
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
        self._arrangement: Arrangement = "folded"
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


def arrangement(columns: int, rows: int) -> Arrangement:
    """What a session has room for in so many cells."""
    if columns < SMALL_COLUMNS or rows < SMALL_ROWS:
        return "small"
    if columns >= BESIDE_COLUMNS and rows >= BESIDE_ROWS:
        return "beside"
    return "stacked" if columns >= STACKED_COLUMNS and rows >= STACKED_ROWS else "folded"
