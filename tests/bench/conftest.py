"""Benchmarks with scripted engines, each run in a real worker process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetop.bench.plan import BenchRequest, CoolDown, ModelFile, Plan, settings_of, token_tests
from edgetop.bench.results import PlanResult, results_of
from edgetop.bench.run_log import RunLog
from edgetop.bench.runner import Progress, Runner
from edgetop.live.chat_session import LiveOptions
from edgetop.live.conversation import Notice
from edgetop.session.store import Store


class Bench:
    """A folder with a plan's log and sessions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "sessions")
        self.said: list[Progress | Notice] = []
        self.script: dict[str, Any] = {"tokens_per_s": 2000.0}

    def plan(self, *, models: int = 2, threads: tuple[int, ...] = (1, 2), **changes: Any) -> Plan:
        """Two models on two thread counts, two rounds, without waiting."""
        files = [ModelFile(path=str(self.folder / f"{name}.gguf"), label=name) for name in "abc"[:models]]
        return Plan(
            name="test",
            settings=settings_of(files, BenchRequest(threads=threads)),
            **{
                "tests": token_tests(BenchRequest(n_prompt=(64,), n_gen=(8,))),
                "repetitions": 2,
                "cool_down": CoolDown(idle_s=0, limit_s=0),
                **changes,
            },
        )

    def live(self) -> LiveOptions:
        """With the script as it is now."""
        file = self.folder / "script.json"
        file.write_text(json.dumps(self.script))
        return LiveOptions(engine_name=f"scripted:{file}", sysroot=self.folder / "root")

    def run(self, plan: Plan, interrupted: Callable[[], bool] = lambda: False) -> tuple[bool, RunLog]:
        """Carry out what remains of a plan."""
        log = RunLog(self.folder / "benches", plan)
        runner = Runner(log, self.store, self.live(), on_progress=self.said.append, interrupted=interrupted)
        return runner.run(), log

    def result(self, plan: Plan) -> PlanResult:
        """What came of it."""
        return results_of(plan, RunLog(self.folder / "benches", plan).finished)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
