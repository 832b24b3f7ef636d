from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.engine_settings import SamplingSettings
from edgetop.io.files import FILE_SUFFIX
from edgetop.live import chat_commands
from edgetop.live.chat_commands import (
    SLASH_COMMANDS,
    Completion,
    SettingError,
    completions,
    parse_slash_command,
    settings_words,
    with_setting,
)
from edgetop.live.chat_session import LiveSession
from edgetop.session.store import Store


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
    assert parse_slash_command(text) == command


@given(st.text())
def test_any_text_is_a_command_or_a_prompt(text: str) -> None:
    command = parse_slash_command(text)
    assert (command is not None) == (text.startswith("/") and not text.startswith("//"))
    assert command is None or not any(blank in command[0] for blank in " \t\n")


def test_a_command_is_completed_until_its_argument_begins() -> None:
    assert completions("/re") == ["/retry", "/reload"]
    assert completions("/") == [f"/{command.name}" for command in SLASH_COMMANDS]
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
        ("temperature=0.2", "temperature", 0.2),
        ("enable_thinking=false", "template_args", {"enable_thinking": False}),
        ("enable_thinking false", "template_args", {"enable_thinking": False}),
        ("reasoning_effort low", "template_args", {"reasoning_effort": "low"}),
        ("date = 1 May", "template_args", {"date": "1 May"}),
    ],
)
def test_a_setting_is_changed_and_the_others_stay(argument: str, field: str, value: object) -> None:
    before = SamplingSettings(temperature=0.5, seed=3, max_tokens=9)
    after = with_setting(before, argument)
    assert getattr(after, field) == value
    others = [name for name in SamplingSettings.__struct_fields__ if name != field]
    assert [getattr(after, name) for name in others] == [getattr(before, name) for name in others]


@pytest.mark.parametrize(
    "argument",
    [
        *("temperature -1", "temperature nan", "temperature inf", "temperature", "temperature hot", "top_p 1.01"),
        *("top_k 1.5", "seed -1", f"seed {2**32}", "max_tokens 0", "warmth 1", "", "warmth=", "=1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_a_sentence(argument: str) -> None:
    with pytest.raises(SettingError, match=r"\.$"):
        with_setting(SamplingSettings(), argument)


def test_the_words_of_the_settings_are_those_that_set_them() -> None:
    wanted = SamplingSettings(
        temperature=0.25, top_k=7, seed=11, max_tokens=99, repeat_penalty=1.5, template_args={"enable_thinking": False}
    )
    sampling = SamplingSettings()
    for words in settings_words(wanted).split(", "):
        sampling = with_setting(sampling, words)
    assert sampling == wanted
    assert "seed random, max_tokens none" in settings_words(SamplingSettings())


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Completion:
    """Completion over a folder with a few files, sessions and models."""
    monkeypatch.chdir(tmp_path)
    for name in ("sessions", "texts", "texts/deep", ".hidden"):
        (tmp_path / name).mkdir()
    for name in ("notes.txt", "nothing here.md", "evil\x1b[2J.txt", ".secret", "texts/a.txt"):
        (tmp_path / name).write_text("text", "utf-8")
    for name in ("20261121-100000-smollm2-0123abcd", "20261122-100000-qwen-4567cdef", ".20261123-part"):
        (tmp_path / "sessions" / f"{name}{FILE_SUFFIX}").write_text("{}", "utf-8")
    names = ["SmolLM2-135M.Q4_1", "smollm2-360m.Q8_0", "Qwen2.5-0.5B.Q4_0"]
    monkeypatch.setattr(chat_commands, "_find_models", lambda _folders: names)
    monkeypatch.setattr(chat_commands, "MODELS_WAIT_S", 30)
    live = SimpleNamespace(store=Store(tmp_path / "sessions"), options=SimpleNamespace(model_folders=()))
    return Completion(cast("LiveSession", live))


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("/re", ["/retry", "/reload"]),
        ("/set top", ["/set top_p ", "/set top_k "]),
        ("/set seed ", ["/set seed random"]),
        ("/set seed random", []),
        ("/set temperature ", []),
        ("/model smol", ["/model SmolLM2-135M.Q4_1", "/model smollm2-360m.Q8_0"]),
        ("/model q4", ["/model SmolLM2-135M.Q4_1", "/model Qwen2.5-0.5B.Q4_0"]),
        ("/open ", ["/open 20261122-100000-qwen-4567cdef", "/open 20261121-100000-smollm2-0123abcd"]),
        ("/open smol", ["/open 20261121-100000-smollm2-0123abcd"]),
        ("/load no", ["/load notes.txt", "/load nothing here.md"]),
        ("/load nothing h", ["/load nothing here.md"]),
        ("/load te", ["/load texts/"]),
        ("/load texts/", ["/load texts/a.txt", "/load texts/deep/"]),
        ("/load .s", ["/load .secret"]),
        ("/load e", []),
        ("/load nowhere/", []),
        ("/save! no", ["/save! notes.txt", "/save! nothing here.md"]),
        ("/copy ", ["/copy code", "/copy all"]),
        ("/system ", []),
        ("a prompt", []),
        ("/system a\n/load n", []),
    ],
)
def test_arguments_are_completed(complete: Completion, text: str, offered: Sequence[str]) -> None:
    assert list(complete(text)) == offered


def test_without_an_argument_the_commands_are_offered(complete: Completion) -> None:
    assert list(complete("/")) == [f"/{command.name}" for command in SLASH_COMMANDS]


def test_who_presses_tab_does_not_wait_for_slow_folders(complete: Completion, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = Event()

    def slowly(_folders: object) -> list[str]:
        searched.wait(30)
        return ["late"]

    monkeypatch.setattr(chat_commands, "_find_models", slowly)
    monkeypatch.setattr(chat_commands, "MODELS_WAIT_S", 0.0)
    assert list(complete("/model ")) == []
    searched.set()
    monkeypatch.setattr(chat_commands, "MODELS_WAIT_S", 30)
    assert list(complete("/model ")) == ["/model late"]
