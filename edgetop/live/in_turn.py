"""A/B: one prompt asked of several models in turn, each in a session of its own.

One model is in memory at a time, and each is measured like a chat: what differs is only the model and its settings.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.records import TurnFinished
from edgetop.core.text import one_line
from edgetop.inference.catalog import find_model
from edgetop.inference.protocol import LoadFailed, Report
from edgetop.live.chat_session import IDLE_PHASES, PUMP_WAIT_S, LiveOptions, LiveSession
from edgetop.live.conversation import Notice
from edgetop.session.file_io import load_head
from edgetop.session.store import Store

if TYPE_CHECKING:
    from edgetop.io.hub import DownloadProgress


class Contestant(NamedTuple):
    """A model that is asked."""

    label: str
    path: Path
    n_ctx: int | None = None
    """With this context, where one was chosen."""
    settings: EngineSettings | None = None
    """With these settings; `None` for those that the chat would load it with."""


def contestant_of(session: Path, label: str) -> Contestant:
    """The model of a recorded session, with its settings. Raises EdgetopError where it had none."""
    loads = load_head(session).loads
    if not loads:
        raise EdgetopError(f"{label} has no model.", "Mark sessions of a model.")
    return Contestant(label, Path(loads[-1].model.path), settings=loads[-1].settings)


class StoppedError(EdgetopError):
    """The person has stopped it."""


class InTurn:
    """Asks one after the other; `run` blocks, and may be in a thread."""

    def __init__(self, contestants: Sequence[Contestant], prompt: str, options: LiveOptions, store: Store) -> None:
        """`options` are those of the chat."""
        self._contestants = contestants
        self._prompt = prompt
        self._options = replace(
            options, alerts=None, exporters=(), output=None, bench=None, record=True, sync_pulse=False
        )
        self._store = store
        self._stopped = threading.Event()
        self.doing = ""
        """What is going on, in a line; may be read from another thread."""

    def stop(self) -> None:
        """End it soon; what was answered is recorded."""
        self._stopped.set()

    def run(self) -> list[Path]:
        """The sessions, in the order of the contestants. Raises EdgetopError."""
        paths = []
        for number, contestant in enumerate(self._contestants, 1):
            of = f"{number} of {len(self._contestants)}, {one_line(contestant.label)}"
            paths.append(self._ask(contestant, of))
        return paths

    def _ask(self, contestant: Contestant, of: str) -> Path:
        failures: list[str] = []

        def listen(event: Report | Notice) -> None:
            match event:
                case LoadFailed():
                    failures.append(event.message)
                case TurnFinished() if event.error:
                    failures.append(event.error)
                case Notice() if event.severity == "error":
                    failures.append(event.text)
                case _:
                    return

        model = self._found(contestant.path, of)
        live = LiveSession(self._options, self._store, listen)
        saved: Path | None = None
        try:
            settings = contestant.settings or live.settings_for(model)
            n_ctx = contestant.n_ctx or settings.n_ctx
            live.conversation.load(model, replace(settings, n_ctx=n_ctx))
            self._until_idle(live, of)
            while live.conversation.phase == "ready" and not live.has_sensors:
                self._pump(live)
            if live.conversation.phase == "ready":
                live.conversation.submit(self._prompt)
                self._until_idle(live, of)
                self.doing = f"{of}: waiting for the last power readings"
                live.settle()
        finally:
            saved = live.close()
        if failures or saved is None:
            raise EdgetopError(f"{contestant.label}: {failures[0] if failures else 'it was not recorded'}", "")
        return saved

    def _found(self, path: Path, of: str) -> Path:
        """The file of a model, downloaded where it is on the hub."""
        if not str(path).startswith("hf:"):
            return path

        def report(progress: DownloadProgress) -> None:
            self.doing = f"{of}: {progress.words}"

        folders = self._options.model_folders
        return find_model(str(path), folders=folders, report=report, stopped=self._stopped.is_set)

    def _until_idle(self, live: LiveSession, of: str) -> None:
        while live.conversation.phase not in IDLE_PHASES:
            self._pump(live)
            turn = live.session.turns[-1] if live.session.turns else None
            count = f"answering, {len(turn.token_t_us)} tokens" if turn is not None and turn.token_t_us else "starting"
            self.doing = f"{of}: {live.conversation.doing or count}"

    def _pump(self, live: LiveSession) -> None:
        if self._stopped.is_set():
            raise StoppedError("Stopped.", "What was answered is among the sessions.")
        live.pump(wait_s=PUMP_WAIT_S)
