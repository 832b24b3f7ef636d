"""Carries a plan out, run by run; each run is a session of its own."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from edgetop.bench.measurement import (
    InterruptedRunError,
    Measurement,
    NotLoadedError,
    Progress,
    RunFailedError,
    Tell,
)
from edgetop.bench.plan import Plan, Run, engine_settings, runs_of
from edgetop.bench.run_log import FinishedRun, RunLog
from edgetop.core.engine import SamplingSettings
from edgetop.core.records import BenchRun
from edgetop.inference.protocol import Report
from edgetop.live.conversation import Notice
from edgetop.live.live_session import LiveOptions, LiveSession
from edgetop.session.store import Store

PLAIN = "ran without repacked weights and AMX, since llama.cpp crashed with them"


class Runner:
    """Does what remains of a plan."""

    def __init__(
        self,
        log: RunLog,
        store: Store,
        live: LiveOptions,
        *,
        tell: Tell,
        interrupted: Callable[[], bool],
    ) -> None:
        """`live` says how sessions are run, except for the engine's settings; `interrupted` is asked often."""
        self._log = log
        self._plan: Plan = log.plan
        self._store = store
        self._live_options = live
        self._tell = tell
        self._interrupted = interrupted
        self._without_extra_buffers: set[str] = set()
        """Settings in which llama.cpp crashed with repacked weights and AMX."""

    def run(self) -> bool:
        """Do all that remains; False when it was interrupted. Raises BenchFolderError."""
        remaining = self._log.remaining(runs_of(self._plan))
        for number, run in enumerate(remaining, 1):
            if self._interrupted():
                return False
            if run.setting.key in self._log.unloadable:
                continue
            finished = self._do(
                run, Progress(run=number, runs=len(remaining), setting=run.setting.key, doing="loading")
            )
            if finished is None:
                return False
            self._log.add(finished)
        return True

    def _do(self, run: Run, progress: Progress) -> FinishedRun | None:
        """One run; `None` when it was interrupted."""
        finished = self._attempt(run, progress)
        if finished is None and run.setting.key in self._without_extra_buffers and not self._interrupted():
            finished = self._attempt(run, progress)
        return finished

    def _attempt(self, run: Run, progress: Progress) -> FinishedRun | None:
        """One run; `None` when it was interrupted, or is to be tried again without extra buffers."""
        key = run.setting.key
        finished = FinishedRun(setting=key, round=run.round, outcome="measured")
        measurement = Measurement(self._plan, run, progress, tell=self._tell, interrupted=self._interrupted)
        try:
            notes = measurement.do(lambda listener: self._begin(run, listener))
            finished = replace(finished, notes=(*notes, *([PLAIN] if key in self._without_extra_buffers else [])))
        except InterruptedRunError:
            measurement.close()
            return None
        except NotLoadedError as error:
            finished = replace(finished, outcome="not_loaded", reason=str(error))
        except RunFailedError as error:
            if measurement.crashed_in_first_decode and key not in self._without_extra_buffers:
                self._without_extra_buffers.add(key)
                self._tell(
                    Notice(text=f"{error} Trying once more without repacked weights and AMX.", severity="warning")
                )
                measurement.close()
                return None
            finished = replace(finished, outcome="failed", reason=str(error))
        path, trouble = measurement.close()
        if path is None and finished.outcome == "measured":
            return replace(finished, outcome="failed", reason=trouble or "the session was not saved")
        if path is not None and path.parent != self._store.folder:
            finished = replace(finished, notes=(*finished.notes, f"could be saved in {path.parent} only"))
        if finished.outcome != "measured":
            self._tell(Notice(text=f"{key}: {finished.reason}", severity="error"))
        return replace(finished, session="" if path is None else str(path))

    def _begin(self, run: Run, listener: Callable[[Report | Notice], None]) -> LiveSession:
        """Start the session of a run."""
        settings = engine_settings(run.setting, self._plan.n_ctx)
        options = replace(
            self._live_options,
            engine=replace(settings, use_extra_bufts=run.setting.key not in self._without_extra_buffers),
            sampling=SamplingSettings(temperature=0.0, seed=self._plan.seed),
            bench=BenchRun(plan=self._plan.identity, setting=run.setting.key, round=run.round),
            record=True,
            output=None,
        )
        return LiveSession(options, self._store, listener)
