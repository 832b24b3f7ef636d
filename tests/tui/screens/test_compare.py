"""The compare screen, by its keys and against pictures that a person has looked at (`test_pictures` says how)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from textual.app import App
from textual.containers import VerticalScroll

from edgetop.core.figures import DECODE, GAP_P95
from edgetop.session.compare.compare import compare
from edgetop.session.compare.result import Comparison, RepeatedFigure, Result
from edgetop.tui.app import Display, SingleScreenApp
from edgetop.tui.comparison_text import front_lines, layouts, speed_lines, table_lines
from edgetop.tui.screens.compare import CompareScreen
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.hostile_text import acts_on_a_terminal, hostile_text
from tests.support.simulated_results import result
from tests.tui.screen_text import rows_of, text_of, until, until_shown

GOLDEN = Path(__file__).parents[1] / "golden"


SIZES = ((120, 36), (80, 24), (40, 12))


def some_comparison() -> Comparison:
    """Two quantizations with two thread counts, one throttled, and a bench on another machine."""
    sessions = [
        replace(result(index, quantization=quant, threads=threads, slower=slower), origin=f"{quant}-{threads}.json")
        for index, (quant, threads, slower) in enumerate(
            [("Q4_K_M", 2, 0.3), ("Q4_K_M", 4, 0.0), ("Q8_0", 2, 0.55), ("Q8_0", 4, 0.33)]
        )
    ]
    sessions[2] = replace(sessions[2], conditions={"throttled": "The device was throttled in 2 of 10 turns."})
    bench = Result(
        name="bench", origin="bench.json", kind="llama-bench", device="Cortex-A72", model="tiny",
        quantization="Q4_K_M", threads=4, engine="llama.cpp b8146",
        figures={DECODE: RepeatedFigure(value=5.0, made="mean", repetitions=(5.0, 5.1, 4.9, 5.0, 5.05))},
    )  # fmt: skip
    return compare([*sessions, bench])


def app_of(comparison: Comparison, level: GlyphLevel = "braille", **options: Any) -> App[None]:
    return SingleScreenApp(lambda shown: CompareScreen(comparison, level=shown, **options), Display(level=level))


def screen_of(app: App[Any]) -> CompareScreen:
    assert isinstance(app.screen, CompareScreen)
    return app.screen


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", SIZES, ids=[f"{columns}x{rows}" for columns, rows in SIZES])
async def test_the_screen_looks_as_in_the_picture(size: tuple[int, int], level: GlyphLevel) -> None:
    app = app_of(some_comparison(), level)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "decode", "Back")
        # The scrollbar is drawn anew once the height of what scrolls is known.
        app.screen.query_one(VerticalScroll).refresh(layout=True)
        seen: list[list[str]] = []

        def has_settled() -> bool:
            seen.append(rows_of(app))
            return seen[-1:] * 5 == seen[-5:]

        await until(pilot, has_settled, "the same picture five times")
        drawn = seen[-1]
    assert len(drawn) == size[1]
    assert max(map(cell_len, drawn)) <= size[0]
    assert level != "ascii" or "".join(drawn).isascii()
    picture = GOLDEN / f"compare-{size[0]}x{size[1]}-{level}.txt"
    if os.environ.get("EDGETOP_WRITE_PICTURES"):
        picture.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    assert drawn == picture.read_text(encoding="utf-8").splitlines()


async def test_b_holds_all_against_the_chosen_row() -> None:
    app = app_of(some_comparison())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "2 thr (base)")
        await pilot.press("j", "b")
        await until(pilot, lambda: screen_of(app).comparison.base == 1, "another base")
        await until_shown(pilot, "4 thr (base)")
        assert "2 thr (base)" not in text_of(app)


async def test_figures_without_room_are_a_key_away() -> None:
    app = app_of(some_comparison())
    async with app.run_test(size=(40, 12)) as pilot:
        await until_shown(pilot, "decode tok/s")
        await pilot.press("right")
        await until_shown(pilot, "prefill tok/s")
        await pilot.press("left", "left")
        await until_shown(pilot, "decode tok/s")


async def test_s_sorts_by_a_figure_and_puts_it_into_view() -> None:
    app = app_of(some_comparison())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "by group")
        await pilot.press("f7")
        await until_shown(pilot, "by decode")
        labels = [
            row.strip(" >")[0] for row in rows_of(app) if row.lstrip(" >")[:2] in {f"{each} " for each in "ABCDE"}
        ]
        assert labels[:5] == list("BADCE")
        for _ in some_comparison().figures:
            await pilot.press("f7")
        await until_shown(pilot, "by group")


async def test_the_chosen_row_is_explained_with_its_flags() -> None:
    app = app_of(some_comparison())
    async with app.run_test(size=(120, 50)) as pilot:
        await until_shown(pilot, "2 thr (base)")
        await pilot.press("j", "j")
        await until_shown(pilot, "> C ", "! The device was throttled in 2 of 10 turns.", "from Q8_0-2.json")


async def test_enter_replays_the_chosen_session_beside_the_base() -> None:
    asked: list[tuple[str, str]] = []
    app = app_of(some_comparison(), replay=lambda base, chosen: asked.append((base.origin, chosen.origin)))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "Enter Replay")
        await pilot.press("j", "enter")
        await until(pilot, lambda: asked, "the replay")
        assert asked == [("Q4_K_M-2.json", "Q4_K_M-4.json")]
        await pilot.press("j", "j", "j", "enter")
        await pilot.pause()
        assert len(asked) == 1  # a bench cannot be replayed


async def test_the_plots_are_below_and_glyphs_change() -> None:
    app = app_of(some_comparison())
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "decode tok/s")
        await pilot.press("end")
        await until_shown(pilot, "Better or worse")
        await pilot.press("g", "g", "home")
        await until_shown(pilot, "+-")
        assert text_of(app).isascii()


async def test_escape_leaves() -> None:
    app = app_of(some_comparison())
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "decode tok/s")
        await pilot.press("escape")
        await until(pilot, lambda: not app.is_running, "the end")


@settings(max_examples=30)
@given(hostile_text, st.integers(20, 130), st.sampled_from(LEVELS))
def test_names_cannot_leave_their_lines(name: str, width: int, level: GlyphLevel) -> None:
    odd = replace(result(1), model=name, quantization=name, name=name, device=name)
    comparison = compare([odd, result(2)])
    lines = [
        line.spans for each in layouts(comparison, width, level) for line in table_lines(comparison, each, width, level)
    ]
    widest = max(max(each.widths) for each in layouts(comparison, width, level))
    for line in [*lines, *front_lines(comparison, width, level), *speed_lines(comparison, width, level)]:
        text = "".join(span.text for span in line)
        assert not acts_on_a_terminal(text)
        assert cell_len(text.rstrip()) <= max(width, widest + 6)


def test_the_gap_has_its_column() -> None:
    assert any(GAP_P95 in each.figures for each in layouts(some_comparison(), 80, "braille"))
