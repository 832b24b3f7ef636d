"""Joules per token with interval, scope and grade, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, zip_longest

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Price, battery_hours, cost_of
from edgetop.core.energy.scopes import SCOPE_LABELS
from edgetop.core.energy.tokens import Energy, ServedEnergy
from edgetop.core.energy.uncertainty import flag_text
from edgetop.core.figures import OF_SESSION, OF_TURN, value_of
from edgetop.core.format import Column, format_duration, format_significant
from edgetop.core.quantity import J_PER_WH, Interval
from edgetop.core.sources import BATTERY_ENERGY, Unavailable
from edgetop.session.energy import NOT_REACHED, SETTLED_US
from edgetop.tui.charts import Axis, history_chart, interval_bar
from edgetop.tui.panes.pane import (
    TURN_J_PER_TOKEN,
    TURN_NUMBER,
    TURN_TOKENS,
    NumberedTurn,
    Pane,
    View,
    turn_table,
)
from edgetop.tui.styled_text import (
    BLOCK_GAP,
    SIDE_BY_SIDE_COLUMNS,
    Figure,
    Line,
    Span,
    expected,
    figure_grid,
    figure_span,
    figure_text,
    joined,
    line_of,
    paragraph,
    sentence,
    side_by_side,
    table,
    width_of,
    wrapped_row,
)
from edgetop.tui.themes import GlyphLevel

BAR_COLUMNS_MIN = 8

FIGURE_ROWS_MIN = 7
"""Where there is little room powers are left out, since the power pane has them."""

TURNS_MIN = 3

FIRST_ANSWER = "J/token comes with the answer"
"""Before the first prompt, where there is power."""


class EnergyPane(Pane):
    """The energy of the current or last turn, else of the session; of watched servers, over all their users."""

    title, short = "energy", "J/t"
    rows_min, rows_full, rows_ample = 4, 7, 8
    growth_order = 1
    has_graph = False

    def headline(self, view: View) -> Line:
        """Energy per token with its interval, what it contains, its grade, and whether readings are still to come."""
        energy, _ = _latest(view)
        if energy is None or energy.j_per_token is None:
            waiting = measuring(view)
            state = "n/a" if not waiting else "no turn yet" if waiting == FIRST_ANSWER else "measuring"
            return line_of(Span(state, "dim"))
        figure = f"{_with_interval(energy.j_per_token, view.level)} J/token"
        is_final = isinstance(energy, ServedEnergy) or energy.final
        contains = "" if isinstance(energy, ServedEnergy) else " · prefill in"
        return line_of(Span(figure, "energy"), f" · {energy.grade}", "" if is_final else " · not final", contains)

    def summary(self, view: View) -> list[Line]:
        """The parts of a token's energy, or the reason."""
        energy, reason = _latest(view)
        if energy is None:
            if measuring(view):
                # Both headline figures stand above, and with them when it will be there.
                session = view.snapshot.summary.energy
                return [] if session is None else [line_of("session ", _accent(session.gross_j, "J"))]
            shorter = "not known" if view.snapshot.watch is not None else "power is not known"
            return [line_of(Span(each, "dim")) for each in (reason, reason.partition(": ")[2] or shorter, shorter)]
        net = _parts(("net", energy.net_j_per_token))
        if isinstance(energy, ServedEnergy):
            phases = _served_phases(energy)
            return [line_of(*phases, "  ", *net), phases]
        return [line_of(*net, "  turn ", _accent(energy.gross_j, "J")), net]

    def render(self, view: View, width: int, height: int) -> list[Line]:
        """Parts of a token's energy, totals, what it rests on, and its grade."""
        energy, reason = _latest(view)
        if energy is None:
            return paragraph(f"{reason}.", width, "dim")
        lines = [
            *figure_grid(_grid(view, energy), width),
            *(joined(texts, width) for texts in _totals(view, energy) if texts),
            line_of(Span(f"{'simulated power: ' if view.history.is_simulated else ''}{_basis(energy)}", "dim")),
        ]
        reasons = [f"Grade {energy.grade}: {energy.grade_reason}."] if energy.grade_reason else []
        is_final = isinstance(energy, ServedEnergy) or energy.final
        if is_final and energy.net_j_per_token is None and (missing := energy.missing.get("net_j")) is not None:
            reasons.insert(0, f"No net: {missing.reason}.")
            if missing.hint:
                reasons.append(sentence(missing.hint))
        for reason in reasons:
            # A part of a sentence might say something else.
            rows = paragraph(reason, width, "dim")
            lines += rows if len(lines) + len(rows) <= height else []
        return lines

    def render_zoomed(self, view: View, width: int, height: int) -> list[Line]:
        """Figures of the turn and of the session, what they rest on, and a table of turns."""
        energy, _ = _latest(view)
        if energy is None or isinstance(energy, ServedEnergy):
            return self.render(view, width, height)
        is_wide = width >= SIDE_BY_SIDE_COLUMNS
        figures, basis = _figures(view, energy, width), _basis_rows(energy, width)
        if not is_wide and len(figures) + len(basis) + TURNS_MIN + 2 > height:
            figures = figures[:FIGURE_ROWS_MIN]
        figures += basis
        rows = max(TURNS_MIN + 1, height - len(figures))
        chart_width = width * 2 // 5 if is_wide else 0
        chart = history_chart(view.history.joules, Axis("J", lambda *_: "energy"), chart_width, rows, view.level)
        turns = _turn_table(view, rows - 1, width - chart_width - len(BLOCK_GAP))
        return [*side_by_side(chart, turns, width), *figures][:height]


