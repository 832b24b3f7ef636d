from __future__ import annotations

import pytest

from edgetop.commands import inputs
from edgetop.commands.inputs import shows_screens
from edgetop.settings.resolve import resolve


@pytest.mark.parametrize(
    ("terminal", "term", "plain", "expected"),
    [
        (True, "xterm-256color", None, True),
        (True, "linux", None, True),
        (True, "xterm", "true", False),
        (True, "dumb", None, False),
        (True, None, None, False),
        (True, "", None, False),
        (False, "xterm", None, False),
    ],
)
def test_screens_are_for_terminals_that_can_show_them_and_people_who_want_them(
    terminal: bool, term: str | None, plain: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "is_terminal", lambda: terminal)
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    assert shows_screens(resolve({"plain": plain}, {})) is expected
