"""A widget that is a few lines of styled text, and repaints those lines only that changed.

Everything that moves on the live screen besides the chat is one of these: a repaint of a whole widget, or a layout for
each new figure, would be paid for by the model that decodes on the same cores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat, zip_longest
from typing import ClassVar, Literal, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from edgetop.core.text import literal
from edgetop.tui import wrap
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.line_paint import paint

Role = Literal[
    "text", "dim", "title", "headline", "good", "warning", "bad", "graph", "prefill", "accent", "border", "key"
]  # fmt: skip


class Span(NamedTuple):
    """Some text of a line, and what it means."""

    text: str
    role: Role = "text"


Line = tuple[Span, ...]
NEAR_CELLS = 6
"""To move the cursor takes as many bytes as to write so many cells again."""
_ONE_CELL_EACH = re.compile(r"[ -~·°±−…←→●\u2500-\u259f\u2800-\u28ff]*").fullmatch
"""Text that takes a cell for each character: letters without accents, signs of our own, boxes, blocks and braille."""
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""At an end of a span they would make one character of it and its neighbour, of another width."""


def line_of(*parts: str | Span) -> Line:
    """A line from plain strings and spans, with whatever their text holds made harmless."""
    spans = (part if isinstance(part, Span) else Span(part) for part in parts)
    return tuple(Span(_harmless(span.text), span.role) for span in spans if span.text)


def _harmless(text: str) -> str:
    return literal(text).replace("\n", " ").replace("\t", " ").strip(_JOINERS)


def width_of(line: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(span.text) for span in line)


def fit(line: Line, width: int) -> Line:
    """`line` cut or padded to exactly `width` cells."""
    spans: list[Span] = []
    left = width
    for span in line:
        cells = cell_len(span.text)
        if cells > left:
            spans.append(Span(wrap.fit(span.text, left), span.role))
            return tuple(spans)
        spans.append(span)
        left -= cells
    if left:
        spans.append(Span(" " * left))
    return tuple(spans)


def spread(left: Line, rights: Sequence[Line], width: int) -> Line:
    """`left` at the beginning of `width` cells, and at their end the first of `rights` that there is room for."""
    for right in rights:
        gap = width - width_of(left) - width_of(right)
        if gap >= 1:
            return (*left, Span(" " * gap), *right)
    return fit(left, width)


def joined(parts: Sequence[Line], width: int, gap: str = "  ") -> Line:
    """Those of `parts` that fit into `width` cells beside each other, the first ones before later ones."""
    line: Line = ()
    for part in parts:
        longer = (*line, Span(gap), *part) if line else part
        if part and width_of(longer) <= width:
            line = longer
    return line


def shortened(text: str, width: int, level: GlyphLevel) -> str:
    """`text` in at most `width` cells, with a mark at its end if it was cut."""
    if cell_len(text) <= width:
        return text
    return wrap.fit(text, width - 1) + ("~" if level == "ascii" else "…") if width > 0 else ""


_IN_ASCII = str.maketrans({
    "·": "*", "●": "*", "…": "~", "─": "-", "−": "-", "←": "<", "→": ">", "\ufffd": "?",
    **{chr(code): "?" for code in range(0x2400, 0x2422)},
})  # fmt: skip


def changed_runs(before: Line, after: Line, width: int) -> list[tuple[int, int]]:
    """Where two lines of `width` cells differ, as cells from and to; runs that are near each other are one."""
    old, new = _cells(before), _cells(after)
    if len(old) != width or len(new) != width:
        # Characters that are of another width together than one by one.
        return [(0, width)]
    runs: list[tuple[int, int]] = []
    for column, (old_cell, new_cell) in enumerate(zip(old, new, strict=True)):
        if old_cell == new_cell:
            continue
        if runs and column - runs[-1][1] < NEAR_CELLS:
            runs[-1] = (runs[-1][0], column + 1)
        else:
            runs.append((column, column + 1))
    return runs


