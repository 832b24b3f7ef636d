"""Speed, prefill, gaps and what limits them."""

from __future__ import annotations

from edgetop.core.figures import TurnFigures, WatchFigures
from edgetop.core.format import format_duration, format_rate, format_seconds, format_significant
from edgetop.core.records import StopReason
from edgetop.session.limits import BOUNDS
from edgetop.session.snapshot import TurnView, WatchView
from edgetop.tui.charts import Axis, history_chart
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
    wrapped_row,
)

NO_COUNT = "No server that counts its tokens has been found: the list says why."


def tokens_text(view: View, watch: WatchView, width: int, height: int) -> PaneContent:
    """The rate of all servers with its history, and what was generated since they were first looked at."""
    figures = watch.figures
    if figures.generated_tokens is None:
        return PaneContent(tokens_headline(watch), [line_of(Span(row, "dim")) for row in wrap(NO_COUNT, width)])
    lines = [
        joined([line_of("generated ", _count(figures.generated_tokens)), _requests(watch)], width),
        joined([line_of("prompts ", _count(figures.prompt_tokens), " tokens"), _mean(figures)], width),
    ]
    if figures.left_out_s:
        words = f"{format_duration(figures.left_out_s)} left out: {figures.left_out}."
        lines += [line_of(Span(row, "warning")) for row in wrap(words, width)]
    chart = history_chart(view.traces.served, Axis("tok/s"), width, height - len(lines), view.level)
    return PaneContent(tokens_headline(watch), [*chart, *lines])


def tokens_headline(watch: WatchView) -> Line:
    """The rate of all servers now."""
    if watch.recent_tokens_per_s is None:
        return line_of(Span("n/a", "dim"))
    return line_of("all users ", Span(format_rate(watch.recent_tokens_per_s), "headline"))


def tokens_summary(watch: WatchView) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    figures = watch.figures
    if figures.generated_tokens is None:
        return [line_of(Span(NO_COUNT, "dim")), line_of(Span("no server counts its tokens", "dim"))]
    generated = line_of("generated ", _count(figures.generated_tokens))
    return [line_of(*generated, "  ", *_requests(watch)), generated]


def _requests(watch: WatchView) -> Line:
    if watch.requests_running is None:
        return ()
    waiting = f" · {watch.requests_waiting:.0f} waiting" if watch.requests_waiting is not None else ""
    return line_of(Span(f"{watch.requests_running:.0f} running{waiting}", "accent"))


def _mean(figures: WatchFigures) -> Line:
    rate = figures.tokens_per_s
    return () if rate is None else line_of("mean ", Span(format_significant(rate), "accent"), " while generating")


def _count(count: int | None) -> Span:
    return Span("n/a", "dim") if count is None else Span(str(count), "accent")


TITLE = "tokens"

SHORT = "tok"

CHART_ROWS = 5
"""With less than this the graph has no axes, so that other lines come after it."""

_UNREMARKABLE = ("unknown", *BOUNDS)


def draw(view: View, width: int, height: int) -> PaneContent:
    """The decode rate with its history, prefill, first token, gaps, and the limit."""
    turn = view.snapshot.turn
    if view.snapshot.watch is not None:
        return tokens_text(view, view.snapshot.watch, width, height)
    if turn is None:
        return PaneContent(line_of(Span("no turn yet", "dim")), [line_of(row) for row in wrap(_waiting(view), width)])
    lines = [*phase_lines(view, turn), *limit_lines(view, width)]
    hint = hint_lines(view, width)
    if height - len(lines) - len(hint) >= CHART_ROWS:
        lines += hint
    return PaneContent(headline(view), [*chart(view, width, height - len(lines)), *lines])


def phase_lines(view: View, turn: TurnView) -> list[Line]:
    """Prefill and first token, and the gaps between tokens."""
    figures = turn.figures
    return [
        line_of("prefill ", Span(_prefill(turn), "accent"), " · first token ", format_seconds(figures.first_token_s)),
        line_of(f"between {_stamped(view)} ", _gap_words(figures)),
    ]


def limit_lines(view: View, width: int) -> list[Line]:
    """What limits the speed."""
    limit = view.snapshot.limit
    role: Role = "dim" if limit.name in _UNREMARKABLE else "warning"
    return [line_of(Span(row, role)) for row in wrap(limit.sentence, width)]


def hint_lines(view: View, width: int) -> list[Line]:
    """What can be done about it."""
    hint = view.snapshot.limit.hint
    return [line_of(Span(row, "dim")) for row in wrap(f"What to do: {hint}.", width)] if hint else []


def headline(view: View) -> Line:
    """The rate that counts now: prefill while the prompt is read, then decode."""
    turn = view.snapshot.turn
    if view.snapshot.watch is not None:
        return tokens_headline(view.snapshot.watch)
    if turn is None:
        return line_of(Span("n/a", "dim"))
    if view.snapshot.phase == "prefill":
        return line_of("prefill ", Span(_prefill(turn), "headline"))
    rate = format_rate(turn.figures.decode_tokens_per_s)
    if not turn.counted and turn.recent_tokens_per_s is not None:
        # The server says only at the end how many tokens its chunks held.
        rate = f"{format_significant(turn.recent_tokens_per_s)} chunks/s"
    return line_of("decode ", Span(rate, "headline"))


