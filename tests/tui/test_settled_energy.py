"""The line below an answer has its energy as soon as all readings of it are in."""

from __future__ import annotations

from edgetop.core.records import Sampled, TurnFinished, TurnStarted
from tests.support.demo_session import DemoApp, demo_records
from tests.tui.screen_text import said_in

RECORDS = demo_records()
ENDED = next(index for index, record in enumerate(RECORDS) if isinstance(record, TurnFinished)) + 1
NEXT = next(index for index, record in enumerate(RECORDS) if isinstance(record, TurnStarted) and record.turn == 2) + 1


async def test_the_energy_of_an_answer_comes_below_it_when_it_is_final() -> None:
    app = DemoApp(RECORDS[:ENDED])
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.played:
            await pilot.pause()
        assert "58 tok · 6.46 tok/s · first token" in said_in(app)
        for record in RECORDS[ENDED:NEXT]:
            app.happen(record)
        app.draw()
        assert "58 tok · 6.46 tok/s · 1.42 J/tok · first token" in said_in(app)


async def test_an_answer_that_was_followed_at_once_by_a_prompt_has_its_energy_too() -> None:
    app = DemoApp(RECORDS[:ENDED])
    (begun,) = [record for record in RECORDS if isinstance(record, TurnStarted) and record.turn == 2]
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.played:
            await pilot.pause()
        app.happen(TurnStarted(turn=2, t_us=app.demo.now_us() + 1, prompt=begun.prompt))
        for record in RECORDS[ENDED:NEXT]:
            if isinstance(record, Sampled):
                app.happen(record)
        app.draw()
        assert "J/tok · first token" in said_in(app)


async def test_without_power_there_is_no_word_of_energy() -> None:
    app = DemoApp(demo_records(power=False))
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.played:
            await pilot.pause()
        assert "58 tok · 6.46 tok/s · first token" in said_in(app)
