"""Each plot (data and layout) with its caption and its table for those who cannot see it.

Colours of the page (text, grid, ground) are set in the browser, which knows whether it is dark. The colours here can be
seen on both grounds; what they tell is also seen by dashes, symbols or hatching.

The curves of a session come from the histories that the live screen draws, in steps as fine as the readings where the
session is short; a long one is thinned to the least and the greatest value in each column of the picture.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from math import ceil, isfinite
from typing import Any, NamedTuple

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import DECODE, J_PER_TOKEN, Summary
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_rate, format_seconds, format_significant
from edgetop.core.sources import ENGINE_ANONYMOUS, ENGINE_RSS, Unavailable
from edgetop.core.text import one_line
from edgetop.session.compare.result import Comparison
from edgetop.session.energy import POWER_OVER_TIME, STEPS_MOST
from edgetop.session.session import Session
from edgetop.session.snapshot import channel_history, decode_rate_history

COLUMNS = 600
"""Of a picture: about a column for each pixel that a wide page gives it."""

SPEED_STEP_US = 250_000
MEMORY_STEP_US = US_PER_S
MIB = 2**20


class History(Struct, frozen=True, kw_only=True):
    """Means over equal steps from the session's beginning on; `None` where there is none."""

    step_us: int
    values: tuple[float | None, ...]

    def between(self, begin_s: float, end_s: float) -> list[float]:
        """The values that are there, of the steps that begin in a span."""
        begin, end = (ceil(edge_s * US_PER_S / self.step_us) for edge_s in (begin_s, end_s))
        return [value for value in self.values[begin:end] if value is not None]

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Begin and end, in seconds, of each stretch without a value between two that are there."""
        found: list[tuple[float, float]] = []
        last: int | None = None
        for index, value in enumerate(self.values):
            if value is None:
                continue
            if last is not None and index > last + 1:
                found.append(((last + 1) * self.step_us / US_PER_S, index * self.step_us / US_PER_S))
            last = index
        return found


class Phase(Struct, frozen=True):
    """A span of prefill or decode, in seconds since the session began."""

    begin_s: float
    end_s: float


class Drawn(Struct, frozen=True, kw_only=True):
    """A curve as it is drawn: a value of `None` breaks the line."""

    t_s: tuple[float, ...]
    values: tuple[float | None, ...]


class TimeSeries(Struct, frozen=True, kw_only=True):
    """The curves of one session."""

    length_s: float
    speed: History
    """Decoded tokens per second; `None` while nothing is decoded."""
    power: History | Unavailable
    """The headline meters together, in W."""
    resident: History | None
    """Memory of the process that holds the model, in MiB; `None` where it was not read."""
    private: History | None
    """The part of it that is not mapped from files, in MiB."""
    prefills: tuple[Phase, ...]
    decodes: tuple[Phase, ...]


def time_series(session: Session) -> TimeSeries:
    """The curves of a session that has ended."""
    return TimeSeries(
        length_s=session.end_us / US_PER_S,
        speed=_speed(session),
        power=_power(session),
        resident=_memory(session, ENGINE_RSS),
        private=_memory(session, ENGINE_ANONYMOUS),
        prefills=tuple(_merged(_prefills(session), session.end_us)),
        decodes=tuple(_merged(_decodes(session), session.end_us)),
    )


def decimated(history: History, columns: int = COLUMNS) -> Drawn:
    """The curve of a history: each value in the middle of its step, or the extremes of each column if that is less."""
    values = history.values
    if len(values) <= 2 * columns:
        points = list(enumerate(values))
    else:
        points = [
            point
            for column in range(columns)
            for point in _min_and_max(values, column * len(values) // columns, (column + 1) * len(values) // columns)
        ]
    return Drawn(
        t_s=tuple(round((index + 0.5) * history.step_us / US_PER_S, 3) for index, _ in points),
        values=tuple(None if value is None else float(f"{value:.5g}") for _, value in points),
    )


def _min_and_max(values: Sequence[float | None], begin: int, end: int) -> Iterator[tuple[int, float | None]]:
    """The least and the greatest of `values[begin:end]` in their order, and a `None` wherever there is one between."""
    present = [index for index in range(begin, end) if values[index] is not None]
    kept = sorted({min(present, key=values.__getitem__), max(present, key=values.__getitem__)}) if present else []  # type: ignore[arg-type]
    before = begin - 1
    for index in (*kept, end):
        hole = next((each for each in range(before + 1, index) if values[each] is None), None)
        if hole is not None:
            yield hole, None
        if index < end:
            yield index, values[index]
        before = index


def _step_us(session: Session, least_us: int) -> int:
    return max(least_us, ceil(session.end_us / STEPS_MOST))


def _speed(session: Session) -> History:
    step_us = _step_us(session, SPEED_STEP_US)
    steps = session.end_us // step_us + 1
    return History(step_us=step_us, values=tuple(decode_rate_history(session, session.end_us, steps, step_us)))


def _power(session: Session) -> History | Unavailable:
    found = POWER_OVER_TIME.of(session)
    return found if isinstance(found, Unavailable) else History(step_us=found.step_us, values=found.values)


def _memory(session: Session, channel: str) -> History | None:
    if session.find_channel(channel) is None:
        return None
    step_us = _step_us(session, MEMORY_STEP_US)
    steps = session.end_us // step_us + 1
    means = channel_history(session, channel, session.end_us, steps, step_us)
    return History(step_us=step_us, values=tuple(None if size is None else size / MIB for size in means))


def _prefills(session: Session) -> Iterator[tuple[int, int]]:
    for turn in session.turns:
        yield turn.started.t_us, next(iter(turn.token_t_us), turn.last_us)


def _decodes(session: Session) -> Iterator[tuple[int, int]]:
    for turn in session.turns:
        if stamps_us := turn.token_t_us:
            yield stamps_us[0], stamps_us[-1]


def _merged(spans: Iterator[tuple[int, int]], length_us: int) -> Iterator[Phase]:
    """The spans, those that are closer together than a column of the picture as one."""
    begin_us = end_us = -1
    for next_begin_us, next_end_us in spans:
        if begin_us >= 0 and next_begin_us - end_us >= length_us / COLUMNS:
            yield Phase(begin_us / US_PER_S, end_us / US_PER_S)
            begin_us = -1
        if begin_us < 0:
            begin_us = next_begin_us
        end_us = next_end_us
    if begin_us >= 0:
        yield Phase(begin_us / US_PER_S, end_us / US_PER_S)


Spec = dict[str, Any]
_Reach = tuple[float | None, float | None, float | None]
"""A value and the ends of its interval; `None` where they are not known."""

COLOURS = ("#3a86c8", "#d9822b", "#2f9e6e", "#a368c9", "#d1495b", "#1899a8", "#96851f", "#7d8590")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross")
PREFILL_FILL, DECODE_FILL, LINE = "rgba(217,130,43,0.45)", "rgba(58,134,200,0.16)", "#3a86c8"
NAME_CHARACTERS = 60
ROW_PX, EDGES_PX, GAP_SHARE = 150, 110, 0.07
BAR_PX = 40


def plotly_script() -> str:
    """The source of plotly.js. Raises EdgetopError when plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an extra
    except ImportError:
        raise EdgetopError(
            "an interactive report needs plotly, which is not installed", "pip install edgetop[report], or leave it out"
        ) from None
    return str(get_plotlyjs())


