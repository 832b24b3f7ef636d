"""The power pane: what is drawn now and by which rails, or why it cannot be known."""

from __future__ import annotations

from edgetop.core.format import format_significant
from edgetop.core.records import Missing
from edgetop.tui.history_chart import Axis, history_chart
from edgetop.tui.rail_stack import rail_stack
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets.lines import Line, Span, joined, line_of
from edgetop.tui.wrap import wrap

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


def draw(view: View, width: int, height: int) -> PaneText:
    """The history with the idle power in words, and the rails; or the reason, and what would give a reading."""
    power = view.snapshot.power
    if isinstance(power, Missing):
        return PaneText(headline(view), _reason(power, width, height))
    if height >= STACK_ROWS and (stack := rail_stack(view, width, height)):
        return PaneText(headline(view), stack)
    rails = _rails(view, width)
    return PaneText(headline(view), [*chart(view, width, max(1, height - len(rails))), *rails])


def chart(view: View, width: int, height: int) -> list[Line]:
    """The history of the power, with the idle power in words."""
    power = view.snapshot.power
    idle_w = None if isinstance(power, Missing) else power.idle_w
    return history_chart(view.traces.power, Axis("W", [_idle_words(idle_w)]), width, height, view.level)


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
    if isinstance(power, Missing) or power.power_w <= 0:
        return []
    return [
        f"{each.host} {f'{format_significant(each.power_w)} W ' if watts else ''}"
        f"{100 * each.power_w / power.power_w:.0f} %"
        for each in power.hosts
    ]


def _rails(view: View, width: int) -> list[Line]:
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
