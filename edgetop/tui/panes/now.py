"""Tokens per second and joules per token at the top of the panes, in digits that are found at a glance.

It takes the headlines of the two panes and computes nothing.
"""

from __future__ import annotations

from itertools import zip_longest

from edgetop.core.sources import Unavailable
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.panes.energy import EnergyPane, contents, measuring
from edgetop.tui.panes.pane import BORDER_COLUMNS, framed
from edgetop.tui.panes.tokens import TokensPane
from edgetop.tui.panes.view import View
from edgetop.tui.styled_text import Line, Span, fit, for_level, line_of, paragraph, spread, width_of, wrap
from edgetop.tui.widgets import LinesWidget

TALL_ROWS = 28
"""From this height of the column on the digits are three rows high, as on 120x36."""

BOX_ROWS = 5

_HIGH = dict(zip("0123456789.", zip(
    *(row.split(",") for row in (
        "█▀█,▀█ ,▀▀█,▀▀█,█ █,█▀▀,█▀▀,▀▀█,█▀█,█▀█, ",
        "█ █, █ ,█▀▀, ▀█,▀▀█,▀▀█,█▀█,  █,█▀█,▀▀█, ",
        "▀▀▀,▀▀▀,▀▀▀,▀▀▀,  ▀,▀▀▀,▀▀▀,  ▀,▀▀▀,▀▀▀,▀",
    )), strict=True), strict=True))  # fmt: skip
_HIGH_ASCII = dict(zip("0123456789.", zip(
    *(row.split(",") for row in (
        " _ ,   , _ , _ ,   , _ , _ , _ , _ , _ , ",
        "| |,  |, _|, _|,|_|,|_ ,|_ ,  |,|_|,|_|, ",
        "|_|,  |,|_ , _|,  |, _|,|_|,  |,|_|, _|,.",
    )), strict=True), strict=True))  # fmt: skip
"""The three rows of each digit."""

_TOKENS, _ENERGY = TokensPane(), EnergyPane()


def has_no_power(view: View) -> bool:
    """There is neither power nor energy, nor will there be: one line says why in place of two panes."""
    now = view.snapshot
    energy = None if now.turn is None else now.turn.figures.energy
    return (
        isinstance(now.power, Unavailable)
        and now.phase != "starting"
        and now.watch is None
        and energy is None
        and now.summary.energy is None
    )


def now_line(view: View) -> Line:
    """Both figures in one row."""
    energy = _ENERGY.headline(view)
    waiting = measuring(view)
    shown = line_of(Span(waiting, "dim")) if waiting else energy[:1]
    if not waiting and energy and energy[0].text == "n/a":
        shown = line_of(Span("J/token n/a", "dim"))
    *name, speed = _TOKENS.headline(view)
    return (speed, *(Span(f" {span.text.strip()}", "dim") for span in name), Span("   "), *shown)


def box(view: View, width: int) -> list[Line]:
    """Both figures three rows high, in a border; `width` by `BOX_ROWS` cells."""
    inner = width - BORDER_COLUMNS
    half = inner // 2
    tokens, energy = _TOKENS.headline(view), _ENERGY.headline(view)
    name = "".join(span.text for span in tokens[:-1]).strip()
    left = _figure(tokens[-1], name, half - 1, view.level)
    if energy[0].role == "energy":
        grade = "".join(span.text for span in energy[1:2]).strip(" ·")
        right = _figure(energy[0], f"grade {grade}", inner - half, view.level)
    else:
        right = [(), *paragraph(measuring(view) or "J/token n/a", inner - half, "dim")]
    lines = [(*fit(one, half), *two) for one, two in zip_longest(left, right[:3], fillvalue=())]
    return framed("now", line_of(contents(view)), lines, width, view.level)


def _figure(headline: Span, caption: str, width: int, level: GlyphLevel) -> list[Line]:
    """A figure in three rows, beside it its unit and what it is; as text where it is no number or has no room."""
    digits = _HIGH_ASCII if level == "ascii" else _HIGH
    number, *words = headline.text.split(" ")
    unit = next((word for word in words if "/" in word and not word[0].isdigit()), "")
    more = " ".join(word for word in words if word != unit)
    below = line_of(Span(caption, "dim"))
    if not set(number) <= set(digits):
        return [(), (headline,), below]
    rows = [" ".join(digits[character][row] for character in number) for row in range(3)]
    if len(rows[0]) + 1 + len(unit) > width:
        return [(), (headline,), below]
    beside = (line_of(Span(more, "dim")), line_of(Span(unit, "title")), below)
    return [(Span(f"{row} ", headline.role), *text) for row, text in zip(rows, beside, strict=True)]


def _no_power(missing: Unavailable, width: int) -> list[Line]:
    """Why there is no power, whole, and the key to what would give it."""
    key = line_of(Span("F1", "key"), " what to do ")
    reason = wrap(f"No power: {missing.reason}", max(10, width - width_of(key) - 2))
    return [
        spread(line_of(Span(f" {text}", "dim")), [key] if not at else [()], width) for at, text in enumerate(reason)
    ]


class NowWidget(LinesWidget):
    """The two figures, and below them why there is no power where there is none."""

    DEFAULT_CSS = """
    NowWidget { height: 1; width: 100%; }
    """

    def __init__(self) -> None:
        super().__init__(id="now")
        self._view: View | None = None

    def rows(self, column_rows: int, view: View | None) -> int:
        """How many rows it takes of a column."""
        return (BOX_ROWS if column_rows >= TALL_ROWS else 1) + len(self._reason(view))

    def _reason(self, view: View | None) -> list[Line]:
        """Why there is no power, where that is so."""
        power = None if view is None or not has_no_power(view) else view.snapshot.power
        return _no_power(power, self.size.width) if isinstance(power, Unavailable) else []

    def show(self, view: View) -> None:
        """Draw `view`."""
        self._view = view
        width, height = self.size
        if not self.display or width < 20 or height < 1:
            return
        reason = self._reason(view)
        head = box(view, width) if height - len(reason) >= BOX_ROWS else [line_of(" ", *now_line(view))]
        lines = [*head, *reason]
        self.show_lines([for_level(fit(line, width), view.level) for line in lines[:height]], width)

    def on_resize(self) -> None:
        """Fill the new size with the last view."""
        if self._view is not None:
            self.show(self._view)
