"""Speed, prefill, gaps between tokens, and what limits the speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from edgetop.core.figures import TokenGaps, TurnFigures
from edgetop.core.format import (
    NOT_AVAILABLE,
    Column,
    format_duration,
    format_rate,
    format_seconds,
    format_significant,
)
from edgetop.core.records import StopReason
from edgetop.session.limits import BOUNDS
from edgetop.session.snapshot import TurnView, WatchView
from edgetop.session.watch import counted
from edgetop.tui.charts import Axis, history_chart
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
    FIGURE_COLUMNS,
    SIDE_BY_SIDE_COLUMNS,
    Figure,
    Line,
    Role,
    Span,
    beside_figures,
    expected,
    figure_grid,
    figure_of,
    figure_text,
    joined,
    line_of,
    paragraph,
    sentence,
    side_by_side,
    wrapped_row,
)

CHART_ROWS = 5
"""Below this there is no room for the hint on the limit."""

SLOW, VERY_SLOW = 0.75, 0.5
"""Of the session's mean speed: below it the graph has the colours of a warning."""

TURNS_MIN = 4

STOP_LABELS: dict[StopReason | None, str] = {
    None: "running",
    "end_of_generation": "done",
    "max_tokens": "token limit",
    "stop_string": "stop string",
    "cancelled": "stopped",
    "context_full": "context full",
    "engine_died": "engine died",
    "failed": "failed",
}

TURN_COLUMNS: Final[Sequence[Column[NumberedTurn]]] = (
    TURN_NUMBER,
    Column(
        heading="prompt",
        text=lambda turn: NOT_AVAILABLE if turn.figures.prompt_tokens is None else str(turn.figures.prompt_tokens),
    ),
    TURN_TOKENS,
    Column(heading="prefill/s", text=lambda turn: figure_text(turn.figures.prefill_tokens_per_s)),
    Column(heading="first", text=lambda turn: format_seconds(turn.figures.first_token_s)),
    Column(heading="decode/s", text=lambda turn: figure_text(turn.figures.decode_tokens_per_s)),
    TURN_J_PER_TOKEN,
    Column(heading="ended", text=lambda turn: STOP_LABELS.get(turn.figures.stop_reason, str(turn.figures.stop_reason))),
)
"""Of the last turns, the newest at the end."""

NO_COUNT = "No server found that counts its tokens: see the list."

_UNREMARKABLE = ("unknown", *BOUNDS)
"""Limits that need no attention: the machine does what it can."""


