"""The tokens pane: how fast the model reads and writes, and what limits it."""

from __future__ import annotations

from edgetop.core.figures import TurnFigures
from edgetop.core.format import format_rate, format_seconds, format_significant
from edgetop.session.limits import BOUNDS
from edgetop.session.snapshot import TurnView
from edgetop.tui.history_chart import Axis, history_chart
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets import served_panes
from edgetop.tui.widgets.lines import Line, Role, Span, line_of
from edgetop.tui.wrap import wrap

TITLE = "tokens"
SHORT = "tok"
CHART_ROWS = 5
"""With less than this the graph has no axes, so that other lines come after it."""
_UNREMARKABLE = ("unknown", *BOUNDS)


def draw(view: View, width: int, height: int) -> PaneText:
    """The decode rate with its history, prefill, first token, gaps, and the limit."""
    turn = view.snapshot.turn
    if view.snapshot.watch is not None:
        return served_panes.tokens_text(view, view.snapshot.watch, width, height)
    if turn is None:
        return PaneText(line_of(Span("no turn yet", "dim")), [line_of(row) for row in wrap(_waiting(view), width)])
    lines = [*phase_lines(view, turn), *limit_lines(view, width)]
    mend = mend_lines(view, width)
    if height - len(lines) - len(mend) >= CHART_ROWS:
        lines += mend
    return PaneText(headline(view), [*chart(view, width, height - len(lines)), *lines])


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


def mend_lines(view: View, width: int) -> list[Line]:
    """What can be done about it."""
    mend = view.snapshot.limit.mend
    return [line_of(Span(row, "dim")) for row in wrap(f"What to do: {mend}.", width)] if mend else []


def headline(view: View) -> Line:
    """The rate that counts now: prefill while the prompt is read, then decode."""
    turn = view.snapshot.turn
    if view.snapshot.watch is not None:
        return served_panes.tokens_headline(view.snapshot.watch)
    if turn is None:
        return line_of(Span("n/a", "dim"))
    if view.snapshot.phase == "prefill":
        return line_of("prefill ", Span(_prefill(turn), "headline"))
    rate = format_rate(turn.figures.decode_tokens_per_s)
    if not turn.counted and turn.recent_tokens_per_s is not None:
        # The server says only at the end how many tokens its chunks held.
        rate = f"{format_significant(turn.recent_tokens_per_s)} chunks/s"
    return line_of("decode ", Span(rate, "headline"))


def beside(view: View) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first.

    A known limit takes the place of the gaps: it says what to do, and the gaps are in `/stats`.
    """
    turn = view.snapshot.turn
    if view.snapshot.watch is not None:
        return served_panes.tokens_beside(view.snapshot.watch)
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
