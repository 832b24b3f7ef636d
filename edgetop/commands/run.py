"""`edgetop run`: prompts without a screen; replies to stdout, figures to stderr, or one JSON object."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from edgetop.commands.console import write_reply
from edgetop.commands.conversing import Conversed, converse, live_options
from edgetop.commands.listing import write_json
from edgetop.commands.prompts import given_prompts, read_prompt
from edgetop.commands.server_choice import has_own_engine, named_model
from edgetop.core.errors import UsageError
from edgetop.inference.catalog import resolve
from edgetop.inference.last_model import last_model, remember_model
from edgetop.session.conversion import to_file
from edgetop.session.file import TurnEntry
from edgetop.settings import options
from edgetop.settings.resolve import Settings

EXIT_INTERRUPTED = 130


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Ask, print, and say how it went."""
    prompts = given_prompts(arguments)
    if arguments.stdin or (not prompts and not _is_terminal()):
        prompts.append(read_prompt(None))
    if not prompts:
        raise UsageError("there is no prompt", "give one with -p TEXT, -f FILE, or - for standard input")
    return answer(prompts, settings, as_json=arguments.json)


def answer(prompts: Sequence[str], settings: Settings, *, as_json: bool = False) -> int:
    """Let the model answer the prompts and return the exit code. Raises EdgetopError."""
    is_real = has_own_engine(settings)
    if is_real:
        model = resolve(settings[options.MODEL], folders=settings[options.MODEL_DIR], last_used=last_model())
    else:
        model = named_model(settings)
    conversed = converse(model, prompts, settings, _ignore if as_json else write_reply, live=live_options(settings))
    if is_real and conversed.session.loads:
        remember_model(model)
    if as_json:
        write_json(as_object(conversed))
    if conversed.failure is not None and not conversed.interrupted:
        raise conversed.failure
    return EXIT_INTERRUPTED if conversed.interrupted else 0


def as_object(conversed: Conversed) -> dict[str, Any]:
    """Make the object of `run --json`: the figures of the session file, under the same names."""
    file = to_file(conversed.session)
    load = file.loads[-1] if file.loads else None
    return {
        "device": file.device,
        "model": load.model if load else None,
        "engine": load.engine if load else None,
        "settings": load.settings if load else None,
        "turns": [_turn(turn, text_recorded=file.text_recorded) for turn in file.turns],
        "summary": file.summary,
        "session": str(conversed.path) if conversed.path else None,
    }


def _turn(turn: TurnEntry, *, text_recorded: bool) -> dict[str, Any]:
    parts = {part: "".join(span.text for span in turn.reply if span.part == part) for part in ("answer", "reasoning")}
    return {
        "turn": turn.turn,
        "prompt": turn.prompt,
        "reply": parts["answer"] if text_recorded else None,
        "reasoning": parts["reasoning"] or None,
        "sampling": turn.sampling,
        "seed": turn.end.seed if turn.end else None,
        **msgspec.structs.asdict(turn.figures),
    }


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ignore(_text: str) -> None:
    """Drop the text; the object will have it."""
