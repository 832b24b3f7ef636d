"""Repetitions for `edgetop tune`: runs as those of a benchmark, whose sessions are not kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from edgetop.bench.measurement import Tell
from edgetop.bench.plan import CoolDown, Plan, Setting, TokenTest
from edgetop.bench.repetitions import Repetition
from edgetop.bench.results import PlanResult, results_of
from edgetop.bench.run_log import RunLog
from edgetop.bench.runner import Runner
from edgetop.bench.tuning import NothingMeasuredError, Sample
from edgetop.bench.tuning_stages import Probe
from edgetop.live.live_session import LiveOptions
from edgetop.session.store import Store

PROBE_PROMPT, PROBE_REPLY = 64, 16


class TuningInterruptedError(Exception):
    """The person wants it to end."""


class TuningRuns:
    """Measures settings of one model."""

    def __init__(
        self,
        live: LiveOptions,
        goal: Literal["speed", "energy"],
        cool_down: CoolDown,
        *,
        tell: Tell,
        interrupted: Callable[[], bool],
    ) -> None:
        self._live = live
        self._goal = goal
        self._cool_down = cool_down
        self._tell = tell
        self._interrupted = interrupted
        self._folder = tempfile.TemporaryDirectory(prefix="edgetop-tune-")

    def close(self) -> None:
        """Delete the sessions."""
        self._folder.cleanup()

    def probe(self, setting: Setting) -> Probe:
        """How fast the model is about. Raises NothingMeasuredError and TuningInterruptedError."""
        tests = (TokenTest(n_prompt=PROBE_PROMPT), TokenTest(n_gen=PROBE_REPLY))
        result = self._carry_out([setting], tests, 0).settings[0]
        found = [result.test(test.name) for test in tests]
        if found[0] is None or found[1] is None:
            raise NothingMeasuredError(_why(result.problems))
        return Probe(prefill_tokens_per_s=found[0].tokens_per_s.mean, decode_tokens_per_s=found[1].tokens_per_s.mean)

    def measure(self, settings: Sequence[Setting], test: TokenTest, number: int) -> Mapping[str, Sample | str]:
        """See `edgetop.bench.tuning.Measure`. Raises TuningInterruptedError."""
        samples: dict[str, Sample | str] = {}
        for result in self._carry_out(settings, (test,), number).settings:
            found = result.test(test.name)
            samples[result.setting.key] = _why(result.problems) if found is None else self._sample(found.repetitions[0])
        return samples

    def _sample(self, repetition: Repetition) -> Sample | str:
        disturbed = bool(repetition.conditions.disturbances)
        if self._goal == "speed":
            return Sample(cost=1 / repetition.tokens_per_s, disturbed=disturbed)
        figure = repetition.j_per_token
        if figure is None:
            return f"its energy is not known: {repetition.energy_missing}"
        return Sample(cost=figure.value, disturbed=disturbed) if figure.value > 0 else "its energy is not above 0"

    def _carry_out(self, settings: Sequence[Setting], tests: tuple[TokenTest, ...], number: int) -> PlanResult:
        plan = Plan(
            name="tune", settings=tuple(settings), tests=tests, repetitions=1, cool_down=self._cool_down, seed=number
        )
        folder = Path(self._folder.name)
        log = RunLog(folder, plan)
        runner = Runner(log, Store(folder / "sessions"), self._live, tell=self._tell, interrupted=self._interrupted)
        if not runner.run():
            raise TuningInterruptedError
        return results_of(plan, log.finished)


def _why(problems: Sequence[str]) -> str:
    return problems[-1].removeprefix("round 1: ") if problems else "it gave no rate"
