"""The power pane with all of the room: rails upon each other, and what each of them takes."""

from __future__ import annotations

from edgetop.core.format import format_duration, format_significant
from edgetop.core.records import Missing
from edgetop.session.energy_account import PowerNow
from edgetop.tui.rail_stack import rail_stack
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets.figure_rows import BESIDE_COLUMNS, beside, figure_row, table
from edgetop.tui.widgets.lines import Line
from edgetop.tui.widgets.power_pane import SCOPE_WORDS, chart, draw, headline


def all_of(view: View, width: int, height: int) -> PaneText:
    """Graph, meter and rails; without power what the pane says otherwise."""
    power = view.snapshot.power
    if isinstance(power, Missing):
        return draw(view, width, height)
    figures, rails = _figures(view, power), _rails(view, power)
    below = max(len(figures), len(rails)) if width >= BESIDE_COLUMNS else len(figures) + len(rails) + 1
    chart_rows = max(6, height * 4 // 10, height - below)
    drawn = rail_stack(view, width, chart_rows) or chart(view, width, chart_rows)
    return PaneText(headline(view), [*drawn, *beside(rails, figures, width)][:height])


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


def _rails(view: View, power: PowerNow) -> list[Line]:
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
