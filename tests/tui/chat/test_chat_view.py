from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from rich.cells import cell_len
from textual import events
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.transcript import LinePosition
from tests.support.hostile_text import HOSTILE_REPLIES, acts_on_a_terminal
from tests.tui.recording_terminal import attach_terminal


class ChatApp(App[None]):
    CSS = """
    Screen { layers: base over; }
    Horizontal { height: 1fr; }
    #side { width: 20; border: round green; }
    .over { layer: over; dock: top; height: 3; width: 30; background: red; }
    """

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield ChatView(id="chat")
            yield Static("side", id="side")

    @property
    def chat(self) -> ChatView:
        return self.query_one(ChatView)


def lines(chat: ChatView) -> list[str]:
    return [chat.render_line(y).text.rstrip() for y in range(chat.size.height)]


def follows(chat: ChatView) -> bool:
    return chat.following


async def type_out(pilot: Pilot[None], chat: ChatView, text: str, size: int = 37) -> None:
    for start in range(0, len(text), size):
        chat.append_text(text[start : start + size])
        await pilot.pause()


NUMBERED = "".join(f"line {number}\n" for number in range(60))


async def test_figures_that_become_two_lines_leave_the_end_at_the_bottom() -> None:
    app = ChatApp()
    async with app.run_test(size=(60, 20)) as pilot:
        chat = app.chat
        await type_out(pilot, chat, NUMBERED)
        reply = chat.finish("1200 tok")
        chat.action_to_end()
        await pilot.pause()
        assert lines(chat)[-1].endswith("1200 tok")
        chat.set_figures(reply, "1200 tok · 27.1 tok/s · 0.292 J/tok · first token 0.45 s")
        await pilot.pause()
        assert lines(chat)[-1].endswith("0.45 s")


@pytest.mark.parametrize("text", HOSTILE_REPLIES, ids=range(len(HOSTILE_REPLIES)))
async def test_a_hostile_reply_is_drawn_literally_and_inside_the_view(text: str) -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chat = app.chat
        for finished in (False, True):
            if finished:
                chat.finish("9 tok")
            else:
                chat.append_text(text[: len(text) // 2])
                chat.append_text(text[len(text) // 2 :])
            await pilot.pause()
            for y in range(chat.size.height):
                strip = chat.render_line(y)
                assert not acts_on_a_terminal(strip.text)
                assert not any(segment.control for segment in strip)
                assert cell_len(strip.text) == strip.cell_length == chat.size.width


async def test_only_new_characters_are_written_and_the_terminal_shows_what_a_full_repaint_would() -> None:
    app = ChatApp()
    terminal = attach_terminal(app)
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        chat = app.chat
        chat.add_message("user", "Explain what a PMIC does, [b]please[/b].")
        await pilot.pause()
        before = terminal.written
        chat.append_text("A power management")
        assert 0 < terminal.written - before < 100
        await type_out(pilot, chat, " integrated circuit [/ makes 中文 wide voltages\n\n" * 30)
        chat.append_text("\n\nSome *Markdown* and `code`.\n\n- item")
        chat.finish("148 tok · 12.4 tok/s")
        await pilot.pause()
        painted = terminal.cells()
        assert any("148 tok" in line for line in terminal.display)
        app.screen.refresh(repaint=True)
        await pilot.pause()
        assert terminal.cells() == painted


async def test_what_lies_over_the_chat_stays_in_front() -> None:
    app = ChatApp()
    terminal = attach_terminal(app)
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        over = Static("in front", classes="over")
        await app.mount(over)
        await pilot.pause()
        app.chat.append_text("behind " * 100)
        await pilot.pause()
        assert terminal.display[0].startswith("in front")
        assert terminal.display[5].startswith("behind")
        await over.remove()
        await pilot.pause()
        assert terminal.display[0].startswith("behind")


async def test_a_screen_on_top_hides_the_growing_reply() -> None:
    app = ChatApp()
    terminal = attach_terminal(app)
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        await app.push_screen(Screen())
        await pilot.pause()
        app.chat.append_text("behind")
        await pilot.pause()
        assert not any("behind" in line for line in terminal.display)
        app.pop_screen()
        await pilot.pause()
        assert any("behind" in line for line in terminal.display)


async def test_follows_by_half_pages() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chat = app.chat
        tops = [0]
        for number in range(60):
            chat.append_text(f"line {number}\n")
            await pilot.pause()
            assert f"line {number}" in lines(chat)
            tops.append(int(lines(chat)[0].removeprefix("line ")))
        moves = [after - before for before, after in pairwise(tops) if after != before]
        assert moves == [13, 13, 13]


async def test_stays_where_the_person_has_moved_it() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chat = app.chat
        chat.append_text(NUMBERED)
        chat.action_page(-1)
        await pilot.pause()
        assert not follows(chat)
        seen = lines(chat)
        chat.append_text("more\n" * 40)
        assert lines(chat) == seen
        chat.finish("40 tok")
        assert lines(chat) == seen
        chat.action_to_end()
        assert follows(chat)
        assert lines(chat)[-1].strip() == "40 tok"


async def test_moving_down_to_the_end_follows_again() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)):
        chat = app.chat
        chat.append_text(NUMBERED)
        chat.action_to_top()
        assert lines(chat)[0] == "line 0"
        assert not follows(chat)
        chat.action_move(3)
        assert lines(chat)[0] == "line 3"
        for _ in range(5):
            chat.action_page(1)
        assert follows(chat)


async def test_a_prompt_of_the_person_brings_the_end_into_view() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)):
        chat = app.chat
        chat.append_text(NUMBERED)
        chat.finish()
        chat.action_to_top()
        chat.add_message("note", "aside")
        assert lines(chat)[0] == "line 0"
        chat.add_message("user", "and now?")
        assert "you  and now?" in lines(chat)


