"""What can be done with what was said, on the live screen."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from edgetop.core.records import Sampled, TurnFinished, TurnStarted
from edgetop.inference.scripted import Reply
from edgetop.live.chat_session import LiveSession
from edgetop.live.history import RecordedTurn
from edgetop.tui.app import ChatApp
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.controller import write_turns
from edgetop.tui.chat.prompt import Prompt
from edgetop.tui.screens.sessions import SessionsScreen
from tests.support.demo_session import DemoApp, demo_records
from tests.support.recorded_sessions import fold
from tests.tui.recording_terminal import Terminal, attach_terminal
from tests.tui.screen_text import rows_of, said_in, text_of, until, until_said, until_shown
from tests.tui.scripted_app import SLOW, StartApp, say, start_app

__all__ = ["start_app"]

LOADED = "Scripted Q4_0, 64.0 MiB, loaded in"
CODE = "Use this:\n\n```python\nprint('a')\n```\n\nor this:\n\n```sh\nls -l\n```\n"
THOUGHT = "<think>First a needle.\nThen a haystack.</think>The answer."


class Clipboard(Terminal):
    """A terminal that keeps what is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.copied: list[str] = []

    def feed(self, data: str) -> None:
        for found in re.finditer(r"\x1b\]52;c;([^\x07]*)\x07", data):
            self.copied.append(base64.b64decode(found[1]).decode("utf-8"))
        super().feed(re.sub(r"\x1b\]52;c;[^\x07]*\x07", "", data))


def clipboard_of(app: ChatApp, monkeypatch: pytest.MonkeyPatch) -> Clipboard:
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setattr("tests.tui.recording_terminal.Terminal", Clipboard)
    terminal = attach_terminal(app)
    assert isinstance(terminal, Clipboard)
    return terminal


def prompt_of(app: ChatApp) -> Prompt:
    return app.screen.query_one(Prompt)


def chat_of(app: ChatApp) -> ChatView:
    return app.screen.query_one(ChatView)


def messages_of(app: ChatApp) -> list[str]:
    assert isinstance(app._session, LiveSession)
    return [message.content for message in app._session.conversation.history.messages]


