"""The whole application over an engine in a real worker process that plays a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from edgetop.inference.scripted import Reply, Script
from edgetop.live.chat_session import LiveOptions
from edgetop.session.store import Store
from edgetop.tui.app import ChatApp, Display
from edgetop.tui.chat.prompt import Prompt
from edgetop.tui.keys import TABLES, KeyTables
from edgetop.tui.themes import GlyphLevel

StartApp = Callable[..., ChatApp]
FAST, SLOW = 400.0, 15.0
"""Tokens per second: an answer that is over soon, and one that a test can act upon while it comes."""


@pytest.fixture
def start_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartApp]:
    """Makes applications whose engines play `replies`, and ends their sessions after the test."""
    # The tests' own process keeps its priority.
    monkeypatch.setattr("edgetop.live.chat_session.lower_priority", lambda: None)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_args, **_named: tmp_path / "config")
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_args, **_named: tmp_path / "state")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "welcomed").touch()
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(home)
    started: list[ChatApp] = []

    def start(
        *replies: str | Reply,
        tokens_per_s: float = FAST,
        model: Path | None = Path("scripted.gguf"),
        level: GlyphLevel = "braille",
        keys: KeyTables = TABLES,
        resume_from: Path | None = None,
        **script: Any,
    ) -> ChatApp:
        if replies:
            script["replies"] = tuple(Reply(text=reply) if isinstance(reply, str) else reply for reply in replies)
        played = Script(tokens_per_s=tokens_per_s, **script)
        file = tmp_path / f"script-{len(started)}.json"
        file.write_bytes(msgspec.json.encode(played))
        options = LiveOptions(
            engine_name=f"scripted:{file}", sysroot=tmp_path / "machine", model_folders=(tmp_path / "shelf",)
        )
        store = Store(tmp_path / "sessions")
        display = Display(level=level, keys=keys)
        app = ChatApp(lambda: (options, store), model=model, display=display, resume_from=resume_from)
        started.append(app)
        return app

    yield start
    for app in started:
        app.save_session()


async def say(pilot: Pilot[Any], text: str) -> None:
    """Send `text` as if it had been typed."""
    prompt = pilot.app.screen.query_one(Prompt)
    prompt.focus()
    prompt.put(text)
    await pilot.press("enter")
