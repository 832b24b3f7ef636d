from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import cast

import pytest

from edgetop.io.files import FILE_SUFFIX
from edgetop.live.chat_session import LiveSession
from edgetop.session.store import Store
from edgetop.tui.chat import slash_commands
from edgetop.tui.chat.slash_commands import COMMANDS, Completion


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
    monkeypatch.setattr(slash_commands, "_find_models", lambda _folders: names)
    monkeypatch.setattr(slash_commands, "MODELS_WAIT_S", 30)
    live = SimpleNamespace(store=Store(tmp_path / "sessions"), options=SimpleNamespace(model_folders=()))
    return Completion(cast("LiveSession", live))


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("/re", ["/retry", "/reload"]),
        ("/set top", ["/set top_k ", "/set top_p "]),
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
    assert list(complete("/")) == [f"/{command.name}" for command in COMMANDS]


def test_who_presses_tab_does_not_wait_for_slow_folders(complete: Completion, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = Event()

    def slowly(_folders: object) -> list[str]:
        searched.wait(30)
        return ["late"]

    monkeypatch.setattr(slash_commands, "_find_models", slowly)
    monkeypatch.setattr(slash_commands, "MODELS_WAIT_S", 0.0)
    assert list(complete("/model ")) == []
    searched.set()
    monkeypatch.setattr(slash_commands, "MODELS_WAIT_S", 30)
    assert list(complete("/model ")) == ["/model late"]
