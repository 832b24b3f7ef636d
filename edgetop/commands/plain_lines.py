"""What the chat in lines tells: figures of a turn, commands, models, sessions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgetop.core.energy.figure import with_interval
from edgetop.core.format import NOT_AVAILABLE, format_rate, format_seconds
from edgetop.core.records import TurnFinished
from edgetop.core.text import one_line
from edgetop.session.snapshot import Snapshot
from edgetop.session.store import Store
from edgetop.tui import slash
from edgetop.tui.chat_lines import STOP_WORDS

RECENT_SESSIONS = 10


def say_line(text: str) -> None:
    """Write one line to stderr, and nothing that would clear a line of progress, since there is none."""
    sys.stderr.write(f"{one_line(text)}\n")
    sys.stderr.flush()


def turn_line(now: Snapshot, finished: TurnFinished, told: str = "") -> str:
    """How much the last answer was, how fast, why it ended where that is worth a word, and what it took.

    `told` is why energy is missing where that has been said before; it is not said again.
    """
    if now.turn is None:
        return ""
    figures = now.turn.figures
    unit = "tokens" if finished.counted or not figures.generated_tokens else "chunks"
    parts = [f"{figures.generated_tokens} {unit}", format_rate(figures.decode_tokens_per_s)]
    parts.append(f"first token {format_seconds(figures.first_token_s)}")
    if now.context_used is not None and now.n_ctx:
        parts.append(f"context {now.context_used} of {now.n_ctx}")
    if finished.stop_reason == "failed":
        parts.append(finished.error or "failed")
    elif finished.stop_reason in STOP_WORDS:
        parts.append(STOP_WORDS[finished.stop_reason])
    energy = figures.energy
    if energy is None or energy.j_per_token is None:
        why = figures.energy_missing or "the answer was too short"
        parts.append(f"energy {NOT_AVAILABLE}" + (f": {why}" if why != told else ""))
    else:
        parts.append(f"{with_interval(energy.j_per_token)} J/token gross, grade {energy.grade}")
    return ", ".join(parts)


def command_lines() -> Iterator[str]:
    """The commands that can be typed."""
    yield "Type a prompt, or one of these:"
    for each in slash.COMMANDS:
        yield f"{f'/{each.name} {each.argument}'.rstrip()}: {each.does.rstrip(' .')}."


def model_lines(folders: Iterable[Path]) -> Iterator[str]:
    """The models of this machine, and how to load one."""
    from edgetop.inference.catalog import find_models  # noqa: PLC0415 - only when asked for

    names = list(dict.fromkeys(model.name for model in find_models(folders)))
    yield from names
    yield (
        "/model NAME loads one."
        if names
        else "There is no model here; `edgetop models` says where they are looked for."
    )


def session_lines(store: Store) -> Iterator[str]:
    """The latest sessions, and how to go on with one."""
    from edgetop.session.listing import entry_of  # noqa: PLC0415 - only when asked for

    listed = [each for each in store.list() if each.head is not None][:RECENT_SESSIONS]
    for entry in map(entry_of, listed):
        yield f"{entry.listed.number}: {entry.started}, {entry.model} {entry.quantization}".rstrip()
    yield "/open NUMBER goes on with one." if listed else "There is no recorded session yet."
