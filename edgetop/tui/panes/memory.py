"""Weights, KV cache, buffers, what is resident, and what the machine has left."""

from __future__ import annotations

from edgetop.core.format import format_bytes, format_bytes_short
from edgetop.core.sources import ENGINE_RSS
from edgetop.tui.charts import Axis, ChartSeries, history_chart
from edgetop.tui.panes.pane import Pane
from edgetop.tui.panes.view import View
from edgetop.tui.styled_text import (
    Figure,
    Line,
    Role,
    Span,
    figure_grid,
    figure_of,
    figure_row,
    line_of,
    paragraph,
    sentence,
    side_by_side,
    wrapped_row,
)

CHART_ROWS = 4
"""Below this a graph of something that hardly moves means nothing."""

LOW, VERY_LOW = 0.15, 0.05
"""Shares of the machine's memory that are left, from which on its figure has the colours of a warning."""

LEGEND = "w weights  k kv  c compute  r rest  e engine  o others"


class MemoryPane(Pane):
    """What the engine reserved, as it reports it, and what is resident, as the kernel counts it."""

    title, short = "memory", "mem"
    rows_min, rows_full, rows_ample = 5, 6, 12
    growth_order = 4

    def headline(self, view: View) -> Line:
        """Resident memory of the engine, of all there is."""
        total = view.value("memory.total")
        return line_of(
            Span(format_bytes_short(view.snapshot.memory.rss_bytes), "graph"),
            f" of {format_bytes_short(total)}" if total is not None else "",
        )

    def summary(self, view: View) -> list[Line]:
        """What was reserved; of watched servers, which do not report it, what is resident."""
        memory = view.snapshot.memory
        if view.snapshot.watch is not None:
            mapped, private = (format_bytes_short(size) for size in (memory.mapped_bytes, memory.anonymous_bytes))
            return [line_of(Span(f"mapped {mapped} + private {private}", "dim"))]
        kv = f"kv {format_bytes_short(memory.kv_bytes)}"
        short = f"weights {format_bytes_short(memory.weights_bytes)}  {kv}"
        full = f"{short}  compute {format_bytes_short(memory.compute_bytes)}"
        gpu = "".join(span.text for span in _gpu(view))
        choices = ((f"{full}  {gpu}", f"{short}  {gpu}", gpu) if gpu else ()) + (full, short, kv)
        return [line_of(Span(text, "dim")) for text in choices]

    def render(self, view: View, width: int, height: int) -> list[Line]:
        """What is reserved, resident and available, below a graph and a bar where there is room for them."""
        if reason := _why_unknown(view):
            return [*figure_grid(_figures(view)[:4], width), *paragraph(reason, width, "dim")][:height]
        lines = figure_grid(_figures(view), width)
        if height > len(lines) + CHART_ROWS:
            return [*_chart(view, width, height - len(lines) - 1), _bar(view, width), *lines]
        return lines

    def render_zoomed(self, view: View, width: int, height: int) -> list[Line]:
        """Graph, bar and all figures."""
        memory, faults = view.snapshot.memory, view.value("engine.major_faults")
        used, n_ctx = view.snapshot.context_used, view.snapshot.n_ctx
        engine = [
            _size_row("weights", memory.weights_bytes),
            _size_row("kv cache", memory.kv_bytes),
            _size_row("compute", memory.compute_bytes),
            _size_row("rest", memory.rest_bytes),
            _size_row("resident", memory.rss_bytes),
            _size_row("mapped", memory.mapped_bytes),
            _size_row("private", memory.anonymous_bytes),
            _size_row("in swap", view.value("engine.swap")),
            figure_row("disk reads", "n/a" if faults is None else f"{faults:.0f} a second"),
        ]
        machine = [
            _size_row("in use", view.value("memory.used")),
            _size_row("of", view.value("memory.total")),
            _size_row("available", view.value("memory.available")),
            _size_row("swap in use", view.value("swap.used")),
            _size_row("swap of", view.value("swap.total")),
            figure_row("context", "n/a" if used is None or n_ctx is None else f"{used} of {n_ctx} tokens"),
            *(
                figure_row(
                    name.replace(".", " "),
                    f"{format_bytes(view.value(f'{name}.memory_used'))} of "
                    f"{format_bytes(view.value(f'{name}.memory_total'))}",
                )
                for name in _gpu_names(view)
            ),
        ]
        reason = _why_unknown(view)
        rows = [*side_by_side(engine, machine, width), *(wrapped_row("not known", reason, width) if reason else [])]
        chart = _chart(view, width, max(5, height - 2 - len(rows)))
        return [*chart, _bar(view, width), line_of(Span(LEGEND, "dim")), *rows][:height]


