"""Verb replay."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgetop.commands.inputs import open_store, show_screen, shows_screens
from edgetop.commands.output import table, write_data, write_json
from edgetop.core.clock import US_PER_S
from edgetop.core.errors import UsageError
from edgetop.core.figures import rows_of
from edgetop.core.format import format_duration
from edgetop.core.text import one_line
from edgetop.session.file_io import load
from edgetop.session.replay import AlignmentName, Player
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.session.store import example_pair
from edgetop.settings import options
from edgetop.settings.resolve import DEFAULT, Settings, price_of

if TYPE_CHECKING:
    from edgetop.tui.screens.replay import ReplayScreen
    from edgetop.tui.themes import GlyphLevel


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Open the screen, or print the figures at the end or at the moments that were asked for."""
    positions = [_position(text, arguments.align) for text in arguments.at]
    paths = _paths(arguments, settings)
    sessions = [load(path) for path in paths]
    alignment: AlignmentName = arguments.align or ("time" if len(sessions) == 1 else "turn")
    if shows_screens(settings) and not arguments.json and not positions:
        _open_screen(sessions, paths, alignment, settings)
        return 0
    player = Player(sessions, alignment)
    shown = [_at(player, position) for position in positions or [player.length]]
    if arguments.json:
        write_json([_as_json(path, each) for at in shown for path, each in zip(paths, at, strict=True)])
    else:
        write_data("\n".join(_as_text(paths, at) for at in shown))
    return 0


def _paths(arguments: argparse.Namespace, settings: Settings) -> Sequence[Path]:
    if arguments.demo:
        if arguments.sessions:
            raise UsageError("--demo plays the examples, and no other sessions", "leave out one of the two")
        return example_pair()
    return open_store(settings).find_all(arguments.sessions or ["1"])


def _position(text: str, alignment: AlignmentName | None) -> float:
    try:
        position = float(text)
    except ValueError:
        position = -1.0
    if not 0 <= position < float("inf"):
        raise UsageError(f"--at takes seconds since the beginning, not {one_line(text)!r}", "such as --at 12.5")
    return position if alignment == "token" else position * US_PER_S


def _open_screen(
    sessions: Sequence[Session], paths: Sequence[Path], alignment: AlignmentName, settings: Settings
) -> None:
    price = price_of(settings)

    def make_screen(level: GlyphLevel) -> ReplayScreen:
        from edgetop.tui.screens.replay import FRAME_S, ReplayScreen  # noqa: PLC0415 - Textual is slow to import

        # Without a word from the person replay is smoother than the live screen, since no model decodes beside it.
        frame_s = FRAME_S if settings.origin(options.DELAY) == DEFAULT else settings[options.DELAY]
        return ReplayScreen(
            sessions, level=level, alignment=alignment, price=price, frame_s=frame_s, plays=True, paths=paths
        )

    show_screen(make_screen, settings)


def _at(player: Player, position: float) -> list[Snapshot]:
    player.seek(position)
    return [snapshot(session, t_us) for session, t_us in zip(player.sessions, player.moments, strict=True)]


def _as_json(path: Path, shown: Snapshot) -> dict[str, object]:
    return {"path": str(path), "snapshot": shown}


def _as_text(paths: Sequence[Path], shown: Sequence[Snapshot]) -> str:
    """A row for each figure that one of the sessions has, a column for each session."""
    columns = [_figures(path, each) for path, each in zip(paths, shown, strict=True)]
    labels = dict.fromkeys(label for column in columns for label in column)
    rows = [[label, *(column.get(label, "") for column in columns)] for label in labels]
    return table([row for row in rows if any(row[1:])])


def _figures(path: Path, shown: Snapshot) -> dict[str, str]:
    summary, load = shown.summary, shown.load
    threads = None if load is None else load.settings.n_threads
    return {
        "session": path.stem,
        "at": format_duration(shown.t_us / US_PER_S),
        "model": "no model" if load is None else f"{load.model.name} {load.model.quantization}".strip(),
        "threads": "" if threads is None else f"{threads}",
        **rows_of(summary, reasons=False),
    }
