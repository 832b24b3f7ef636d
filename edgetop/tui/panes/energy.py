"""Joules per token with interval, scope and grade, or why there is none."""

from __future__ import annotations

from edgetop.core.energy.duty import Price, battery_hours, cost_of
from edgetop.core.energy.tokens import Energy, ServedEnergy
from edgetop.core.format import format_duration, format_significant
from edgetop.core.quantity import J_PER_WH, Interval
from edgetop.core.sources import BATTERY_ENERGY, Unavailable
from edgetop.session.snapshot import WatchView
from edgetop.tui.panes.power import SCOPE_WORDS
from edgetop.tui.panes.view import PaneContent, View
from edgetop.tui.styled_text import (
    BESIDE_COLUMNS,
    Line,
    Span,
    figure_row,
    joined,
    line_of,
    side_by_side,
    table,
    wrap,
    wrapped_row,
)


def energy_text(view: View, watch: WatchView, width: int, height: int) -> PaneContent:
    """Energy per token over all users and its two parts; or why it is not known."""
    energy = watch.figures.energy
    if energy is None:
        reason = f"No energy per token: {watch.figures.energy_missing}."
        return PaneContent(energy_headline(view, watch), [line_of(Span(row, "dim")) for row in wrap(reason, width)])
    lines = [
        line_of(
            "generating ", _per_token(energy.generating_j_per_token), "  waiting ",
            _per_token(energy.waiting_j_per_token), "  net ", _per_token(energy.net_j_per_token), " J/token",
        ),
        joined(_sums(energy, view.price), width),
        line_of(Span(_served_basis(energy), "dim")),
    ]  # fmt: skip
    if energy.net_j_per_token is None and "net_j" in energy.missing:
        missing = energy.missing["net_j"]
        words = f"No net: {missing.reason}" + (f"; {missing.hint}." if missing.hint else ".")
        lines += [line_of(Span(row, "dim")) for row in wrap(words, width)]
    grade = wrap(f"Grade {energy.grade}: {energy.grade_reason}.", width) if energy.grade_reason else []
    if len(lines) + len(grade) <= height:
        lines += [line_of(Span(row, "dim")) for row in grade]
    return PaneContent(energy_headline(view, watch), lines)


def energy_headline(view: View, watch: WatchView) -> Line:
    """Energy per token, gross, over all users, with its interval and grade."""
    energy = watch.figures.energy
    if energy is None:
        return line_of(Span("n/a", "dim"))
    figure = energy.j_per_token
    between = "+-" if view.level == "ascii" else "±"
    reach = format_significant((figure.high - figure.low) / 2, 2)
    return line_of(
        Span(f"{format_significant(figure.value)} {between} {reach} J/token", "headline"),
        f" · gross · {energy.grade}",
    )


def energy_summary(watch: WatchView) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    energy = watch.figures.energy
    if energy is None:
        return [line_of(Span(watch.figures.energy_missing, "dim")), line_of(Span("not known", "dim"))]
    parts = line_of(
        "generating ", _per_token(energy.generating_j_per_token), "  waiting ", _per_token(energy.waiting_j_per_token)
    )
    return [line_of(*parts, "  net ", _per_token(energy.net_j_per_token)), parts]


def _sums(energy: ServedEnergy, price: Price | None) -> list[Line]:
    words = [line_of("in all ", Span(f"{format_significant(energy.gross_j.value / J_PER_WH)} Wh", "accent"))]
    if energy.tokens_per_wh is not None:
        words.append(line_of(f"{format_significant(energy.tokens_per_wh.value)} tokens/Wh"))
    if price is not None:
        cost = energy.gross_j.value / J_PER_WH / 1000 * price.per_kwh
        words.append(line_of(Span(f"{format_significant(cost, 2)} {price.currency}", "accent")))
    if energy.idle_w is not None:
        words.append(line_of(f"idle {format_significant(energy.idle_w.value)} W"))
    return words


def _per_token(figure: Interval | None) -> Span:
    return Span("n/a", "dim") if figure is None else Span(format_significant(figure.value, 2), "accent")


def _served_basis(energy: ServedEnergy) -> str:
    return energy.source + (f": {', '.join(energy.flags)}" if energy.flags else "")


TITLE = "energy"

SHORT = "J/t"


def draw(view: View, width: int, height: int) -> PaneContent:
    """Net, phases, turn and session; or the reason."""
    if view.snapshot.watch is not None:
        return energy_text(view, view.snapshot.watch, width, height)
    energy, reason = latest(view)
    if energy is None:
        return PaneContent(headline(view), [line_of(Span(row, "dim")) for row in wrap(f"{reason}.", width)])
    lines = [
        line_of(
            "net ", _per_token(energy.net_j_per_token), "  prefill ", _per_token(energy.prefill_j_per_token),
            "  decode ", _per_token(energy.decode_j_per_token), " J/token",
        ),
        joined([line_of("turn ", _value(energy.gross_j, "J")), *_session_words(view)], width),
        *(joined(words, width) for words in (_cost_words(view, energy), _battery_words(view, energy)) if words),
        line_of(Span(_basis_line(energy), "dim")),
    ]  # fmt: skip
    grade = wrap(f"Grade {energy.grade}: {energy.grade_reason}.", width) if energy.grade_reason else []
    if len(lines) + len(grade) <= height:
        lines += [line_of(Span(row, "dim")) for row in grade]
    return PaneContent(headline(view), lines)


