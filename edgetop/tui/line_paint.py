"""Painting a few lines of a widget at once, past the compositor.

Textual composes every widget that shares a line with a change, which takes about 3 ms for one grown line, and writes
the line from the widget's left edge on. Here only the changed cells are drawn and written. The widget's lines
are what it gives to Textual for any later repaint, so both draw the same as long as the widget has no
opacity, tint or hatch. Besides the driver of the terminal this is the one module that touches what Textual 8.2.8 keeps
private.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment
from textual._compositor import CompositorUpdate
from textual.geometry import Region
from textual.widget import Widget

from edgetop.tui.sgr import PLAIN, Look, Run, look_of, written

if TYPE_CHECKING:
    from rich.color import ColorSystem
    from rich.style import Style
    from textual.color import Color
    from textual.filter import LineFilter
    from textual.screen import Screen
    from textual.strip import Strip

_gathered: WeakKeyDictionary[Screen[Any], list[_Cells]] = WeakKeyDictionary()
"""What waits for the end of `together`."""


class _Cells:
    """A strip, where on the terminal it begins, and what is behind it."""

    __slots__ = ("_background", "_filters", "_strip", "_x", "_y")

    def __init__(self, x: int, y: int, strip: Strip, filters: tuple[LineFilter, ...], background: Color) -> None:
        self._x, self._y = x, y
        self._strip = strip
        self._filters = filters
        self._background = background

    def runs(self, colors: ColorSystem | None) -> Iterator[Run]:
        """What is to be written."""
        move = f"\x1b[{self._y + 1};{self._x + 1}H"
        for segment in self._strip:
            look = PLAIN if segment.style is None else _look(segment.style, self._filters, self._background, colors)
            yield Run(segment.text, look, move)
            move = ""


@lru_cache(maxsize=1024)
def _look(style: Style, filters: tuple[LineFilter, ...], background: Color, colors: ColorSystem | None) -> Look:
    """How a style looks on this terminal."""
    segments = [Segment("x", style)]
    for line_filter in filters:
        segments = line_filter.apply(segments, background)
    shown = segments[0].style
    drawn = "x" if shown is None else shown.render("x", color_system=colors)
    return look_of(drawn[2 : drawn.index("m")]) if drawn.startswith("\x1b[") else PLAIN


class _CellsUpdate(CompositorUpdate):
    """Cells at any places of the screen."""

    def __init__(self, cells: Sequence[_Cells]) -> None:
        self._cells = cells

    def render_segments(self, console: Console) -> str:
        """The escape sequences that draw them."""
        colors = COLOR_SYSTEMS.get(console.color_system or "")
        return written(run for cells in self._cells for run in cells.runs(colors))


@contextmanager
def together(screen: Screen[Any]) -> Iterator[None]:
    """What is painted inside is written to the terminal at once, when all of it is done."""
    if screen in _gathered:
        yield
        return
    gathered = _gathered[screen] = []
    try:
        yield
    finally:
        del _gathered[screen]
        if gathered:
            _write(screen, gathered)


def paint(widget: Widget, changes: Sequence[Region], line_at: Callable[[int], Strip]) -> None:
    """Draw these parts of a line-API widget again; `changes` are one line high, in cells of its content.

    `line_at` gives a line as `render_line` does, which has to ask Textual at some cost how wide the widget is. Painted
    at once where the widget is in full view, otherwise with Textual's next refresh.
    """
    changes = [region for region in changes if region]
    if not changes:
        return
    offset = widget.content_offset
    regions = [region.translate(offset) for region in changes]
    origin = _origin_in_full_view(widget, regions)
    if origin is None:
        widget.refresh(*changes)
        return
    widget._styles_cache.set_dirty(*regions)  # noqa: SLF001
    filters, background = tuple(widget.get_line_filters()), widget.background_colors[1]
    cells: list[_Cells] = []
    y, line = -1, None
    for content, region in zip(changes, regions, strict=True):
        if line is None or content.y != y:
            y, line = content.y, line_at(content.y)
        strip = line.crop(content.x, content.right)
        cells.append(_Cells(origin.x + region.x, origin.y + region.y, strip, filters, background))
    screen = widget.screen
    gathered = _gathered.get(screen)
    if gathered is None:
        _write(screen, cells)
    else:
        gathered += cells


def _write(screen: Screen[Any], cells: Sequence[_Cells]) -> None:
    screen.app._display(screen, _CellsUpdate(cells))  # type: ignore[arg-type] # noqa: SLF001


def _origin_in_full_view(widget: Widget, regions: Sequence[Region]) -> Region | None:
    """Where on the terminal the widget is; `None` if it is not all there or something lies over these parts of it."""
    if not widget.is_attached:
        return None
    app, screen = widget.app, widget.screen
    if app.screen is not screen or app._batch_count:  # noqa: SLF001
        return None
    compositor = screen._compositor  # noqa: SLF001
    place, clip = compositor.visible_widgets.get(widget, (Region(), Region()))
    if not place or not clip.contains_region(place) or place.size != widget.outer_size:
        return None
    for region in regions:
        on_screen = region.translate(place.offset)
        # From the front to the back: whatever comes before the widget lies over it.
        over = takewhile(lambda layer: layer[0] is not widget, compositor.layers_visible[on_screen.y])
        if not place.contains_region(on_screen) or any(visible.overlaps(on_screen) for _, visible, _ in over):
            return None
    return place