def short_name(text: str) -> str:
    """A name on one line, cut off where it is longer than a name should be."""
    shown = one_line(text)
    return shown if len(shown) <= NAME_CHARACTERS else f"{shown[: NAME_CHARACTERS - 1]}…"


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
    hover = {"hovertemplate": "%{x:.4~g} tok/s, %{y:.4~g} J/token<extra>%{fullData.name}</extra>"}
    data = [
        _mark(
            index, keys[index], names[index], (speed.value, speed.low, speed.high),
            (energy.value, energy.low, energy.high), **hover,
        )
        for index, speed, energy in both
    ]  # fmt: skip
    front = [(speed.value, energy.value) for at in comparison.front for index, speed, energy in both if index == at]
    if len(front) > 1:
        data.append(
            _trace(
                "lines",
                "Pareto front",
                [x for x, _ in front],
                [y for _, y in front],
                line={"dash": "dot", "width": 2, "color": "#7d8590"},
                hoverinfo="skip",
            )
        )
    return {"data": data, "layout": _from_zero(420, "decode, tokens per second", "energy, J per token")}


def speed_over_time(comparison: Comparison, keys: Sequence[str], names: Sequence[str]) -> Spec | None:
    """The decode rates of all results over the time since their first token; `None` when none has one."""
    data: list[Spec] = []
    for index, row in enumerate(comparison.rows):
        speed = row.result.speed
        if speed is None:
            continue
        line = _trace(
            "lines",
            f"{keys[index]} {plain(names[index])}",
            [round((step + 0.5) * speed.step_s, 3) for step in range(len(speed.tokens_per_s))],
            [None if rate is None else float(f"{rate:.5g}") for rate in speed.tokens_per_s],
            legendgroup=keys[index],
            line={"width": 2, "color": _cycled(COLOURS, index), "dash": _cycled(DASHES, index)},
            connectgaps=False,
            hovertemplate="%{y:.4~g} tok/s",
        )
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
    panels: list[tuple[str, list[Spec]]] = [("tok/s", [_line("decode speed", decimated(series.speed), "tok/s")])]
    if not isinstance(series.power, Unavailable):
        lines = [_line("power", decimated(series.power), "W")]
        if idle_w is not None:
            lines.append(_level("idle power", idle_w, series.length_s))
        panels.append(("W", lines))
    memory = [
        _line(name, decimated(history), "MiB", dash)
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


class Caption(Struct, frozen=True):
    """A plot in words and numbers."""

    title: str
    sentences: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()


class Bar(Struct, frozen=True, kw_only=True):
    """A row of a picture of bars: parts one behind the other, and the interval of the whole."""

    name: str
    parts: tuple[float, ...]
    low: float | None = None
    high: float | None = None


class Point(Struct, frozen=True, kw_only=True):
    """A mark with its intervals: each value with low and high, `None` where they are not known."""

    name: str
    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]