def headline(view: View) -> Line:
    """Energy per token, gross, with its interval and grade; three dots while readings are still to come."""
    if view.snapshot.watch is not None:
        return energy_headline(view, view.snapshot.watch)
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


def summary(view: View) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    if view.snapshot.watch is not None:
        return energy_summary(view.snapshot.watch)
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
    if isinstance(view.snapshot.power, Unavailable):
        # The power pane beside this one has the reason, and room for it.
        return summary.energy, "No energy per token, since power is not known"
    missing = turn.figures.energy_missing if turn is not None else summary.energy_missing
    return summary.energy, f"No energy per token: {missing}"


def _value(figure: Interval, unit: str) -> Span:
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


def _value_wh(gross_j: Interval) -> Span:
    return Span(f"{format_significant(gross_j.value / J_PER_WH)} Wh", "accent")


def _basis_line(energy: Energy) -> str:
    flags = ", ".join(energy.flags)
    return f"{energy.source}, {energy.method} window" + (f": {flags}" if flags else "")


TURN_HEADINGS = ("turn", "tokens", "J", "J/token", "low", "high", "grade")

FIGURES_LEAST = 7
"""Where there is little room, energies and what they rest on go before powers: these are in the power pane."""

TURNS_LEAST = 3


def render_zoomed(view: View, width: int, height: int) -> PaneContent:
    """Figures of the turn and of the session, basis, grade and turns; without energy what the pane says otherwise."""
    energy, _ = latest(view)
    if energy is None:
        return draw(view, width, height)
    is_wide = width >= BESIDE_COLUMNS
    figures, basis = _figures(view, energy), _basis_rows(energy, width // 2 if is_wide else width)
    if not is_wide and len(figures) + len(basis) + TURNS_LEAST + 3 > height:
        figures = figures[:FIGURES_LEAST]
    else:
        basis = [(), *basis]
    figures += basis
    count = height - 1 if is_wide else height - len(figures) - 2
    turns = turn_table(view, count) if count > 0 else []
    return PaneContent(headline(view), side_by_side(figures, turns, width)[:height])


def turn_table(view: View, count: int) -> list[Line]:
    """The energy of the last turns, the newest at the end."""
    rows = []
    for turn in view.traces.turns(count):
        energy = turn.figures.energy
        per_token = None if energy is None else energy.j_per_token
        rows.append((
            str(turn.number),
            str(turn.figures.generated_tokens),
            _short(None if energy is None else energy.gross_j),
            _short(per_token),
            "n/a" if per_token is None else format_significant(per_token.low),
            "n/a" if per_token is None else format_significant(per_token.high),
            "" if energy is None else energy.grade,
        ))  # fmt: skip
    return table(TURN_HEADINGS, rows)


def _figures(view: View, turn: Energy) -> list[Line]:
    """The figures of the last turn beside those of the session, each with its interval."""
    session = view.snapshot.summary.energy
    both = [("this turn", turn), *([("session", session)] if session is not None else [])]
    rows: list[tuple[str, str, list[Interval | None]]] = [
        ("gross", "J", [energy.gross_j for _, energy in both]),
        ("net", "J", [energy.net_j for _, energy in both]),
        ("per token", "J", [energy.j_per_token for _, energy in both]),
        ("  net", "J", [energy.net_j_per_token for _, energy in both]),
        ("  prefill", "J", [energy.prefill_j_per_token for _, energy in both]),
        ("  decode", "J", [energy.decode_j_per_token for _, energy in both]),
        ("tokens", "1/Wh", [energy.tokens_per_wh for _, energy in both]),
        ("mean power", "W", [energy.mean_w for _, energy in both]),
        ("idle power", "W", [energy.idle_w for _, energy in both]),
    ]
    lines = table(
        ("", *(name for name, _ in both), "unit"),
        [(name, *map(_interval, figures), unit) for name, unit, figures in rows],
        named=True,
    )
    if session is not None:
        lines.append(line_of(f"The session has taken {format_significant(session.gross_j.value / J_PER_WH)} Wh."))
        if view.price is not None:
            cost = cost_of(session, view.price)
            lines.append(line_of(f"That costs {format_significant(cost.total.value, 2)} {cost.currency}."))
    return lines


def _basis_rows(energy: Energy, width: int) -> list[Line]:
    covers = SCOPE_WORDS.get(energy.scope, energy.scope)
    hint = f" To fix it: {energy.grade_hint}." if energy.grade_hint else ""
    estimated = f", {energy.estimated_share:.0%} estimated" if energy.estimated_share > 0 else ""
    return [
        figure_row("from", f"{energy.source}: {covers}, {energy.method} window{estimated}"),
        *([figure_row("flags", ", ".join(energy.flags))] if energy.flags else []),
        *wrapped_row(f"grade {energy.grade}", f"{energy.grade_reason}.{hint}" if energy.grade_reason else "", width),
        *(wrapped_row("not final", "readings of this turn are still to come.", width) if not energy.final else []),
    ]


def _interval(figure: Interval | None) -> str:
    if figure is None:
        return "n/a"
    return f"{_short(figure)} ({format_significant(figure.low)} to {format_significant(figure.high)})"


def _short(figure: Interval | None) -> str:
    return "n/a" if figure is None else format_significant(figure.value)
