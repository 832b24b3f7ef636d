from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.engine_settings import SamplingSettings
from edgetop.live.chat_commands import SettingError, settings_words, with_setting
from edgetop.tui.chat.slash_commands import COMMANDS, completions, parse


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/help", ("help", "")),
        ("/model  tiny q4 ", ("model", "tiny q4")),
        ("/system Be brief.\nBe kind.", ("system", "Be brief.\nBe kind.")),
        ("/load\tnotes.txt", ("load", "notes.txt")),
        ("/", ("", "")),
        ("//usr is a folder", None),
        ("What is /usr?", None),
        ("", None),
    ],
)
def test_a_slash_begins_a_command_and_two_a_prompt(text: str, command: tuple[str, str] | None) -> None:
    assert parse(text) == command


@given(st.text())
def test_any_text_is_a_command_or_a_prompt(text: str) -> None:
    command = parse(text)
    assert (command is not None) == (text.startswith("/") and not text.startswith("//"))
    assert command is None or not any(blank in command[0] for blank in " \t\n")


def test_a_command_is_completed_until_its_argument_begins() -> None:
    assert completions("/re") == ["/retry", "/reload"]
    assert completions("/") == [f"/{command.name}" for command in COMMANDS]
    assert completions("/load ") == completions("re") == completions("/nothing") == []


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("temperature 0.2", "temperature", 0.2),
        ("temp 0", "temperature", 0.0),
        ("top_k  5", "top_k", 5),
        ("seed 7", "seed", 7),
        ("seed random", "seed", None),
        ("max_tokens none", "max_tokens", None),
    ],
)
def test_a_setting_is_changed_and_the_others_stay(argument: str, field: str, value: float | None) -> None:
    before = SamplingSettings(temperature=0.5, seed=3, max_tokens=9)
    after = with_setting(before, argument)
    assert getattr(after, field) == value
    others = [name for name in SamplingSettings.__struct_fields__ if name != field]
    assert [getattr(after, name) for name in others] == [getattr(before, name) for name in others]


@pytest.mark.parametrize(
    "argument",
    [
        *("temperature -1", "temperature nan", "temperature inf", "temperature", "temperature hot", "top_p 1.01"),
        *("top_k 1.5", "seed -1", f"seed {2**32}", "max_tokens 0", "warmth 1", ""),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_a_sentence(argument: str) -> None:
    with pytest.raises(SettingError, match=r"\.$"):
        with_setting(SamplingSettings(), argument)


def test_the_words_of_the_settings_are_those_that_set_them() -> None:
    wanted = SamplingSettings(temperature=0.25, top_k=7, seed=11, max_tokens=99, repeat_penalty=1.5)
    sampling = SamplingSettings()
    for words in settings_words(wanted).split(", "):
        sampling = with_setting(sampling, words)
    assert sampling == wanted
    assert "seed random, max_tokens none" in settings_words(SamplingSettings())
