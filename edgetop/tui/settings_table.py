"""The rows of the settings page, and what stands below them about the chosen one."""

from __future__ import annotations

from collections.abc import Sequence

from edgetop.core.text import one_line
from edgetop.settings import options
from edgetop.settings.option import Option
from edgetop.settings.parser import TITLES
from edgetop.settings.shown import shown
from edgetop.settings.template import in_words
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.settings_desk import SettingsDesk, effect_of
from edgetop.tui.widgets.lines import Line, Span, line_of, shortened
from edgetop.tui.wrap import fit, wrap

Row = str | Option[object]
"""The heading of a section, or a setting."""
MARKS = 2
NAME_COLUMNS, ORIGIN_COLUMNS = 17, 12
WIDE_COLUMNS = 56
"""Below this there is no room for where a value comes from."""


def rows_of(words: Sequence[str]) -> list[Row]:
    """The settings that have all of `words` in their name, section, flags or description, below their headings."""
    wanted = [word.casefold() for word in words]
    rows: list[Row] = []
    for option in options.OPTIONS:
        told = " ".join([option.name, option.section, *option.flags, option.help]).casefold()
        if all(word in told for word in wanted):
            if TITLES[option.section] not in rows:
                rows.append(TITLES[option.section])
            rows.append(option)
    return rows


def row_line(row: Row, desk: SettingsDesk, width: int, *, chosen: bool, level: GlyphLevel) -> Line:
    """A row in `width` cells. The chosen one begins with `>`, one that was changed and not written has `*`."""
    if isinstance(row, str):
        return line_of(Span(fit(row, width), "title"))
    changed = desk.is_changed(row)
    marks = f"{'>' if chosen else ' '}{'*' if changed else ' '}"
    origin = f" {desk.origin(row):<{ORIGIN_COLUMNS}}" if width >= WIDE_COLUMNS else ""
    room = width - MARKS - NAME_COLUMNS - 1 - len(origin)
    value = shortened(one_line(shown(desk.settings[row]), ascii=level == "ascii"), room, level)
    is_default = desk.origin(row) == "default"
    if chosen:
        return (Span(fit(f"{marks}{row.name:<{NAME_COLUMNS}} {fit(value, room)}{origin}", width), "key"),)
    return (
        Span(f"{marks}{row.name:<{NAME_COLUMNS}} ", "warning" if changed else "text"),
        Span(fit(value, room), "dim" if is_default else "text"),
        Span(origin, "dim"),
    )


def about_lines(row: Row | None, desk: SettingsDesk, width: int, height: int) -> list[Line]:
    """What the setting does, where its value comes from and when a change takes effect, in `height` lines."""
    if not isinstance(row, Option):
        return []
    takes = f"takes effect {effect_of(row)}"
    ways = ", ".join(part for part in (*row.flags, row.env if not row.flag_only else "") if part)
    origin = f"from {one_line(desk.settings.origin(row))}" if desk.origin(row) == "file" else desk.origin(row)
    choices = ", ".join(desk.choices(row)) if not row.is_switch else ""
    told = [in_words(row), f"One of {choices}." if choices else "", row.about, f"Also {ways}."]
    head = Span(shortened(f"{origin}; {takes}", width, "ascii"), "accent")
    text = " ".join(part for part in told if part)
    wrapped = [line_of(part.rstrip()) for part in wrap(text, max(1, width))]
    return [line_of(head), *wrapped][:height]
