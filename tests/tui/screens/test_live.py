from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.containers import VerticalScroll

from edgetop.core.errors import ModelError
from edgetop.inference.protocol import LoadFailed
from edgetop.inference.scripted import InjectedFault, Reply
from edgetop.io.hub import DownloadProgress
from edgetop.live import chat_commands
from edgetop.session.file_io import load_file
from edgetop.tui.app import ChatApp
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.prompt import Prompt
from edgetop.tui.panes.pane import PaneWidget
from edgetop.tui.screens import live
from edgetop.tui.screens.live import LiveScreen
from edgetop.tui.screens.models import ModelChoice
from tests.support.gguf_files import write_model
from tests.tui.screen_text import rows_of, text_of, until, until_said, until_shown
from tests.tui.scripted_app import SLOW, StartApp, say, start_app

__all__ = ["start_app"]

LOADED = "Scripted Q4_0, 64.0 MiB, loaded in"
NUMBERS = " ".join(f"word{number}" for number in range(400))


def prompt_of(app: ChatApp) -> Prompt:
    return app.screen.query_one(Prompt)


def live_of(app: ChatApp) -> LiveScreen:
    screen = app.screen
    assert isinstance(screen, LiveScreen)
    return screen


def has_ended(app: ChatApp) -> bool:
    return not app.is_running


async def test_a_question_is_typed_answered_and_measured(start_app: StartApp) -> None:
    app = start_app("It is a **chip**.")
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press(*"What is it", "question_mark", "enter")
        await until_shown(pilot, "you  What is it?", "It is a chip.", "first token")
        figures = next(row for row in rows_of(app) if re.search(r"│ +\d+ tok · ", row))
        assert re.search(r" 5 tok · [\d.]+ tok/s · first token [\d.]+ m?s ", figures)
        rate = re.search(r"· ([\d.]+ tok/s) ·", figures)
        assert rate is not None
        await until_shown(pilot, f"decode {rate.group(1)}")
        assert prompt_of(app).text == ""


async def test_ctrl_c_stops_the_answer_clears_the_draft_and_quits_on_the_second_press(start_app: StartApp) -> None:
    app = start_app(NUMBERS, tokens_per_s=SLOW)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        await until_shown(pilot, "word1")
        await pilot.press("ctrl+c")
        await until_shown(pilot, " · stopped")
        await pilot.press(*"draft", "ctrl+c")
        await until(pilot, lambda: not prompt_of(app).text, "the draft is cleared")
        await pilot.press("ctrl+c")
        await until_shown(pilot, "Ctrl+C again quits")
        assert app.is_running
        await pilot.press("ctrl+c")
        await until(pilot, lambda: has_ended(app), "the application has ended")


async def test_esc_stops_the_answer_first_and_leaves_the_prompt_then(start_app: StartApp) -> None:
    app = start_app(NUMBERS, tokens_per_s=SLOW)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED, "Esc Panes")
        assert "F9 Stop" not in text_of(app)
        await say(pilot, "Count.")
        await until_shown(pilot, "word1", "Esc Stop")
        await pilot.press("escape")
        await until_shown(pilot, " · stopped", "Esc Panes")
        assert prompt_of(app).has_focus
        await pilot.press("escape")
        await until_shown(pilot, "i Prompt", "y Y Copy", "r Retry", "e Edit")
        assert "o Reasoning" not in text_of(app)


@pytest.mark.parametrize("model", [Path("scripted.gguf"), None], ids=["prompt", "models"])
async def test_what_is_typed_before_the_screen_stands_is_kept(start_app: StartApp, model: Path | None) -> None:
    app = start_app(model=model)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*"qi1")
        await until_shown(pilot, "qi1")
        assert app.is_running


async def test_quitting_in_the_middle_of_an_answer_keeps_what_was_said(start_app: StartApp) -> None:
    app = start_app(NUMBERS, tokens_per_s=SLOW)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        await until_shown(pilot, "word1")
        await pilot.press("ctrl+c", "ctrl+c", "ctrl+c")
        await until(pilot, lambda: has_ended(app), "the application has ended")
    path = app.save_session()
    assert path is not None
    (turn,) = load_file(path).turns
    assert "".join(span.text for span in turn.reply).startswith("word0 word1")
    assert turn.figures.stop_reason == "cancelled"


