"""The whole screen as text, against pictures that a person has looked at.

`EDGETOP_WRITE_PICTURES=1` draws them anew; look at what has changed before you keep it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.cells import cell_len

from edgetop.tui.panes.column import TITLES
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.demo_session import DemoApp, demo_records
from tests.tui.screen_text import rows_of, settled_rows, text_of, until, until_shown

GOLDEN = Path(__file__).with_name("golden")
SIZES = ((160, 48), (120, 36), (80, 24), (60, 20), (40, 12))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", SIZES, ids=[f"{columns}x{rows}" for columns, rows in SIZES])
async def test_the_screen_looks_as_in_the_picture(size: tuple[int, int], level: GlyphLevel) -> None:
    app = DemoApp(demo_records(), level=level)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "6.46 tok/s", "supply itself")
        drawn = await settled_rows(pilot, app)
    assert len(drawn) == size[1]
    assert max(map(cell_len, drawn)) <= size[0]
    assert level != "ascii" or "".join(drawn).isascii()
    picture = GOLDEN / f"{size[0]}x{size[1]}-{level}.txt"
    if os.environ.get("EDGETOP_WRITE_PICTURES"):
        GOLDEN.mkdir(exist_ok=True)
        picture.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    assert drawn == picture.read_text(encoding="utf-8").splitlines()


async def test_without_power_the_screen_says_why_where_the_figures_would_be() -> None:
    app = DemoApp(demo_records(power=False))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "6.46 tok/s", "supply itself")
        drawn = rows_of(app)
    assert drawn[2].endswith("Pwr[           n/a]")
    assert drawn[5].endswith("virtual machine: power sensors stay with the host")
    assert drawn[3].startswith(" tok 6.46 tok/s decode   J/token n/a")
    assert "chat" in drawn[6]


@pytest.mark.parametrize(
    ("title", "size", "level"),
    [("power", (120, 36), "braille"), ("energy", (80, 24), "ascii"), ("tokens", (40, 12), "block")],
)
async def test_a_zoomed_pane_looks_as_in_the_picture(title: str, size: tuple[int, int], level: GlyphLevel) -> None:
    app = DemoApp(demo_records(), level=level)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "6.46 tok/s", "supply itself")
        await pilot.press("escape", *["tab"] * TITLES.index(title), "z")
        await until(pilot, lambda: "supply itself" not in text_of(app) and f" {title} " in text_of(app), "zoomed")
        drawn = rows_of(app)
    picture = GOLDEN / f"zoom-{title}-{size[0]}x{size[1]}-{level}.txt"
    if os.environ.get("EDGETOP_WRITE_PICTURES"):
        picture.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    assert drawn == picture.read_text(encoding="utf-8").splitlines()
