"""The check screen over models that are described and machines that are written out by hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from edgetop.core.engine_settings import EngineSettings
from edgetop.fit.assessment import Workload, assess
from edgetop.fit.model_assessments import ModelAssessments, Surveyed
from edgetop.tui.app import SingleScreenApp
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.screens.models import CheckChoice, ModelsScreen
from tests.support.example_machine import by_hand, llama_facts, place_of
from tests.support.hostile_text import HOSTILE_REPLIES, acts_on_a_terminal
from tests.tui.screen_text import rows_of, text_of, until, until_shown

GOLDEN = Path(__file__).with_name("golden")
SIZES = ((120, 36), (80, 24), (40, 12))
__all__ = ["by_hand"]
pytestmark = pytest.mark.usefixtures("by_hand")


class Shelf(ModelAssessments):
    """Three models, two contexts each, and a file that is none."""

    def __init__(self, hostile: str = "") -> None:
        super().__init__(list, place_of)
        self._hostile = hostile
        self.looked_on: set[str] = set()
        self.waits = threading.Event()
        self.waits.set()

    def __iter__(self) -> Iterator[Surveyed]:
        self.looked_on.add(threading.current_thread().name)
        self.waits.wait(30)
        sizes = {"Llama 7B": (32, 4096), "Llama 1B": (12, 2048), "Llama 13B": (40, 5120)}
        for name, (n_layer, n_embd) in sizes.items():
            path = Path(f"/models/{name}.gguf")
            facts = llama_facts(self._hostile or name, n_layer=n_layer, n_embd=n_embd, source=str(path))
            self._read[path] = facts
            for n_ctx in (4096, 32_768):
                found = assess(facts, EngineSettings(n_ctx=n_ctx), Workload(), self.place)
                yield Surveyed(name=name, path=path, assessment=found)
        problem = "the file is a web page, not a model; the download went wrong"
        yield Surveyed(
            name=self._hostile or "broken", path=Path("/models/broken.gguf"), assessment=None, problem=problem
        )


def app_of(survey: ModelAssessments, level: GlyphLevel = "braille") -> SingleScreenApp[CheckChoice | None]:
    return SingleScreenApp(lambda level: ModelsScreen(level, survey), level=level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", SIZES, ids=[f"{columns}x{rows}" for columns, rows in SIZES])
async def test_the_check_screen_looks_as_in_the_picture(size: tuple[int, int], level: GlyphLevel) -> None:
    app = app_of(Shelf(), level)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "7 rows", *(() if size[1] < 18 else ("machine ",)))
        drawn = rows_of(app)
    assert max(map(cell_len, drawn)) <= size[0]
    assert level != "ascii" or "".join(drawn).isascii()
    picture = GOLDEN / f"check-{size[0]}x{size[1]}-{level}.txt"
    if os.environ.get("EDGETOP_WRITE_PICTURES"):
        picture.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    assert drawn == picture.read_text(encoding="utf-8").splitlines()


async def test_the_best_verdict_comes_first_and_what_cannot_be_read_last() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows")
        rows = table(rows_of(app))
        assert rows[0].startswith("fits ")
        assert "Llama 1B" in rows[0]
        assert rows[5].startswith("does not fit")
        assert rows[6].startswith("cannot be read broken: the file is a web page")


async def test_a_letter_sorts_and_the_same_letter_turns_round() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows")
        await pilot.press("m")
        await until_shown(pilot, "sorted by memory")
        assert ["Llama 1B" in row for row in table(rows_of(app))[:1]] == [True]
        await pilot.press("m")
        await until_shown(pilot, "reversed by memory")
        assert "Llama 13B" in table(rows_of(app))[0]
        assert table(rows_of(app))[6].startswith("cannot be read")


async def test_the_row_that_was_chosen_stays_chosen_when_the_order_changes() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows", "Llama 1B Q8_0")
        await pilot.press("m", "m")
        await until_shown(pilot, "reversed by memory")
        assert "Llama 1B Q8_0" in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.return_value is not None, "a choice")
    assert app.return_value == CheckChoice(Path("/models/Llama 1B.gguf"), 4096)


async def test_the_details_follow_the_row_and_tell_what_would_help() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows", "nothing to change")
        await pilot.press("j", "j", "j", "j", "j")
        await until_shown(pilot, "Llama 13B Q8_0", "instead of does not fit")
        await pilot.press("j")
        await until_shown(pilot, "problem")


async def test_the_screen_answers_while_the_models_are_looked_at_in_another_thread() -> None:
    survey = Shelf()
    survey.waits.clear()
    app = app_of(survey)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "looking")
        await pilot.press("m")
        await until_shown(pilot, "sorted by memory")
        survey.waits.set()
        await until_shown(pilot, "7 rows")
    assert threading.main_thread().name not in survey.looked_on


async def test_escape_goes_back_without_a_choice_even_while_it_looks() -> None:
    survey = Shelf()
    survey.waits.clear()
    app = app_of(survey)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "looking")
        await pilot.press("escape")
        await until(pilot, lambda: not app.is_running or app.return_code is not None, "the end")
        survey.waits.set()
    assert app.return_value is None


async def test_what_cannot_be_read_cannot_be_chosen() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows")
        await pilot.press("end", "enter")
        await until_shown(pilot, "problem")
        assert app.return_value is None


@pytest.mark.parametrize("size", SIZES)
async def test_names_from_headers_stay_literal(size: tuple[int, int]) -> None:
    app = app_of(Shelf(" ".join(HOSTILE_REPLIES)))
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "7 rows")
        drawn = rows_of(app)
    assert len(drawn) == size[1]
    assert not acts_on_a_terminal("".join(drawn))
    assert max(map(cell_len, drawn)) <= size[0]


async def test_without_models_the_screen_says_where_they_would_be_found() -> None:
    app = app_of(ModelAssessments(list, place_of))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "no models", "0 rows")


def table(drawn: list[str]) -> list[str]:
    return [row.strip() for row in drawn[2:9]]
