"""Replay of two recordings on a real terminal."""

from __future__ import annotations

import re
from collections.abc import Callable

from edgetop.core.format import format_rate
from edgetop.inference.scripted import Reply
from edgetop.session.file_io import load_file
from tests.support.isolated_home import IsolatedHome
from tests.support.tmux import Tmux


def test_two_recordings_are_played_beside_each_other(open_tmux: Callable[..., Tmux], home: IsolatedHome) -> None:
    paths = [home.folder / name for name in ("quick.json", "slow.json")]
    for path, tokens_per_s in zip(paths, (400.0, 40.0), strict=True):
        home.scripted(Reply(text="One answer of some words. " * 4), tokens_per_s=tokens_per_s)
        ran = home.run("run", "-m", "scripted.gguf", "-p", "Say something.", "-o", str(path))
        assert ran.returncode == 0, ran.stderr
    quick, slow = (load_file(path).turns[0].figures for path in paths)

    window = open_tmux(home.command("replay", *map(str, paths)), columns=120, rows=36)
    window.sees(r"‖ 1x  (\d\d:\d\d) / \1[\s\S]*align: turn")  # it has played at once, to the end
    window.press("Home")
    window.sees(r"‖ 1x  00:00 / ")
    window.press("]")
    window.sees(r"you  Say something\.[\s\S]*you  Say something\.")
    assert "answer" not in window.text
    window.press("Right", "Right", "Right")
    window.sees(r"token [1-9]")
    window.press("End")
    window.sees(r"(?s)some words\..*some words\.")
    for figures in (quick, slow):
        window.sees(re.escape(f"decode {format_rate(figures.decode_tokens_per_s)}"))
    window.sees(r"B−A  −\d+ tok/s")
    window.press("Home", "Space")
    window.sees(r"‖ 1x  (\d\d:\d\d) / \1")  # it has played to the end by itself
    window.resize(80, 24)
    window.sees(r"(?m)^ A  [\s\S]*x Next")
    window.press("x")
    window.sees(r"(?m)^ B  ")
    window.resize(40, 12)
    window.sees(r"(?m)^ B  .*tok/s[\s\S]*q Quit")
    window.press("q")
    assert window.exit_code() == 0
    home.everyone_gone()
