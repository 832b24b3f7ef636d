"""Weights, KV cache, buffers, what is resident and what is left."""

from __future__ import annotations

from edgetop.core.format import format_bytes, format_bytes_short
from edgetop.core.sources import ENGINE_RSS
from edgetop.tui.charts import Axis, ChartSeries, history_chart
from edgetop.tui.panes.view import PaneContent, View
from edgetop.tui.styled_text import Line, Role, Span, figure_row, line_of, side_by_side, wrap, wrapped_row

TITLE = "memory"

SHORT = "mem"

CHART_ROWS = 4
"""Below this there are no axes, which a graph of something that hardly moves would say nothing without."""


def draw(view: View, width: int, height: int) -> PaneContent:
    """Weights, KV cache and compute buffers as the engine reserved them, and what is resident as the kernel counts."""
    memory = view.snapshot.memory
    reserved = line_of(
        "weights ", _size(memory.weights_bytes), "  kv ", _size(memory.kv_bytes),
        "  compute ", _size(memory.compute_bytes), "  rest ", _size(memory.rest_bytes),
    )  # fmt: skip
    resident = line_of(
        "resident ", _size(memory.rss_bytes), ": mapped ", _size(memory.mapped_bytes),
        " + private ", _size(memory.anonymous_bytes),
    )  # fmt: skip
    machine = line_of(
        "available ", _size(view.value("memory.available")), "  swap ", _size(view.value("swap.used")),
        "  disk reads ", _faults(view),
    )  # fmt: skip
    gpu = line_of(*_gpu(view))
    lines = [reserved, resident, *([gpu] if gpu else []), machine]
    if view.snapshot.watch is not None:
        # What others reserved is not known; what they hold is.
        lines.remove(reserved)
    if len(lines) > height:
        lines.remove(resident)
    why = why_not_measured(view)
    if not why and height >= len(lines) + 1 + CHART_ROWS:
        lines = [*chart(view, width, height - len(lines) - 1), bar(view, width), *lines]
    if why:
        # Of a server whose process is not ours to see, the reason stands in place of what is not known.
        lines = [reserved, *(line_of(Span(row, "dim")) for row in wrap(why, width)), machine][:height]
    return PaneContent(headline(view), lines)


def headline(view: View) -> Line:
    """Resident memory of the engine, of all there is."""
    total = view.value("memory.total")
    return line_of(
        Span(format_bytes_short(view.snapshot.memory.rss_bytes), "headline"),
        f" of {format_bytes_short(total)}" if total is not None else "",
    )


def summary(view: View) -> list[Line]:
    """What stands beside the headline where the pane is folded into a line, the longest first."""
    memory = view.snapshot.memory
    if view.snapshot.watch is not None:
        mapped, private = (format_bytes_short(size) for size in (memory.mapped_bytes, memory.anonymous_bytes))
        return [line_of(Span(f"mapped {mapped} + private {private}", "dim"))]
    kv = f"kv {format_bytes_short(memory.kv_bytes)}"
    parts = f"weights {format_bytes_short(memory.weights_bytes)}  {kv}"
    parts_all = f"{parts}  compute {format_bytes_short(memory.compute_bytes)}"
    gpu = "".join(span.text for span in _gpu(view))
    choices = ((f"{parts_all}  {gpu}", f"{parts}  {gpu}", gpu) if gpu else ()) + (parts_all, parts, kv)
    return [line_of(Span(words, "dim")) for words in choices]


def chart(view: View, width: int, height: int) -> list[Line]:
    """The history of what is resident."""
    rss_bytes = view.snapshot.memory.rss_bytes or 0
    unit, name = (2**30, "GiB") if rss_bytes >= 2**30 else (2**20, "MiB")

    def trace_of(columns: int) -> ChartSeries:
        return view.traces.channel(ENGINE_RSS, columns, unit=unit)

    return history_chart(trace_of, Axis(f"{name} resident"), width, height, view.level)


def bar(view: View, width: int) -> Line:
    """The machine's memory from edge to edge, each part by its first letter: weights, kv, compute, rest, others.

    Where not all that was reserved is resident, or in the machine's memory at all, the engine is one part.
    """
    memory, total, used = view.snapshot.memory, view.value("memory.total"), view.value("memory.used")
    rss = memory.rss_bytes
    if rss is None or not total:
        return line_of(Span("how the memory is shared is not known", "dim"))
    parts: list[tuple[str, float, Role]] = [("e", rss, "graph")]
    if memory.rest_bytes is not None:
        parts = [
            ("w", memory.weights_bytes or 0, "graph"),
            ("k", memory.kv_bytes or 0, "accent"),
            ("c", memory.compute_bytes or 0, "prefill"),
            ("r", memory.rest_bytes, "warning"),
        ]
    # What is mapped from the model's file counts as free to the kernel, and is not among what is used.
    own_used = rss if memory.anonymous_bytes is None else memory.anonymous_bytes
    parts.append(("o", max(0.0, (used or 0.0) - own_used), "dim"))
    room = width - 2
    spans, filled, sum_bytes = [Span("[", "title")], 0, 0.0
    for letter, size_bytes, role in parts:
        sum_bytes += size_bytes
        until = min(room, round(sum_bytes / total * room))
        spans.append(Span(letter * (until - filled), role))
        filled = max(filled, until)
    return (*spans, Span(" " * (room - filled)), Span("]", "title"))


def why_not_measured(view: View) -> str:
    """Why the engine's memory is not known although there may be a model; empty where it is, or none is loaded."""
    missing = view.missing("engine.rss")
    if missing is None or view.snapshot.load is None or not view.snapshot.load.engine.server:
        return ""
    return f"{missing.reason[:1].upper()}{missing.reason[1:]}." + (f" {missing.hint}." if missing.hint else "")


def _size(size_bytes: float | None) -> Span:
    return Span(format_bytes_short(size_bytes), "dim" if size_bytes is None else "accent")


def _faults(view: View) -> Span:
    """Major page faults: each is a read from the disk in the middle of a token."""
    faults = view.value("engine.major_faults")
    if faults is None:
        return Span("n/a", "dim")
    return Span(f"{faults:.0f}/s", "warning" if faults >= 1 else "accent")


def _gpu(view: View) -> list[Span]:
    """Memory and use of the first GPU, and how many more there are; empty without one."""
    used, total = view.value("gpu.0.memory_used"), view.value("gpu.0.memory_total")
    if used is None:
        return []
    use = view.value("gpu.0.use")
    more = sum(name.endswith(".memory_used") and name.startswith("gpu.") for name in view.snapshot.readings) - 1
    return [
        Span("gpu "),
        _size(used),
        Span(f" of {format_bytes_short(total)}" if total is not None else ""),
        Span(f"  use {use:.0f} %" if use is not None else ""),
        Span(f"  and {more} more" if more else ""),
    ]


LEGEND = "w weights  k kv  c compute  r rest  e engine  o others"


def render_zoomed(view: View, width: int, height: int) -> PaneContent:
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
    rows = [*side_by_side(engine, machine, width), *(wrapped_row("not known", why, width) if why else [])]
    chart_rows = max(5, height - 2 - len(rows))
    legend = line_of(Span(LEGEND, "dim"))
    return PaneContent(headline(view), [*chart(view, width, chart_rows), bar(view, width), legend, *rows][:height])


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