async def test_an_engine_that_does_not_react_to_stop_is_ended_by_the_next_ctrl_c(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "UNRESPONSIVE_AFTER_S", 0.0)
    app = start_app(Reply(text=NUMBERS, fault=InjectedFault(kind="hang", at_token=3)))
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        await until_shown(pilot, "word0")
        await pilot.press("ctrl+c", "ctrl+c")
        await until_shown(pilot, "the engine died", "/reload")
        assert app.is_running


async def test_keys_belong_to_the_prompt_until_esc_and_again_after_i(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED, "Esc Panes")
        await pilot.press("1", "q", "t")
        assert prompt_of(app).text == "1qt"
        assert "─ tokens ─" in text_of(app)
        await pilot.press("escape")
        await until_shown(pilot, "i Prompt")
        await pilot.press("1")
        await until(pilot, lambda: "─ tokens ─" not in text_of(app), "the tokens pane is gone")
        await pilot.press("i", "1")
        assert prompt_of(app).text == "1qt1"
        await until_shown(pilot, "Esc Panes")


async def test_digits_show_and_hide_panes_in_both_layouts(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("escape")
        for number, pane in enumerate(app.screen.query(PaneWidget), 1):
            await pilot.press(str(number))
            gone = re.compile(f"[─━] {pane.pane.title} [─━]")
            await until(pilot, lambda gone=gone: not gone.search(text_of(app)), f"{pane.pane.title} is gone")  # type: ignore[misc]
        # Without a pane the chat has all the room.
        await until(pilot, lambda: app.screen.query_one(ChatView).size.width == 116, "the chat is wide")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not re.search(r"(?m)^ (tok|mem|pwr|J/t)[ >]", text_of(app)), "no pane is folded")
        await pilot.press("2", "4")
        await until_shown(pilot, "\n mem>", "\n J/t ")
        assert "\n tok" not in text_of(app)


async def test_a_pause_stops_the_figures_and_is_shown(start_app: StartApp) -> None:
    app = start_app(NUMBERS, tokens_per_s=60)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        await until_shown(pilot, "word1")
        await pilot.press("tab", "space")
        await until_shown(pilot, "PAUSED", "i Prompt")
        clock = re.compile(r"rec (\d\d:\d\d:\d\d)")
        shown = clock.findall(text_of(app))
        before = text_of(app).count("word")
        await until(pilot, lambda: live_of(app)._live.now_us() > 1_000_000 * (_seconds(shown[0]) + 2), "time passes")
        assert clock.findall(text_of(app)) == shown
        assert text_of(app).count("word") > before
        await pilot.press("space")
        await until(pilot, lambda: clock.findall(text_of(app)) != shown, "the clock goes on")
        assert "PAUSED" not in text_of(app)


