"""Watts now, idle power, rails and hosts."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from edgetop.core.format import format_duration, format_significant
from edgetop.core.sources import Unavailable
from edgetop.session.energy import PowerNow
from edgetop.tui.charts import LABEL_COLUMNS, Axis, framed, history_chart, padded
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.panes.view import PaneContent, View
from edgetop.tui.styled_text import (
    BESIDE_COLUMNS,
    Line,
    Role,
    Span,
    figure_row,
    joined,
    line_of,
    side_by_side,
    table,
    wrap,
)

_FILLS: dict[GlyphLevel, str] = {"braille": "█▓▒░▚•", "block": "█▓▒░▚•", "ascii": "#%+:=."}
"""Patterns from the bottom up; the last one is for all rails that have none of their own."""

_ROLES: tuple[Role, ...] = ("graph", "prefill", "accent", "good", "warning", "dim")

_ROWS_LEAST = 3


class Rail(NamedTuple):
    """A layer of the stack: one rail, or all the smallest ones together."""

    name: str
    now_w: float
    values: list[float | None]


def stacked_chart(view: View, width: int, height: int) -> list[Line]:
    """The rails of the headline's own sensor in `width` by `height` cells; empty where it has none, or no room."""
    columns = width - LABEL_COLUMNS - 1
    names = view.traces.parts_of_power()
    if columns < 8 or not names:
        return []
    rails = _rails(view, names, columns)
    legend = _legend(view, rails, width)
    rows = height - len(legend) - 2
    if rows < _ROWS_LEAST:
        return []
    trace = padded(view.traces.power(columns), columns, "block")
    filled = [_column([rail.values[at] for rail in rails], trace.top, rows) for at in range(columns)]
    lines = [_line([column[row] for column in filled], view.level) for row in range(rows)]
    power = view.snapshot.power
    idle_w = None if isinstance(power, Unavailable) else power.idle_w
    notes = [] if idle_w is None else [f"idle {format_significant(idle_w)} W"]
    return [*framed(lines, trace, trace.phases, Axis("W", notes), width, view.level), *legend]


def _rails(view: View, names: list[str], columns: int) -> list[Rail]:
    """The layers from the bottom up, the largest first."""
    rails = []
    for name in names:
        values = list(padded(view.traces.channel(name, columns), columns, "block").values)
        rails.append(Rail(name.removeprefix("power."), view.value(name) or 0.0, values))
    rails.sort(key=lambda rail: -rail.now_w)
    most = len(_ROLES)
    if len(rails) <= most:
        return rails
    small = rails[most - 1 :]
    sums = [
        sum(value or 0.0 for value in values) if any(value is not None for value in values) else None
        for values in zip(*(rail.values for rail in small), strict=True)
    ]
    return [*rails[: most - 1], Rail(f"{len(small)} more", sum(rail.now_w for rail in small), sums)]


def _column(values: list[float | None], top: float, rows: int) -> list[int]:
    """Which layer each cell of a column belongs to, from the top; -1 for none. A cell goes by its middle."""
    cells = [-1] * rows
    low = 0.0
    for layer, value in enumerate(values):
        high = low + (value or 0.0)
        for step in range(rows):
            if low <= (step + 0.5) / rows * top < high:
                cells[rows - 1 - step] = layer
        low = high
    return cells


def _line(layers: list[int], level: GlyphLevel) -> Line:
    fills = _FILLS[level]
    return tuple(
        Span((fills[layer] if layer >= 0 else " ") * sum(1 for _ in run), _ROLES[layer] if layer >= 0 else "text")
        for layer, run in groupby(layers)
    )


def _legend(view: View, rails: list[Rail], width: int) -> list[Line]:
    """Each rail with its pattern and what it takes now, in as many lines as that takes."""
    fills = _FILLS[view.level]
    lines: list[Line] = []
    for at, rail in enumerate(rails):
        name = wrap(rail.name, max(4, width - 12))[0].rstrip() if rail.name else ""
        entry = (Span(fills[at], _ROLES[at]), *line_of(Span(f" {name} {format_significant(rail.now_w)} W", "dim")))
        longer = joined([lines[-1], entry], width) if lines else ()
        if lines and longer != lines[-1] and longer:
            lines[-1] = longer
        else:
            lines.append(joined([entry], width))
    return [line for line in lines if line]


TITLE = "power"

SHORT = "pwr"

STACK_ROWS = 10
"""From here on rails are shown as a stack."""

SCOPE_WORDS = {
    "wall": "at the wall",
    "dc_in": "DC input",
    "board_input": "board input",
    "module": "module",
    "platform": "platform",
    "battery": "battery",
    "board_rails": "board rails",
    "cpu_package": "CPU package",
    "gpu_board": "GPU board",
    "component": "component",
}


def draw(view: View, width: int, height: int) -> PaneContent:
    """The history with the idle power in words, and the rails; or the reason, and what would give a reading."""
    power = view.snapshot.power
    if isinstance(power, Unavailable):
        return PaneContent(headline(view), _reason(power, width, height))
    if height >= STACK_ROWS and (stack := stacked_chart(view, width, height)):
        return PaneContent(headline(view), stack)
    rails = _rails_line(view, width)
    return PaneContent(headline(view), [*chart(view, width, max(1, height - len(rails))), *rails])


def chart(view: View, width: int, height: int) -> list[Line]:
    """The history of the power, with the idle power in words."""
    power = view.snapshot.power
    idle_w = None if isinstance(power, Unavailable) else power.idle_w
    return history_chart(view.traces.power, Axis("W", [_idle_words(idle_w)]), width, height, view.level)


