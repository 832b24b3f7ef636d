"""What somebody does on the first day, without the manual: each step follows from what the screen says.

`EDGETOP_WALK_PICTURES=FOLDER` keeps what was on the screen at each step.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.tmux import Tmux

FIGURES = r"\d+ tok · [\d.]+ tok/s"
ENERGY = r"energy ─+ [\d.]+ ± [\d.]+ J/token"


class Walk:
    """A window, and the pictures of it."""

    def __init__(self, window: Tmux, day: int) -> None:
        self.window = window
        self._day = day
        self._count = 0

    def step(self, name: str, *keys: str, sees: str, told: str = "") -> re.Match[str]:
        """Press keys that the screen told of, and wait for what comes of it."""
        self.window.sees(re.escape(told))
        if keys:
            self.window.press(*keys)
        return self.look(name, sees)

    def say(self, name: str, text: str, *, sees: str) -> re.Match[str]:
        """Type a line, and wait for what comes of it."""
        self.window.type(text)
        return self.look(name, sees)

    def look(self, name: str, sees: str) -> re.Match[str]:
        """Wait for something, and keep the picture."""
        seen = self.window.sees(sees)
        self._count += 1
        folder = os.environ.get("EDGETOP_WALK_PICTURES")
        if folder:
            Path(folder, f"{self._day}-{self._count:02} {name}.txt").write_text(self.window.text, encoding="utf-8")
        return seen


@pytest.fixture
def board(home: IsolatedHome) -> Iterator[Path]:
    """A board whose power is computed from what the model's process does."""
    root = home.folder / "board"
    program = [sys.executable, "-m", "tests.support.virtual_board", "--root", str(root), "--kind", "ina3221"]
    process = subprocess.Popen(program, env={**home.environment, "EDGETOP_DATA_DIR": ""}, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: any(root.rglob("in*_input")) or any(root.rglob("curr*_input")), "the board has its sensor")
        yield root
    finally:
        process.terminate()
        process.wait(10)


def test_the_first_day(open_tmux: Callable[..., Tmux], home: IsolatedHome, small_model: Path, board: Path) -> None:
    for name in ("first-q4_1.gguf", "second-q4_1.gguf"):
        shutil.copyfile(small_model, home.folder / name)
    common = ("--sysroot", str(board), "--threads", "1", "--temp", "0", "--max-tokens", "60")

    walk = Walk(open_tmux(home.command("-m", "first-q4_1.gguf", *common)), 1)
    walk.look("start, with a hint of three lines", r"F1 shows all keys[\s\S]*loaded in")
    walk.step("all keys", "F1", told="F1 Help", sees=r"Anywhere[\s\S]*stop the answer")
    walk.step("back to the chat", "Escape", sees=r"loaded in")
    walk.say("a first answer", "Say hello.", sees=FIGURES)
    walk.step("its energy in the pane", sees=ENERGY)
    walk.step("and below it, when all readings are in", sees=rf"{FIGURES} · [\d.]+ J/tok")
    walk.say("no limit any more", "/set max_tokens none", sees="From the next prompt on: max_tokens none")
    walk.say("a long answer", "Tell a very long story about a river.", sees=r"(?i)river[\s\S]+river[\s\S]+river")
    walk.step("stopped", "F9", told="F9 Stop", sees=rf"{FIGURES}[\s\S]*stopped")
    walk.step(
        "the models there are", "F4", told="F4 Model", sees=r">\+[^\n]*first-q4_1[\s\S]*second-q4_1[\s\S]*Enter Load"
    )
    walk.step("the other model", "Down", "Enter", told="Enter Load", sees=r"second Q4_1[^\n]*loaded in")
    walk.say("an answer of the other model", "Say hello.", sees=rf"second[^\n]*loaded in[\s\S]*{FIGURES}")
    walk.step("good bye", "F10", told="F10 Quit", sees=r"session: \S+")
    assert walk.window.exit_code() == 0
    home.everyone_gone()
    assert len(home.only_session().loads) == 2

    walk = Walk(open_tmux(home.command(*common)), 2)
    walk.look("on the next day, the model used last and no hint", r"second[^\n]*loaded in")
    assert "shows all keys" not in walk.window.text
    walk.say("an answer", "Say hello.", sees=FIGURES)
    walk.step("quit once more", "F10", told="F10 Quit", sees=r"session: \S+")
    home.everyone_gone()

    walk = Walk(open_tmux(home.command(*common)), 3)
    walk.look("again", r"loaded in")
    walk.step("what was recorded", "F3", told="F3 Saved", sees=r"sessions 2[\s\S]*> 1")
    walk.step(
        "two marked",
        "C-Space",
        "Down",
        "C-Space",
        told="Ctrl+Space Mark",
        sees=r"(?i)2 marked|\* ?>? ?1[\s\S]*\* ?>? ?2",
    )
    walk.step("compared", "F5", told="F5 Compare", sees=r"bars are 95 % intervals")
    walk.step("back to the list", "Escape", told="Esc Back", sees=r"sessions 2")
    walk.step("replayed side by side", "F6", told="F6 Replay", sees=r"(?i)align")
    walk.step("to its end", "End", sees=r"(?s)decode [\d.]+ tok/s.*decode [\d.]+ tok/s")
    walk.step("back again", "Escape", sees=r"sessions 2")
    walk.step("to the chat", "Escape", told="Esc Back", sees=r"loaded in")
    walk.step("the end", "F10", told="F10 Quit", sees=r"exit code 0")
    home.everyone_gone()
    assert home.journal_paths == []