def _latest(view: View) -> tuple[Energy | ServedEnergy | None, str]:
    """The energy that the pane is about; where it is `None`, the reason."""
    watch, turn, summary = view.snapshot.watch, view.snapshot.turn, view.snapshot.summary
    if watch is not None:
        return watch.figures.energy, f"No energy per token: {watch.figures.energy_missing}"
    if turn is not None and turn.figures.energy is not None:
        return turn.figures.energy, ""
    if waiting := measuring(view):
        # The session's figure would look like this answer's.
        return None, waiting
    if isinstance(view.snapshot.power, Unavailable):
        return summary.energy, f"No energy per token: {view.snapshot.power.reason}"
    missing = turn.figures.energy_missing if turn is not None else summary.energy_missing
    return summary.energy, f"No energy per token: {missing}"


def measuring(view: View) -> str:
    """That the energy per token will be there, and when; empty where it is there, or something else is the matter."""
    turn, power = view.snapshot.turn, view.snapshot.power
    if power is NOT_REACHED:
        return "adding up the power readings"
    if view.snapshot.watch is not None or isinstance(power, Unavailable):
        return ""
    if turn is None:
        return "" if view.snapshot.phase in {"no_model", "dead"} else FIRST_ANSWER
    energy = turn.figures.energy
    if not turn.running or (energy is not None and energy.j_per_token is not None):
        return ""
    if turn.energy_in_s is None:
        return "measuring: J/token in a few seconds" if turn.elapsed_s < SETTLED_US / US_PER_S else ""
    return f"measuring: J/token in about {max(1, round(turn.energy_in_s))} s"


def contents(view: View) -> str:
    """What the energy per token contains, and of what; empty where there is none."""
    energy, _ = _latest(view)
    if energy is None or energy.j_per_token is None:
        return ""
    if isinstance(energy, ServedEnergy):
        parts = ["all users"]
    else:
        parts = ["prefill in", *([] if energy.final else ["not final"])]
    return ", ".join((view.covers(energy.scope), *parts))


def _with_interval(figure: Interval, level: GlyphLevel) -> str:
    return f"{format_significant(figure.value)} {_half_width(figure, level)}"


def _half_width(figure: Interval, level: GlyphLevel) -> str:
    return f"{'+-' if level == 'ascii' else '±'} {format_significant((figure.high - figure.low) / 2, 2)}"


def _accent(figure: Interval, unit: str) -> Span:
    return Span(f"{format_significant(figure.value)} {unit}", "accent")


def _parts(*parts: tuple[str, Interval | None]) -> Line:
    """Names and their figures, in J per token."""
    spans: list[Span] = []
    for name, figure in parts:
        spans += [Span(f"{'  ' if spans else ''}{name} "), figure_span(None if figure is None else figure.value, 2)]
    return tuple(spans)


def _served_phases(energy: ServedEnergy) -> Line:
    return _parts(("generating", energy.generating_j_per_token), ("waiting", energy.waiting_j_per_token))