async def test_a_narrower_view_wraps_anew_and_keeps_the_end() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chat = app.chat
        chat.append_text("many short words " * 200)
        chat.finish("200 tok")
        await pilot.resize_terminal(50, 14)
        await pilot.pause()
        assert chat.size.width == 30
        assert lines(chat)[-1].strip() == "200 tok"
        assert all(len(line) <= 30 for line in lines(chat))


async def test_the_wheel_moves_the_view() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chat = app.chat
        chat.append_text(NUMBERED)
        chat.action_to_end()
        before = lines(chat)[0]
        await pilot._post_mouse_events([events.MouseScrollUp], chat)
        await pilot.pause()
        assert lines(chat)[3] == before


async def test_clear_and_remove_the_last_turn() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)):
        chat = app.chat
        chat.add_message("user", "hello")
        chat.add_message("user", "hello?")
        chat.append_text("hi")
        chat.finish("1 tok")
        chat.remove_last_turn()
        assert [line for line in lines(chat) if line] == ["you  hello"]
        chat.clear()
        assert not any(lines(chat))


async def test_a_theme_change_draws_finished_markdown_in_the_new_colours() -> None:
    app = ChatApp()
    app.stylesheet.add_source(".chat--heading { color: $primary; }")
    async with app.run_test(size=(80, 24)) as pilot:
        chat = app.chat
        chat.append_text("# Head\n\ntext")
        chat.finish()
        await pilot.pause()
        before = next(iter(chat.render_line(0))).style
        app.theme = "textual-light"
        await pilot.pause()
        after = next(iter(chat.render_line(0))).style
        assert before != after


async def test_ascii_glyphs_replace_the_others() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)):
        chat = app.chat
        chat.append_text("hm\x1b", "reasoning")
        chat.append_text("- item", "answer")
        chat.finish()
        chat.add_message("note", "aside")
        chat.toggle_reasoning()
        assert lines(chat)[0] == "│ hm␛"
        chat.set_level("ascii")
        assert lines(chat)[0] == "| hm^["
        assert "".join(lines(chat)).isascii()


