"""What the thread of the keyboard waits for."""

from __future__ import annotations

import select

from edgetop.tui.terminal_driver import WakingEvent


def can_be_read(event: WakingEvent) -> bool:
    return bool(select.select([event], [], [], 0)[0])


def test_an_event_wakes_who_selects_as_long_as_it_is_set() -> None:
    event = WakingEvent()
    assert not can_be_read(event)
    event.set()
    event.set()
    assert event.is_set()
    assert can_be_read(event)
    event.clear()
    event.clear()
    assert not event.is_set()
    assert not can_be_read(event)
