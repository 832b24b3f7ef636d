"""Weights, KV cache, buffers, what is resident, and what the machine has left."""

from __future__ import annotations

from msgspec.structs import replace

from edgetop.core.format import format_bytes, format_bytes_short
from edgetop.core.records import ModelLoaded
from edgetop.core.sources import ENGINE_ANONYMOUS, ENGINE_RSS, MEMORY_USED
from edgetop.tui.charts import Axis, ChartSeries, Layer, history_chart, stacked_chart
from edgetop.tui.panes.pane import Pane, View
from edgetop.tui.styled_text import (
    BLOCK_GAP,
    FIGURE_COLUMNS,
    SIDE_BY_SIDE_COLUMNS,
    Figure,
    Line,
    Role,
    Span,
    beside_figures,
    chart_width,
    expected,
    figure_grid,
    figure_of,
    line_of,
    paragraph,
    sentence,
    side_by_side,
    table,
    wrapped_row,
)

CHART_ROWS = 4
"""Below this a graph of something that hardly moves means nothing."""

LOW, VERY_LOW = 0.15, 0.05
"""Shares of the machine's memory that are left, from which on its figure has the colours of a warning."""

PAGE_BYTES = 4096
"""What a major page fault reads at least."""


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
        figures = _figures(view)
        rows = min(len(figures), 2 * (height - 1) - len(figures))
        if rows < CHART_ROWS:
            return figure_grid(figures, width)
        # Beside the graph a figure takes a row, below it half of one; the graph ends where those of other panes do.
        columns = [*figures[::2], *figures[1::2]]
        if chart_width(width) < width:
            below = [_bar(view, width), *figure_grid(columns[rows:], width)]
            chart = beside_figures(lambda *size: _chart(view, *size), columns[:rows], width, height - len(below))
            return [*chart, *below]
        lines = figure_grid(figures, width)
        return [*_chart(view, width, height - len(lines) - 1), _bar(view, width), *lines]

    def render_zoomed(self, view: View, width: int, height: int) -> list[Line]:
        """What is in use over time, the way of the weights and what holds them back, and all figures."""
        swap_total, used, n_ctx = view.value("swap.total"), view.snapshot.context_used, view.snapshot.n_ctx
        more = [
            figure_of("in use", format_bytes(view.value("memory.used"))),
            figure_of("of", format_bytes(view.value("memory.total"))),
            figure_of("swap of", format_bytes(swap_total)),
            figure_of("own swap", format_bytes(view.value("engine.swap"))),
            Figure("context", "n/a" if used is None else str(used), "" if n_ctx is None else f"/{n_ctx}"),
            *(
                figure_of(f"{name.replace('.', ' ')} {what}", format_bytes(view.value(f"{name}.memory_{what}")))
                for name in _gpu_names(view)[1:]
                for what in ("used", "total")
            ),
        ]
        reason = _why_unknown(view)
        way = [*_weight_path(view, width), *_layers_by_device(view, width)]
        figures = figure_grid([*_figures(view), *more], min(width, 2 * FIGURE_COLUMNS + len(BLOCK_GAP)))
        # Below each other, the way comes first: the figures stand in the pane that is not zoomed, too.
        below = side_by_side(*((figures, way) if width >= SIDE_BY_SIDE_COLUMNS else (way, figures)), width)
        below += wrapped_row("not known", reason, width) if reason else []
        rows = max(6, height - len(below) - 1)
        columns = width - FIGURE_COLUMNS - len(BLOCK_GAP)
        stack, legend = _stack(view, columns, rows) if columns >= FIGURE_COLUMNS else ([], [])
        if not stack:
            return [*_chart(view, width, rows), *below][:height]
        return [*beside_figures(lambda *_: stack, legend, width, rows), (), *below][:height]


