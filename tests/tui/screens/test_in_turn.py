"""One prompt asked of marked models or sessions in turn, and the answers side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.live.chat_session import LiveSession
from edgetop.session.file_io import encode_file, load_file
from edgetop.session.store import Store
from edgetop.tui.app import ChatApp
from edgetop.tui.screens.replay import ReplayScreen
from tests.support.gguf_files import write_model
from tests.support.recorded_power import with_energy
from tests.tui.screen_text import until, until_said, until_shown
from tests.tui.scripted_app import SLOW, StartApp, say, start_app

__all__ = ["start_app"]

LOADED = "Scripted Q4_0, 64.0 MiB, loaded in"


def shelve(folder: Path) -> None:
    (folder / "shelf").mkdir()
    for name in ("first", "second"):
        write_model(folder / "shelf" / f"{name}.gguf")


def turns_of(folder: Path) -> list[list[str]]:
    """The prompts of each session on disk, the oldest first."""
    return [[turn.prompt or "" for turn in load_file(path).turns] for path in sorted(folder.glob("*.json"))]


async def test_marked_models_are_asked_in_turn_and_replayed_side_by_side(start_app: StartApp, tmp_path: Path) -> None:
    shelve(tmp_path)
    app = start_app("A chip that feeds the others.")
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("f4")
        await until_shown(pilot, "first", "second", "Ctrl+Space Mark")
        await pilot.press("f7")
        await until_shown(pilot, "Mark two or more with Ctrl+Space first.")
        for name in ("first", "second"):
            await pilot.press(*name)
            await until_shown(pilot, f"filter: {name}")
            await pilot.press("ctrl+space", "escape")
        await until_shown(pilot, "2 marked", "F7 Ask")
        await pilot.press("f7")
        await until_shown(pilot, "Ask 2 in turn:")
        await pilot.press(*"PMIC", "enter")
        await until(pilot, lambda: isinstance(app.screen, ReplayScreen), "the replay")
        await until_shown(pilot, "idle time cut", "energy cannot be compared")
        screen = app.screen
        assert isinstance(screen, ReplayScreen)
        assert [session.turns[0].started.prompt for session in screen.player.sessions] == ["PMIC", "PMIC"]
        await pilot.press("escape")
        await until_said(pilot, "Asking 2 in turn: PMIC")
        await until(pilot, lambda: app_is_ready(app), "the chat's model is loaded again")
    assert turns_of(tmp_path / "sessions") == [["PMIC"], ["PMIC"]]


def app_is_ready(app: ChatApp) -> bool:
    session = app._session
    return isinstance(session, LiveSession) and session.conversation.phase == "ready"


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_asking_in_turn_can_be_stopped(start_app: StartApp, tmp_path: Path, key: str) -> None:
    shelve(tmp_path)
    app = start_app(" ".join(map(str, range(400))), tokens_per_s=SLOW)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("f4")
        await until_shown(pilot, "first", "second")
        await pilot.press("ctrl+space", "ctrl+space", "f7")
        await until_shown(pilot, "Ask 2 in turn:")
        await pilot.press(*"PMIC", "enter")
        await until_shown(pilot, "1 of 2", "answering, ")
        await say(pilot, "Hi")
        await until_said(pilot, "Models are being asked in turn; stop that first.")
        await pilot.press(key)
        await until_said(pilot, "Stopped. What was answered is among the sessions.")
        await until(pilot, lambda: app_is_ready(app), "the chat's model is loaded again")
        assert app.is_running
    assert turns_of(tmp_path / "sessions") == [["PMIC"]]


async def test_marked_sessions_stand_for_their_models_and_settings(start_app: StartApp, tmp_path: Path) -> None:
    app = start_app("A chip.")
    store = Store(tmp_path / "sessions")
    for number in range(2):
        file = with_energy()
        settings = replace(file.loads[0].settings, n_threads=number + 1)
        file = replace(file, id=f"{number:012x}", loads=(replace(file.loads[0], settings=settings),))
        store.folder.mkdir(exist_ok=True)
        (store.folder / f"2026010{number + 1}-000000-tiny-{number:012x}.json").write_bytes(b"".join(encode_file(file)))
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("f3")
        await until_shown(pilot, "sessions 2")
        await pilot.press("ctrl+space", "ctrl+space")
        await until_shown(pilot, "2 marked")
        await pilot.press("f7", *"PMIC", "enter")
        await until(pilot, lambda: isinstance(app.screen, ReplayScreen), "the replay")
        screen = app.screen
        assert isinstance(screen, ReplayScreen)
        assert [session.loads[0].settings.n_threads for session in screen.player.sessions] == [2, 1]
