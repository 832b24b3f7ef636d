"""Draws a plot as SVG inside the page: no script, no other file, the same data and layout that plotly would get.

Text and axes have the page's colours through `currentColor` and `var(--line)`, so that a dark page stays readable.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from math import ceil, floor, isfinite, log10
from typing import Any, NamedTuple

from markupsafe import Markup

Spec = dict[str, Any]

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 900.0, 62.0, 16.0, 8.0, 46.0
LEGEND_ROW, LETTER = 20.0, 9.3
"""Pixels of a row of the legend, and of a letter in it on a narrow page, where text is larger for the drawing."""

TICKS = 5
"""About as many on each axis."""

PADDING = 0.05
"""Of the span, beyond the greatest value."""

_DASHES = {"dash": "6 4", "dot": "2 3", "dashdot": "6 3 2 3", "longdash": "11 4", "longdashdot": "11 3 2 3"}
_SYMBOLS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "diamond": ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    "triangle-up": ((0, -1.1), (1.1, 0.9), (-1.1, 0.9)),
    "triangle-down": ((0, 1.1), (1.1, -0.9), (-1.1, -0.9)),
    "x": ((-1, -0.5), (-0.5, -1), (0, -0.5), (0.5, -1), (1, -0.5), (0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5), (-0.5, 1),
          (-1, 0.5), (-0.5, 0)),
    "cross": ((-0.4, -1), (0.4, -1), (0.4, -0.4), (1, -0.4), (1, 0.4), (0.4, 0.4), (0.4, 1), (-0.4, 1), (-0.4, 0.4),
              (-1, 0.4), (-1, -0.4), (-0.4, -0.4)),
    "star": ((0, -1.3), (0.35, -0.4), (1.25, -0.4), (0.5, 0.2), (0.8, 1.1), (0, 0.55), (-0.8, 1.1), (-0.5, 0.2),
             (-1.25, -0.4), (-0.35, -0.4)),
}  # fmt: skip


class _Scale(NamedTuple):
    """From values to pixels."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Round values within the scale, and how they are written."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** floor(log10(rough))
        step = power * next(factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        digits = max(0, -floor(log10(step)))
        for index in range(ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9) + 1):
            yield index * step, f"{index * step:.{digits}f}"


def drawn(spec: Spec) -> Markup:
    """A plot as an SVG element; every text in it is escaped."""
    layout, traces = spec["layout"], spec["data"]
    legend, legend_height = _legend(traces)
    height = float(layout["height"])
    x = _Scale(*_span(layout["xaxis"], _values(traces, "x")), LEFT, WIDTH - RIGHT)
    parts = [legend]
    names = [name for name in layout if name.startswith("yaxis")]
    scales: dict[str, _Scale] = {}
    for name in names:
        axis = layout[name]
        bottom, top = axis.get("domain", (0, 1))
        room = height - BOTTOM - TOP - legend_height
        y_of = [height - BOTTOM - share * room for share in (bottom, top)]
        own = [trace for trace in traces if trace.get("yaxis", "y") == f"y{name.removeprefix('yaxis')}"]
        scale = _Scale(*_span(axis, _values(own, "y")), *y_of)
        scales[f"y{name.removeprefix('yaxis')}"] = scale
        if axis.get("visible", True):
            parts += _y_axis(axis["title"]["text"], scale)
    parts += _x_axis(layout["xaxis"]["title"]["text"], x, height - BOTTOM)
    for trace in traces:
        parts += _trace(trace, x, scales[trace.get("yaxis", "y")])
    return Markup(  # noqa: S704 - every text is escaped where it is written
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" xmlns="http://www.w3.org/2000/svg" class="plot-svg">'
        f"{_HATCHING}{''.join(parts)}</svg>"
    )


_HATCHING = (
    '<defs><pattern id="hatching" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="rgba(217,130,43,0.3)"/><rect width="2" height="6" fill="rgba(160,90,20,0.6)"/>'
    "</pattern></defs>"
)


def _values(traces: Sequence[Spec], axis: str) -> list[float]:
    """Everything that is drawn along an axis, ends of error bars included."""
    found: list[float] = []
    for trace in traces:
        bar = trace.get(f"error_{axis}", {})
        for index, value in enumerate(trace[axis]):
            if value is not None:
                found.append(float(value))
                if "array" in bar:
                    found += [value + bar["array"][index], value - bar["arrayminus"][index]]
    return [value for value in found if isfinite(value)]


def _span(axis: Spec, values: Sequence[float]) -> tuple[float, float]:
    if "range" in axis:
        low, high = map(float, axis["range"])
        return low, high if high > low else low + 1
    low, high = min(values, default=0.0), max(values, default=1.0)
    if axis.get("rangemode") == "tozero" or low >= 0:
        low = min(0.0, low)
    room = (high - low) * PADDING or abs(high) or 1.0
    return low, high + room


def _y_axis(title: str, scale: _Scale) -> Iterator[str]:
    for value, text in scale.ticks():
        y = scale.at(value)
        yield f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    middle = (scale.begin + scale.end) / 2
    yield f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">{html.escape(title)}</text>'


