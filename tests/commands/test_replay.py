"""`edgetop replay` without a terminal; and one story told by the live screen, by replay and by `sessions show`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgetop.core.format import format_rate
from edgetop.session import store
from edgetop.session.file_io import load, load_file, save
from edgetop.session.replay import Player, prepare
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.settings.resolve import Settings
from edgetop.tui.panes import meters
from edgetop.tui.panes.column import PANES
from edgetop.tui.panes.pane import View, view_of
from edgetop.tui.screens.replay import ReplayScreen
from edgetop.tui.themes import GlyphLevel
from tests.commands.machine import Machine
from tests.support.demo_session import END_US, S, ended_records, slowed_down
from tests.support.recorded_sessions import fold


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Two recorded sessions, the second one slower and longer by half."""
    paths = tmp_path / "quick.json", tmp_path / "slow.json"
    save(paths[0], fold(ended_records()))
    save(paths[1], fold(slowed_down(ended_records())))
    return str(paths[0]), str(paths[1])


def cells(stdout: str) -> dict[str, list[str]]:
    """The table by the names of its rows."""
    rows = [[cell.strip() for cell in row.split("  ") if cell] for row in stdout.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def test_in_a_pipe_the_figures_of_the_end_stand_side_by_side(machine: Machine, files: tuple[str, str]) -> None:
    ran = machine.run("replay", *files)
    assert ran.code == 0, ran.stderr
    shown = cells(ran.stdout)
    assert shown["session"] == ["quick", "slow"]
    assert shown["at"] == ["1 min 20 s", "2 min 0 s"]
    assert shown["decode speed"] == ["6.44 tok/s", "4.30 tok/s"]
    assert shown["energy per token, gross"][0].startswith("1.42 (")


def test_a_moment_is_one_of_the_play_head(machine: Machine, files: tuple[str, str]) -> None:
    by_time = machine.run("replay", *files, "--align", "time", "--at", "20", "--at", "100", "--json").json()
    assert [each["snapshot"]["t_us"] for each in by_time] == [20 * S, 20 * S, END_US, 100 * S]
    assert [each["path"] for each in by_time[:2]] == list(files)
    by_token = machine.run("replay", *files, "--align", "token", "--at", "5", "--json").json()
    assert [each["snapshot"]["summary"]["generated_tokens"] for each in by_token] == [5, 5]
    by_turn = machine.run("replay", *files, "--at", "45.5").stdout
    assert cells(by_turn)["turns"] == ["1", "1"]


def test_json_without_a_moment_is_the_end(machine: Machine, files: tuple[str, str]) -> None:
    (shown,) = machine.run("replay", files[0], "--json").json()
    assert shown["snapshot"]["phase"] == "ended"
    assert shown["snapshot"]["summary"] == as_json(load_file(Path(files[0])).summary)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--at", "soon"), "--at takes seconds since the beginning, not 'soon'"),
        (("--at", "-1"), "--at takes seconds since the beginning, not '-1'"),
        (("--at", "nan"), "--at takes seconds since the beginning, not 'nan'"),
        (("--demo",), "--demo plays the examples, and no other sessions"),
    ],
)
def test_what_cannot_be_meant_is_told_in_a_line(
    machine: Machine, files: tuple[str, str], arguments: tuple[str, ...], told: str
) -> None:
    ran = machine.run("replay", files[0], *arguments)
    assert ran.code == 2
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_file_that_is_no_session_is_told_by_its_name(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"format": "something"}')
    ran = machine.run("replay", str(path))
    assert ran.code != 0
    assert str(path) in ran.stderr


def test_the_demo_plays_two_examples_or_says_that_there_are_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = machine.run("replay", "--demo")
    assert ran.code == 0
    assert cells(ran.stdout)["session"] == list(store.PAIR)
    monkeypatch.setattr(store, "FOLDERS", (tmp_path,))
    ran = machine.run("replay", "--demo")
    assert ran.code != 0
    assert "the examples are missing from this installation" in ran.stderr


def drawn(view: View) -> list[str]:
    """Everything but the chat, as words."""
    lines = meters.draw(view, 120, "wide")[1:]
    for pane in PANES.values():
        lines += pane.boxed(view, 54, 12)
    return ["".join(span.text for span in line) for line in lines]


def as_json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def test_live_replay_and_the_list_of_sessions_tell_one_story(machine: Machine, tmp_path: Path) -> None:
    # Live: the session grows, and is looked at every second of it, as the screen does.
    live, seen = Session(), -1
    for record in ended_records():
        live.apply(record)
        if live.end_us // S > seen:
            seen = live.end_us // S
            view_of(live, live.end_us, "braille")
    last = view_of(live, live.end_us, "braille")
    assert last.snapshot.summary.energy is not None
    path = tmp_path / "story.json"
    save(path, live)

    # Replay: from the file, after a walk through it.
    session = load(path)
    player = Player([session])
    for _ in prepare([session]):
        pass
    for share in (0.9, 0.1, 0.6, 0.3, 1.0):
        player.seek_share(share)
        again: Snapshot = snapshot(session, player.moments[0])
    assert again == last.snapshot
    assert drawn(view_of(session, player.moments[0], "braille")) == drawn(last)

    # The list: what the file says, in JSON and for a person.
    shown = machine.run("sessions", "show", str(path), "--json").json()
    assert shown["summary"] == as_json(last.snapshot.summary)
    assert last.snapshot.turn is not None
    assert shown["turns"][-1]["figures"] == as_json(last.snapshot.turn.figures)
    told, replayed = (cells(machine.run(*words, str(path)).stdout) for words in (("sessions", "show"), ("replay",)))
    assert told["decode speed"] == [format_rate(last.snapshot.summary.decode_tokens_per_s)]
    assert "energy per token, gross" in told
    for label, cell in replayed.items():
        assert label in {"session", "at", "model", "threads"} or told[label] == cell or "n/a" in cell


@pytest.mark.parametrize(("arguments", "frame_s"), [([], 0.25), (["-d", "2"], 2.0)])
def test_the_screen_draws_as_often_as_was_asked_for(
    machine: Machine, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], frame_s: float
) -> None:
    made: list[ReplayScreen] = []
    monkeypatch.setattr("edgetop.commands.replay.shows_screens", lambda *_: True)

    def show(make_screen: Callable[[GlyphLevel], ReplayScreen], _settings: Settings) -> None:
        made.append(make_screen("ascii"))

    monkeypatch.setattr("edgetop.commands.replay.show_screen", show)
    machine.run("replay", *files, *arguments)
    assert made[0].frame_s == frame_s