def _stack(view: View, width: int, height: int) -> tuple[list[Line], list[Figure]]:
    """What the machine's memory is used for, over time: the engine's parts at the bottom, others above them."""
    memory = view.snapshot.memory
    unit_bytes, unit = (2**30, "GiB") if (view.value("memory.used") or 0) >= 2**30 else (2**20, "MiB")
    sizes = {"weights": memory.weights_bytes, "kv": memory.kv_bytes, "compute": memory.compute_bytes}
    known = {name: size / unit_bytes for name, size in sizes.items() if size and memory.rest_bytes is not None}

    def layers(columns: int) -> list[Layer]:
        rss, private, used = (
            view.history.channel(name, columns, unit=unit_bytes) for name in (ENGINE_RSS, ENGINE_ANONYMOUS, MEMORY_USED)
        )
        parts: dict[str, list[float | None]] = {name: [] for name in (*known, "rest", "others")}
        for resident, own, all_used in zip(rss.values, private.values, used.values, strict=True):
            # Until all of it is resident, nothing is known of its parts.
            is_whole = resident is not None and resident >= sum(known.values())
            for name, size in known.items():
                parts[name].append(size if is_whole else None)
            parts["rest"].append(resident if resident is None or not is_whole else resident - sum(known.values()))
            # The kernel counts what is mapped from the model's file as free, not as used.
            own_used = own if own is not None else resident
            parts["others"].append(None if all_used is None else max(0.0, all_used - (own_used or 0.0)))
        named = ((name if known or name != "rest" else "engine", values) for name, values in parts.items())
        return [Layer(name, values[-1] or 0.0, replace(rss, values=values)) for name, values in named]

    def total(columns: int) -> ChartSeries:
        each = layers(columns)
        sums = [
            sum(value or 0.0 for value in values) for values in zip(*(one.series.values for one in each), strict=True)
        ]
        return replace(each[0].series, values=sums, y_max=view.history.scales.end_of("used", max(sums, default=0.0)))

    return stacked_chart(layers, total, Axis(unit), width, height, view.level)


def _weight_path(view: View, width: int) -> list[Line]:
    """The way of the weights to where they are used: the rate of each hop, what it can do, and which one holds back."""
    load, limit = view.snapshot.load, view.snapshot.limit.name
    if load is None or load.engine.server:
        return []
    host = _host_share(load)
    read, bandwidth = view.history.weights_read()
    faults = view.value("engine.major_faults")
    size = load.model.size_bytes
    loaded = None if not size or load.load_s <= 0 else size / load.load_s
    disk = None if faults is None else faults * PAGE_BYTES
    slow = (
        "disk"
        if limit in {"paging", "swap"}
        else ""
        if limit != "memory-bandwidth"
        else "RAM"
        if host > 0.5
        else "VRAM"
    )
    hops: list[tuple[str, float | None, float | None, str]] = [("disk", disk, loaded, "as fast as while loading")]
    if host > 0:
        hops.append(("RAM", None if read is None else read * host, bandwidth if host > 0.5 else None, ""))
    if host < 1:
        hops.append(("PCIe", None, None if loaded is None else loaded * (1 - host), "while loading only"))
        hops.append(("VRAM", None if read is None else read * (1 - host), None if host > 0.5 else bandwidth, ""))
    rows = [
        (
            name,
            _rate(rate),
            _rate(most),
            "" if rate is None or not most else f"{rate / most:.0%}",
            "< holds the model back" if name == slow else note,
        )
        for name, rate, most, note in hops
    ]
    return table(("weights", "read/s", "can do", "use", ""), rows, width, named=True)


def _rate(bytes_per_s: float | None) -> str:
    return "n/a" if bytes_per_s is None else format_bytes(bytes_per_s)


def _host_share(load: ModelLoaded) -> float:
    """How much of the weights lies in the machine's own memory, by llama.cpp's names of its buffers."""
    model = {name: size for name, size in load.memory.by_buffer.items() if name.endswith(" model")}
    host = sum(size for name, size in model.items() if name.startswith("CPU") or "Host" in name)
    return host / sum(model.values()) if sum(model.values()) else 1.0 if not load.settings.n_gpu_layers else 0.0


def _layers_by_device(view: View, width: int) -> list[Line]:
    load = view.snapshot.load
    if load is None or load.model.n_layer is None:
        return []
    shares = [share.words(load.model.n_layer) for share in load.memory.layers]
    alone = "CPU" if _host_share(load) > 0.5 else "GPU"
    texts = shares or [f"all {load.model.n_layer} layers on {alone}"]
    return [line for text in texts for line in wrapped_row("by device", text, min(width, 60))]


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
    # The colours are those of the layers in the graph.
    reserved = [
        figure_of("weights", format_bytes(memory.weights_bytes), "graph"),
        figure_of("kv", format_bytes(memory.kv_bytes), "prefill"),
        figure_of("compute", format_bytes(memory.compute_bytes), "accent"),
        figure_of("rest", format_bytes(memory.rest_bytes), "good"),
    ]
    if memory.rss_bytes is not None and view.snapshot.phase not in {"no_model", "dead"}:
        # They come with the model; what is reserved becomes resident in the first answer, and leaves the rest.
        reserved = expected(reserved)
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
            ("k", memory.kv_bytes or 0, "prefill"),
            ("c", memory.compute_bytes or 0, "accent"),
            ("r", memory.rest_bytes, "good"),
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