def _seconds(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return 3600 * hours + 60 * minutes + seconds


async def test_plus_and_minus_change_how_often_the_panes_are_drawn(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED, "every 1 s")
        await pilot.press("escape", "minus")
        await until_shown(pilot, "every 2 s")
        await pilot.press("plus", "equals_sign")
        await until_shown(pilot, "every 0.5 s")
        await pilot.press("plus", "plus", "plus")
        await until_shown(pilot, "every 0.25 s")


async def test_themes_and_glyphs_are_changed_in_place(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED, "╭─ chat ─")
        await pilot.press("escape")
        names = []
        for _ in range(6):
            names.append(app.theme)
            await pilot.press("t")
        assert app.theme == names[0] == "edgetop-dark"
        assert len(set(names)) == 6
        await pilot.press("g")
        await until_shown(pilot, "┌─ chat ─", "╔═ tokens ═", "┌─ memory ─")
        await pilot.press("g")
        await until(pilot, lambda: text_of(app).isascii(), "all of the screen is ASCII")
        await pilot.press("f1")
        await until_shown(pilot, "Anywhere")
        assert text_of(app).isascii()
        await pilot.press("escape", "f4")
        await until_shown(pilot, "type to filter")
        assert text_of(app).isascii()
        await pilot.press("escape", "g")
        await until_shown(pilot, "╭─ chat ─")


async def test_help_opens_from_anywhere_and_closes_again(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        for opened, closed in ((["f1"], "f1"), (["escape", "question_mark"], "escape"), (["h"], "q")):
            await pilot.press(*opened)
            await until_shown(pilot, "In the prompt", "Alt+Enter")
            await pilot.press(closed)
            await until(pilot, lambda: isinstance(app.screen, LiveScreen), "the help is gone")
        await say(pilot, "/help")
        await until_shown(pilot, "In the prompt")
        page = app.screen.query_one(VerticalScroll)
        await until(pilot, lambda: page.max_scroll_y > 0 and page.show_vertical_scrollbar, "the page can be scrolled")
        await pilot.press("end", "k")
        await until_shown(pilot, "A B C D")
        await pilot.press("ctrl+c", "ctrl+c")
        await until(pilot, lambda: has_ended(app), "Ctrl+C twice quits when idle, over the help as well")


async def test_folders_that_were_named_are_looked_into_for_another_model(start_app: StartApp, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "other-q8_0.gguf").write_bytes(b"GGUF" + bytes(60))
    app = start_app(model=None)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "Enter Load", "rows  sorted")
        await pilot.press(*"other")
        await until_shown(pilot, "other-q8_0")
        await pilot.press("escape", "escape")
        await say(pilot, "/model other-q8_0")
        await until_shown(pilot, LOADED)
        assert live_of(app)._live.session.loads[-1].model.path == str(shelf / "other-q8_0.gguf")


async def test_without_a_model_the_picker_opens_and_loads_what_is_chosen(start_app: StartApp) -> None:
    Path("models").mkdir()
    for name in ("tiny-q4_0", "large-q8_0-00001-of-00002"):
        write_model(Path(f"models/{name}.gguf"))
    app = start_app(model=None)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "Enter Load", "models", "rows  sorted")
        await pilot.press(*"large")
        await until_shown(pilot, "large-q8_0: part 2 is missing")
        await pilot.press("escape", "escape")
        await until_shown(pilot, "edgetop  no model", "No model loaded: choose one with F4 or /model.")
        await say(pilot, "Hello?")
        await until_said(pilot, "No model is loaded; F4 or /model chooses one.")
        assert prompt_of(app).text == "Hello?"
        await say(pilot, "/model")
        await until_shown(pilot, "rows  sorted")
        await pilot.press(*"tiny-q4", "enter")
        await until_shown(pilot, LOADED)
        load = live_of(app)._live.session.loads[-1]
        assert load.model.path == str(Path("models/tiny-q4_0.gguf").resolve())


async def test_a_model_is_loaded_by_name_in_place_of_the_one_there_is(start_app: StartApp) -> None:
    Path("other.gguf").write_bytes(b"GGUF" + bytes(60))
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "/model nothing-like-it")
        await until_shown(pilot, "nothing-like-it")
        assert len(live_of(app)._live.session.loads) == 1
        await say(pilot, "/model other.gguf")
        await until(pilot, lambda: len(live_of(app)._live.session.loads) == 2, "the other model is loaded")


async def test_sampling_and_system_prompt_reach_the_next_turn(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "/system")
        await until_shown(pilot, "There is no system prompt.")
        await say(pilot, "/system Be brief.")
        await say(pilot, "/set temperature 0.25")
        await say(pilot, "/set warmth 1")
        await until_said(pilot, "System prompt: Be brief.", "From the next prompt on: temperature 0.25.")
        await until_said(pilot, "There is no setting 'warmth'.")
        await say(pilot, "/set")
        await until_said(pilot, "Sampling: temperature 0.25, top_k 40")
        await say(pilot, "Hello.")
        await until_shown(pilot, " tok · ")
        started = live_of(app)._live.session.turns[0].started
        assert started.system == "Be brief."
        assert started.sampling.temperature == 0.25
        await say(pilot, "/system -")
        assert live_of(app)._live.conversation.system is None


async def test_retry_continue_and_clear_change_the_conversation(start_app: StartApp) -> None:
    app = start_app("First.", "Second.", "Third.")
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        conversation = live_of(app)._live.conversation
        for command in ("/retry", "/continue"):
            await say(pilot, command)
        await until_said(pilot, "There is no prompt to answer once more.", "There is no answer to go on with.")
        await say(pilot, "Hello.")
        await until(pilot, lambda: len(conversation.history.messages) == 2, "the first answer")
        await say(pilot, "/retry")
        await until_shown(pilot, "Once more:", "Second.")
        await until(pilot, lambda: conversation.phase == "ready", "the second answer is over")
        assert [message.content for message in conversation.history.messages] == ["Hello.", "Second."]
        await say(pilot, "/continue")
        await until(pilot, lambda: conversation.phase == "ready" and "Third." in text_of(app), "it has gone on")
        assert [message.content for message in conversation.history.messages] == ["Hello.", "Second.Third."]
        await say(pilot, "/clear")
        await until(pilot, lambda: "Hello." not in text_of(app), "the chat is empty")
        assert conversation.history.messages == []
        assert len(live_of(app)._live.session.turns) == 3


