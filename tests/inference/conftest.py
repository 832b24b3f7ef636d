"""Workers for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import ModelLoaded
from edgetop.inference.client import EngineProcess
from edgetop.inference.scripted import Script
from tests.support.engine_worker import EngineWorker


@pytest.fixture
def start() -> Iterator[Callable[..., EngineWorker]]:
    """Starts workers that are gone after the test."""
    talks: list[EngineWorker] = []

    def _start(engine: str = "llama") -> EngineWorker:
        talks.append(EngineWorker(EngineProcess.start(engine=engine)))
        return talks[-1]

    yield _start
    for talk in talks:
        talk.engine.close()


@pytest.fixture
def scripted(start: Callable[..., EngineWorker], tmp_path: Path) -> Callable[[Script], EngineWorker]:
    """Starts a worker that plays a script, with its model loaded."""

    def _scripted(script: Script, settings: EngineSettings | None = None, *, load: bool = True) -> EngineWorker:
        path = tmp_path / "script.json"
        path.write_bytes(msgspec.json.encode(script))
        talk = start(f"scripted:{path}")
        if load:
            assert isinstance(talk.load(path, settings), ModelLoaded)
        return talk

    return _scripted


@pytest.fixture(scope="session")
def real(small_model: Path) -> Iterator[EngineWorker]:
    """One worker with the small model, shared by all tests that only talk to it.

    One thread: two that wait for each other stand still where other programs want the same cores.
    """
    with EngineProcess.start() as engine:
        talk = EngineWorker(engine)
        assert isinstance(talk.load(small_model, EngineSettings(n_ctx=2048, n_threads=1)), ModelLoaded)
        yield talk