class TokensPane(Pane):
    """The speed of the current or last turn; of watched servers, of all their users together."""

    title, short = "tokens", "tok"
    rows_min, rows_full, rows_ample = 6, 8, 14
    growth_order = 2

    def headline(self, view: View) -> Line:
        """The prefill rate while the prompt is processed, then the decode rate."""
        turn, watch = view.snapshot.turn, view.snapshot.watch
        if watch is not None:
            rate = watch.recent_tokens_per_s
            return line_of(Span("n/a", "dim")) if rate is None else _rate("all users", format_rate(rate))
        if turn is None:
            return line_of(Span("no turn yet", "dim"))
        if view.snapshot.phase == "prefill":
            return _rate("prefill", _prefill(turn))
        if not turn.counted and turn.recent_tokens_per_s is not None:
            # The server reports only at the end how many tokens its chunks held.
            return _rate("decode", f"{format_significant(turn.recent_tokens_per_s)} chunks/s")
        return _rate("decode", format_rate(turn.figures.decode_tokens_per_s))

    def summary(self, view: View) -> list[Line]:
        """A limit that needs attention replaces prefill and gaps, which `/stats` shows as well."""
        turn, limit = view.snapshot.turn, view.snapshot.limit
        if view.snapshot.watch is not None:
            return _watch_summary(view.snapshot.watch)
        if turn is None:
            return [line_of(Span(_waiting(view), "dim"))]
        if limit.name not in _UNREMARKABLE:
            return [line_of(Span(limit.sentence, "warning")), line_of(Span(f"limited: {limit.name}", "warning"))]
        if turn.figures.first_token_s is None and turn.running:
            return []
        gaps = _gaps(turn.figures)
        first_token = f"first token {format_seconds(turn.figures.first_token_s)}"
        prefill = f"prefill {_prefill(turn)} · {first_token}"
        choices = (f"{prefill} · {gaps}", f"{first_token} · {gaps}", prefill, first_token)
        return [line_of(Span(text, "dim")) for text in choices]

    def render(self, view: View, width: int, height: int) -> list[Line]:
        """Graph, prefill, first token, gaps, and what limits the speed."""
        turn, limit = view.snapshot.turn, view.snapshot.limit
        if view.snapshot.watch is not None:
            return _render_watch(view, view.snapshot.watch, width, height)
        if turn is None:
            return paragraph(_waiting(view), width)
        role: Role = "dim" if limit.name in _UNREMARKABLE else "warning"
        lines = paragraph(limit.sentence, width, role)
        hint = paragraph(sentence(limit.hint), width, "dim") if limit.hint else []
        if height - len(lines) - len(hint) >= CHART_ROWS:
            lines += hint
        lines += _server(turn)
        return [*beside_figures(_chart(view), _figures(view, turn), width, height - len(lines)), *lines]

    def render_zoomed(self, view: View, width: int, height: int) -> list[Line]:
        """Graph, figures, and a table of turns."""
        turn = view.snapshot.turn
        if turn is None:
            return self.render(view, width, height)
        is_wide = width >= SIDE_BY_SIDE_COLUMNS
        grid = figure_grid(_figures(view, turn), FIGURE_COLUMNS if is_wide else width)
        figures = [*_limit(view, width), *_server(turn), *grid]
        rows = height - max(6, height * 4 // 10)
        if not is_wide:
            turns = turn_table(TURN_COLUMNS, view.history.turns(max(TURNS_MIN, rows - len(figures) - 2)), width)
            chart_rows = max(6, height - len(figures) - 1 - len(turns))
            return [*_chart(view)(width, chart_rows), *figures, (), *turns][:height]
        turns = turn_table(TURN_COLUMNS, view.history.turns(rows - 1), width)
        below = side_by_side(figures, turns, width)[:rows]
        chart_rows = height - len(below)
        half = (width - len(BLOCK_GAP)) // 2
        by_context = history_chart(
            view.history.speed_by_context, Axis("tok/s", _tone(view)), half, chart_rows, view.level
        )
        charts = side_by_side(_chart(view)(half, chart_rows), by_context, width)
        return [*charts, *below][:height]


def _rate(name: str, rate: str) -> Line:
    return line_of(f"{name} ", Span(rate, "headline"))


def _waiting(view: View) -> str:
    """What to expect before the first turn."""
    if view.recording == "replay":
        return "Before the first prompt of this recording."
    match view.snapshot.phase:
        case "starting":
            return "The engine is starting."
        case "loading":
            return "The model is loading."
        case "no_model":
            return "No model loaded: choose one with F4 or /model."
        case "dead":
            return "The engine stopped: /reload starts it again."
        case _:
            return "Ask something: figures come with the answer."


def _prefill(turn: TurnView) -> str:
    rate = format_rate(turn.figures.prefill_tokens_per_s)
    if turn.running and turn.prefill_total is not None and turn.prefill_done < turn.prefill_total:
        known = "reading" if turn.figures.prefill_tokens_per_s is None else rate
        return f"{known} {turn.prefill_done}/{turn.prefill_total}"
    return "reading" if turn.running and rate == NOT_AVAILABLE else rate


def _gaps(figures: TurnFigures) -> str:
    gaps = figures.token_gap_ms
    if gaps is None:
        return "n/a"
    return "  ".join(f"{name} {text}" for name, text in _gap_texts(gaps)) + " ms"


def _gap_texts(gaps: TokenGaps) -> list[tuple[str, str]]:
    both = (("p50", gaps.p50), ("p95", gaps.p95), ("p99", gaps.p99))
    return [(name, format_significant(gap, 2 if gap < 100 else 3)) for name, gap in both]


def _figures(view: View, turn: TurnView) -> list[Figure]:
    """Prefill and first token, the gaps between tokens, or between chunks from a server, and the speeds."""
    figures, load = turn.figures, view.snapshot.load
    stamped = "gap" if load is None or load.engine.stamps == "decode" else "chunk"
    gaps = figures.token_gap_ms
    mean = view.snapshot.summary.decode_tokens_per_s
    shown = [
        Figure("prefill", figure_text(figures.prefill_tokens_per_s), "tok/s", "prefill"),
        figure_of("1st token", format_seconds(figures.first_token_s)),
        *(Figure(f"{stamped} {name}", text, "ms") for name, text in (_gap_texts(gaps) if gaps is not None else [])),
        Figure("mean", figure_text(mean), "tok/s", "headline"),
        *([Figure("now", figure_text(turn.recent_tokens_per_s), "tok/s", "headline")] if turn.running else []),
    ]
    return expected(shown) if turn.running else shown


def _server(turn: TurnView) -> list[Line]:
    return [line_of(Span(turn.server, "warning" if "!" in turn.server else "dim"))] if turn.server else []


def _tone(view: View) -> Callable[[float, float], Role]:
    mean = view.snapshot.summary.decode_tokens_per_s or 0.0
    return lambda rate, _y: "headline" if rate >= SLOW * mean else "warning" if rate >= VERY_SLOW * mean else "bad"


def _chart(view: View) -> Callable[[int, int], list[Line]]:
    """The decode rate over time; prefill is shaded, and what is much slower than the mean has a warning's colour."""
    return lambda width, height: history_chart(
        view.history.speed, Axis("tok/s", _tone(view)), width, height, view.level, shaded=True
    )


def _limit(view: View, width: int) -> list[Line]:
    limit = view.snapshot.limit
    columns = width if width < SIDE_BY_SIDE_COLUMNS else width // 2
    hint = wrapped_row("to fix it", sentence(limit.hint), columns) if limit.hint else []
    return [*wrapped_row("bottleneck", limit.sentence.removeprefix("Bottleneck: "), columns), *hint]


def _render_watch(view: View, watch: WatchView, width: int, height: int) -> list[Line]:
    """The rate of all servers over time, and what they have generated since edgetop began to watch."""
    figures = watch.figures
    if figures.generated_tokens is None:
        return paragraph(NO_COUNT, width, "dim")
    lines = [
        joined(
            [
                line_of("generated ", Span(counted(figures), "accent"), " tokens"),
                line_of("prompts ", _count(figures.prompt_tokens), " tokens"),
            ],
            width,
        ),
    ]
    if figures.left_out_s:
        lines += paragraph(f"{format_duration(figures.left_out_s)} left out: {figures.left_out}.", width, "warning")
    beside = [
        Figure("mean", figure_text(figures.tokens_per_s), "tok/s", "headline"),
        *(
            Figure(name, f"{count:.0f}")
            for name, count in (("running", watch.requests_running), ("waiting", watch.requests_waiting))
            if count is not None
        ),
    ]

    def chart(columns: int, rows: int) -> list[Line]:
        return history_chart(view.history.served, Axis("tok/s", lambda *_: "headline"), columns, rows, view.level)

    return [*beside_figures(chart, beside, width, height - len(lines)), *lines]


def _watch_summary(watch: WatchView) -> list[Line]:
    if watch.figures.generated_tokens is None:
        return [line_of(Span(NO_COUNT, "dim")), line_of(Span("no server counts its tokens", "dim"))]
    generated = line_of("generated ", Span(counted(watch.figures), "accent"))
    return [line_of(*generated, "  ", *_requests(watch)), generated]


def _count(count: int | None) -> Span:
    return Span("n/a", "dim") if count is None else Span(str(count), "accent")


def _requests(watch: WatchView) -> Line:
    if watch.requests_running is None:
        return ()
    waiting = f" · {watch.requests_waiting:.0f} waiting" if watch.requests_waiting is not None else ""
    return line_of(Span(f"{watch.requests_running:.0f} running{waiting}", "accent"))
