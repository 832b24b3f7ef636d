from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.commands import chat
from edgetop.tui import app
from tests.commands.machine import Machine


@pytest.fixture
def opened(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The sessions that screens were opened with, instead of screens."""
    told: list[object] = []

    def run_chat(*_arguments: object, **options: object) -> app.BaseApp[None]:
        told.append(options["resume_from"])
        return app.BaseApp()

    machine.script(replies=[{"text": "An answer."}])
    monkeypatch.setattr(chat, "shows_screens", lambda _settings: True)
    monkeypatch.setattr(app, "run_chat", run_chat)
    return told


def test_the_last_session_that_has_a_text_goes_on(machine: Machine, opened: list[object]) -> None:
    assert machine.run("--continue").code == 1
    sessions = []
    for options in ((), ("--no-text",)):
        ran = machine.run("run", "-p", "A question.", *options)
        assert ran.code == 0
        sessions += [line.partition("session: ")[2] for line in ran.stderr.splitlines() if "session: " in line]
    assert machine.run("--continue").code == 0
    assert machine.run("chat", "--continue", sessions[1]).code == 0
    assert machine.run("chat").code == 0
    assert opened == [Path(sessions[0]), Path(sessions[1]), None]


def test_a_session_that_there_is_not_is_told_before_the_screen_opens(machine: Machine, opened: list[object]) -> None:
    ran = machine.run("--continue", "nothing")
    assert ran.code == 1
    assert "No session matches 'nothing'" in ran.stderr
    assert not opened


def test_without_a_screen_nothing_can_go_on(machine: Machine, opened: list[object]) -> None:
    assert machine.run("--continue", "-p", "A question.").code == 2
    assert not opened