async def test_reasoning_that_is_opened_begins_in_view_and_is_folded_again() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chat = app.chat
        chat.append_text("first thought\n" + "thought\n" * 40, "reasoning")
        chat.end_reasoning("thought for 3.2 s, 120 tokens")
        chat.append_text("answer\n" * 10)
        chat.finish("10 tok")
        await pilot.pause()
        folded = lines(chat)
        assert folded[0] == "│ thought for 3.2 s, 120 tokens · o opens"
        assert chat.toggle_reasoning()
        assert lines(chat)[:2] == ["│ first thought", "│ thought"]
        assert not follows(chat)
        assert chat.toggle_reasoning()
        assert lines(chat) == folded
        assert follows(chat)


async def test_who_has_moved_up_stays_at_the_same_text_through_every_size() -> None:
    app = ChatApp()
    async with app.run_test(size=(120, 36)) as pilot:
        chat = app.chat
        chat.append_text("**Markdown** of some *length*. " * 30 + "\n\n" + "\n".join(f"{n} " * 30 for n in range(40)))
        chat.finish()
        for number in range(20):
            chat.add_message("user", f"question {number} " * 20)
        chat.action_move(-30)
        before = lines(chat)
        words = before[0].split()[:3]
        for size in ((80, 24), (40, 12), (61, 19), (160, 48), (41, 12), (79, 30)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            text = " ".join(" ".join(lines(chat)[:2]).split())
            assert " ".join(words) in text
            assert not follows(chat)
        await pilot.resize_terminal(120, 36)
        await pilot.pause()
        assert lines(chat) == before


async def test_a_page_that_has_become_higher_is_filled() -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 12)) as pilot:
        chat = app.chat
        chat.append_text(NUMBERED)
        chat.finish()
        chat.action_to_end()
        chat.action_move(-1)
        await pilot.resize_terminal(80, 40)
        await pilot.pause()
        assert lines(chat)[-1] == "line 59"
        await pilot.resize_terminal(80, 12)
        await pilot.pause()
        assert lines(chat)[0] == "line 47"


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_lost_when_the_size_changes_while_text_streams(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - sizes
    text = "".join(
        random.choice(["word ", "中文 ", "a-very-long-word-without-a-blank ", "\n", "\t"]) for _ in range(600)
    )
    app = ChatApp()
    async with app.run_test(size=(120, 36)) as pilot:
        chat = app.chat
        sent = 0
        while sent < len(text):
            size = random.randint(1, 80)
            chat.append_text(text[sent : sent + size])
            sent += size
            if random.random() < 0.5:
                await pilot.resize_terminal(random.randint(40, 160), random.randint(12, 48))
        await pilot.pause()
        chat.finish("all")
        chat.action_to_end()
        whole = "".join(row.plain for row in chat._transcript.rows(LinePosition(0, 0), 10_000) if row is not None)
        assert "".join(whole.replace("↪", "").split()) == "".join(text.split()) + "all"
        assert lines(chat)[-1].strip() == "all"


async def test_blocks_of_markdown_are_shown_as_such_while_the_answer_goes_on() -> None:
    app = ChatApp()
    shown = ["A heading here", "Some strong words."]
    async with app.run_test(size=(60, 30)):
        chat = app.chat
        for piece in ("## A heading here\n\nSome **strong", "** words.\n", "\nThe last **op", "en** one"):
            chat.append_text(piece)
        assert [line for line in lines(chat) if line] == [
            "A heading here",
            "Some strong words.",
            "The last **open** one",
        ]
        assert chat.growing_answer == "## A heading here\n\nSome **strong** words.\n\nThe last **open** one"
        chat.finish()
        assert [line for line in lines(chat) if line] == [*shown, "The last open one"]


async def test_who_reads_above_stays_there_when_a_block_is_finished() -> None:
    app = ChatApp()
    async with app.run_test(size=(40, 10)):
        chat = app.chat
        chat.append_text("".join(f"line {number}\n" for number in range(40)))
        chat.action_move(-15)
        top = lines(chat)[0]
        chat.append_text("\nAnd on it goes\nwith more\n\nand more")
        assert lines(chat)[0] == top
