"""The energy pane: joules per token with interval, scope and grade, or why there is no such figure."""

from __future__ import annotations

from edgetop.core.energy.figures import J_PER_WH, Energy, Figure
from edgetop.core.energy.supply import battery_hours, cost_of
from edgetop.core.format import format_duration, format_significant
from edgetop.core.records import Missing
from edgetop.session.channels import BATTERY_ENERGY
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets import served_panes
from edgetop.tui.widgets.lines import Line, Span, joined, line_of
from edgetop.tui.wrap import wrap

TITLE = "energy"
SHORT = "J/t"


def draw(view: View, width: int, height: int) -> PaneText:
    """Net, phases, turn and session; or the reason."""
    if view.snapshot.watch is not None:
        return served_panes.energy_text(view, view.snapshot.watch, width, height)
    energy, reason = latest(view)
    if energy is None:
        return PaneText(headline(view), [line_of(Span(row, "dim")) for row in wrap(f"{reason}.", width)])
    lines = [
        line_of(
            "net ", _per_token(energy.net_j_per_token), "  prefill ", _per_token(energy.prefill_j_per_token),
            "  decode ", _per_token(energy.decode_j_per_token), " J/token",
        ),
        joined([line_of("turn ", _value(energy.gross_j, "J")), *_session_words(view)], width),
        *(joined(words, width) for words in (_cost_words(view, energy), _battery_words(view, energy)) if words),
        line_of(Span(_basis(energy), "dim")),
    ]  # fmt: skip
    grade = wrap(f"Grade {energy.grade}: {energy.grade_reason}.", width) if energy.grade_reason else []
    if len(lines) + len(grade) <= height:
        lines += [line_of(Span(row, "dim")) for row in grade]
    return PaneText(headline(view), lines)


def headline(view: View) -> Line:
    """Energy per token, gross, with its interval and grade; three dots while readings are still to come."""
    if view.snapshot.watch is not None:
        return served_panes.energy_headline(view, view.snapshot.watch)
    energy, _ = latest(view)
    if energy is None or energy.j_per_token is None:
        return line_of(Span("n/a", "dim"))
    figure = energy.j_per_token
    reach = format_significant((figure.high - figure.low) / 2, 2)
    between = "+-" if view.level == "ascii" else "±"
    more = "" if energy.final else " ..."
    return line_of(
        Span(f"{format_significant(figure.value)} {between} {reach} J/token", "headline"),
        f" · gross · {energy.grade}{more}",
    )


def beside(view: View) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    if view.snapshot.watch is not None:
        return served_panes.energy_beside(view.snapshot.watch)
    energy, reason = latest(view)
    if energy is None:
        return [line_of(Span(reason, "dim")), line_of(Span("power is not known", "dim"))]
    net = line_of("net ", _per_token(energy.net_j_per_token))
    return [line_of(*net, "  turn ", _value(energy.gross_j, "J")), net]


def latest(view: View) -> tuple[Energy | None, str]:
    """The energy of the current or last turn, else of the session; and why there is none."""
    turn, summary = view.snapshot.turn, view.snapshot.summary
    if turn is not None and turn.figures.energy is not None:
        return turn.figures.energy, ""
    if isinstance(view.snapshot.power, Missing):
        # The power pane beside this one has the reason, and room for it.
        return summary.energy, "No energy per token, since power is not known"
    missing = turn.figures.energy_missing if turn is not None else summary.energy_missing
    return summary.energy, f"No energy per token: {missing}"


def _per_token(figure: Figure | None) -> Span:
    return Span("n/a", "dim") if figure is None else Span(format_significant(figure.value, 2), "accent")


def _value(figure: Figure, unit: str) -> Span:
    return Span(f"{format_significant(figure.value)} {unit}", "accent")


def _session_words(view: View) -> list[Line]:
    summary = view.snapshot.summary.energy
    if summary is None:
        return []
    words = [line_of("session ", _value_wh(summary.gross_j))]
    if view.price is not None:
        cost = cost_of(summary, view.price)
        words.append(line_of(Span(f"{format_significant(cost.total.value, 2)} {cost.currency}", "accent")))
    if summary.tokens_per_wh is not None:
        words.append(line_of(f"{format_significant(summary.tokens_per_wh.value)} tokens/Wh"))
    return words


def _cost_words(view: View, energy: Energy) -> list[Line]:
    """What a million tokens cost at the rate of the turn, with the interval of its gross energy."""
    per_million = None if view.price is None else cost_of(energy, view.price).per_million_tokens
    if view.price is None or per_million is None:
        return []
    between = "+-" if view.level == "ascii" else "±"
    reach = format_significant((per_million.high - per_million.low) / 2, 2)
    cost = Span(f"{format_significant(per_million.value)} {between} {reach} {view.price.currency}", "accent")
    return [line_of(cost, " per million tokens"), line_of("gross")]


def _battery_words(view: View, energy: Energy) -> list[Line]:
    hours = battery_hours(energy, view.value(BATTERY_ENERGY))
    if hours is None:
        return []
    return [
        line_of("battery ", Span(format_duration(hours.value * 3600), "accent")),
        line_of(f"at {format_significant(energy.mean_w.value, 2)} W"),
    ]


def _value_wh(gross_j: Figure) -> Span:
    return Span(f"{format_significant(gross_j.value / J_PER_WH)} Wh", "accent")


def _basis(energy: Energy) -> str:
    flags = ", ".join(energy.flags)
    return f"{energy.source}, {energy.method} window" + (f": {flags}" if flags else "")
