from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetop.cli import main
from edgetop.tui.keys import TABLES, key_name


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("edgetop.settings.resolve.default_config_file", lambda: tmp_path / "none")
    return tmp_path / "config.toml"


def test_every_action_of_every_screen_is_listed_with_its_keys(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for screen in TABLES.values():
        assert any(line[0] == f"[keys.{screen.name}]" for line in lines)
        for key in screen.keys:
            printed = [key_name(each) for each in key.keys]
            assert [key.name, *printed, *key.description.split()] in lines


def test_the_keys_of_the_configuration_are_listed_and_told_as_data(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text('[keys]\nnext_theme = "Ctrl+T"\nhelp = ["H", "F1"]\nscreenshot = ""\n[keys.replay]\nplay = "w"\n')
    assert main(["keys", "--json", "--config", str(config)]) == 0
    told = {(each["screen"], each["action"]): each for each in json.loads(capsys.readouterr().out)}
    assert told["live", "next_theme"]["keys"] == told["compare", "next_theme"]["keys"] == ["ctrl+t"]
    assert told["live", "next_theme"]["while_typing"] == ["ctrl+t"]
    assert told["live", "help"]["keys"] == ["H", "f1"]
    assert told["live", "help"]["while_typing"] == ["f1"]
    assert told["live", "screenshot"]["keys"] == []
    assert told["replay", "play"]["keys"] == ["w"]


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ('[keys]\nnext_them = "x"', "there is no action 'next_them'", "did you mean next_theme?"),
        ('[keys]\nstop = "hyper+x"', "[keys] stop: 'hyper+x' is no key", "a key such as"),
        ('[keys.live]\nstop = "f4"', "F4 would do both stop and choose_model", "another key"),
        ('[keys]\nquit = "q"', "q would do both quit and close on the screen 'compare'", "[keys.live]"),
        ("keys = 3", "[keys] is no table", "[keys]"),
        ('[kyes]\nstop = "f4"', "there is no table [kyes]", "keys"),
    ],
)
def test_what_cannot_be_meant_is_told_in_two_lines(
    config: Path, capsys: pytest.CaptureFixture[str], text: str, what: str, hint: str
) -> None:
    config.write_text(text)
    assert main(["keys", "--config", str(config)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert str(config) in first
    assert what in first
    assert hint in second
