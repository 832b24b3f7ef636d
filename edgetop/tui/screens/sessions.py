"""Recorded sessions: mark, tag, delete, resume; opens comparison and replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from textual.app import App

from edgetop.core.energy.duty import Price
from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.live.history import as_markdown, find_in, recorded_conversation
from edgetop.live.in_turn import Contestant, contestant_of
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import read_all
from edgetop.session.compare.result import Result
from edgetop.session.file_io import load
from edgetop.session.listing import SHOWN, SessionEntry, entry_of
from edgetop.session.replay import AlignmentName
from edgetop.session.store import LabelError, Store, changed_tags, write_labels
from edgetop.tui.keys import SESSIONS
from edgetop.tui.screens.list import ListScreen
from edgetop.tui.styled_text import Line, Role, Span, fit_text, line_of
from edgetop.tui.themes import GlyphLevel

AskInTurn = Callable[[Sequence[Contestant], str], None]
"""Asks models a prompt, one after the other."""

WARNING_S = 8.0

TAGS, DELETE, ASK = "tags", "delete", "ask"
"""What the bottom line asks for besides a filter."""


class SessionsScreen(ListScreen[SessionEntry, None]):
    """What is on disk is read when the screen opens and after each change."""

    TABLE = SESSIONS

    def __init__(
        self,
        store: Store,
        level: GlyphLevel,
        *,
        price: Price | None = None,
        resume: Callable[[Path], None] | None = None,
        ask_in_turn: AskInTurn | None = None,
    ) -> None:
        """What the chat below does, `None` where there is none.

        `resume` gets the session whose conversation it is to continue, `ask_in_turn` models and a prompt.
        """
        super().__init__(level, SHOWN)
        self._store = store
        self._price = price
        self._resume = resume
        self._ask_in_turn = ask_in_turn

    def on_screen_resume(self) -> None:
        """Back from a replay, where the session may have got tags: read the list again."""
        if self._complete:
            self.load_rows()

    def _read_rows(self) -> Iterator[SessionEntry]:
        return map(entry_of, self._store.list())

    def _add_rows(self, rows: list[SessionEntry], *, fresh: bool, complete: bool) -> None:
        there = {row.listed.path for row in rows}
        self._marked = [path for path in self._marked if path in there]
        super()._add_rows(rows, fresh=fresh, complete=complete)

    # Drawing

    def _identity(self, row: SessionEntry) -> object:
        return row.listed.path

    def _matches(self, row: SessionEntry, words: Sequence[str]) -> bool:
        return row.matches(words)

    def _in_one_piece(self, row: SessionEntry) -> str | None:
        if row.listed.head is not None:
            return None
        path = row.listed.path
        number = fit_text(str(row.listed.number), self._slots[0].width if self._slots else 0)
        text = one_line(f"{path.name}: {row.listed.problem.removeprefix(f'{path}: ')}", ascii=self._level == "ascii")
        return f"{number}{' ' * self.GAP}{text}"

    def _why_unmarkable(self, row: SessionEntry) -> str:
        return "This one cannot be read." if row.listed.head is None else ""

    def _row_role(self, row: SessionEntry) -> Role | None:
        return "warning" if self._is_marked(row) else "dim" if row.listed.head is None else None

    def _title_line(self) -> Line:
        count = f"{len(self._rows)} of {len(self._all)}" if self._words else f"{len(self._all)}"
        title = line_of(Span("sessions", "title"), f" {count}")
        return self._title(title, self._marked_part(), where=self._store.folder)

    def _empty_text(self) -> str:
        if not self._complete:
            return "reading ..."
        if self._all:
            return f"none of {len(self._all)} has this in its title, tags, model, quantization or device"
        return "none yet: every chat and every `edgetop run` is recorded"

    # Keys

    def _open_row(self) -> None:
        self.action_resume()

    def action_compare(self) -> None:
        """Compare the marked sessions."""
        if len(self._marked) < 2:
            self._show_message(f"Mark two or more with {self.keys.key_of('mark')} first.")
        else:
            open_comparison(self.app, self._marked, self._level, self._price)

    def action_replay(self) -> None:
        """Replay the marked sessions side by side, or the chosen one."""
        chosen = self._chosen
        if self._marked:
            open_replay(self.app, self._marked, self._level, self._price)
        elif chosen is not None and chosen.listed.head is not None:
            open_replay(self.app, [chosen.listed.path], self._level, self._price)
        elif chosen is not None:
            self._show_message(chosen.listed.problem)

    def action_resume(self) -> None:
        """Go back to the chat, and continue the conversation of the chosen session there."""
        chosen = self._chosen
        if chosen is None:
            return
        if self._resume is None:
            replay = self.keys.key_of("replay")
            self._show_message(f"There is no chat here to open it in: `edgetop` opens one, {replay} replays it here.")
        elif chosen.listed.head is None:
            self._show_message(chosen.listed.problem)
        else:
            self.dismiss(None)
            self._resume(chosen.listed.path)

    def action_ask(self) -> None:
        """Ask for a prompt for the models of the marked sessions, with the settings that they were recorded with."""
        self._ask_marked(ASK, "" if self._ask_in_turn else "There is no chat here to ask in: `edgetop` opens one.")

    def action_export(self) -> None:
        """Write the conversation of the chosen session, or those of the marked ones, into the working folder."""
        paths = self._marked or ([self._chosen.listed.path] if self._chosen is not None else [])
        try:
            files = [exported(path, self._store) for path in paths]
        except EdgetopError as error:
            self._show_message(f"{error.what} {error.hint}")
        except OSError as error:
            self._show_message(f"{error.filename} could not be written: {error.strerror}.")
        else:
            if files:
                self._show_message(f"Exported as {', '.join(file.name for file in files)} in {Path.cwd()}.", "accent")

    # Questions

    def action_tags(self) -> None:
        """Ask for the tags of the chosen session."""
        chosen = self._chosen
        if chosen is not None and chosen.listed.head is not None:
            self._ask(TAGS, f"Tags of {chosen.listed.number}:", " ".join(chosen.tags))

    def action_delete(self) -> None:
        """Ask whether to delete the marked sessions, or the chosen one."""
        targets = self._to_delete()
        if targets:
            what = f"{len(targets)} marked sessions" if len(targets) > 1 else f"{_named(targets[0])}"
            self._ask(DELETE, f"Delete {what} for good? y/N:")

    def _to_delete(self) -> list[SessionEntry]:
        chosen = self._chosen
        marked = [entry for entry in self._all if entry.listed.path in self._marked]
        return marked or ([chosen] if chosen is not None else [])

    def _answer(self, question: str, text: str) -> None:
        if question == TAGS:
            self._write_tags(text.split())
        elif question == DELETE and text.strip().casefold() in {"y", "yes"}:
            self._remove()
        elif question == ASK and text.strip() and self._ask_in_turn is not None:
            try:
                contestants = [contestant_of(row.listed.path, _named(row)) for row in self._marked_rows]
            except EdgetopError as error:
                self._show_message(f"{error.what} {error.hint}")
            else:
                self.dismiss(None)
                self._ask_in_turn(contestants, text)

    def _write_tags(self, words: Sequence[str]) -> None:
        chosen = self._chosen
        if chosen is None:
            return
        try:
            write_labels(chosen.listed.path, tags=changed_tags((), [f"+{word.removeprefix('+')}" for word in words]))
        except (LabelError, EdgetopError) as error:
            self._show_message(str(error))
        except OSError as error:
            self._show_message(f"The file could not be written: {error.strerror}.")
        self.load_rows()

    def _remove(self) -> None:
        for entry in self._to_delete():
            try:
                self._store.remove(entry.listed.path)
            except EdgetopError as error:
                self._show_message(str(error))
            except OSError as error:
                self._show_message(f"It could not be deleted: {error.strerror}.")
        self.load_rows()


def exported(path: Path, store: Store) -> Path:
    """Write the conversation of a session as Markdown into the working folder, where no file is written over.

    Raises EdgetopError where it has none, and OSError.
    """
    session = load(path)
    found = recorded_conversation(session, find_in(store))
    model = session.loads[-1].model if session.loads else None
    name = "" if model is None else one_line(f"{model.name} {model.quantization}")
    file = Path.cwd() / f"{path.stem}.md"
    with file.open("x", encoding="utf-8", newline="\n") as out:
        out.write(as_markdown(found.messages, system=found.system, model=name))
    return file


def _named(entry: SessionEntry) -> str:
    what = f"{entry.model} {entry.quantization}".strip()
    return one_line(f"{entry.listed.number}, {entry.started}{', ' if what else ''}{what}")


def open_comparison(app: App[Any], paths: Sequence[Path], level: GlyphLevel, price: Price | None = None) -> None:
    """Compare sessions with the first of them; warns of what cannot be read."""
    from edgetop.tui.screens.compare import CompareScreen  # noqa: PLC0415 - brings numpy

    def replay(base: Result, chosen: Result) -> None:
        replay_results(app, base, chosen, level, price)

    try:
        comparison = compare(read_all(paths))
    except EdgetopError as error:
        _warn(app, error)
    else:
        app.push_screen(CompareScreen(comparison, level=level, replay=replay))


def replay_results(app: App[Any], base: Result, chosen: Result, level: GlyphLevel, price: Price | None = None) -> None:
    """Replay two results side by side, or one where both are the same; only recorded sessions can be replayed."""
    results = list({result.origin: result for result in (base, chosen) if result.kind == "session"}.values())
    if results:
        open_replay(app, [Path(result.origin) for result in results], level, price)
    else:
        _warn(app, EdgetopError("There is no recording of this result.", "Only sessions can be replayed."))


def open_replay(app: App[Any], paths: Sequence[Path], level: GlyphLevel, price: Price | None = None) -> None:
    """Replay sessions side by side; warns of what cannot be read."""
    from edgetop.tui.screens.replay import ReplayScreen  # noqa: PLC0415 - few sessions of the live screen need it

    try:
        sessions = [load(path) for path in paths]
    except EdgetopError as error:
        _warn(app, error)
    else:
        alignment: AlignmentName = "time" if len(sessions) == 1 else "turn"
        app.push_screen(ReplayScreen(sessions, level=level, alignment=alignment, price=price, plays=True, paths=paths))


def _warn(app: App[Any], error: EdgetopError) -> None:
    app.notify(one_line(f"{error.what} {error.hint}"), severity="warning", timeout=WARNING_S, markup=False)