class Picture(NamedTuple):
    """A plot and the same in words."""

    spec: Spec
    caption: Caption


def bars(title: str, unit: str, parts: Sequence[str], rows: Sequence[Bar], *sentences: str) -> Picture:
    """Bars below each other, each below its name; `parts` names what they are made of."""
    data: list[Spec] = []
    for number, part in enumerate(parts):
        x: list[float | None] = []
        y: list[float | None] = []
        for index, row in enumerate(rows):
            begin, end = sum(row.parts[:number]), sum(row.parts[: number + 1])
            x += [begin, begin, end, end, None]
            y += [-index - 0.42, -index + 0.0, -index + 0.0, -index - 0.42, None]
        colour = _cycled(COLOURS, number)
        data.append(
            _trace(
                "lines", part, x, y, fill="toself", fillcolor=colour, line={"width": 0}, hoverinfo="skip",
                showlegend=len(parts) > 1,
            )
        )  # fmt: skip
    known = [(at, row) for at, row in enumerate(rows) if row.low is not None and row.high is not None]
    marker = {"size": 3, "color": "#7d8590"}
    data.append(
        _trace(
            "markers", "95 % interval", [sum(row.parts) for _, row in known], [-at - 0.21 for at, _ in known],
            marker=marker, showlegend=False, hoverinfo="skip",
            error_x={"type": "data", "symmetric": False, "thickness": 1.4, "width": 5, "color": "#7d8590",
                     "array": [(row.high or 0.0) - sum(row.parts) for _, row in known],
                     "arrayminus": [sum(row.parts) - (row.low or 0.0) for _, row in known]},
        )
    )  # fmt: skip
    data.append(
        _trace(
            "text+markers", "name", [0.0] * len(rows), [-index + 0.02 for index in range(len(rows))],
            text=[plain(row.name) for row in rows], textposition="top right", marker={"size": 0, "color": "#7d8590"},
            showlegend=False, hoverinfo="skip",
        )
    )  # fmt: skip
    layout = _from_zero(EDGES_PX + BAR_PX * len(rows), unit, "")
    layout["yaxis"] = {**_axis(""), "range": [0.4 - len(rows), 0.75], "visible": False}
    cells = [
        (
            row.name,
            *(format_significant(value) for value in (row.parts if len(parts) > 1 else ())),
            format_significant(sum(row.parts)),
            *([_reach(row.low, row.high)] if known else []),
        )
        for row in rows
    ]
    headings = ("setting", *(parts if len(parts) > 1 else ()), unit, *(["95 % interval"] if known else []))
    return Picture({"data": data, "layout": layout}, Caption(title, sentences, headings, tuple(cells)))


