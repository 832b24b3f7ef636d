"""The plots, as plotly takes them: data and layout in plain values, ready for JSON.

Colours of the page (text, grid, ground) are set in the browser, which knows whether it is dark. The colours here can be
told from both grounds; what they tell is also told by dashes, symbols or hatching.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from math import isfinite
from typing import Any

from edgetop.core.errors import EdgetopError
from edgetop.core.records import Missing
from edgetop.report.comparison_table import short_name
from edgetop.report.time_series import Drawn, Phase, TimeSeries, drawn
from edgetop.session.comparison.comparison import Comparison
from edgetop.session.comparison.figures import DECODE, J_PER_TOKEN

Spec = dict[str, Any]

COLOURS = ("#3a86c8", "#d9822b", "#2f9e6e", "#a368c9", "#d1495b", "#1899a8", "#96851f", "#7d8590")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross")
PREFILL_FILL, DECODE_FILL, LINE = "rgba(217,130,43,0.45)", "rgba(58,134,200,0.16)", "#3a86c8"
ROW_PX, EDGES_PX, GAP_SHARE = 150, 110, 0.07


def plotly_script() -> str:
    """The source of plotly.js. Raises EdgetopError when plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an extra
    except ImportError:
        raise EdgetopError("a report needs plotly, which is not installed", "pip install edgetop[report]") from None
    return str(get_plotlyjs())


def plain(text: str) -> str:
    """A text that plotly, which reads some HTML, shows as it is."""
    return html.escape(short_name(text))


def energy_against_speed(comparison: Comparison, keys: Sequence[str], names: Sequence[str]) -> Spec | None:
    """Joules per token against tokens per second with the Pareto front; `None` when no result has both."""
    both = [
        (index, row.cells[DECODE], row.cells[J_PER_TOKEN])
        for index, row in enumerate(comparison.rows)
        if DECODE in row.cells and row.cells[DECODE].value is not None
        if J_PER_TOKEN in row.cells and row.cells[J_PER_TOKEN].value is not None
    ]
    if not both:
        return None
    data: list[Spec] = []
    for index, speed, energy in both:
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": f"{keys[index]} {plain(names[index])}",
                "x": [speed.value],
                "y": [energy.value],
                "error_x": _error_bar(speed.value, speed.low, speed.high),
                "error_y": _error_bar(energy.value, energy.low, energy.high),
                "text": [keys[index]],
                "textposition": "top right",
                "marker": {"size": 11, "symbol": _cycled(SYMBOLS, index), "color": _cycled(COLOURS, index)},
                "hovertemplate": "%{x:.4~g} tok/s, %{y:.4~g} J/token<extra>%{fullData.name}</extra>",
            }
        )
    front = [(speed.value, energy.value) for at in comparison.front for index, speed, energy in both if index == at]
    if len(front) > 1:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "Pareto front",
                "x": [x for x, _ in front],
                "y": [y for _, y in front],
                "line": {"dash": "dot", "width": 2, "color": "#7d8590"},
                "hoverinfo": "skip",
            }
        )
    layout = {
        **_layout(420),
        "xaxis": _axis("decode, tokens per second", rangemode="tozero"),
        "yaxis": _axis("energy, J per token", rangemode="tozero"),
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}


def speed_over_time(comparison: Comparison, keys: Sequence[str], names: Sequence[str]) -> Spec | None:
    """The decode rates of all results over the time since their first token; `None` when none has one."""
    data: list[Spec] = []
    for index, row in enumerate(comparison.rows):
        speed = row.result.speed
        if speed is None:
            continue
        line = {
            "type": "scatter",
            "mode": "lines",
            "name": f"{keys[index]} {plain(names[index])}",
            "legendgroup": keys[index],
            "x": [round((step + 0.5) * speed.step_s, 3) for step in range(len(speed.tokens_per_s))],
            "y": [None if rate is None else float(f"{rate:.5g}") for rate in speed.tokens_per_s],
            "line": {"width": 2, "color": _cycled(COLOURS, index), "dash": _cycled(DASHES, index)},
            "connectgaps": False,
            "hovertemplate": "%{y:.4~g} tok/s",
        }
        data += [line, *_alone(line)]
    if not data:
        return None
    layout = {
        **_layout(380),
        "xaxis": _axis("seconds since the first token"),
        "yaxis": _axis("decode, tokens per second", rangemode="tozero"),
        "hovermode": "x",
    }
    return {"data": data, "layout": layout}