async def test_a_file_is_put_into_the_prompt(start_app: StartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("notes.txt").write_bytes("Line one\r\nLine \x1b[31mtwo\xff".encode("latin-1"))
    Path("long.txt").write_bytes(bytes(11))
    monkeypatch.setattr(chat_commands, "LOAD_FILE_BYTES", 10)
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        for name, said in (
            ("long.txt", "is longer than 10 B"),
            (".", "is no file"),
            ("~no-such/x", "cannot be read"),
        ):
            await say(pilot, f"/load {name}")
            await until_said(pilot, said)
        monkeypatch.setattr(chat_commands, "LOAD_FILE_BYTES", 1000)
        await say(pilot, "/load notes.txt")
        await until(pilot, lambda: prompt_of(app).text != "", "the prompt is filled")
        assert prompt_of(app).text == "Line one\nLine ␛[31mtwo\ufffd"


async def test_stats_has_the_figures_of_the_session_and_an_unknown_command_comes_back(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Hello.")
        await until_shown(pilot, " tok · ")
        await say(pilot, "/stats")
        await until_said(pilot, "1 turn, 5 tokens at", "Energy n/a (")
        await say(pilot, "/etc/passwd is what?")
        await until_said(pilot, "There is no command /etc/passwd; /help lists them.")
        assert prompt_of(app).text == "/etc/passwd is what?"
        await say(pilot, "//etc is a folder.")
        await until_shown(pilot, "you  /etc is a folder.")


async def test_a_prompt_is_kept_until_the_model_is_there(start_app: StartApp) -> None:
    app = start_app("At last.", load_s=1.0)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "loading a model")
        await say(pilot, "Are you there?")
        await until_said(pilot, "your prompt is sent when it is there")
        await say(pilot, "And now?")
        await until_said(pilot, "One prompt is waiting for the model already.")
        assert prompt_of(app).text == "And now?"
        await until_shown(pilot, "you  Are you there?", "At last.", " tok · ")


async def test_a_prompt_that_waited_for_a_model_in_vain_comes_back(start_app: StartApp) -> None:
    failure = LoadFailed(reason="not_a_model", message="This is no model.", hint="Choose a GGUF file.")
    app = start_app(load_s=1.0, load_fails=failure)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "loading a model")
        await say(pilot, "Are you there?")
        await until_said(pilot, "This is no model. Choose a GGUF file.")
        await until_shown(pilot, "edgetop  no model")
        assert prompt_of(app).text == "Are you there?"


async def test_a_load_can_be_stopped(start_app: StartApp) -> None:
    app = start_app(load_s=60.0)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "loading a model 0%")
        await pilot.press("f9")
        await until_said(pilot, "Loading was stopped")
        await until_shown(pilot, "edgetop  no model")


async def test_a_prompt_while_the_model_answers_is_given_back(start_app: StartApp) -> None:
    app = start_app(NUMBERS, tokens_per_s=SLOW)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        await until_shown(pilot, "word1")
        await say(pilot, "Stop!")
        await until_said(pilot, "The model is still answering; Ctrl+C stops it.")
        assert prompt_of(app).text == "Stop!"
        await say(pilot, "/clear")
        assert "word1" in text_of(app)
        await pilot.press("f9")
        await until_shown(pilot, " · stopped")


async def test_resizing_while_text_streams_loses_nothing(start_app: StartApp) -> None:
    app = start_app(NUMBERS, tokens_per_s=80)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        sizes = [(120, 36), (80, 24), (60, 20), (40, 12), (80, 24), (39, 10)]
        shown: set[str] = set()
        for turn in range(60):
            columns, rows = sizes[turn % len(sizes)]
            await pilot.resize_terminal(columns, rows)
            await until(
                pilot,
                lambda size=(columns, rows): len(rows_of(app)) == size[1] and app.screen.size == size,  # type: ignore[misc]
                "the new size",
            )
            shown |= set(re.findall(r"word\d+", text_of(app)))
            if live_of(app)._live.conversation.phase == "ready":
                break
        assert turn > len(sizes)
        await until(pilot, lambda: live_of(app)._live.conversation.phase == "ready", "the answer is over")
        await pilot.resize_terminal(120, 100)
        await until_shown(pilot, " tok · ", "you  Count.")
        chat = "\n".join(row[:70] for row in rows_of(app))
        assert re.findall(r"word\d+", chat) == NUMBERS.split()
        assert LOADED in chat


