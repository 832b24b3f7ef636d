"""Draws `docs/demo.svg`, the README's moving picture: `python -m docs.make_animation`, from the root of a checkout.

An answer streams, its energy settles, then two levels are compared: the screens themselves, over the recordings that
`edgetop replay --demo` plays. A row of the screen that stays as it is stands in the file once.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from docs.make_pictures import without_addresses
from edgetop.core.clock import US_PER_S
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import read_all
from edgetop.session.file_io import load
from edgetop.session.store import example_pair
from edgetop.tui.app import Display, SingleScreenApp
from edgetop.tui.screens.compare import CompareScreen
from edgetop.tui.screens.replay import ReplayScreen

FILE = Path(__file__).parent / "demo.svg"
SIZE = (120, 32)
TURN = 0
"""The one that is shown, from 0."""

STEPS, STEP_S, END_S = 12, 0.7, 4.0
"""Frames of the answer, seconds of each, and seconds of the last frame of the answer and of the comparison."""

_ELEMENT = re.compile(r"<(rect|text)\b([^>]*?)(?:/>|>(.*?)</text>)", re.DOTALL)
_STYLE = re.compile(r"\.(terminal-\d+-r\d+) \{ (.*?) \}")


async def frames() -> list[str]:
    """The screens as SVG, in their order."""
    paths = [path.relative_to(Path.cwd()) for path in example_pair()]
    session = load(paths[0])
    turn = session.turns[TURN]
    begin_us, end_us = turn.started.t_us, session.turns[TURN + 1].started.t_us
    drawn = []
    display = Display(level="braille", theme="edgetop-dark")
    app = SingleScreenApp(lambda level: ReplayScreen([session], level=level, alignment="time"), display)
    async with app.run_test(size=SIZE) as pilot:
        screen = cast("ReplayScreen", app.screen)
        while not screen.prepared:
            await pilot.pause(0.05)
        for step in range(STEPS + 1):
            screen.player.seek(begin_us + (end_us - begin_us - US_PER_S // 20) * step / STEPS)
            screen.draw_soon()
            await pilot.pause(0.1)
            drawn.append(without_addresses(app.export_screenshot(simplify=True)))
    comparison = compare(read_all(paths))
    compared = SingleScreenApp(lambda level: CompareScreen(comparison, level=level), display)
    async with compared.run_test(size=SIZE) as pilot:
        await pilot.pause(0.3)
        drawn.append(without_addresses(compared.export_screenshot(simplify=True)))
    return drawn


def rows_of(svg: str) -> dict[float, str]:
    """The texts and backgrounds of each row, by its place, with styles by what they are and not by a name."""
    styles = dict(_STYLE.findall(svg))
    rows: defaultdict[float, str] = defaultdict(str)
    for kind, given, text in _ELEMENT.findall(svg[svg.index("clip-path=") :]):
        places = dict(re.findall(r'([\w-]+)="([^"]*)"', given))
        y = float(places["y"])
        if kind == "rect":
            fill, x, width = places.get("fill", BACKGROUND), places["x"], places["width"]
            if fill != BACKGROUND and float(width) > 0:
                rows[round(y - 1.5, 1)] += f'<rect fill="{fill}" x="{x}" y="{y:g}" width="{width}" height="24.6"/>'
        elif text.replace("&#160;", "").strip():
            style = styles[places["class"]]
            rows[round(y - 20, 1)] += (
                f'<text style="{style}" x="{places["x"]}" y="{y:g}" textLength="{places["textLength"]}">{text}</text>'
            )
    return {y: row.replace("&#160;", " ") for y, row in rows.items()}


BACKGROUND = "#101418"
"""Of the dark theme."""


def animated(svgs: Sequence[str]) -> str:
    """One picture that shows them one after another, and begins anew."""
    lengths = [STEP_S] * (len(svgs) - 2) + [END_S, END_S]
    total_s = sum(lengths)
    shown: defaultdict[str, list[int]] = defaultdict(list)
    for index, svg in enumerate(svgs):
        for row in rows_of(svg).values():
            shown[row].append(index)
    groups, rules = [], {}
    for row, indices in shown.items():
        if len(indices) == len(svgs):
            groups.append(f"<g>{row}</g>")
            continue
        name = "f" + "-".join(map(str, indices))
        rules[name] = _keyframes(name, set(indices), lengths, total_s)
        groups.append(f'<g class="{name}">{row}</g>')
    styles: dict[str, str] = {}
    body = re.sub(
        r'style="([^"]*)"', lambda found: f'class="{styles.setdefault(found[1], f"s{len(styles)}")}"', "\n".join(groups)
    )
    classes = "\n".join(f".{name} {{ {style} }}" for style, name in styles.items())
    width, height = SIZE[0] * 12.2 + 18, SIZE[1] * 24.4 + 18
    return f"""<svg xml:space="preserve" viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg">
<style>
text {{ font-family: DejaVu Sans Mono, Menlo, Consolas, monospace; font-size: 20px; white-space: pre }}
{classes}
{chr(10).join(rules.values())}
</style>
<rect fill="{BACKGROUND}" width="{width:g}" height="{height:g}" rx="8"/>
<g transform="translate(9, 9)">
{body}
</g>
</svg>
"""


def _keyframes(name: str, indices: set[int], lengths: Sequence[float], total_s: float) -> str:
    """The rule that shows a row in these frames only."""
    steps: list[str] = []
    at_s = 0.0
    for index, length in enumerate(lengths):
        visible = "visible" if index in indices else "hidden"
        if not steps or not steps[-1].endswith(f"{visible} }}"):
            steps.append(f"{100 * at_s / total_s:.2f}% {{ visibility: {visible} }}")
        at_s += length
    return f".{name} {{ animation: {name} {total_s:g}s step-end infinite }} @keyframes {name} {{ {' '.join(steps)} }}"


def main() -> None:
    """Write the picture."""
    FILE.write_text(animated(asyncio.run(frames())), encoding="utf-8")


if __name__ == "__main__":
    main()
