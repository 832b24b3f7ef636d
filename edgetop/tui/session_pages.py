"""Pages about recorded sessions, one over the other: the list, a comparison, a replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from textual.app import App

from edgetop.core.energy.supply import Price
from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.session.alignment import AlignmentName
from edgetop.session.comparison.compare import compare
from edgetop.session.comparison.reading import read_all
from edgetop.session.comparison.result import Result
from edgetop.session.disk import load
from edgetop.session.store import Store
from edgetop.tui.glyphs import GlyphLevel

TOLD_S = 8.0


def open_sessions(
    app: App[Any],
    store: Store,
    level: GlyphLevel,
    price: Price | None = None,
    go_on: Callable[[Path], None] | None = None,
) -> None:
    """Open the list of recorded sessions; `go_on` brings the conversation of one into the chat, where there is one."""
    from edgetop.tui.sessions_screen import SessionsScreen  # noqa: PLC0415 - few sessions of the live screen need it

    def replay(paths: Sequence[Path]) -> None:
        open_replay(app, paths, level, price)

    def hold_against(paths: Sequence[Path]) -> None:
        open_comparison(app, paths, level, price)

    app.push_screen(SessionsScreen(store, level, replay=replay, compare=hold_against, go_on=go_on))


def open_comparison(app: App[Any], paths: Sequence[Path], level: GlyphLevel, price: Price | None = None) -> None:
    """Hold sessions against the first of them; what cannot be read is told."""
    from edgetop.tui.compare_screen import CompareScreen  # noqa: PLC0415 - brings numpy

    def replay(base: Result, chosen: Result) -> None:
        replay_results(app, base, chosen, level, price)

    try:
        comparison = compare(read_all(paths))
    except EdgetopError as error:
        _tell(app, error)
    else:
        app.push_screen(CompareScreen(comparison, level=level, replay=replay))


def replay_results(app: App[Any], base: Result, chosen: Result, level: GlyphLevel, price: Price | None = None) -> None:
    """Replay two results side by side, or one where both are the same; only recorded sessions can be replayed."""
    results = list({result.origin: result for result in (base, chosen) if result.kind == "session"}.values())
    if results:
        open_replay(app, [Path(result.origin) for result in results], level, price)
    else:
        _tell(app, EdgetopError("There is no recording of this result.", "Only sessions can be replayed."))


def open_replay(app: App[Any], paths: Sequence[Path], level: GlyphLevel, price: Price | None = None) -> None:
    """Play sessions again, side by side; what cannot be read is told."""
    from edgetop.tui.replay_screen import ReplayScreen  # noqa: PLC0415 - few sessions of the live screen need it

    try:
        sessions = [load(path) for path in paths]
    except EdgetopError as error:
        _tell(app, error)
    else:
        alignment: AlignmentName = "time" if len(sessions) == 1 else "turn"
        app.push_screen(ReplayScreen(sessions, level=level, alignment=alignment, price=price))


def _tell(app: App[Any], error: EdgetopError) -> None:
    app.notify(one_line(f"{error.what} {error.mend}"), severity="warning", timeout=TOLD_S, markup=False)