def _grid(view: View, energy: Energy | ServedEnergy) -> list[Figure]:
    """The parts of a token's energy beside sums of energy."""
    if isinstance(energy, ServedEnergy):
        left = (
            ("working", energy.generating_j_per_token), ("waiting", energy.waiting_j_per_token),
            ("net", energy.net_j_per_token),
        )  # fmt: skip
        sums = [_wh("in all", energy.gross_j), *_per_wh(energy)]
        if energy.idle_w is not None:
            sums.append(Figure("idle", format_significant(energy.idle_w.value), "W"))
    else:
        left = (
            ("net", energy.net_j_per_token), ("prefill", energy.prefill_j_per_token),
            ("decode", energy.decode_j_per_token),
        )  # fmt: skip
        session = view.snapshot.summary.energy
        sums = [Figure("turn", format_significant(energy.gross_j.value), "J")]
        sums += [] if session is None else [_wh("session", session.gross_j), *_per_wh(session)]
    later = isinstance(energy, Energy) and not energy.final
    parts = [Figure(name, figure_text(None if each is None else each.value), "J/tok", "energy") for name, each in left]
    parts = expected(parts) if later else parts
    return [figure for pair in zip_longest(parts, sums, fillvalue=Figure("", "")) for figure in pair]


def _wh(name: str, gross_j: Interval) -> Figure:
    return Figure(name, format_significant(gross_j.value / J_PER_WH), "Wh")


def _per_wh(energy: Energy | ServedEnergy) -> list[Figure]:
    rate = energy.tokens_per_wh
    return [] if rate is None else [Figure("1 Wh", format_significant(rate.value), "tok")]


def _totals(view: View, energy: Energy | ServedEnergy) -> list[list[Line]]:
    """Cost and battery life, a list for each line."""
    whole = energy if isinstance(energy, ServedEnergy) else view.snapshot.summary.energy
    cost = [] if view.price is None or whole is None else _cost(whole, view.price)
    if isinstance(energy, ServedEnergy):
        return [cost]
    return [cost, _million_tokens(view, energy), _battery(view, energy)]


def _cost(energy: Energy | ServedEnergy, price: Price) -> list[Line]:
    cost = cost_of(energy, price)
    return [line_of("cost so far ", Span(f"{format_significant(cost.total.value, 2)} {cost.currency}", "accent"))]


def _million_tokens(view: View, energy: Energy) -> list[Line]:
    """What a million tokens cost at the energy per token of the turn."""
    per_million = None if view.price is None else cost_of(energy, view.price).per_million_tokens
    if view.price is None or per_million is None:
        return []
    cost = Span(f"{_with_interval(per_million, view.level)} {view.price.currency}", "accent")
    return [line_of(cost, " per million tokens"), line_of("gross")]


def _battery(view: View, energy: Energy) -> list[Line]:
    hours = battery_hours(energy, view.value(BATTERY_ENERGY))
    if hours is None:
        return []
    return [
        line_of("battery ", Span(format_duration(hours.value * 3600), "accent")),
        line_of(f"at {format_significant(energy.mean_w.value, 2)} W"),
    ]


def _basis(energy: Energy | ServedEnergy) -> str:
    window = "" if isinstance(energy, ServedEnergy) else f", {energy.method} window"
    return f"{energy.source}{window}"


ENERGY_ROWS = sorted(
    (figure for figure in OF_TURN if figure.kind in {"energy", "power"}), key=lambda figure: figure.kind == "power"
)
"""Energies before powers."""


def _figures(view: View, turn: Energy, width: int) -> list[Line]:
    """The figures of the turn beside those of the session, each with its interval; a short name says its unit."""
    session = view.snapshot.summary.energy
    both = [("this turn", turn), *([("session", session)] if session is not None else [])]
    rows = []
    for figure in ENERGY_ROWS:
        short = "" if width >= SIDE_BY_SIDE_COLUMNS else figure.heading
        values = [value_of(each, figure.column) for _, each in both]
        rows.append((short or figure.label, values, "" if short else figure.unit))
    lines = _interval_table(("", *(name for name, _ in both), "unit"), rows, width, view.level)
    if session is not None:
        lines.append(line_of(f"Session total: {format_significant(session.gross_j.value / J_PER_WH)} Wh."))
        if view.price is not None:
            cost = cost_of(session, view.price)
            lines.append(line_of(f"Session cost: {format_significant(cost.total.value, 2)} {cost.currency}."))
    in_use = [
        (figure.label, [value], figure.unit)
        for figure in OF_SESSION
        if figure.name.startswith("duty.") and (value := value_of(view.snapshot.summary, figure.name)) is not None
    ]
    if in_use:
        lines += [(), *_interval_table(("in use", "", "unit"), in_use, width, view.level)]
    return lines


