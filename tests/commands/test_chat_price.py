from __future__ import annotations

import pytest

from edgetop.commands import chat
from edgetop.core.energy.duty import Price
from edgetop.tui import app
from edgetop.tui.app import Display
from tests.commands.machine import Machine


@pytest.mark.parametrize(
    ("arguments", "price"),
    [((), None), (("--price", "0.25", "--currency", "CHF"), Price(per_kwh=0.25, currency="CHF"))],
)
def test_the_screen_is_told_what_energy_costs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], price: Price | None
) -> None:
    told: list[object] = []

    def run_chat(*_arguments: object, **options: object) -> app.BaseApp[None]:
        display = options["display"]
        assert isinstance(display, Display)
        told.append(display.price)
        return app.BaseApp()

    machine.script(replies=[])
    monkeypatch.setattr(chat, "shows_screens", lambda _settings: True)
    monkeypatch.setattr(app, "run_chat", run_chat)
    assert machine.run("chat", *arguments).code == 0
    assert told == [price]
