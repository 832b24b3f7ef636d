from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Static

from edgetop.tui.app import BaseApp
from edgetop.tui.chat.prompt import LINE_MAX, Prompt
from tests.support.hostile_text import acts_on_a_terminal


def complete(text: str) -> Sequence[str]:
    return [name for name in ("/clear", "/stats", "/system") if text.startswith("/") and name.startswith(text)]


class PromptApp(BaseApp[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        ("f6", "note('f6')", ""),
        ("ctrl+c", "note('ctrl+c')", ""),
        ("escape", "note('escape')", ""),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.noted: list[str] = []

    def compose(self) -> ComposeResult:
        yield Static("chat")
        yield Prompt(completions=complete)

    def on_mount(self) -> None:
        self.prompt.focus()

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    @on(Prompt.Submitted)
    def _keep(self, message: Prompt.Submitted) -> None:
        self.sent.append(message.text)

    def action_note(self, key: str) -> None:
        self.noted.append(key)


async def test_enter_sends_and_empties() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("enter", "h", "i", "[", "b", "enter")
        assert app.sent == ["hi[b"]
        assert app.prompt.text == ""


@pytest.mark.parametrize("key", ["alt+enter", "ctrl+j"])
async def test_a_new_line_is_not_sent(key: str) -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("a", key, "b", "enter")
        assert app.sent == ["a\nb"]


async def test_typed_characters_without_a_picture_stay_as_pasted_ones_do() -> None:
    app = PromptApp()
    word = "\u0645\u06cc\u200c\u062e\u0648 \U0001f468\u200d\U0001f469"
    async with app.run_test() as pilot:
        for character in (*word, "\xad", "\u202e"):
            app.post_message(events.Key(character, character))
        await pilot.press("enter")
        app.post_message(events.Paste(f"{word}\xad\u202e"))
        await pilot.pause()
        await pilot.press("enter")
        assert app.sent[0] == app.sent[1]
        assert app.sent[0].startswith(word)
        assert "\u202e" not in app.sent[0]


async def test_a_line_of_a_megabyte_is_folded_and_sent_whole() -> None:
    app = PromptApp()
    line = "word " * 200_000
    async with app.run_test() as pilot:
        app.post_message(events.Paste(f"before\n{line}\nafter"))
        await pilot.pause()
        await pilot.press("x", "left", "left")
        assert len(app.query_one(Prompt).text) < 100
        await pilot.press("enter", "up", "enter")
        assert app.sent == [f"before\n{line}\nafterx"] * 2


async def test_a_line_that_grows_long_piece_by_piece_is_folded_too() -> None:
    app = PromptApp()
    piece = "word " * 1900
    async with app.run_test() as pilot:
        for _ in range(7):
            app.post_message(events.Paste(piece))
            await pilot.pause()
            assert len(app.prompt.text) < LINE_MAX
        await pilot.press("x", "enter")
        assert app.sent == [f"{piece * 7}x"]


async def test_grows_to_five_lines_and_shrinks_when_sent() -> None:
    app = PromptApp()
    async with app.run_test(size=(40, 20)) as pilot:
        heights = [app.prompt.size.height]
        for _ in range(7):
            await pilot.press("ctrl+j")
            heights.append(app.prompt.size.height)
        assert heights == [1, 2, 3, 4, 5, 5, 5, 5]
        await pilot.press("x", "enter")
        await pilot.pause()
        assert app.prompt.size.height == 1


async def test_up_and_down_go_through_earlier_prompts_and_back_to_the_draft() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"one", "enter", *"two", "enter", *"draft")
        texts = []
        for key in ("up", "up", "up", "down", "down", "down"):
            await pilot.press(key)
            texts.append(app.prompt.text)
        assert texts == ["two", "one", "one", "two", "draft", "draft"]


async def test_up_moves_inside_a_text_of_several_lines_first() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"one", "enter", "a", "ctrl+j", "b", "up")
        assert app.prompt.text == "a\nb"
        await pilot.press("up")
        assert app.prompt.text == "one"


async def test_tab_goes_through_the_completions() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("/", "s")
        texts = []
        for _ in range(4):
            await pilot.press("tab")
            texts.append(app.prompt.text)
        assert texts == ["/stats", "/system", "/s", "/stats"]
        await pilot.press("x", "tab")
        assert app.prompt.text == "/statsx"
        assert app.prompt.has_focus


async def test_pasted_text_is_made_harmless_and_keeps_its_lines() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("a")
        app.prompt.post_message(events.Paste("[/b]\x1b]0;x\x07\u202e\ud800\r\nnext\rlast"))
        await pilot.pause()
        assert not acts_on_a_terminal(app.prompt.text.replace("\n", ""))
        assert app.prompt.text.startswith("a[/b]")
        assert app.prompt.text.split("\n")[1:] == ["next", "last"]


async def test_put_replaces_the_text_with_the_cursor_at_its_end() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("a")
        app.prompt.put("given\x1b back")
        await pilot.press("!")
        assert app.prompt.text == "given␛ back!"


async def test_the_keys_of_the_screen_reach_it() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("a", "f6", "ctrl+c", "escape")
        assert app.noted == ["f6", "ctrl+c", "escape"]
        assert app.prompt.text == "a"


async def test_words_can_be_deleted_and_the_line_walked() -> None:
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"one two", "ctrl+w", "home", "x", "end", "y", "enter")
        assert app.sent == ["xone y"]