async def test_answers_code_and_conversation_are_copied(start_app: StartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start_app("First \x1b[31manswer\x07.", CODE)
    clipboard = clipboard_of(app, monkeypatch)
    async with app.run_test(headless=False, size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "/copy")
        await until_said(pilot, "There is nothing to copy.")
        await say(pilot, "One?")
        await until_said(pilot, "First", "first token")
        await say(pilot, "Two?")
        await until_said(pilot, "ls -l", "first token")
        await pilot.press("escape", "y", "Y")
        await until(pilot, lambda: len(clipboard.copied) == 2, "answer and code are copied")
        await say(pilot, "/copy 2")
        await say(pilot, "/copy all")
        await until(pilot, lambda: len(clipboard.copied) == 4, "all is copied")
        told = [notice.message for notice in app._notifications]
        assert told[0].startswith("Copied the last answer, 63 characters; ")
        assert "OSC 52" in told[0]
        assert [text.partition(",")[0] for text in told[1:]] == [
            "Copied the last code", "Copied answer 2 from the end", "Copied the conversation",
        ]  # fmt: skip
        await say(pilot, "/copy 3")
        await until_said(pilot, "/copy takes the number")
    assert clipboard.copied[:3] == [CODE, "ls -l", "First [31manswer."]
    assert clipboard.copied[3].startswith("## You\n\nOne?\n\n## Scripted Q4_0\n\nFirst [31manswer.\n\n## You\n\nTwo?")


async def test_the_answer_that_is_read_is_the_one_copied(start_app: StartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start_app("The first answer.\n```\nfirst code\n```", "line\n" * 60)
    clipboard = clipboard_of(app, monkeypatch)
    async with app.run_test(headless=False, size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, LOADED)
        for question in ("One?", "Two?"):
            await say(pilot, question)
            await until(pilot, lambda: messages_of(app)[-2:-1] == [question], "it is answered")  # noqa: B023 - at once
        await pilot.press("escape", "home")
        await until_said(pilot, "The first answer.")
        await pilot.press("y", "Y")
        await until(pilot, lambda: len(clipboard.copied) == 2, "both are copied")
        told = [notice.message.partition(";")[0] for notice in app._notifications]
        assert told == ["Copied the answer in view, 36 characters", "Copied the code in view, 10 characters"]
        assert not chat_of(app).following
    assert clipboard.copied == ["The first answer.\n```\nfirst code\n```", "first code"]


async def test_an_answer_is_copied_as_far_as_it_has_come(start_app: StartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start_app(" ".join(f"word{number}" for number in range(400)), tokens_per_s=SLOW)
    clipboard = clipboard_of(app, monkeypatch)
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        await until_said(pilot, "word1")
        await say(pilot, "/copy")
        await until(pilot, lambda: clipboard.copied, "it is copied")
        assert clipboard.copied[0].startswith("word0 word1")


async def test_what_is_too_long_for_the_clipboard_is_saved_instead(
    start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.tui.terminal_output.TEXT_MAX_BYTES", 20)
    app = start_app("More than twenty bytes of an answer\x1b[2J.")
    clipboard = clipboard_of(app, monkeypatch)
    target = tmp_path / "chat.md"
    monkeypatch.chdir(tmp_path)  # a name of known length, so that no line breaks within it
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "/save chat.md")
        await until_said(pilot, "There is nothing to save yet.")
        await say(pilot, "One?")
        await until_said(pilot, "first token")
        await say(pilot, "/copy")
        await until_said(pilot, "is longer than terminals take", "/save FILE")
        assert not clipboard.copied
        await say(pilot, "/save chat.md")
        await until_said(pilot, "The conversation is saved as", "chat.md")
        written = target.read_text("utf-8")
        assert "## You\n\nOne?" in written
        assert "\x1b" not in written
        target.write_text("mine", "utf-8")
        await say(pilot, f"/save {target}")
        await until_said(pilot, "is there already; /save!")
        assert target.read_text("utf-8") == "mine"
        await say(pilot, f"/save! {target}")
        await until(pilot, lambda: target.read_text("utf-8") == written, "it is written over")
        await say(pilot, f"/save {tmp_path}/none/chat.md")
        await until_said(pilot, "cannot be written: No such file")


async def test_the_chat_is_searched_from_the_panes(start_app: StartApp) -> None:
    app = start_app("A needle.\n" + "hay\n" * 60 + "The NEEDLE again.")
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "needle?")
        await until_said(pilot, "first token")
        await pilot.press("escape", "slash", *"needle")
        await until_shown(pilot, "/ needle_", "3 of 3")
        assert not prompt_of(app).display
        await pilot.press("enter", "n", "n")
        await until_shown(pilot, "2 of 3", "A needle.")
        await pilot.press("N")
        await until_shown(pilot, "1 of 3", "you  needle?")
        await pilot.press("slash")
        await until_shown(pilot, "/ _")
        await pilot.press(*"NEEDLE")
        await until_shown(pilot, "1 of 1")
        await pilot.press("escape")
        await until(pilot, lambda: prompt_of(app).display, "the prompt is back")
        assert "/ NEEDLE" not in text_of(app)
        assert "NEEDLE again" in said_in(app)
        assert not any(row.marks for row in chat_of(app).rows_in_view() if row is not None)
        await pilot.press("i", "slash")
        assert prompt_of(app).text == "/"


async def test_reasoning_is_folded_until_somebody_opens_it(start_app: StartApp) -> None:
    app = start_app(THOUGHT)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("escape", "o")
        await until_shown(pilot, "There is no reasoning")
        await say(pilot, "Well?")
        await until_said(pilot, "The answer.", "first token")
        assert re.search(r"│ thought for [\d.]+ m?s, 11 tokens · o opens", said_in(app))
        assert "haystack" not in said_in(app)
        await pilot.press("escape", "o")
        await until_said(pilot, "First a needle.", "Then a haystack.")
        await pilot.press("o")
        await until_said(pilot, "o opens")
        row = next(index for index, line in enumerate(rows_of(app)) if "o opens" in line)
        await pilot.click(offset=(10, row))
        await until_said(pilot, "Then a haystack.")


async def test_a_thought_shows_its_last_line_while_it_goes_on(start_app: StartApp) -> None:
    app = start_app("<think>One.\nTwo goes on " + "and on " * 50, tokens_per_s=SLOW / 3)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Well?")
        await until_said(pilot, "│ Two goes on")
        assert "One." not in said_in(app)


async def test_the_last_prompt_is_changed_and_takes_the_place_of_its_turn(start_app: StartApp) -> None:
    app = start_app("Wrong.", "Right.")
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await pilot.press("escape", "e")
        await until_said(pilot, "There is no prompt to change.")
        await say(pilot, "What?")
        await until_said(pilot, "Wrong.", "first token")
        await pilot.press(*"draft", "escape", "e")
        await until_shown(pilot, "edit the last prompt")
        assert prompt_of(app).text == "What?"
        await pilot.press("escape")
        assert prompt_of(app).text == "draft"
        await pilot.press("e", *" Now", "enter")
        await until_said(pilot, "What? Now", "Right.", "first token")
        assert "Wrong." not in said_in(app)
        assert messages_of(app) == ["What? Now", "Right."]
        assert "edit the last prompt" not in text_of(app)
        await pilot.press("escape", "r")
        await until_said(pilot, "Once more:", "Wrong.", "first token")
        await say(pilot, "/undo")
        await until(pilot, lambda: not messages_of(app), "the turn is gone")
        assert "Right." not in said_in(app)
        await say(pilot, "/undo")
        await until_said(pilot, "There is no turn to take back.")


async def test_who_deletes_the_last_prompt_asks_something_new(start_app: StartApp) -> None:
    app = start_app("One.", "Two.")
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "a")
        await until_said(pilot, "One.", "first token")
        await pilot.press("escape", "e", "backspace")
        await until(pilot, lambda: "edit the last" not in text_of(app), "it is a new prompt")
        await pilot.press("b", "enter")
        await until_said(pilot, "Two.")
        await until(pilot, lambda: messages_of(app) == ["a", "One.", "b", "Two."], "both turns are kept")


async def test_a_stopped_answer_that_is_gone_on_with_is_one_answer(start_app: StartApp) -> None:
    app = start_app(" ".join(f"word{number}" for number in range(400)), " The end.", tokens_per_s=SLOW)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "Count.")
        await until_said(pilot, "word1")
        await pilot.press("f9")
        await until_said(pilot, "stopped")
        await say(pilot, "/continue")
        await until_said(pilot, "The end.")
        await until(pilot, lambda: len(messages_of(app)) == 2 and "The end." in messages_of(app)[1], "it has ended")
        await say(pilot, "/undo")
        await until(pilot, lambda: "word0" not in said_in(app) and "The end." not in said_in(app), "all of it is gone")