def _figures(view: View) -> list[Figure]:
    """What is reserved beside what is resident and left; of watched servers only the latter."""
    memory = view.snapshot.memory
    faults, swap = view.value("engine.major_faults"), view.value("swap.used")
    available, total = view.value("memory.available"), view.value("memory.total")
    left = 1.0 if available is None or not total else available / total
    role: Role = "text" if left > LOW else "warning" if left > VERY_LOW else "bad"
    resident = [
        figure_of("available", format_bytes(available), role),
        figure_of("resident", format_bytes(memory.rss_bytes), "graph"),
        figure_of("private", format_bytes(memory.anonymous_bytes)),
        figure_of("mapped", format_bytes(memory.mapped_bytes)),
    ]
    reserved = [
        figure_of("weights", format_bytes(memory.weights_bytes), "graph"),
        figure_of("kv", format_bytes(memory.kv_bytes), "accent"),
        figure_of("compute", format_bytes(memory.compute_bytes), "prefill"),
        figure_of("rest", format_bytes(memory.rest_bytes), "warning"),
    ]
    pairs = resident
    if view.snapshot.watch is None:
        pairs = [figure for pair in zip(reserved, resident, strict=True) for figure in pair]
    used, total_bytes, use = (view.value(f"gpu.0.{name}") for name in ("memory_used", "memory_total", "use"))
    more = len(_gpu_names(view)) - 1
    if used is not None:
        gpu = f"gpu{f' +{more}' if more else ''}"
        of = f"use {use:.0f} %" if use is not None else ""
        pairs[4:4] = [figure_of(gpu, format_bytes(used)), Figure(f"of {format_bytes_short(total_bytes)}", of)]
    paging: Role = "warning" if swap or (faults or 0) >= 1 else "text"
    figure = Figure("reads", "n/a" if faults is None else f"{faults:.0f}", "/s", paging)
    return [*pairs, figure_of("swap", format_bytes(swap), paging), figure]


def _chart(view: View, width: int, height: int) -> list[Line]:
    """Resident memory over time."""
    rss_bytes = view.snapshot.memory.rss_bytes or 0
    unit_bytes, unit = (2**30, "GiB") if rss_bytes >= 2**30 else (2**20, "MiB")

    def series(columns: int) -> ChartSeries:
        return view.history.channel(ENGINE_RSS, columns, unit=unit_bytes)

    return history_chart(series, Axis(unit), width, height, view.level)


def _bar(view: View, width: int) -> Line:
    """The machine's memory from edge to edge, each part by its first letter: weights, kv, compute, rest, others.

    Where not all that was reserved is resident, or in the machine's memory at all, the engine is one part.
    """
    memory, total, used = view.snapshot.memory, view.value("memory.total"), view.value("memory.used")
    rss = memory.rss_bytes
    if rss is None or not total:
        return line_of(Span("n/a: how the memory is divided", "dim"))
    parts: list[tuple[str, float, Role]] = [("e", rss, "graph")]
    if memory.rest_bytes is not None:
        parts = [
            ("w", memory.weights_bytes or 0, "graph"),
            ("k", memory.kv_bytes or 0, "accent"),
            ("c", memory.compute_bytes or 0, "prefill"),
            ("r", memory.rest_bytes, "warning"),
        ]
    # The kernel counts what is mapped from the model's file as free, not as used.
    own_used = rss if memory.anonymous_bytes is None else memory.anonymous_bytes
    parts.append(("o", max(0.0, (used or 0.0) - own_used), "dim"))
    columns = width - 2
    spans, filled, sum_bytes = [Span("[", "title")], 0, 0.0
    for letter, size_bytes, role in parts:
        sum_bytes += size_bytes
        until = min(columns, round(sum_bytes / total * columns))
        spans.append(Span(letter * (until - filled), role))
        filled = max(filled, until)
    return (*spans, Span(" " * (columns - filled)), Span("]", "title"))


def _why_unknown(view: View) -> str:
    """Why the memory of a server's process cannot be read; empty where it can, or nothing is loaded."""
    missing = view.missing(ENGINE_RSS)
    if missing is None or view.snapshot.load is None or not view.snapshot.load.engine.server:
        return ""
    return " ".join(sentence(text) for text in (missing.reason, missing.hint) if text)


def _size_row(name: str, size_bytes: float | None) -> Line:
    return figure_row(name, Span(format_bytes(size_bytes), "dim" if size_bytes is None else "accent"))


def _gpu_names(view: View) -> list[str]:
    """`gpu.0`, `gpu.1` ...: those whose memory is read."""
    names = view.snapshot.readings
    return [
        name.removesuffix(".memory_used") for name in names if name.startswith("gpu.") and name.endswith(".memory_used")
    ]


def _gpu(view: View) -> list[Span]:
    """Memory and use of the first GPU, and how many more there are; empty without one."""
    used, total, use = (view.value(f"gpu.0.{name}") for name in ("memory_used", "memory_total", "use"))
    if used is None:
        return []
    more = len(_gpu_names(view)) - 1
    return [
        Span("gpu "),
        Span(format_bytes_short(used)),
        Span(f" of {format_bytes_short(total)}" if total is not None else ""),
        Span(f"  use {use:.0f} %" if use is not None else ""),
        Span(f"  and {more} more" if more else ""),
    ]