def summary(view: View) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first.

    A known limit takes the place of the gaps: it says what to do, and the gaps are in `/stats`.
    """
    turn = view.snapshot.turn
    if view.snapshot.watch is not None:
        return tokens_summary(view.snapshot.watch)
    if turn is None:
        return [line_of(Span(_waiting(view), "dim"))]
    figures, limit = turn.figures, view.snapshot.limit
    first_token = f"first token {format_seconds(figures.first_token_s)}"
    prefill = f"prefill {_prefill(turn)} · {first_token}"
    if limit.name not in _UNREMARKABLE:
        return [line_of(Span(limit.sentence, "warning")), line_of(Span(f"limited: {limit.name}", "warning"))]
    choices = (f"{prefill} · {_gap_words(figures)}", f"{first_token} · {_gap_words(figures)}", prefill, first_token)
    return [line_of(Span(words, "dim")) for words in choices]


def _prefill(turn: TurnView) -> str:
    rate = format_rate(turn.figures.prefill_tokens_per_s)
    if turn.prefill_total is not None and turn.prefill_done < turn.prefill_total:
        return f"{rate} {turn.prefill_done}/{turn.prefill_total}"
    return rate


def _stamped(view: View) -> str:
    """What the gaps lie between: tokens that we decoded, or what arrived from a server."""
    load = view.snapshot.load
    return "tokens" if load is None or load.engine.stamps == "decode" else "arrivals"


def _gap_words(figures: TurnFigures) -> str:
    gaps = figures.token_gap_ms
    if gaps is None:
        return "n/a"
    p50, p95, p99 = (format_significant(gap, 2 if gap < 100 else 3) for gap in (gaps.p50, gaps.p95, gaps.p99))
    return f"p50 {p50}  p95 {p95}  p99 {p99} ms"


def chart(view: View, width: int, height: int) -> list[Line]:
    """The history of the decode rate; where the prompt was read it is shaded."""
    turn, mean = view.snapshot.turn, view.snapshot.summary.decode_tokens_per_s
    notes = [f"mean {format_significant(mean)}" if mean else "mean n/a"]
    if turn is not None and turn.recent_tokens_per_s is not None:
        notes.insert(0, f"now {format_significant(turn.recent_tokens_per_s)}")
    return history_chart(view.traces.speed, Axis("tok/s", notes), width, height, view.level, shaded=True)


def _waiting(view: View) -> str:
    match view.snapshot.phase:
        case "starting":
            return "The engine is being started."
        case "loading":
            return "The model is being loaded."
        case "no_model":
            return "No model is loaded: F4 or /model chooses one."
        case "dead":
            return "The engine is gone: /reload starts it again."
        case _:
            return "Ask something: figures come with the answer."


STOP_WORDS: dict[StopReason | None, str] = {
    None: "running",
    "end_of_generation": "done",
    "max_tokens": "token limit",
    "stop_string": "stop string",
    "cancelled": "stopped",
    "context_full": "context full",
    "engine_died": "engine died",
    "failed": "failed",
}

HEADINGS = ("turn", "prompt", "tokens", "prefill/s", "first", "decode/s", "J/token", "ended")

TURNS_LEAST = 4


def render_zoomed(view: View, width: int, height: int) -> PaneContent:
    """Graph, figures and turns; before the first turn what the pane says otherwise."""
    turn = view.snapshot.turn
    if turn is None:
        return draw(view, width, height)
    chart_rows = max(6, height * 4 // 10)
    figures = [*phase_lines(view, turn), *_limit(view, width), *_session(view)]
    rows = height - chart_rows
    count = rows - 1 if width >= BESIDE_COLUMNS else max(TURNS_LEAST, rows - len(figures) - 2)
    return PaneContent(
        headline(view),
        [*chart(view, width, chart_rows), *side_by_side(figures, turn_table(view, count), width)][:height],
    )


def turn_table(view: View, count: int) -> list[Line]:
    """The last turns, the newest at the end."""
    rows = []
    for turn in view.traces.turns(count):
        figures = turn.figures
        per_token = None if figures.energy is None else figures.energy.j_per_token
        rows.append((
            str(turn.number),
            _requests_text(figures.prompt_tokens),
            _requests_text(figures.generated_tokens),
            _figure(figures.prefill_tokens_per_s),
            format_seconds(figures.first_token_s),
            _figure(figures.decode_tokens_per_s),
            _figure(None if per_token is None else per_token.value),
            STOP_WORDS.get(figures.stop_reason, str(figures.stop_reason)),
        ))  # fmt: skip
    return table(HEADINGS, rows)


def _session(view: View) -> list[Line]:
    summary = view.snapshot.summary
    return [
        figure_row("all turns", f"{summary.turns}, with {summary.generated_tokens} tokens generated"),
        figure_row("", f"decode {format_rate(summary.decode_tokens_per_s)}"),
        figure_row("", f"prefill {format_rate(summary.prefill_tokens_per_s)}"),
        figure_row("", f"first token {format_seconds(summary.first_token_s)} (median)"),
    ]


def _limit(view: View, width: int) -> list[Line]:
    limit = view.snapshot.limit
    room = width if width < BESIDE_COLUMNS else width // 2
    hint = f"{limit.hint[:1].upper()}{limit.hint[1:]}." if limit.hint else ""
    return [*wrapped_row("limited by", limit.sentence, room), *(wrapped_row("what to do", hint, room) if hint else [])]


def _requests_text(count: int | None) -> str:
    return "n/a" if count is None else str(count)


def _figure(value: float | None) -> str:
    return "n/a" if value is None else format_significant(value)