async def test_a_recorded_conversation_is_gone_on_with(start_app: StartApp, tmp_path: Path) -> None:
    first = start_app("The first answer.", THOUGHT)
    async with first.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "/system Be brief.")
        for question in ("One?", "Two?"):
            await say(pilot, question)
            await until_said(pilot, question, "first token")
        await until(pilot, lambda: len(messages_of(first)) == 4, "both are answered")
    path = first.save_session()
    assert path is not None
    second = start_app("The third answer.")
    async with second.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, "/open nothing")
        await until_said(pilot, "No session matches 'nothing'.")
        await say(pilot, "/open")
        await until(pilot, lambda: isinstance(second.screen, SessionsScreen), "the list is open")
        await until_shown(pilot, "Scripted")
        await pilot.press("enter")
        await until_said(pilot, "The first answer.", "Two?", "This continues session", "2 turns")
        await say(pilot, "Three?")
        await until_said(pilot, "The third answer.", "first token")
        assert messages_of(second) == [
            *("One?", "The first answer.", "Two?", "The answer.", "Three?", "The third answer.")
        ]
        assert isinstance(second._session, LiveSession)
        assert second._session.session.turns[-1].started.system == "Be brief."
    path = second.save_session()
    third = start_app(resume_from=path)
    async with third.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "The third answer.", "This continues session", "3 turns", LOADED)
        assert len(messages_of(third)) == 6