def headline(view: View) -> Line:
    """Power now, and what it covers."""
    power = view.snapshot.power
    if isinstance(power, Unavailable):
        return line_of(Span("n/a", "dim"))
    scope = SCOPE_WORDS.get(power.scope, power.scope)
    return line_of(Span(f"{format_significant(power.power_w)} W", "headline"), f"  {scope}")


def summary(view: View) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    power = view.snapshot.power
    if isinstance(power, Unavailable):
        choices = (*((f"{power.reason}: {power.hint}",) if power.hint else ()), power.reason, "edgetop doctor says why")
        return [line_of(Span(words, "dim")) for words in choices]
    idle = _idle_words(power.idle_w)
    rails = "  ".join(_rail_words(view))
    shares = "  ".join(_host_words(view, watts=False))
    both = [words for words in ("  ".join(_host_words(view)), f"{rails} W" if rails else "") if words]
    beside_idle = ["  ".join([*words, idle]) for words in (both, [shares] if shares else []) if words]
    return [line_of(Span(words, "dim")) for words in (*beside_idle, *([shares] if shares else []), idle)]


def _idle_words(idle_w: float | None) -> str:
    return f"idle {format_significant(idle_w)} W" if idle_w is not None else "idle not known"


def _rail_words(view: View) -> list[str]:
    return [f"{channel.removeprefix('power.')} {format_significant(watts)}" for channel, watts in view.rails()]


def _host_words(view: View, *, watts: bool = True) -> list[str]:
    """The machines that the power is the sum of, with what each draws and its share, or the share alone."""
    power = view.snapshot.power
    if isinstance(power, Unavailable) or power.power_w <= 0:
        return []
    return [
        f"{each.host} {f'{format_significant(each.power_w)} W ' if watts else ''}"
        f"{100 * each.power_w / power.power_w:.0f} %"
        for each in power.hosts
    ]


def _rails_line(view: View, width: int) -> list[Line]:
    """The hosts of a sum, and the other readings in watts."""
    hosts = _host_words(view)
    if not joined([line_of("  ".join(hosts))], width):
        hosts = _host_words(view, watts=False)
    return [*_fitting(hosts, "", "hosts", width), *_fitting(_rail_words(view), " W", "rails", width)]


def _fitting(words: list[str], unit: str, what: str, width: int) -> list[Line]:
    """As many as there is room for, and how many there are besides."""
    if not words:
        return []
    for count in range(len(words), 0, -1):
        more = f"  and {len(words) - count} more" if count < len(words) else ""
        line = line_of(Span(f"{'  '.join(words[:count])}{unit}{more}", "dim"))
        if joined([line], width):
            return [line]
    return [line_of(Span(f"{len(words)} {what}", "dim"))]


def _reason(missing: Unavailable, width: int, height: int) -> list[Line]:
    """Why there is no power, and what would give it; where both do not fit, `edgetop doctor` has the rest."""
    reason = [line_of(Span(row, "dim")) for row in wrap(_sentence(missing.reason), width)]
    hint = [line_of(row) for row in wrap(_sentence(missing.hint), width)] if missing.hint else []
    if len(reason) + len(hint) <= height:
        return [*reason, *hint]
    more = line_of("What to do: ", Span("edgetop doctor", "accent"))
    return [*reason[: height - 1], more]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def render_zoomed(view: View, width: int, height: int) -> PaneContent:
    """Graph, meter and rails; without power what the pane says otherwise."""
    power = view.snapshot.power
    if isinstance(power, Unavailable):
        return draw(view, width, height)
    figures, rails = _figures(view, power), _rail_rows(view, power)
    below = max(len(figures), len(rails)) if width >= BESIDE_COLUMNS else len(figures) + len(rails) + 1
    chart_rows = max(6, height * 4 // 10, height - below)
    drawn = stacked_chart(view, width, chart_rows) or chart(view, width, chart_rows)
    return PaneContent(headline(view), [*drawn, *side_by_side(rails, figures, width)][:height])


def _figures(view: View, power: PowerNow) -> list[Line]:
    energy = view.snapshot.summary.energy
    rows = [
        figure_row("now", f"{format_significant(power.power_w)} W, {format_duration(power.age_us / 1e6)} ago"),
        figure_row("idle", "not known yet" if power.idle_w is None else f"{format_significant(power.idle_w)} W"),
        figure_row("covers", SCOPE_WORDS.get(power.scope, power.scope)),
        figure_row("read from", ", ".join(power.channels)),
    ]
    if energy is not None:
        rows[2:2] = [
            figure_row("mean in turns", f"{format_significant(energy.mean_w.value)} W"),
            figure_row("most in turns", f"{format_significant(energy.peak_w.value)} W"),
        ]
    return rows


def _rail_rows(view: View, power: PowerNow) -> list[Line]:
    """Machines and rails with what they take, and their share of the headline where they are parts of it."""
    parts = set(view.traces.parts_of_power())
    total = power.power_w
    rows = [(each.host, f"{format_significant(each.power_w)} W", _share(each.power_w, total)) for each in power.hosts]
    own = [(name, value) for name in power.channels if name in parts and (value := view.value(name)) is not None]
    rows += [
        (name.removeprefix("power."), f"{format_significant(watts)} W", _share(watts, total) if name in parts else "")
        for name, watts in sorted([*own, *view.rails()], key=lambda rail: -rail[1])
    ]
    return table(("rail", "now", "of all"), rows, named=True) if rows else [figure_row("rails", "this meter has none")]


def _share(part_w: float, total_w: float) -> str:
    return f"{part_w / total_w:.0%}" if total_w > 0 else ""
