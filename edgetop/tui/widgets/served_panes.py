"""What the panes of tokens and energy show of servers in use by others: all of them, and all their users, together."""

from __future__ import annotations

from edgetop.core.energy.figures import J_PER_WH, Figure
from edgetop.core.energy.served import ServedEnergy
from edgetop.core.energy.supply import Price
from edgetop.core.format import format_duration, format_rate, format_significant
from edgetop.core.watch_figures import WatchFigures
from edgetop.session.snapshot import WatchView
from edgetop.tui.history_chart import Axis, history_chart
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets.lines import Line, Span, joined, line_of
from edgetop.tui.wrap import wrap

NO_COUNT = "No server that counts its tokens has been found: the list says why."


def tokens_text(view: View, watch: WatchView, width: int, height: int) -> PaneText:
    """The rate of all servers with its history, and what was generated since they were first looked at."""
    figures = watch.figures
    if figures.generated_tokens is None:
        return PaneText(tokens_headline(watch), [line_of(Span(row, "dim")) for row in wrap(NO_COUNT, width)])
    lines = [
        joined([line_of("generated ", _count(figures.generated_tokens)), _requests(watch)], width),
        joined([line_of("prompts ", _count(figures.prompt_tokens), " tokens"), _mean(figures)], width),
    ]
    if figures.left_out_s:
        words = f"{format_duration(figures.left_out_s)} left out: {figures.left_out}."
        lines += [line_of(Span(row, "warning")) for row in wrap(words, width)]
    chart = history_chart(view.traces.served, Axis("tok/s"), width, height - len(lines), view.level)
    return PaneText(tokens_headline(watch), [*chart, *lines])


def tokens_headline(watch: WatchView) -> Line:
    """The rate of all servers now."""
    if watch.recent_tokens_per_s is None:
        return line_of(Span("n/a", "dim"))
    return line_of("all users ", Span(format_rate(watch.recent_tokens_per_s), "headline"))


def tokens_beside(watch: WatchView) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    figures = watch.figures
    if figures.generated_tokens is None:
        return [line_of(Span(NO_COUNT, "dim")), line_of(Span("no server counts its tokens", "dim"))]
    generated = line_of("generated ", _count(figures.generated_tokens))
    return [line_of(*generated, "  ", *_requests(watch)), generated]


def energy_text(view: View, watch: WatchView, width: int, height: int) -> PaneText:
    """Energy per token over all users and its two parts; or why it is not known."""
    energy = watch.figures.energy
    if energy is None:
        reason = f"No energy per token: {watch.figures.energy_missing}."
        return PaneText(energy_headline(view, watch), [line_of(Span(row, "dim")) for row in wrap(reason, width)])
    lines = [
        line_of(
            "generating ", _per_token(energy.generating_j_per_token), "  waiting ",
            _per_token(energy.waiting_j_per_token), "  net ", _per_token(energy.net_j_per_token), " J/token",
        ),
        joined(_sums(energy, view.price), width),
        line_of(Span(_basis(energy), "dim")),
    ]  # fmt: skip
    if energy.net_j_per_token is None and "net_j" in energy.missing:
        missing = energy.missing["net_j"]
        words = f"No net: {missing.reason}" + (f"; {missing.mend}." if missing.mend else ".")
        lines += [line_of(Span(row, "dim")) for row in wrap(words, width)]
    grade = wrap(f"Grade {energy.grade}: {energy.grade_reason}.", width) if energy.grade_reason else []
    if len(lines) + len(grade) <= height:
        lines += [line_of(Span(row, "dim")) for row in grade]
    return PaneText(energy_headline(view, watch), lines)


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


def energy_beside(watch: WatchView) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    energy = watch.figures.energy
    if energy is None:
        return [line_of(Span(watch.figures.energy_missing, "dim")), line_of(Span("not known", "dim"))]
    parts = line_of(
        "generating ", _per_token(energy.generating_j_per_token), "  waiting ", _per_token(energy.waiting_j_per_token)
    )
    return [line_of(*parts, "  net ", _per_token(energy.net_j_per_token)), parts]


def _requests(watch: WatchView) -> Line:
    if watch.requests_running is None:
        return ()
    waiting = f" · {watch.requests_waiting:.0f} waiting" if watch.requests_waiting is not None else ""
    return line_of(Span(f"{watch.requests_running:.0f} running{waiting}", "accent"))


def _mean(figures: WatchFigures) -> Line:
    rate = figures.tokens_per_s
    return () if rate is None else line_of("mean ", Span(format_significant(rate), "accent"), " while generating")


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


def _count(count: int | None) -> Span:
    return Span("n/a", "dim") if count is None else Span(str(count), "accent")


def _per_token(figure: Figure | None) -> Span:
    return Span("n/a", "dim") if figure is None else Span(format_significant(figure.value, 2), "accent")


def _basis(energy: ServedEnergy) -> str:
    return energy.source + (f": {', '.join(energy.flags)}" if energy.flags else "")