def _interval_table(
    headings: Sequence[str], rows: Sequence[tuple[str, Sequence[Interval | None], str]], width: int, level: GlyphLevel
) -> list[Line]:
    """Names, figures with the ends of their intervals, and units; in less room energies alone, then half intervals."""
    for shown in (rows, rows[: FIGURE_ROWS_MIN - 1]):
        lines = table(headings, [(name, *map(_range, values), unit) for name, values, unit in shown], named=True)
        if max(map(width_of, lines)) <= width:
            return lines
    short = [
        (name, *("n/a" if each is None else f"{_with_interval(each, level)} {unit}".strip() for each in values), "")
        for name, values, unit in rows[: FIGURE_ROWS_MIN - 1]
    ]
    return table((*headings[:-1], ""), short, width, named=True)


def _range(figure: Interval | None) -> str:
    if figure is None:
        return "n/a"
    return " ".join((figure_text(figure.value), f"({figure_text(figure.low)} to {figure_text(figure.high)})"))


def _basis_rows(energy: Energy, width: int) -> list[Line]:
    covers = SCOPE_LABELS.get(energy.scope, energy.scope)
    hint = f" To fix it: {energy.grade_hint}." if energy.grade_hint else ""
    estimated = f", {energy.estimated_share:.0%} estimated" if energy.estimated_share > 0 else ""
    return [
        *wrapped_row("from", f"{energy.source}: {covers}, {energy.method} window{estimated}", width),
        *wrapped_row("intervals", "95 %, of the meter's error; compare adds the turns' spread", width),
        *(wrapped_row("flags", ", ".join(map(flag_text, energy.flags)), width) if energy.flags else []),
        *wrapped_row(f"grade {energy.grade}", f"{energy.grade_reason}.{hint}" if energy.grade_reason else "", width),
        *(wrapped_row("not final", "readings of this turn are still to come.", width) if not energy.final else []),
    ]


def _turn_columns(sums_j: Mapping[int, float], level: GlyphLevel) -> Sequence[Column[NumberedTurn]]:
    """`sums_j` is the energy until the end of each turn, by its number."""

    def gross(turn: NumberedTurn) -> str:
        return figure_text(None if turn.figures.energy is None else turn.figures.energy.gross_j.value)

    def half_width(turn: NumberedTurn) -> str:
        return "" if turn.j_per_token is None else _half_width(turn.j_per_token, level)

    return (
        TURN_NUMBER,
        TURN_TOKENS,
        Column(heading="J", text=gross),
        Column(heading="sum", text=lambda turn: figure_text(sums_j[turn.number])),
        TURN_J_PER_TOKEN,
        Column(heading="interval", text=half_width),
        Column(heading="grade", text=lambda turn: "" if turn.figures.energy is None else turn.figures.energy.grade),
    )


def _turn_table(view: View, count: int, width: int) -> list[Line]:
    """The energy of the last turns, the newest at the end, with bars of J/token and their intervals."""
    turns = view.history.turns(count)
    gross_j = [0.0 if turn.figures.energy is None else turn.figures.energy.gross_j.value for turn in turns]
    sums_j = list(accumulate(gross_j, initial=view.history.earlier_j(count)))[1:]
    columns = _turn_columns({turn.number: sum_j for turn, sum_j in zip(turns, sums_j, strict=True)}, view.level)
    heading, *lines = turn_table(columns, turns, width)
    room = width - width_of(heading) - len(BLOCK_GAP)
    if room < BAR_COLUMNS_MIN:
        return [heading, *lines]
    per_token = [turn.j_per_token for turn in turns]
    end = view.history.scales.end_of("J/token", max((each.high for each in per_token if each is not None), default=0.0))
    bars = [
        "" if each is None else interval_bar(each.low, each.value, each.high, end, room, view.level)
        for each in per_token
    ]
    return [heading, *((*line, Span(BLOCK_GAP), Span(bar, "energy")) for line, bar in zip(lines, bars, strict=True))]
