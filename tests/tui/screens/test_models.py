"""The check screen over models that are described and machines that are written out by hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import machine_key
from edgetop.fit.assessment import Workload, assess
from edgetop.fit.suggestions import AssessedModel, Candidate, ModelAssessments
from edgetop.io.model_file import content_key
from edgetop.live.this_machine import TunedModel, save_tuned, tuned_file
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host
from edgetop.tui.app import ChatApp, Display, SingleScreenApp
from edgetop.tui.screens.list import MARKS, cells_of, fit_columns
from edgetop.tui.screens.live import LiveScreen
from edgetop.tui.screens.models import CHECK_COLUMNS, ModelChoice, ModelRow, ModelsScreen
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.example_machine import by_hand, llama_facts, place_of
from tests.support.gguf_files import write_model
from tests.support.hostile_text import HOSTILE_REPLIES, acts_on_a_terminal, hostile_text
from tests.tui.screen_text import rows_of, text_of, until, until_said, until_shown
from tests.tui.scripted_app import StartApp, say, start_app

GOLDEN = Path(__file__).parents[1] / "golden"
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

    def __iter__(self) -> Iterator[AssessedModel]:
        self.looked_on.add(threading.current_thread().name)
        self.waits.wait(30)
        sizes = {"Llama 7B": (32, 4096), "Llama 1B": (12, 2048), "Llama 13B": (40, 5120)}
        for name, (n_layer, n_embd) in sizes.items():
            path = Path(f"/models/{name}.gguf")
            facts = llama_facts(self._hostile or name, n_layer=n_layer, n_embd=n_embd, source=str(path))
            self._read[path] = facts
            for n_ctx in (4096, 32_768):
                found = assess(facts, EngineSettings(n_ctx=n_ctx), Workload(), self.place)
                yield AssessedModel(name=name, path=path, assessment=found)
        problem = "the file is a web page, not a model; the download went wrong"
        yield AssessedModel(
            name=self._hostile or "broken", path=Path("/models/broken.gguf"), assessment=None, problem=problem
        )


def app_of(survey: ModelAssessments, level: GlyphLevel = "braille") -> SingleScreenApp[ModelChoice | None]:
    return SingleScreenApp(lambda level: ModelsScreen(level, survey), Display(level=level))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", SIZES, ids=[f"{columns}x{rows}" for columns, rows in SIZES])
async def test_the_check_screen_looks_as_in_the_picture(size: tuple[int, int], level: GlyphLevel) -> None:
    app = app_of(Shelf(), level)
    picture = GOLDEN / f"check-{size[0]}x{size[1]}-{level}.txt"
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "7 rows", *(() if size[1] < 18 else ("machine ",)))
        if os.environ.get("EDGETOP_WRITE_PICTURES"):
            picture.write_text("\n".join(rows_of(app)) + "\n", encoding="utf-8")
        expected = picture.read_text(encoding="utf-8").splitlines()
        await until(pilot, lambda: rows_of(app) == expected, f"{picture.name}, with the scroll bar of the details")
    assert max(map(cell_len, expected)) <= size[0]
    assert level != "ascii" or "".join(expected).isascii()


async def test_the_best_verdict_comes_first_and_what_cannot_be_read_last() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows")
        rows = table(rows_of(app))
        assert rows[0].startswith("> fits ")
        assert "Llama 1B" in rows[0]
        assert rows[5].startswith("no ")
        assert rows[6].startswith("cannot be read broken: the file is a web page")


async def test_arrows_sort_and_ctrl_r_turns_round() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows")
        await pilot.press(*["right"] * 5)
        await until_shown(pilot, "sorted by memory")
        assert ["Llama 1B" in row for row in table(rows_of(app))[:1]] == [True]
        await pilot.press("ctrl+r")
        await until_shown(pilot, "reversed by memory")
        assert "Llama 13B" in table(rows_of(app))[0]
        assert table(rows_of(app))[6].startswith("cannot be read")


async def test_what_is_typed_filters_and_enter_takes_the_one_that_is_left() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows")
        await pilot.press(*"13b")
        await until_shown(pilot, "filter: 13b", "2 rows")
        await pilot.press("escape")
        await until_shown(pilot, "7 rows")
        await pilot.press(*"broken", "enter")
        await until_shown(pilot, "problem")
    assert app.return_value is None


KEYS = {":": "colon", "/": "slash", "-": "minus", ".": "full_stop", "_": "underscore"}


@pytest.mark.parametrize("typed", ["hf:acme/tiny-GGUF:Q8_0", "/models/other.gguf", "other.gguf"])
async def test_a_path_or_a_model_of_the_hub_is_taken_as_it_is_typed(typed: str) -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows")
        await pilot.press(*[KEYS.get(key, key) for key in typed], "enter")
        await until(pilot, lambda: app.return_value is not None, "a choice")
    assert app.return_value == ModelChoice(Path(typed))


async def test_the_loaded_model_is_marked_and_the_cursor_may_begin_at_it() -> None:
    loaded = Path("/models/Llama 7B.gguf")
    app = SingleScreenApp(lambda level: ModelsScreen(level, Shelf(), loaded=loaded), Display(level="braille"))
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows", ">+")
        assert "Llama 7B" in next(row for row in table(rows_of(app)) if row.startswith(">+"))


async def test_what_could_be_downloaded_is_in_the_same_table() -> None:
    app = app_of(ModelAssessments(list, place_of, contexts=None, with_catalog=True))
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "rows")
        await pilot.press(*"qwen3")
        await until_shown(pilot, "filter: qwen3", "Qwen3-0.6B", "download")


async def test_six_hundred_models_do_not_hold_up_the_screen(tmp_path: Path) -> None:
    file = write_model(tmp_path / "tiny.gguf")
    many = [Candidate(f"model {number:03}", file, "configured folder") for number in range(600)]
    app = app_of(ModelAssessments(lambda: many, place_of, contexts=None))
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "looking ...")
        await pilot.press("down")  # it answers before all are there
        await until_shown(pilot, "600 rows")


async def test_the_cursor_stays_on_the_best_row_while_better_ones_come(tmp_path: Path) -> None:
    file = write_model(tmp_path / "tiny.gguf")
    found = [Candidate(f"{letter}{number}", file) for letter in "za" for number in range(20)]
    app = app_of(ModelAssessments(lambda: found, place_of, contexts=None))
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "40 rows", "> fits    a0 ")


async def test_the_row_that_was_chosen_stays_chosen_when_the_order_changes() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows", "Llama 1B Q8_0")
        await pilot.press(*["right"] * 5, "ctrl+r")
        await until_shown(pilot, "reversed by memory")
        assert "Llama 1B Q8_0" in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.return_value is not None, "a choice")
    assert app.return_value == ModelChoice(Path("/models/Llama 1B.gguf"), 4096)


async def test_the_details_follow_the_row_and_tell_what_would_help() -> None:
    app = app_of(Shelf())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "7 rows", "nothing to change")
        await pilot.press(*["down"] * 5)
        await until_shown(pilot, "Llama 13B Q8_0", "instead of does not fit")
        await pilot.press("down")
        await until_shown(pilot, "problem")


async def test_the_screen_answers_while_the_models_are_looked_at_in_another_thread() -> None:
    survey = Shelf()
    survey.waits.clear()
    app = app_of(survey)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "looking")
        await pilot.press("right")
        await until_shown(pilot, "sorted by model")
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


def found(name: str, problem: str = "") -> ModelRow:
    return ModelRow(name, Path("/m"), 98_304_000, "Hugging Face", problem=problem)


def line_of(row: ModelRow, width: int, level: GlyphLevel = "braille") -> str:
    slots = fit_columns(CHECK_COLUMNS, [row], width + MARKS, level)
    return "".join(span.text for span in cells_of(row, slots, level))


def test_a_long_name_is_cut_in_the_middle() -> None:
    cut = line_of(found("a-model-with-a-rather-long-name-of-its-own-Q4_K_M"), 118)
    assert "a-model-with-" in cut
    assert "Q4_K_M" in cut
    assert "name-of-its" not in cut


@given(hostile_text, st.integers(10, 90), st.sampled_from(LEVELS))
def test_a_name_cannot_leave_its_line(name: str, width: int, level: GlyphLevel) -> None:
    text = line_of(found(name), width, level)
    assert cell_len(text) <= width
    assert not acts_on_a_terminal(text)


__all__ = ["start_app"]
LEFT_OPEN = frozenset({"n_threads", "n_threads_batch", "n_batch", "n_ubatch", "type_k", "type_v"})


def tuned_to(path: Path, app: ChatApp, threads: int) -> None:
    """Write a model's file, and save what it was tuned to."""
    write_model(path, metadata={"general.name": path.stem})
    options, store = app._prepare()
    save_tuned(
        tuned_file(store.folder),
        TunedModel(
            model=content_key(path),
            machine=machine_key(describe(Host(sysroot=options.sysroot))),
            label=path.stem,
            size_bytes=path.stat().st_size,
            goal="speed",
            tuned_at="2026-10-12T14:03:22+00:00",
            n_threads=threads,
            n_threads_batch=threads,
            kv_type="q8_0",
        ),
    )


