"""A tuned model is loaded with its own defaults, whichever way it is asked for."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from textual.widgets import OptionList

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import machine_key
from edgetop.inference.model_file import content_key
from edgetop.live.tuned import TunedModel, save_tuned, tuned_file
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host
from edgetop.tui.app import ChatApp
from edgetop.tui.screens.live import LiveScreen
from tests.tui.screen_text import until, until_said, until_shown
from tests.tui.scripted_app import StartApp, say, start_app

__all__ = ["start_app"]
LEFT_OPEN = frozenset({"n_threads", "n_threads_batch", "n_batch", "n_ubatch", "type_k", "type_v"})


def tuned_to(path: Path, app: ChatApp, threads: int) -> None:
    """Write a model's file, and save what it was tuned to."""
    path.write_bytes(b"GGUF" + bytes(60) + path.name.encode())
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
        shown = app.screen.query_one(OptionList)
        chosen = next(index for index, option in enumerate(shown.options) if "third" in str(option.prompt))
        await pilot.press(*["j"] * (chosen - (shown.highlighted or 0)), "enter")
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
