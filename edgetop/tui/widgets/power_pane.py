"""The power pane: what is drawn now and by which rails, or why it cannot be known."""

from __future__ import annotations

from edgetop.core.format import format_significant
from edgetop.core.records import Missing
from edgetop.tui.glyphs import plot
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets.lines import Line, Span, joined, line_of
from edgetop.tui.wrap import wrap

TITLE = "power"
SHORT = "pwr"
SIDE_COLUMNS = 14
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


def draw(view: View, width: int, height: int) -> PaneText:
    """The history with the idle power in words, and the rails; or the reason, and what would give a reading."""
    power = view.snapshot.power
    if isinstance(power, Missing):
        return PaneText(headline(view), _reason(power, width, height))
    rails = _rails(view, width)
    known = [watts for watts in view.power_history if watts is not None]
    side = [_idle_words(power.idle_w), f"top {format_significant(max(known))} W" if known else ""]
    columns = max(1, width - SIDE_COLUMNS - 1)
    graph_height = max(1, height - len(rails))
    rows = plot(view.power_history, columns, graph_height, 0.0, max(known, default=0.0), view.level)
    lines = [
        line_of(Span(row, "graph"), " ", Span((side[index] if index < len(side) else "").ljust(SIDE_COLUMNS), "dim"))
        for index, row in enumerate(rows)
    ]
    return PaneText(headline(view), [*lines, *rails])


def headline(view: View) -> Line:
    """Power now, and what it covers."""
    power = view.snapshot.power
    if isinstance(power, Missing):
        return line_of(Span("n/a", "dim"))
    scope = SCOPE_WORDS.get(power.scope, power.scope)
    return line_of(Span(f"{format_significant(power.power_w)} W", "headline"), f"  {scope}")


def beside(view: View) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    power = view.snapshot.power
    if isinstance(power, Missing):
        choices = (*((f"{power.reason}: {power.mend}",) if power.mend else ()), power.reason, "edgetop doctor says why")
        return [line_of(Span(words, "dim")) for words in choices]
    idle = _idle_words(power.idle_w)
    rails = _rail_words(view)
    choices = (f"{'  '.join(rails)} W  {idle}",) if rails else ()
    return [line_of(Span(words, "dim")) for words in (*choices, idle)]


def _idle_words(idle_w: float | None) -> str:
    return f"idle {format_significant(idle_w)} W" if idle_w is not None else "idle not known"


def _rail_words(view: View) -> list[str]:
    return [f"{channel.removeprefix('power.')} {format_significant(watts)}" for channel, watts in view.rails()]


def _rails(view: View, width: int) -> list[Line]:
    """The other readings in watts, as many as there is room for, and how many there are besides."""
    words = _rail_words(view)
    if not words:
        return []
    for count in range(len(words), 0, -1):
        more = f"  and {len(words) - count} more" if count < len(words) else ""
        line = line_of(Span(f"{'  '.join(words[:count])} W{more}", "dim"))
        if joined([line], width):
            return [line]
    return [line_of(Span(f"{len(words)} rails", "dim"))]


def _reason(missing: Missing, width: int, height: int) -> list[Line]:
    """Why there is no power, and what would give it; where both do not fit, `edgetop doctor` has the rest."""
    reason = [line_of(Span(row, "dim")) for row in wrap(_sentence(missing.reason), width)]
    mend = [line_of(row) for row in wrap(_sentence(missing.mend), width)] if missing.mend else []
    if len(reason) + len(mend) <= height:
        return [*reason, *mend]
    more = line_of("What to do: ", Span("edgetop doctor", "accent"))
    return [*reason[: height - 1], more]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