async def test_a_prompt_that_cannot_fit_is_given_back_and_sent_when_it_is_meant(start_app: StartApp) -> None:
    app = start_app("Short.", n_ctx=200)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        long = "word " * 400
        await say(pilot, long)
        await until_said(pilot, "This does not fit", "about 506 tokens, 307 too many for the context of 200", "/undo")
        assert prompt_of(app).text == long
        assert not messages_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: len(messages_of(app)) == 2, "it was sent all the same")


async def test_a_file_is_weighed_against_the_context_and_a_binary_one_refused(
    start_app: StartApp, tmp_path: Path
) -> None:
    app = start_app(n_ctx=200)
    text, binary = tmp_path / "notes.txt", tmp_path / "picture.png"
    text.write_text("word " * 100, "utf-8")
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, LOADED)
        await say(pilot, f"/load {binary}")
        await until_said(pilot, "is not a text file")
        await say(pilot, f"/load {text}")
        await until_said(pilot, "about 125 tokens of the 200 that the context holds")
        assert prompt_of(app).text == "word " * 100


@pytest.mark.parametrize("level", ["braille", "ascii"])
async def test_everything_can_be_done_in_a_very_small_terminal(start_app: StartApp, level: str) -> None:
    app = start_app(Reply(text=THOUGHT), level=level)
    async with app.run_test(size=(40, 12)) as pilot:
        await until_shown(pilot, "loaded in")
        await say(pilot, "needle?")
        await until_said(pilot, "The answer.", "first token")
        await pilot.press("escape", "slash", *"needle", "enter", "n")
        await until_shown(pilot, "2 of 2", "First a needle.")
        await pilot.press("escape", "e")
        await until_shown(pilot, "edit the last prompt")
        if level == "ascii":
            assert text_of(app).isascii()


RECORDS = demo_records()
ENDED = next(index for index, record in enumerate(RECORDS) if isinstance(record, TurnFinished)) + 1
NEXT = next(index for index, record in enumerate(RECORDS) if isinstance(record, TurnStarted) and record.turn == 2) + 1


async def test_the_energy_of_an_answer_comes_below_it_when_it_is_final() -> None:
    app = DemoApp(RECORDS[:ENDED])
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.played:
            await pilot.pause()
        assert "58 tok · 6.46 tok/s · first token" in said_in(app)
        for record in RECORDS[ENDED:NEXT]:
            app.happen(record)
        app.draw()
        assert "58 tok · 6.46 tok/s · 1.42 J/tok · first token" in said_in(app)


async def test_the_answers_of_a_session_that_is_opened_again_have_their_energy() -> None:
    session = fold(RECORDS)
    app = DemoApp(RECORDS[:1])
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.played:
            await pilot.pause()
        write_turns(app.screen.query_one(ChatView), [RecordedTurn(session, turn) for turn in session.turns], "braille")
        await until_said(pilot, "58 tok · 6.46 tok/s · 1.42 J/tok · first token")


async def test_an_answer_that_was_followed_at_once_by_a_prompt_has_its_energy_too() -> None:
    app = DemoApp(RECORDS[:ENDED])
    (begun,) = [record for record in RECORDS if isinstance(record, TurnStarted) and record.turn == 2]
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.played:
            await pilot.pause()
        app.happen(TurnStarted(turn=2, t_us=app.demo.now_us() + 1, prompt=begun.prompt))
        for record in RECORDS[ENDED:NEXT]:
            if isinstance(record, Sampled):
                app.happen(record)
        app.draw()
        assert "J/tok · first token" in said_in(app)


async def test_without_power_there_is_no_word_of_energy() -> None:
    app = DemoApp(demo_records(power=False))
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.played:
            await pilot.pause()
        assert "58 tok · 6.46 tok/s · first token" in said_in(app)