@pytest.mark.parametrize("kind", ["segfault", "kill"])
async def test_when_the_engine_dies_the_text_stays_and_the_chat_goes_on_after_reload(
    start_app: StartApp, kind: str
) -> None:
    fault = InjectedFault(kind=kind, at_token=4)  # type: ignore[arg-type]
    app = start_app(Reply(text=NUMBERS, fault=fault))
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        await until_said(pilot, "word0 word1", "the engine died", "/reload starts the engine again.")
        await until_shown(pilot, "the engine stopped: /reload")
        await say(pilot, "Go on!")
        await until_said(pilot, "The engine is gone; /reload starts it again.")
        assert prompt_of(app).text == "Go on!"
        await say(pilot, "/reload")
        await until(pilot, lambda: text_of(app).count(LOADED) == 2, "the model is loaded again")
        assert "word0 word1" in text_of(app)
        events = {event.kind for event in live_of(app)._live.session.events}
        assert "engine_died" in events


async def test_a_context_that_fills_up_is_said_once(start_app: StartApp) -> None:
    app = start_app("Some words that fill it.", n_ctx=40)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        for count in (1, 2, 3):
            await say(pilot, "More of it, please.")
            await until(pilot, lambda count=count: text_of(app).count(" tok · ") == count, "an answer")  # type: ignore[misc]
        assert text_of(app).count("The context is nearly full (") == 1
        assert re.search(r"Ctx\[\|+\d+/40!\]", text_of(app))


async def test_s_saves_what_is_on_the_screen(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("escape", "s")
        await until_shown(pilot, "The screen is saved as")
        (path,) = Path.cwd().glob("*.svg")
        assert "Scripted" in path.read_text(encoding="utf-8")


async def test_recorded_sessions_open_over_the_chat_to_be_compared_and_replayed(
    start_app: StartApp, tmp_path: Path
) -> None:
    app = start_app()
    for example in sorted((Path(__file__).parents[3] / "sessions").glob("*.json")):
        store = app._prepare()[1]
        store.folder.mkdir(parents=True, exist_ok=True)
        (store.folder / f"20260101-000000-{example.name}").write_bytes(example.read_bytes())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("f3")
        await until_shown(pilot, "Q4_1", "Replay", "Compare")
        await pilot.press("ctrl+space", "down", "ctrl+space", "f5")
        await until_shown(pilot, "(base)", "Pareto")
        await pilot.press("escape")
        await until_shown(pilot, "Replay", "Compare")
        await pilot.press("f6")
        await until_shown(pilot, "align")
        await pilot.press("escape")
        await until_shown(pilot, "Replay", "Compare")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen), "the chat is back")


async def test_the_models_of_the_machine_can_be_checked_from_the_chat(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("f8")
        await until_shown(pilot, "SmolLM2")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen), "the chat is back")


async def test_a_download_says_above_the_prompt_how_far_it_is_and_can_be_stopped(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    def find(_name: str, *, report: Callable[[DownloadProgress], None], stopped: Callable[[], bool], **_: Any) -> Path:
        report(DownloadProgress("tiny.gguf", 2**20, 4 * 2**20, 2**19))
        while not stopped():
            threading.Event().wait(0.01)
        ended.append(True)
        raise ModelError("stopped")

    monkeypatch.setattr("edgetop.live.chat_session.find_model", find)
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        live_of(app)._load_chosen(ModelChoice(Path("hf:owner/tiny:Q4_0")))
        await until_shown(pilot, "downloading tiny.gguf: 1.00 MiB of 4.00 MiB, 512 KiB/s", "Esc Stop")
        await pilot.press("escape")
        await until_said(pilot, "The download is stopped; what has come of it is kept.")
        await until(pilot, lambda: ended, "the download has ended")
        await until(pilot, lambda: "downloading" not in text_of(app), "nothing is downloaded any more")


async def test_advice_is_asked_for_by_a_key_or_a_command(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "/advice")
        await until_said(pilot, "No model is loaded whose file can be read.")
        await say(pilot, "/clear")
        await pilot.press("escape", "d")
        await until_said(pilot, "No model is loaded whose file can be read.")
