"""What is written past Textual's compositor: changed cells, short SGR sequences, OSC 52.

Rich names every style in full before each piece of text and takes it back after it, which on a true-colour terminal is
40 bytes for a word of five letters. Over SSH those are what a screen costs. What is said between two styles is found
once and remembered, since a screen has few of them and draws them every second.

Textual composes every widget that shares a line with a change, which takes about 3 ms for one grown line, and writes
the line from the widget's left edge on. Here only the changed cells are drawn and written. The widget's lines
are what it gives to Textual for any later repaint, so both draw the same as long as the widget has no
opacity, tint or hatch. Besides the driver of the terminal this is the one module that touches what Textual 8.2.8 keeps
private.

OSC 52 (xterm's control sequences, "Manipulate Selection Data") carries the text in base64 through SSH and through tmux;
whether the terminal takes it is its owner's choice, and it does not answer.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.geometry import Region
from textual.widget import Widget

if TYPE_CHECKING:
    from rich.color import ColorSystem
    from rich.style import Style
    from textual.color import Color
    from textual.filter import LineFilter
    from textual.screen import Screen
    from textual.strip import Strip


_COLOUR_KINDS = {"2": 5, "5": 3}
"""How many numbers an extended colour has, its own 38 or 48 included (ECMA-48 SGR, ITU-T T.416)."""

_SEEN_ON_BLANKS = {"background", "4", "7", "9", "21", "53"}
"""Besides the background: lines under, through and over the cell, and the exchange of its two colours."""

_REVERSE = "7"

SgrState = tuple[tuple[str, str], ...]
"""What is switched on: foreground, background, and attributes by their numbers, each with the numbers that do it."""

PLAIN: SgrState = ()


class Run(NamedTuple):
    """Text in one look. `before` is written as it is, such as a move of the cursor."""

    text: str
    look: SgrState
    before: str = ""


def encode(runs: Iterable[Run]) -> str:
    """The escape sequences that draw `runs`: only what changes between two of them is said; the end is unstyled."""
    parts: list[str] = []
    shown = PLAIN
    for text, look, before in runs:
        if before:
            parts.append(before)
        if text:
            said, shown = _change(shown, look, not text.strip(" "))
            if said:
                parts.append(said)
            parts.append(text)
    if shown:
        parts.append("\x1b[0m")
    return "".join(parts)


@lru_cache(maxsize=1024)
def look_of(numbers: str) -> SgrState:
    """The look that a sequence of numbers brings about, as Rich writes them for a style."""
    look: dict[str, str] = {}
    for name, each in _settings(numbers):
        if name == "0":
            look.clear()
        else:
            look[name] = each
    return tuple(look.items())


@lru_cache(maxsize=4096)
def _change(shown: SgrState, wanted: SgrState, blank: bool) -> tuple[str, SgrState]:
    """What brings the terminal from one look to the other, and the look that it then has."""
    now, then = dict(shown), dict(wanted)
    if blank and _REVERSE not in then:
        # The colour of letters that are not there may stay what it was.
        seen = {name: numbers for name, numbers in then.items() if name in _SEEN_ON_BLANKS}
        unseen = {name: numbers for name, numbers in now.items() if name not in _SEEN_ON_BLANKS}
        then = seen if now.keys() - seen.keys() - unseen.keys() else {**unseen, **seen}
    if now.keys() - then.keys():
        said = f"\x1b[{';'.join(['0', *then.values()])}m"
    else:
        changed = [numbers for name, numbers in then.items() if now.get(name) != numbers]
        said = f"\x1b[{';'.join(changed)}m" if changed else ""
    return said, tuple(then.items())


def _settings(numbers: str) -> Iterator[tuple[str, str]]:
    """What a sequence sets, one by one; `0` for a reset."""
    each = numbers.split(";") if numbers else []
    at = 0
    while at < len(each):
        number = each[at]
        length = _COLOUR_KINDS.get(each[at + 1], 1) if number in {"38", "48"} and at + 1 < len(each) else 1
        yield _name(number), ";".join(each[at : at + length])
        at += length


def _name(number: str) -> str:
    """What a number is about."""
    code = int(number or 0)
    if 30 <= code <= 39 or 90 <= code <= 97:
        return "foreground"
    if 40 <= code <= 49 or 100 <= code <= 107:
        return "background"
    return str(code)


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
def _look(style: Style, filters: tuple[LineFilter, ...], background: Color, colors: ColorSystem | None) -> SgrState:
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
        return encode(run for cells in self._cells for run in cells.runs(colors))


@contextmanager
def batched_paint(screen: Screen[Any]) -> Iterator[None]:
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


BASE64_MAX = 74_994
"""What a sequence may have: many terminals cut off at 100,000 bytes, hterm and older tmux and screen here."""

TEXT_MAX_BYTES = BASE64_MAX // 4 * 3


class TooLongError(ValueError):
    """A text is longer than terminals take."""


def clipboard_sequence(text: str, environ: Mapping[str, str]) -> str:
    r"""The escape sequences that put a harmless text into the clipboard. Raises TooLongError.

    tmux takes OSC 52 itself with `set-clipboard on`, and passes on what is wrapped for it with `allow-passthrough on`;
    inside of tmux both are sent, since it does not tell which holds.
    """
    data = text.encode("utf-8")
    if len(data) > TEXT_MAX_BYTES:
        raise TooLongError
    sequence = f"\x1b]52;c;{base64.b64encode(data).decode('ascii')}\x07"
    if environ.get("TMUX"):
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"{sequence}\x1bPtmux;{doubled}\x1b\\"
    return sequence


def what_is_needed(environ: Mapping[str, str]) -> str:
    """What must be allowed for the text to arrive, for a person."""
    if environ.get("TMUX"):
        return "tmux must have `set -g set-clipboard on`, and the terminal must allow OSC 52"
    return "the terminal must allow it (OSC 52)"


def write_to_terminal(app: App[Any], sequence: str) -> None:
    """Write a sequence that draws nothing, in order with what is drawn."""
    if app._driver is not None:  # noqa: SLF001 - Textual's own `copy_to_clipboard` does the same, without tmux
        app._driver.write(sequence)  # noqa: SLF001
