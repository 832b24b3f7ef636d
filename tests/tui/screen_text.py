"""What a running application shows, and waiting until it shows something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot

from edgetop.tui.chat.chat_view import ChatView

DEADLINE_S = 30.0
"""A test that waits so long has failed; nothing is measured with it."""


def rows_of(app: App[Any]) -> list[str]:
    """The lines of the screen, blanks at their ends left out."""
    strips = app.screen._compositor.render_strips()
    return [strip.text.rstrip() for strip in strips]


def text_of(app: App[Any]) -> str:
    """The screen as text."""
    return "\n".join(rows_of(app))


def said_in(app: App[Any]) -> str:
    """The part of the chat that is in view, as running text."""
    chat = app.screen_stack[-1].query_one(ChatView)
    return " ".join(" ".join(chat.render_line(y).text for y in range(chat.size.height)).split())


async def until_said(pilot: Pilot[Any], *texts: str) -> None:
    """Let the application run until the chat shows all of `texts`, wherever its lines break."""
    await until(pilot, lambda: all(text in said_in(pilot.app) for text in texts), f"{texts} in the chat")


async def until(pilot: Pilot[Any], condition: Callable[[], object], what: str) -> None:
    """Let the application run until `condition` is true; fails with `what`, and with the screen as it is then."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {DEADLINE_S:g} s: {what}\n{text_of(pilot.app)}")
        await asyncio.sleep(0.02)
        await pilot.pause()


async def until_shown(pilot: Pilot[Any], *texts: str) -> None:
    """Let the application run until the screen shows all of `texts`."""
    await until(pilot, lambda: all(text in text_of(pilot.app) for text in texts), f"{texts} on the screen")


async def settled_rows(pilot: Any, app: App[Any]) -> list[str]:
    """The screen once nothing of it changes any more."""
    rows, before = rows_of(app), None
    while rows != before:
        await pilot.pause(0.4)
        rows, before = rows_of(app), rows
    return rows
