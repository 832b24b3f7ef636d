"""Verb chat."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgetop.commands.inputs import (
    alerts_of,
    chosen_display,
    exporters_of,
    given_prompts,
    has_own_engine,
    is_terminal,
    live_options,
    local_model,
    named_model,
    open_store,
    read_prompt,
    server_choice,
    shows_screens,
)
from edgetop.commands.output import print_saved
from edgetop.core.errors import ModelError, UsageError
from edgetop.settings import options
from edgetop.settings.resolve import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetop.live.alerts import Alerts
    from edgetop.live.chat_session import LiveOptions
    from edgetop.live.metrics import Exporter
    from edgetop.session.store import Store


DEFAULT_QUESTION = "Explain in two sentences what a language model does."


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Open the screen, or answer without one."""
    prompts = given_prompts(arguments)
    session_name = getattr(arguments, "resume_from", None)
    if session_name is not None and (prompts or not shows_screens(settings)):
        raise UsageError("--continue goes on with a conversation on the live screen", "leave out --prompt and --plain")
    if not prompts and shows_screens(settings):
        return _open_screen(settings, None if session_name is None else _session(session_name, settings))
    if not prompts and (settings[options.PLAIN] or is_terminal()):
        return _chat_in_lines(settings)
    from edgetop.commands.run import (  # noqa: PLC0415 - with engine and sensors, which the first frame need not await
        answer,
    )

    return answer(prompts or [_piped_question() or DEFAULT_QUESTION], settings)


def _open_screen(settings: Settings, resume_from: Path | None) -> int:
    model = _model(settings)
    alerts, exporters = alerts_of(settings, "chat"), exporters_of(settings)
    display = chosen_display(settings)
    from edgetop.tui.app import run_chat  # noqa: PLC0415 - Textual is slow to import

    app = run_chat(
        lambda: _prepare(settings, alerts, exporters),
        model=model,
        display=display,
        settings=settings,
        resume_from=resume_from,
    )
    code = print_saved(app.saved, app.why_not)
    if alerts is not None:
        alerts.raise_if_ended()
    return code or app.signal_code


def _session(session_name: str, settings: Settings) -> Path:
    """The session whose conversation goes on: the one that is meant, else the last with text. Raises StoreError."""
    from edgetop.session.store import StoreError  # noqa: PLC0415 - few starts need it

    store = open_store(settings)
    if session_name:
        return store.find(session_name)
    for each in store.list():
        head = each.head
        if head is not None and head.text_recorded and head.summary.turns and head.bench is None:
            return each.path
    raise StoreError("There is no conversation to go on with yet.", "Every chat is recorded; ask something first.")


def _chat_in_lines(settings: Settings) -> int:
    model = _model(settings)
    from edgetop.commands.plain import run_plain_chat  # noqa: PLC0415 - with engine and sensors

    return run_plain_chat(model, settings)


def _prepare(settings: Settings, alerts: Alerts | None, exporters: Sequence[Exporter]) -> tuple[LiveOptions, Store]:
    """What the session needs; imported while the screen's first frame is already there."""
    return live_options(settings, alerts, exporters), open_store(settings)


def _model(settings: Settings) -> Path | None:
    """The model to begin with; `None` opens the picker."""
    named = settings[options.MODEL]
    if not has_own_engine(settings):
        server_choice(settings)  # a wrong address is reported before the screen is opened
        return named_model(settings)
    try:
        return local_model(named, settings, with_store_settings=True)
    except ModelError:
        if named is not None:
            raise
        return None


def _piped_question() -> str | None:
    """What standard input says, if somebody has something to say there: a pipe or a file."""
    if sys.stdin is None or sys.stdin.closed:
        return None
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None
    try:
        return read_prompt(None)
    except UsageError:
        return None
