from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.report.svg import drawn

NUMBERS = st.one_of(st.none(), st.floats(-1e12, 1e12), st.floats(1e-9, 1e-3))


def spec(x: list[float], y: list[float | None], **trace: object) -> dict[str, object]:
    line = {"type": "scatter", "mode": "lines", "name": "a &lt;b&gt;", "x": x, "y": y, "line": {"width": 1}, **trace}
    axis = {"title": {"text": "<s>"}}
    return {"data": [line], "layout": {"height": 300, "xaxis": axis, "yaxis": {**axis, "rangemode": "tozero"}}}


@given(st.lists(NUMBERS, max_size=30))
def test_whatever_is_drawn_is_xml_inside_its_frame(values: list[float | None]) -> None:
    root = ElementTree.fromstring(str(drawn(spec(list(map(float, range(len(values)))), values))))  # noqa: S314 - ours
    placed = [
        tuple(map(float, pair.split(",")))
        for each in root.iter("{http://www.w3.org/2000/svg}polyline")
        for pair in each.attrib["points"].split()
    ]
    assert all(0 <= x <= 900 and 0 <= y <= 300 for x, y in placed)


def test_a_gap_breaks_the_line_and_names_are_escaped_once() -> None:
    svg = str(drawn(spec([0, 1, 2, 3, 4, 5], [1, 2, None, 3, 4, 5])))
    assert [len(points.split()) for points in re.findall(r'<polyline points="([^"]*)"', svg)] == [2, 3]
    assert "a &lt;b&gt;</text>" in svg
    assert "&lt;s&gt;" in svg


@pytest.mark.parametrize("symbol", ["circle", "square", "diamond", "triangle-up", "x", "star", "cross", "unknown"])
def test_a_point_has_its_error_bars_and_its_figures(symbol: str) -> None:
    bar = {"array": [1.0], "arrayminus": [2.0]}
    marker = {"size": 10, "symbol": symbol, "color": "#123456"}
    svg = str(drawn(spec([10.0], [5.0], mode="markers+text", text=["A"], marker=marker, error_x=bar, error_y=bar)))
    assert svg.count('stroke="#123456"') == 6
    assert "<title>a &lt;b&gt;: 10, 5</title>" in svg