@lru_cache(maxsize=128)
def _cells(line: Line) -> Sequence[tuple[str, Role]]:
    """What each cell shows; a wide character in all of its cells, and in each what combines with it."""
    cells: list[tuple[str, Role]] = []
    for span in line:
        if _ONE_CELL_EACH(span.text):
            cells += zip(span.text, repeat(span.role))
            continue
        for character in span.text:
            width = cell_len(character)
            cells += [(character * (part + 1), span.role) for part in range(width)]
            if not width:
                # It may belong to a wide character, and then to both of its cells.
                cells[-2:] = [(shown + character, role) for shown, role in cells[-2:]]
    return cells


def for_level(line: Line, level: GlyphLevel) -> Line:
    """`line` with the characters of `level`, each as wide as before; letters of names stay as they are."""
    if level != "ascii":
        return line
    return tuple(Span(span.text.translate(_IN_ASCII), span.role) for span in line)


class LinesWidget(Widget):
    """Shows the lines it was given last; `COMPONENT_CLASSES` give each role its style."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "lines--text", "lines--dim", "lines--title", "lines--headline", "lines--good", "lines--warning", "lines--bad",
        "lines--graph", "lines--prefill", "lines--accent", "lines--border", "lines--key",
    }  # fmt: skip
    DEFAULT_CSS = """
    LinesWidget .lines--dim { color: $quiet; }
    LinesWidget .lines--title { color: $foreground; text-style: bold; }
    LinesWidget .lines--headline { color: $accent; text-style: bold; }
    LinesWidget .lines--good { color: $success; }
    LinesWidget .lines--warning { color: $warning; text-style: bold; }
    LinesWidget .lines--bad { color: $error; text-style: bold; }
    LinesWidget .lines--graph { color: $primary; }
    LinesWidget .lines--prefill { color: $secondary; }
    LinesWidget .lines--accent { color: $accent; }
    LinesWidget .lines--border { color: $edge; }
    LinesWidget .lines--key { color: $background; background: $primary; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._lines: tuple[Line, ...] = ()
        self._fitted: tuple[int, Sequence[Line]] | None = None
        """The lines cut and padded to so many cells."""
        self._role_styles: dict[Role, Style] = {}

    @property
    def plain(self) -> list[str]:
        """What the lines say, without styles."""
        return ["".join(span.text for span in line) for line in self._lines]

    def show_lines(self, lines: Sequence[Line], fitted_to: int | None = None) -> None:
        """Show `lines` from the top; only those that differ from before are painted.

        `fitted_to` is their width where that is known to be the widget's, and each of them has exactly so many cells.
        """
        new = tuple(lines)
        if new == self._lines:
            return
        width = self.size.width if fitted_to is None else fitted_to
        old = self._fitted_to(width)
        self._lines, self._fitted = new, None if fitted_to is None else (width, new)
        blank = (Span(" " * width),)
        changed = []
        for y, (before, after) in enumerate(zip_longest(old, self._fitted_to(width), fillvalue=blank)):
            if before != after:
                changed += [Region(begin, y, end - begin, 1) for begin, end in changed_runs(before, after, width)]
        paint(self, changed, lambda y: self._strip(y, width))

    def _fitted_to(self, width: int) -> Sequence[Line]:
        """The lines in `width` cells each."""
        if self._fitted is None or self._fitted[0] != width:
            self._fitted = (width, [fit(line, width) for line in self._lines])
        return self._fitted[1]

    def notify_style_update(self) -> None:
        """Styles are looked up again, since the theme may be another one."""
        super().notify_style_update()
        self._role_styles.clear()

    def render_line(self, y: int) -> Strip:
        """One line, as wide as the widget."""
        return self._strip(y, self.size.width)

    def _strip(self, y: int, width: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        return Strip([Segment(span.text, self._style(span.role)) for span in self._fitted_to(width)[y]], width)

    def _style(self, role: Role) -> Style:
        style = self._role_styles.get(role)
        if style is None:
            base = self.rich_style
            style = base if role == "text" else base + self.get_component_rich_style(f"lines--{role}", partial=True)
            self._role_styles[role] = style
        return style