def _x_axis(title: str, scale: _Scale, y: float) -> Iterator[str]:
    yield f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
    for value, text in scale.ticks():
        x = scale.at(value)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 5:.1f}"/>'
        yield f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{text}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{y + 36:.1f}" text-anchor="middle">{html.escape(title)}</text>'


def _legend(traces: Sequence[Spec]) -> tuple[str, float]:
    """The names of the traces that have one, and the height that they take."""
    x, y = LEFT, 12.0
    parts = []
    for trace in traces:
        if not trace.get("showlegend", True):
            continue
        name = _name(trace["name"])
        width = 42 + LETTER * len(name)
        if x > LEFT and x + width > WIDTH:
            x, y = LEFT, y + LEGEND_ROW
        if "markers" in trace["mode"]:
            parts.append(_symbol(trace["marker"], x + 9, y))
        elif "fill" in trace:
            fill = _fill(trace)
            parts.append(f'<rect x="{x:g}" y="{y - 5:g}" width="18" height="10" fill="{fill}"/>')
        else:
            parts.append(f'<line x1="{x:g}" x2="{x + 18:g}" y1="{y:g}" y2="{y:g}" {_stroke(trace["line"])}/>')
        parts.append(f'<text x="{x + 23:g}" y="{y + 4:g}">{html.escape(name)}</text>')
        x += width
    return "".join(parts), y + 6 if parts else 0.0


def _name(text: str) -> str:
    """A name as it is; plotly gets it escaped."""
    return html.unescape(text)


def _trace(trace: Spec, x: _Scale, y: _Scale) -> Iterator[str]:
    points = list(zip(trace["x"], trace["y"], strict=True))
    if "lines" in trace["mode"]:
        for run in _runs(points):
            placed = " ".join(f"{x.at(at):.1f},{y.at(value):.1f}" for at, value in run)
            if "fill" in trace:
                yield f'<polygon points="{placed}" fill="{_fill(trace)}"/>'
            elif len(run) > 1:
                yield f'<polyline points="{placed}" fill="none" {_stroke(trace["line"])}/>'
    if "markers" not in trace["mode"]:
        return
    for index, (at, value) in enumerate(points):
        px, py = x.at(at), y.at(value)
        yield from _error_bars(trace, index, x, y)
        text = html.escape(_name(trace["text"][index])) if "text" in trace else ""
        yield _symbol(trace["marker"], px, py, text if "text" not in trace["mode"] else _figures(trace, at, value))
        if "text" in trace["mode"]:
            yield f'<text x="{px + 9:.1f}" y="{py - 8:.1f}" class="key-text">{text}</text>'


def _figures(trace: Spec, at: float, value: float) -> str:
    return html.escape(f"{_name(trace['name'])}: {at:.4g}, {value:.4g}")


def _runs(points: Sequence[tuple[float | None, float | None]]) -> Iterator[list[tuple[float, float]]]:
    """Stretches without a gap."""
    run: list[tuple[float, float]] = []
    for at, value in points:
        if at is None or value is None:
            if run:
                yield run
            run = []
        else:
            run.append((at, value))
    if run:
        yield run


def _error_bars(trace: Spec, index: int, x: _Scale, y: _Scale) -> Iterator[str]:
    at, value = trace["x"][index], trace["y"][index]
    for name, middle in (("error_x", at), ("error_y", value)):
        bar = trace.get(name, {})
        if "array" not in bar:
            continue
        low, high = middle - bar["arrayminus"][index], middle + bar["array"][index]
        ends = [(x.at(end), y.at(value)) if name == "error_x" else (x.at(at), y.at(end)) for end in (low, high)]
        (x1, y1), (x2, y2) = ends
        stroke = f'stroke="{trace["marker"]["color"]}" stroke-width="1.4"'
        yield f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {stroke}/>'
        for px, py in ends:
            dx, dy = (0, 4) if name == "error_x" else (4, 0)
            cap = f'x1="{px - dx:.1f}" y1="{py - dy:.1f}" x2="{px + dx:.1f}" y2="{py + dy:.1f}"'
            yield f"<line {cap} {stroke}/>"


def _symbol(marker: Spec, x: float, y: float, title: str = "") -> str:
    """A marker in the middle of a place; `title` is escaped, and shown by browsers on hovering."""
    radius, fill = marker.get("size", 8) / 2, marker["color"]
    inside = f"<title>{title}</title>" if title else ""
    shape = _SYMBOLS.get(marker.get("symbol", "circle"))
    if shape is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}">{inside}</circle>'
    points = " ".join(f"{x + radius * dx:.1f},{y + radius * dy:.1f}" for dx, dy in shape)
    return f'<polygon points="{points}" fill="{fill}">{inside}</polygon>'


def _fill(trace: Spec) -> str:
    return "url(#hatching)" if trace.get("fillpattern", {}).get("shape") else str(trace["fillcolor"])


def _stroke(line: Spec) -> str:
    dash = _DASHES.get(line.get("dash", "solid"))
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{line.get("color", "currentColor")}" stroke-width="{line.get("width", 1):g}"{dashes}'