def leave_open(app: ChatApp, fields: frozenset[str]) -> None:
    """As if the person had chosen all other settings."""
    options, store = app._prepare()
    app._prepare = lambda: (replace(options, left_open=fields), store)


def loaded(app: ChatApp) -> list[EngineSettings]:
    screen = next((screen for screen in app.screen_stack if isinstance(screen, LiveScreen)), None)
    return [] if screen is None else [load.settings for load in screen._live.session.loads]


async def test_the_first_model_one_by_name_and_one_of_the_picker_have_their_own_defaults(start_app: StartApp) -> None:
    first, second, third = Path("first.gguf"), Path("second.gguf"), Path("models/third.gguf")
    third.parent.mkdir()
    app = start_app(model=first)
    leave_open(app, LEFT_OPEN)
    for threads, path in enumerate((first, second, third), 2):
        tuned_to(path, app, threads)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: len(loaded(app)) == 1, "the first model is loaded")
        await until_said(pilot, "first: 2 threads, KV cache q8_0; tuned for speed.")
        await say(pilot, "/model second.gguf")
        await until(pilot, lambda: len(loaded(app)) == 2, "the second model is loaded")
        await say(pilot, "/model")
        await until_shown(pilot, "third")
        await pilot.press(*"third", "enter")
        await until(pilot, lambda: len(loaded(app)) == 3, "the third model is loaded")
        assert [(settings.n_threads, settings.type_k) for settings in loaded(app)] == [
            (2, "q8_0"), (3, "q8_0"), (4, "q8_0"),
        ]  # fmt: skip


async def test_a_setting_that_the_person_chose_stays(start_app: StartApp) -> None:
    app = start_app(model=Path("first.gguf"))
    leave_open(app, LEFT_OPEN - {"type_k", "type_v"})
    tuned_to(Path("first.gguf"), app, 2)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: len(loaded(app)) == 1, "the model is loaded")
        assert [(settings.n_threads, settings.type_k) for settings in loaded(app)] == [(2, "f16")]


async def test_a_model_that_was_not_tuned_is_run_as_ever(start_app: StartApp) -> None:
    app = start_app(model=Path("other.gguf"))
    leave_open(app, LEFT_OPEN)
    tuned_to(Path("first.gguf"), app, 2)
    Path("other.gguf").write_bytes(b"GGUF" + bytes(70))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: len(loaded(app)) == 1, "the model is loaded")
        assert loaded(app)[0].type_k == "f16"