def session_over_time(series: TimeSeries, idle_w: float | None, events: Sequence[tuple[float, str]]) -> Spec:
    """Speed, power and memory of one session above each other, with prefill, decode and events marked.

    `events` are seconds since the session began, and what happened.
    """
    panels: list[tuple[str, list[Spec]]] = [("tok/s", [_line("decode speed", drawn(series.speed), "tok/s")])]
    if not isinstance(series.power, Missing):
        lines = [_line("power", drawn(series.power), "W")]
        if idle_w is not None:
            lines.append(_level("idle power", idle_w, series.length_s))
        panels.append(("W", lines))
    memory = [
        _line(name, drawn(history), "MiB", dash)
        for name, history, dash in (
            ("resident memory", series.resident, "solid"), ("of it private", series.private, "dash"),
        )
        if history is not None
    ]  # fmt: skip
    if memory:
        panels.append(("MiB", memory))
    # Axis 1 spans the whole picture and carries the shading, which so lies behind everything else.
    data = [
        _shading("prefill", series.prefills, PREFILL_FILL, "/"),
        _shading("decode", series.decodes, DECODE_FILL, ""),
    ]
    layout = {
        **_layout(EDGES_PX + ROW_PX * len(panels)),
        "xaxis": {**_axis("seconds since the session began"), "range": [0, series.length_s or 1], "anchor": "free"},
        "yaxis": {"domain": [0, 1], "range": [0, 1], "visible": False, "fixedrange": True},
        "hovermode": "x unified",
        "hoversubplots": "axis",
    }
    if events:
        data.append(_marks(events))
    share = 1 / len(panels)
    for place, (unit, lines) in enumerate(panels):
        top = 1 - place * share
        axis = str(place + 2)
        bottom = max(0.0, top - share + (GAP_SHARE if place < len(panels) - 1 else 0))
        layout[f"yaxis{axis}"] = {**_axis(unit, rangemode="tozero"), "domain": [bottom, top], "anchor": "x"}
        data += [{**trace, "yaxis": f"y{axis}"} for line in lines for trace in (line, *_alone(line))]
    return {"data": data, "layout": layout}


def _line(name: str, curve: Drawn, unit: str, dash: str = "solid") -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": curve.t_s,
        "y": curve.values,
        "line": {"width": 1.5, "color": LINE, "dash": dash},
        "connectgaps": False,
        "showlegend": False,
        "hovertemplate": f"%{{y:.4~g}} {unit}",
    }


def _alone(line: Spec) -> list[Spec]:
    """Points for the values of a line that have no neighbour to draw a line to."""
    values = [None, *line["y"], None]
    alone = [
        index
        for index, value in enumerate(line["y"])
        if value is not None and values[index] is None and values[index + 2] is None
    ]
    if not alone:
        return []
    points = {
        **line, "mode": "markers", "x": [line["x"][index] for index in alone], "showlegend": False,
        "y": [line["y"][index] for index in alone], "marker": {"size": 5, "color": line["line"]["color"]},
        "hoverinfo": "skip",
    }  # fmt: skip
    return [{name: value for name, value in points.items() if name not in {"line", "hovertemplate"}}]


def _level(name: str, value: float, length_s: float) -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [0, length_s],
        "y": [value, value],
        "line": {"width": 1, "color": "#7d8590", "dash": "dot"},
        "hoverinfo": "skip",
    }


def _shading(name: str, phases: Sequence[Phase], colour: str, hatching: str) -> Spec:
    x: list[float | None] = []
    y: list[float | None] = []
    for phase in phases:
        x += [phase.begin_s, phase.begin_s, phase.end_s, phase.end_s, None]
        y += [0, 1, 1, 0, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"width": 0},
        "fill": "tozeroy",
        "fillcolor": colour,
        "fillpattern": {"shape": hatching, "fgcolor": "rgba(160,90,20,0.8)", "bgcolor": colour, "size": 6},
        "hoverinfo": "skip",
        "connectgaps": False,
    }


def _marks(events: Sequence[tuple[float, str]]) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "event",
        "x": [round(t_s, 3) for t_s, _ in events],
        "y": [0.99] * len(events),
        "text": [plain(what) for _, what in events],
        "marker": {"symbol": "triangle-down", "size": 10, "color": "#d1495b"},
        "hovertemplate": "%{text}<extra>event</extra>",
    }


def _error_bar(value: float | None, low: float | None, high: float | None) -> Spec:
    if value is None or low is None or high is None or not (isfinite(low) and isfinite(high)):
        return {"visible": False}
    return {
        "type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low], "thickness": 1.2,
        "width": 5,
    }  # fmt: skip


def _axis(title: str, **more: Any) -> Spec:  # noqa: ANN401 - any value of an axis
    return {"title": {"text": title, "standoff": 6}, "zeroline": False, "automargin": True, **more}


def _layout(height_px: int) -> Spec:
    return {
        "height": height_px,
        "margin": {"l": 52, "r": 10, "t": 8, "b": 44},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "xanchor": "left", "x": 0},
        "dragmode": "zoom",
    }


def _cycled(values: Sequence[str], index: int) -> str:
    return values[index % len(values)]
