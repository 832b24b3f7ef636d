from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.keys import Keys

from edgetop.tui.help_screen import LIVE_PARTS, WORDS, help_text
from edgetop.tui.keymap import KEYS, PROMPT_KEYS, bindings, key_name
from edgetop.tui.live_screen import LiveScreen
from edgetop.tui.slash import COMMANDS


def test_no_key_does_two_things() -> None:
    keys = [name for key in KEYS for name in key.keys]
    assert len(keys) == len(set(keys))


def test_every_action_is_one_of_the_screen() -> None:
    for key in KEYS:
        assert hasattr(LiveScreen, f"action_{key.action.partition('(')[0]}")


def test_every_key_is_one_that_terminals_send() -> None:
    known = {key.value for key in Keys}
    named = {"question_mark", "minus", "plus", "equals_sign", "space"}
    for key in KEYS:
        for name in key.keys:
            assert len(name) == 1 or name in known | named


def test_what_works_everywhere_comes_before_the_prompt_and_nothing_else_does() -> None:
    first = {name for binding in bindings() if binding.priority for name in binding.key.split(",")}
    assert first == {"f1", "f3", "f4", "f5", "f6", "f8", "f9", "f10", "ctrl+c", "escape", "pageup", "pagedown"}


@pytest.mark.parametrize("width", [35, 55, 73])
def test_the_help_lists_every_key_command_and_word_and_fits(width: int) -> None:
    text = help_text(width, LIVE_PARTS)
    assert max(map(cell_len, text.splitlines())) <= width
    words = " ".join(text.split())
    for terms, does in [
        *(("  ".join(map(key_name, key.keys)), key.does) for key in KEYS),
        *PROMPT_KEYS,
        *((f"/{command.name} {command.argument}", command.does) for command in COMMANDS),
        *WORDS,
    ]:
        assert " ".join(f"{terms} {does}".split()) in words


def test_keys_that_work_in_the_panes_only_are_listed_there() -> None:
    _, anywhere, panes, *_ = help_text(73, LIVE_PARTS).split("\n\n")
    assert "F1 " in anywhere
    assert "?  h " not in anywhere
    assert "?  h " in panes
