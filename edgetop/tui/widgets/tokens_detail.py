"""The tokens pane with all of the room: a large graph, every figure of speed, what limits it, and the turns."""

from __future__ import annotations

from edgetop.core.format import format_rate, format_seconds, format_significant
from edgetop.core.records import StopReason
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets.figure_rows import BESIDE_COLUMNS, beside, figure_row, table, told
from edgetop.tui.widgets.lines import Line
from edgetop.tui.widgets.tokens_pane import chart, draw, headline, phase_lines

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


def all_of(view: View, width: int, height: int) -> PaneText:
    """Graph, figures and turns; before the first turn what the pane says otherwise."""
    turn = view.snapshot.turn
    if turn is None:
        return draw(view, width, height)
    chart_rows = max(6, height * 4 // 10)
    figures = [*phase_lines(view, turn), *_limit(view, width), *_session(view)]
    rows = height - chart_rows
    count = rows - 1 if width >= BESIDE_COLUMNS else max(TURNS_LEAST, rows - len(figures) - 2)
    return PaneText(
        headline(view), [*chart(view, width, chart_rows), *beside(figures, turn_table(view, count), width)][:height]
    )


def turn_table(view: View, count: int) -> list[Line]:
    """The last turns, the newest at the end."""
    rows = []
    for turn in view.traces.turns(count):
        figures = turn.figures
        per_token = None if figures.energy is None else figures.energy.j_per_token
        rows.append((
            str(turn.number),
            _count(figures.prompt_tokens),
            _count(figures.generated_tokens),
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
    mend = f"{limit.mend[:1].upper()}{limit.mend[1:]}." if limit.mend else ""
    return [*told("limited by", limit.sentence, room), *(told("what to do", mend, room) if mend else [])]


def _count(count: int | None) -> str:
    return "n/a" if count is None else str(count)


def _figure(value: float | None) -> str:
    return "n/a" if value is None else format_significant(value)