def points(title: str, x_unit: str, y_unit: str, marks: Sequence[Point], *sentences: str) -> Picture:
    """Marks with their intervals along both axes."""
    keys = [chr(ord("a") + at % 26) * (1 + at // 26) for at in range(len(marks))]
    data = [_mark(at, keys[at], mark.name, mark.x, mark.y) for at, mark in enumerate(marks)]
    layout = _from_zero(400 + 20 * len(marks), x_unit, y_unit)
    cells = [
        (mark.name, *(text for value, *ends in (mark.x, mark.y) for text in (format_significant(value), _reach(*ends))))
        for mark in marks
    ]
    headings = ("setting", x_unit, "95 % interval", y_unit, "95 % interval")
    return Picture({"data": data, "layout": layout}, Caption(title, sentences, headings, tuple(cells)))


def _reach(low: float | None, high: float | None) -> str:
    return NOT_AVAILABLE if low is None or high is None else f"{format_significant(low)} to {format_significant(high)}"


def _trace(mode: str, name: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> Spec:  # noqa: ANN401 - of a trace
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, **more}


def _mark(index: int, key: str, name: str, x: _Reach, y: _Reach, **more: Any) -> Spec:  # noqa: ANN401 - the same
    """A point with its intervals, which differs from others in shape and colour and bears a letter."""
    marker = {"size": 11, "symbol": _cycled(SYMBOLS, index), "color": _cycled(COLOURS, index)}
    return _trace(
        "markers+text", f"{key} {plain(name)}", [x[0]], [y[0]], error_x=_error_bar(*x), error_y=_error_bar(*y),
        text=[key], textposition="top right", marker=marker, **more,
    )  # fmt: skip


def _line(name: str, curve: Drawn, unit: str, dash: str = "solid") -> Spec:
    return _trace(
        "lines",
        name,
        curve.t_s,
        curve.values,
        line={"width": 1.5, "color": LINE, "dash": dash},
        connectgaps=False,
        showlegend=False,
        hovertemplate=f"%{{y:.4~g}} {unit}",
    )


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
    return _trace(
        "lines",
        name,
        [0, length_s],
        [value, value],
        line={"width": 1, "color": "#7d8590", "dash": "dot"},
        hoverinfo="skip",
    )


def _shading(name: str, phases: Sequence[Phase], colour: str, hatching: str) -> Spec:
    x: list[float | None] = []
    y: list[float | None] = []
    for phase in phases:
        x += [phase.begin_s, phase.begin_s, phase.end_s, phase.end_s, None]
        y += [0, 1, 1, 0, None]
    return _trace(
        "lines",
        name,
        x,
        y,
        line={"width": 0},
        fill="tozeroy",
        fillcolor=colour,
        fillpattern={"shape": hatching, "fgcolor": "rgba(160,90,20,0.8)", "bgcolor": colour, "size": 6},
        hoverinfo="skip",
        connectgaps=False,
    )


def _marks(events: Sequence[tuple[float, str]]) -> Spec:
    return _trace(
        "markers",
        "event",
        [round(t_s, 3) for t_s, _ in events],
        [0.99] * len(events),
        text=[plain(what) for _, what in events],
        marker={"symbol": "triangle-down", "size": 10, "color": "#d1495b"},
        hovertemplate="%{text}<extra>event</extra>",
    )


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


def _from_zero(height_px: int, x_title: str, y_title: str) -> Spec:
    """The layout of marks, both axes from zero on."""
    axes = {"xaxis": _axis(x_title, rangemode="tozero"), "yaxis": _axis(y_title, rangemode="tozero")}
    return {**_layout(height_px), **axes, "hovermode": "closest"}


def _cycled(values: Sequence[str], index: int) -> str:
    return values[index % len(values)]


WINDOWS = 24
"""Lines of the table of a session's course."""

GAPS_SHOWN = 3

HOW_DRAWN = (
    "Hatched is prefill, plainly shaded is decode; a broken line is a gap in the readings. Where there are more steps "
    "than the picture has columns, each column shows its least and its greatest value."
)


def energy_caption(comparison: Comparison, keys: Sequence[str], names: Sequence[str]) -> Caption:
    """Energy per token against speed."""
    front = [f"{keys[index]} {names[index]}" for index in comparison.front]
    absent = [
        f"{key} is not in it: {why}."
        for key, row in zip(keys, comparison.rows, strict=True)
        if (why := row.cells[J_PER_TOKEN].missing if J_PER_TOKEN in row.cells else "no result has energy")
    ]
    sentences = [
        "Right is faster, down takes less energy; bars are 95 % intervals. Marks differ in shape and bear the letter.",
        f"Pareto front, where nothing else is both faster and takes less: {', '.join(front)}." if front else "",
        comparison.front_note if front else f"No Pareto front. {comparison.front_note}",
        *absent,
    ]
    return Caption(
        title="Energy per token against speed",
        sentences=tuple(sentence for sentence in sentences if sentence),
        headings=("result", "tok/s", "J/token", "on the front"),
        rows=tuple(
            (
                f"{keys[index]} {names[index]}",
                _number(row.cells[DECODE].value if DECODE in row.cells else None),
                _number(row.cells[J_PER_TOKEN].value if J_PER_TOKEN in row.cells else None),
                "yes" if row.on_front else "no",
            )
            for index, row in enumerate(comparison.rows)
        ),
    )


def speed_caption(comparison: Comparison, keys: Sequence[str], names: Sequence[str]) -> Caption:
    """Speed over time."""
    rows = []
    for index, row in enumerate(comparison.rows):
        speed, cells = row.result.speed, (NOT_AVAILABLE,) * 3
        if speed is not None and (rates := [rate for rate in speed.tokens_per_s if rate is not None]):
            cells = (format_significant(min(rates)), format_significant(max(rates)), format_seconds(speed.step_s))
        rows.append((f"{keys[index]} {names[index]}", *cells))
    return Caption(
        title="Speed over time",
        sentences=("Mean decode rate in equal steps; the line is broken where nothing was decoded.",),
        headings=("result", "slowest step, tok/s", "quickest step, tok/s", "length of a step"),
        rows=tuple(rows),
    )


def session_caption(title: str, series: TimeSeries, summary: Summary) -> Caption:
    """The course of one session; its rows are those of `session_windows`."""
    sentences = [
        _speed_sentence(series, summary),
        _power_sentence(series, summary),
        f"Memory: {format_bytes(summary.memory.rss_peak_bytes)} at the most; dashed is what no file backs."
        if series.resident is not None
        else "Memory of the engine was not read.",
        HOW_DRAWN,
    ]
    return Caption(
        title=title,
        sentences=tuple(sentences),
        headings=("from", "phase", "tok/s, mean", "W, least to greatest", "MiB, greatest"),
    )


def session_windows(series: TimeSeries) -> tuple[tuple[str, ...], ...]:
    """The course of a session in equal windows."""
    length_s = series.length_s / WINDOWS
    rows = []
    for window in range(WINDOWS):
        begin_s, end_s = window * length_s, (window + 1) * length_s
        power = [] if isinstance(series.power, Unavailable) else series.power.between(begin_s, end_s)
        rows.append(
            (
                format_seconds(begin_s) if begin_s else "0 s",
                _phase_words(series, begin_s, end_s),
                _over(lambda rates: sum(rates) / len(rates), series.speed.between(begin_s, end_s)),
                f"{format_significant(min(power))} to {format_significant(max(power))}" if power else NOT_AVAILABLE,
                _over(max, [] if series.resident is None else series.resident.between(begin_s, end_s)),
            )
        )
    return tuple(rows)


def _speed_sentence(series: TimeSeries, summary: Summary) -> str:
    speed = format_rate(summary.decode_tokens_per_s)
    step = format_seconds(series.speed.step_us / US_PER_S)
    return f"Speed while decoding: {speed}{_extremes(series.speed, 'tok/s')}, in steps of {step}."


def _power_sentence(series: TimeSeries, summary: Summary) -> str:
    if isinstance(series.power, Unavailable):
        hint = f" ({series.power.hint})" if series.power.hint else ""
        return f"No power: {series.power.reason}{hint}."
    energy = summary.energy
    idle = (
        ""
        if energy is None or energy.idle_w is None
        else f", idle {format_significant(energy.idle_w.value)} W (dotted)"
    )
    mean = "" if energy is None else f", {format_significant(energy.mean_w.value)} W in the mean of the turns"
    gaps = series.power.gaps
    spans = ", ".join(f"{format_seconds(begin_s)} to {format_seconds(end_s)}" for begin_s, end_s in gaps[:GAPS_SHOWN])
    more = f" and {len(gaps) - GAPS_SHOWN} more" if len(gaps) > GAPS_SHOWN else ""
    missing = f"; readings are missing from {spans}{more}" if gaps else "; no reading is missing"
    return f"Power{idle}{mean}{_extremes(series.power, 'W')}{missing}."


def _extremes(history: History, unit: str) -> str:
    present = [value for value in history.values if value is not None]
    if not present:
        return ""
    return f", from {format_significant(min(present))} to {format_significant(max(present))} {unit}"


def _phase_words(series: TimeSeries, begin_s: float, end_s: float) -> str:
    def meets(phases: Sequence[Phase]) -> bool:
        return any(phase.begin_s < end_s and phase.end_s > begin_s for phase in phases)

    words = [word for word, phases in (("prefill", series.prefills), ("decode", series.decodes)) if meets(phases)]
    return " and ".join(words) or "idle"


def _over(reduce: Callable[[Sequence[float]], float], values: Sequence[float]) -> str:
    return format_significant(reduce(values)) if values else NOT_AVAILABLE


def _number(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else format_significant(value)
