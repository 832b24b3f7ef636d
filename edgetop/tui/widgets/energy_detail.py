"""The energy pane with all of the room: every figure with its interval, what it rests on, and the turns."""

from __future__ import annotations

from edgetop.core.energy.figures import J_PER_WH, Energy, Figure
from edgetop.core.energy.supply import cost_of
from edgetop.core.format import format_significant
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets.energy_pane import draw, headline, latest
from edgetop.tui.widgets.figure_rows import BESIDE_COLUMNS, beside, figure_row, table, told
from edgetop.tui.widgets.lines import Line, line_of
from edgetop.tui.widgets.power_pane import SCOPE_WORDS

TURN_HEADINGS = ("turn", "tokens", "J", "J/token", "low", "high", "grade")
FIGURES_LEAST = 7
"""Where there is little room, energies and what they rest on go before powers: these are in the power pane."""
TURNS_LEAST = 3


def all_of(view: View, width: int, height: int) -> PaneText:
    """Figures of the turn and of the session, basis, grade and turns; without energy what the pane says otherwise."""
    energy, _ = latest(view)
    if energy is None:
        return draw(view, width, height)
    is_wide = width >= BESIDE_COLUMNS
    figures, basis = _figures(view, energy), _basis(energy, width // 2 if is_wide else width)
    if not is_wide and len(figures) + len(basis) + TURNS_LEAST + 3 > height:
        figures = figures[:FIGURES_LEAST]
    else:
        basis = [(), *basis]
    figures += basis
    count = height - 1 if is_wide else height - len(figures) - 2
    turns = turn_table(view, count) if count > 0 else []
    return PaneText(headline(view), beside(figures, turns, width)[:height])


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
    rows: list[tuple[str, str, list[Figure | None]]] = [
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


def _basis(energy: Energy, width: int) -> list[Line]:
    covers = SCOPE_WORDS.get(energy.scope, energy.scope)
    mend = f" To mend it: {energy.grade_mend}." if energy.grade_mend else ""
    estimated = f", {energy.estimated_share:.0%} estimated" if energy.estimated_share > 0 else ""
    return [
        figure_row("from", f"{energy.source}: {covers}, {energy.method} window{estimated}"),
        *([figure_row("flags", ", ".join(energy.flags))] if energy.flags else []),
        *told(f"grade {energy.grade}", f"{energy.grade_reason}.{mend}" if energy.grade_reason else "", width),
        *(told("not final", "readings of this turn are still to come.", width) if not energy.final else []),
    ]


def _interval(figure: Figure | None) -> str:
    if figure is None:
        return "n/a"
    return f"{_short(figure)} ({format_significant(figure.low)} to {format_significant(figure.high)})"


def _short(figure: Figure | None) -> str:
    return "n/a" if figure is None else format_significant(figure.value)
