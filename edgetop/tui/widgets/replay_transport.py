"""The transport line of replay: what is played, how fast, where the head is, and how the sessions differ there."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from textual import events
from textual.message import Message

from edgetop.core.format import format_bytes_short, format_clock, format_significant
from edgetop.session.alignment import AlignmentName
from edgetop.session.differences import Differences
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.replay_headings import letter
from edgetop.tui.widgets.lines import Line, LinesWidget, Span, fit, for_level, joined, line_of, spread, width_of

BAR_COLUMNS_LEAST = 8
MARK_COLUMNS = 3
"""Where turns are nearer to each other in the mean, their marks would say nothing."""


class Transport(Struct, frozen=True, kw_only=True):
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

    def show(self, transport: Transport, level: GlyphLevel) -> None:
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


def draw(transport: Transport, width: int, level: GlyphLevel) -> tuple[list[Line], tuple[int, int]]:
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


def _bar(transport: Transport, width: int, level: GlyphLevel) -> Line:
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


def _cell(transport: Transport, position: float, width: int) -> int:
    share = position / transport.length if transport.length > 0 else 1.0
    return min(width - 1, max(0, round(share * (width - 1))))


def _position(transport: Transport, position: float) -> str:
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
