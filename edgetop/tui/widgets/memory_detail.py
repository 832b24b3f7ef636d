"""The memory pane with all of the room: the history of what is resident, and every number there is."""

from __future__ import annotations

from edgetop.core.format import format_bytes
from edgetop.tui.view import PaneText, View
from edgetop.tui.widgets.figure_rows import beside, figure_row, told
from edgetop.tui.widgets.lines import Line, Span, line_of
from edgetop.tui.widgets.memory_pane import bar, chart, headline, why_not_measured

LEGEND = "w weights  k kv  c compute  r rest  e engine  o others"


def all_of(view: View, width: int, height: int) -> PaneText:
    """Graph, bar and numbers."""
    memory = view.snapshot.memory
    engine = [
        _bytes("weights", memory.weights_bytes),
        _bytes("kv cache", memory.kv_bytes),
        _bytes("compute", memory.compute_bytes),
        _bytes("rest", memory.rest_bytes),
        _bytes("resident", memory.rss_bytes),
        _bytes("mapped", memory.mapped_bytes),
        _bytes("private", memory.anonymous_bytes),
        _bytes("in swap", view.value("engine.swap")),
        figure_row("disk reads", _per_s(view.value("engine.major_faults"))),
    ]
    machine = [
        _bytes("in use", view.value("memory.used")),
        _bytes("of", view.value("memory.total")),
        _bytes("available", view.value("memory.available")),
        _bytes("swap in use", view.value("swap.used")),
        _bytes("swap of", view.value("swap.total")),
        *_context(view),
        *_gpus(view),
    ]
    why = why_not_measured(view)
    rows = [*beside(engine, machine, width), *(told("not known", why, width) if why else [])]
    chart_rows = max(5, height - 2 - len(rows))
    legend = line_of(Span(LEGEND, "dim"))
    return PaneText(headline(view), [*chart(view, width, chart_rows), bar(view, width), legend, *rows][:height])


def _context(view: View) -> list[Line]:
    used, n_ctx = view.snapshot.context_used, view.snapshot.n_ctx
    return [figure_row("context", "n/a" if used is None or n_ctx is None else f"{used} of {n_ctx} tokens")]


def _gpus(view: View) -> list[Line]:
    names = [name.removesuffix(".memory_used") for name in view.snapshot.readings if name.endswith(".memory_used")]
    return [
        figure_row(
            name.replace(".", " "),
            f"{format_bytes(view.value(f'{name}.memory_used'))} of {format_bytes(view.value(f'{name}.memory_total'))}",
        )
        for name in names
        if name.startswith("gpu.")
    ]


def _bytes(name: str, size_bytes: float | None) -> Line:
    return figure_row(name, Span(format_bytes(size_bytes), "dim" if size_bytes is None else "accent"))


def _per_s(count: float | None) -> str:
    return "n/a" if count is None else f"{count:.0f} a second"
