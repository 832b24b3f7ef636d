"""Power now, idle power, rails and hosts."""

from __future__ import annotations

from msgspec.structs import replace

from edgetop.core.format import format_duration, format_significant
from edgetop.core.sources import Unavailable
from edgetop.session.energy import PowerNow
from edgetop.tui.charts import Axis, Layer, history_chart, stacked_chart
from edgetop.tui.panes.pane import Pane, View
from edgetop.tui.styled_text import (
    BLOCK_GAP,
    FIGURE_COLUMNS,
    SIDE_BY_SIDE_COLUMNS,
    Figure,
    Line,
    Span,
    beside_figures,
    figure_row,
    line_of,
    paragraph,
    sentence,
    side_by_side,
    table,
    wrapped_row,
)

STACK_ROWS = 8
"""From this height on rails are shown as a stack."""

OTHER_SHARE = 0.02
"""Of the headline, what its parts must leave to be named."""

IDLE_SHARE = 1.1
"""Up to so much of the idle power the device is idle."""


class PowerPane(Pane):
    """What the headline meter reads, and its parts."""

    title, short = "power", "pwr"
    rows_min, rows_full, rows_ample = 5, 6, 12
    growth_order = 3

    def headline(self, view: View) -> Line:
        """Power now, and what it covers."""
        power = view.snapshot.power
        if isinstance(power, Unavailable):
            return line_of(Span("n/a", "dim"))
        return line_of(Span(f"{format_significant(power.power_w)} W", "energy"), f"  {view.covers(power.scope)}")

    def summary(self, view: View) -> list[Line]:
        """Hosts, rails and the idle power; or the reason."""
        power = view.snapshot.power
        if isinstance(power, Unavailable):
            hint = (f"{power.reason}: {power.hint}",) if power.hint else ()
            return [line_of(Span(text, "dim")) for text in (*hint, power.reason, "edgetop doctor says why")]
        idle = _idle(power.idle_w)
        hosts, shares, rails = ("  ".join(texts) for texts in (_hosts(power), _hosts(power, watts=False), _rails(view)))
        both = [text for text in (hosts, f"{rails} W" if rails else "") if text]
        with_idle = ["  ".join([*texts, idle]) for texts in (both, [shares] if shares else []) if texts]
        return [line_of(Span(text, "dim")) for text in (*with_idle, *([shares] if shares else []), idle)]

    def render(self, view: View, width: int, height: int) -> list[Line]:
        """A graph and the rails; or the reason, and what would give a reading."""
        power = view.snapshot.power
        if isinstance(power, Unavailable):
            return no_power_lines(power, width, height)
        if height >= STACK_ROWS and width >= 2 * FIGURE_COLUMNS:
            stack, legend = _stack(view, width - FIGURE_COLUMNS - len(BLOCK_GAP), height)
            if stack:
                return beside_figures(lambda *_: stack, [*legend, _idle_figure(power)], width, height)
        figures = [_idle_figure(power), *_parts(view, power)]
        if len(figures) > height > 1:
            figures[height - 1 :] = [Figure(f"and {len(figures) - height + 1} more", "")]
        return beside_figures(lambda *size: _chart(view, power, *size), figures, width, height)

    def render_zoomed(self, view: View, width: int, height: int) -> list[Line]:
        """Graph, a table of rails, and where the readings come from."""
        power = view.snapshot.power
        if isinstance(power, Unavailable):
            return self.render(view, width, height)
        figures, rails = _figures(view, power, width), _rail_table(view, power, width)
        below = max(len(figures), len(rails)) if width >= SIDE_BY_SIDE_COLUMNS else len(figures) + len(rails) + 1
        rows = max(6, height * 4 // 10, height - below)
        columns = width - FIGURE_COLUMNS - len(BLOCK_GAP)
        stack, legend = _stack(view, columns, rows) if columns >= FIGURE_COLUMNS else ([], [])
        chart = beside_figures(lambda *_: stack, legend, width, rows) if stack else _chart(view, power, width, rows)
        return [*chart, *side_by_side(rails, figures, width)][:height]


def _chart(view: View, power: PowerNow, width: int, height: int) -> list[Line]:
    """Power over time; what the device draws anyway is dim."""
    idle_w = power.idle_w or 0.0
    axis = Axis("W", lambda watts, y: "dim" if y <= idle_w or watts <= IDLE_SHARE * idle_w else "energy")
    return history_chart(view.history.power, axis, width, height, view.level)


def _stack(view: View, width: int, height: int) -> tuple[list[Line], list[Figure]]:
    """The rails of the headline's own sensor on top of each other; empty where it has none, or no room."""

    def layers(count: int) -> list[Layer]:
        parts = [
            Layer(name.removeprefix("power."), view.value(name) or 0.0, view.history.channel(name, count))
            for name in view.history.power_parts()
        ]
        parts.sort(key=lambda layer: -layer.latest)
        other_w = _other_w(view)
        if not parts or not other_w:
            return parts
        total = view.history.power(count)
        values = [
            None if watts is None else max(0.0, watts - sum(each or 0.0 for each in rails))
            for watts, *rails in zip(total.values, *(part.series.values for part in parts), strict=False)
        ]
        return [*parts, Layer("other", other_w, replace(total, values=values))]

    return stacked_chart(layers, view.history.power, Axis("W"), width, height, view.level)


def _other_w(view: View) -> float:
    """What the headline has beyond the parts that its own sensor reads as well; 0 where that is next to nothing."""
    power = view.snapshot.power
    parts = [view.value(name) for name in view.history.power_parts()]
    if isinstance(power, Unavailable) or not parts:
        return 0.0
    other_w = power.power_w - sum(each or 0.0 for each in parts)
    return other_w if other_w > OTHER_SHARE * power.power_w else 0.0


def _idle_figure(power: PowerNow) -> Figure:
    return Figure("idle", "n/a" if power.idle_w is None else format_significant(power.idle_w), "W", "dim")


def _parts(view: View, power: PowerNow) -> list[Figure]:
    """Hosts and rails with what each draws, the largest first."""
    parts = [*((each.host, each.power_w) for each in power.hosts), *view.rails()]
    return [
        Figure(name.removeprefix("power."), format_significant(watts), "W", "energy")
        for name, watts in sorted(parts, key=lambda part: -part[1])
    ]


def _idle(idle_w: float | None) -> str:
    return f"idle {format_significant(idle_w)} W" if idle_w is not None else "idle not known"


def _rails(view: View) -> list[str]:
    return [f"{channel.removeprefix('power.')} {format_significant(watts)}" for channel, watts in view.rails()]


def _hosts(power: PowerNow, *, watts: bool = True) -> list[str]:
    """The machines whose powers were added up, with what each draws and its share, or the share alone."""
    if power.power_w <= 0:
        return []
    return [
        f"{each.host} {f'{format_significant(each.power_w)} W ' if watts else ''}"
        f"{100 * each.power_w / power.power_w:.0f} %"
        for each in power.hosts
    ]


def no_power_lines(missing: Unavailable, width: int, height: int) -> list[Line]:
    """Why there is no power, and what would give it; where both do not fit, `edgetop doctor` has the rest."""
    reason = paragraph(sentence(missing.reason), width, "dim")
    hint = paragraph(sentence(missing.hint), width) if missing.hint else []
    if len(reason) + len(hint) <= height:
        return [*reason, *hint]
    return [*reason[: height - 1], line_of("To fix it: ", Span("edgetop doctor", "accent"))]


def _figures(view: View, power: PowerNow, width: int) -> list[Line]:
    energy = view.snapshot.summary.energy
    rows = [
        figure_row("now", f"{format_significant(power.power_w)} W, {format_duration(power.age_us / 1e6)} ago"),
        figure_row("idle", "not known yet" if power.idle_w is None else f"{format_significant(power.idle_w)} W"),
        figure_row("covers", view.covers(power.scope)),
        *wrapped_row("read from", ", ".join(power.channels), width),
    ]
    if energy is not None:
        rows[2:2] = [
            figure_row("mean in turns", f"{format_significant(energy.mean_w.value)} W"),
            figure_row("peak in turns", f"{format_significant(energy.peak_w.value)} W"),
        ]
    return rows


def _rail_table(view: View, power: PowerNow, width: int) -> list[Line]:
    """Machines and rails with what they draw, and their share of the headline where they are parts of it."""
    parts, total = set(view.history.power_parts()), power.power_w
    rows = [(each.host, f"{format_significant(each.power_w)} W", _share(each.power_w, total)) for each in power.hosts]
    own = [(name, value) for name in power.channels if name in parts and (value := view.value(name)) is not None]
    rows += [
        (name.removeprefix("power."), f"{format_significant(watts)} W", _share(watts, total) if name in parts else "")
        for name, watts in sorted([*own, *view.rails()], key=lambda rail: -rail[1])
    ]
    if other_w := _other_w(view):
        rows.append(("other", f"{format_significant(other_w)} W", _share(other_w, total)))
    if not rows:
        return [figure_row("rails", "this meter has none")]
    return table(("rail", "now", "of all"), rows, width, named=True)


def _share(part_w: float, total_w: float) -> str:
    return f"{part_w / total_w:.0%}" if total_w > 0 else ""
