"""Carries a plan out: load, cool-down, warm-up, tests."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean, stdev

from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.device_settings import GONE, ColdFile, DeviceError, DeviceSettings, make_cold, read_in
from edgetop.bench.plan import (
    LOOK_S,
    WARMUP_REPLY,
    CoolDown,
    Plan,
    PromptTest,
    Run,
    Test,
    TokenTest,
    engine_settings,
    runs_of,
)
from edgetop.bench.results import TEMPERATURE_PREFIX, idle_of, runs_until_known
from edgetop.bench.run_log import FinishedRun, RunLog
from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import SamplingSettings
from edgetop.core.errors import EdgetopError, ModelError
from edgetop.core.format import format_duration
from edgetop.core.records import BenchRun, Event, TurnFinished
from edgetop.core.sources import Unavailable
from edgetop.core.statistics import decay
from edgetop.inference.protocol import LoadFailed, LoadProgress, Measure, Report
from edgetop.io.model_file import content_key, read_headers
from edgetop.live.chat_session import IDLE_PHASES, PUMP_WAIT_S, LiveOptions, LiveSession
from edgetop.live.conversation import Notice
from edgetop.session.energy import energy_of
from edgetop.session.file_io import load_file
from edgetop.session.meters import headline_of, meters_of
from edgetop.session.snapshot import Reading, Snapshot
from edgetop.session.store import Store

REST_WINDOW_S = 10.0
"""Rest is judged over this long."""

_S_PER_MIN = 60.0

RESTED_C = 1.0
"""A device as cool as at the plan's first rest, to this, has not been warmed by what was done in between."""

_COOLING_S = tuple(4.0 * 1.25**step for step in range(24))
"""Time constants of cooling that are tried: of a bare chip some seconds, of a heat sink minutes."""


class RestWatch:
    """Collects temperature and power while the device idles."""

    def __init__(
        self,
        cool_down: CoolDown,
        *,
        has_power: bool,
        now_s: float,
        rested_c: float | None = None,
        idle_w: float | None = None,
    ) -> None:
        """`rested_c` is how warm the device was when an earlier run of the same plan began at rest.

        `idle_w` is what it drew idle before an earlier run of the same setting, where that need not be measured again.
        """
        self._cool_down = cool_down
        self._rested_c = rested_c
        self._idle_w = idle_w
        self._since_begin: list[tuple[float, float]] = []
        self._has_power = has_power
        self._begin_s = now_s
        self._temperatures: deque[tuple[float, float]] = deque()
        self._powers: deque[tuple[float, float]] = deque()
        self._idle_known = False

    def note(
        self, now_s: float, temperature_c: float | None, power_w: float | None, *, idle_known: bool = False
    ) -> None:
        """Take in what was read now, `None` being no reading, and whether it is enough for the idle power of a turn."""
        self._idle_known = idle_known
        if temperature_c is not None:
            self._since_begin.append((now_s - self._begin_s, temperature_c))
        for readings, value in ((self._temperatures, temperature_c), (self._powers, power_w)):
            if value is not None:
                readings.append((now_s, value))
            while readings and readings[0][0] < now_s - REST_WINDOW_S:
                readings.popleft()

    def verdict(self, now_s: float) -> str | None:
        """`None` while it is not at rest; empty when it is; a note when the time is up."""
        waited_s = now_s - self._begin_s
        unsettled = self._unsettled(waited_s)
        if not unsettled:
            return ""
        if waited_s < self._cool_down.limit_s:
            return None
        return f"began after {waited_s:.0f} s though {unsettled}"

    def outlook(self, now_s: float) -> str:
        """Why it still waits, and for how long, for a person: `in about 20 s: 71 °C, 63 to go to`."""
        waited_s = now_s - self._begin_s
        left_s = max(self._cool_down.idle_s - waited_s if self._has_power else 0.0, 0.0)
        why = "idle power is being measured" if left_s or not self._since_begin else ""
        if self._since_begin:
            left_s = max(left_s, REST_WINDOW_S - waited_s)
            temperature_c = self._since_begin[-1][1]
            why = f"{temperature_c:.0f} °C"
            if waited_s >= REST_WINDOW_S:
                cooling = min(
                    (decay(self._since_begin, constant) for constant in _COOLING_S), key=lambda found: found.error
                )
                slope = abs(cooling.step) * exp(-waited_s / cooling.constant) / cooling.constant * _S_PER_MIN
                least = self._cool_down.temperature_slope_c_per_min
                if slope > least:
                    rest_s = cooling.constant * log(slope / least)
                    end_c = cooling.end + cooling.step * exp(-(waited_s + rest_s) / cooling.constant)
                    left_s, why = max(left_s, rest_s), f"{why}, {end_c:.0f} to go to"
        left_s = min(left_s, self._cool_down.limit_s - waited_s)
        return f"in about {format_duration(max(left_s, 1.0))}: {why or 'power is not steady yet'}"

    @property
    def _is_cool(self) -> bool:
        """As cool as an earlier run of the plan began."""
        rested_c, known = self._rested_c, self._since_begin
        return rested_c is not None and bool(known) and known[-1][1] <= rested_c + RESTED_C

    def _is_as_before(self, waited_s: float, powers: Sequence[float]) -> bool:
        """Idle power of the setting is known, and the device as cool as then, or without a thermometer as frugal."""
        if self._idle_w is None or self._since_begin:
            return self._idle_w is not None and self._is_cool
        reach_w = self._cool_down.power_spread * self._idle_w
        return waited_s >= LOOK_S and bool(powers) and abs(fmean(powers) - self._idle_w) <= reach_w

    def _unsettled(self, waited_s: float) -> str:
        """What has not come to rest; empty if all has."""
        powers = [power for _, power in self._powers]
        if self._is_as_before(waited_s, powers):
            return ""
        idle_s = self._cool_down.idle_s
        # A sensor that does not answer any more need not be waited for.
        if self._has_power and (waited_s < idle_s or (idle_s > 0 and powers and not self._idle_known)):
            return "the idle power was not yet known"
        cool = self._is_cool
        if len(self._temperatures) > 1 and not cool:
            (begin_s, begin_c), (end_s, end_c) = self._temperatures[0], self._temperatures[-1]
            span_s = end_s - begin_s
            if waited_s < REST_WINDOW_S:
                return "the temperature was not yet watched long enough"
            slope = (end_c - begin_c) / span_s * _S_PER_MIN if span_s > 0 else 0.0
            if abs(slope) > self._cool_down.temperature_slope_c_per_min:
                return f"the temperature still went {'up' if slope > 0 else 'down'} by {abs(slope):.1f} °C a minute"
        if len(powers) > 3:
            # The halves are compared, since a single reading of an idle device may well be twice the next one.
            halves = powers[: len(powers) // 2], powers[len(powers) // 2 :]
            earlier, later = map(fmean, halves)
            noise_w = sqrt(sum(stdev(half) ** 2 / len(half) for half in halves))
            drift_w = abs(later - earlier)
            if drift_w > max(self._cool_down.power_spread * fmean(powers), 2 * noise_w):
                return f"the idle power still went from {earlier:.2f} to {later:.2f} W"
        return ""


WARMUP_QUESTION = "Count from one to ten."
SAMPLE_S = 1.0
"""How often temperature and power of the idle device are judged."""


class Progress(Struct, frozen=True, kw_only=True):
    """What is going on."""

    run: int
    """From 1, of those that remained when it began."""
    runs: int
    setting: str
    doing: str
    """Such as `loading`, `waiting for the device to come to rest`, or a test's name."""


OnProgress = Callable[[Progress | Notice], None]


class RunFailedError(Exception):
    """The run cannot go on; the message says why."""


class NotLoadedError(RunFailedError):
    """The model cannot be loaded."""


class InterruptedRunError(Exception):
    """The person wants it to end."""


class Measurement:
    """One run under way. Every step raises InterruptedRunError soon after the person wants it to end."""

    def __init__(
        self,
        plan: Plan,
        run: Run,
        progress: Progress,
        *,
        on_progress: OnProgress,
        interrupted: Callable[[], bool],
        rested_c: float | None = None,
        idle_w: float | None = None,
    ) -> None:
        self._plan = plan
        self._run = run
        self._progress = progress
        self._on_progress = on_progress
        self._interrupted = interrupted
        self._live: LiveSession | None = None
        self._failure = ""
        self._load_failed = False
        self.rested_c = rested_c
        """How warm the device is at rest, as the first run of the plan found it."""
        self._idle_w = idle_w
        self.crashed_in_first_decode = False
        self.cold: ColdFile | None = None

    def do(self, begin: Callable[[Callable[[Report | Notice], None]], LiveSession]) -> list[str]:
        """Begin the session, load, rest, warm up, test; what a reader of the figures must know.

        `begin` takes the listener of the session. Raises RunFailedError.
        """
        live = self._live = begin(self._on_event)
        self._rest_without_model(live)
        self._load(live)
        notes = self._rest(live)
        if self._plan.warmup:
            self._report("warm-up")
            self._warm_up(live)
        if self._plan.soak_s:
            self._soak(live)
            return notes
        undone: dict[str, str] = {}
        for repetition in range(1, self._run.repetitions + 1):
            for test in self._plan.tests:
                if test.name in undone:
                    continue
                self._report(test.name if self._run.repetitions == 1 else f"{test.name}, {repetition}")
                try:
                    self._do_test(live, test, (self._run.round - 1) * self._run.repetitions + repetition)
                except RunFailedError as error:
                    # What a server cannot do, it says; the other tests may still be done.
                    if not self._plan.server or live.conversation.phase != "ready":
                        raise
                    undone[test.name] = f"could not do {test.name}: {error}"
                live.settle()
        return [*notes, *undone.values()]

    def _soak(self, live: LiveSession) -> None:
        """All tests over and over, without a pause that would let the device cool down."""
        begin_s, repetition = time.monotonic(), 0
        while (left_s := self._plan.soak_s - (time.monotonic() - begin_s)) > 0:
            repetition += 1
            for test in self._plan.tests:
                self._report(f"{test.name}, {repetition}: {format_duration(left_s)} to go")
                self._do_test(live, test, repetition)
        live.settle()

    def close(self) -> tuple[Path | None, str]:
        """End the session; where it was saved, or why not."""
        if self._live is None:
            return None, ""
        live, self._live = self._live, None
        try:
            return live.close(), ""
        except EdgetopError as error:
            return None, error.what

    def _rest_without_model(self, live: LiveSession) -> None:
        """Know the sensors before the load, which its energy takes, and once for each setting the idle power then."""
        while live.pulse is not None and not live.pulse.is_over:
            self._pump(live)
        if self._plan.server:
            return
        self._report("measuring idle power without the model")
        while not live.has_sensors:
            self._pump(live)
        idle_s = self._plan.cool_down.idle_s if self._run.round == 1 else 0.0
        has_power = not isinstance(headline_of(live.session, meters_of(live.session)), Unavailable)
        until_s = time.monotonic() + (idle_s if has_power else 0.0)
        while time.monotonic() < until_s:
            self._pump(live)

    def _load(self, live: LiveSession) -> None:
        self._report("loading")
        self._require_same_file()
        self._prepare_file(live)
        live.conversation.load(Path(self._run.setting.model.path), live.options.engine)
        self._wait(live)
        if live.conversation.phase != "ready":
            reason = self._failure or "The model was not loaded."
            # An engine that was killed while it loaded may have more room the next time.
            raise NotLoadedError(reason) if self._load_failed else RunFailedError(reason)
        while not live.has_sensors:
            self._pump(live)

    def _prepare_file(self, live: LiveSession) -> None:
        """Have the model's files in the page cache, or out of it, as the setting says."""
        wanted = self._run.setting.page_cache
        if wanted is None:
            return
        self._report(f"making the file {wanted}")
        try:
            files, _, _ = read_headers(Path(self._run.setting.model.path))
            if wanted == "warm":
                for file in files:
                    read_in(file)
            else:
                self.cold = make_cold(list(files), live.options.sysroot)
        except (OSError, ModelError) as error:
            raise RunFailedError(f"the file could not be made {wanted}: {error}") from None

    def _require_same_file(self) -> None:
        """Whether the model is still the one that the plan began with; that it is gone, the engine says better."""
        model = self._run.setting.model
        try:
            changed = bool(model.content) and content_key(Path(model.path)) != model.content
        except ModelError:
            return
        if changed:
            raise NotLoadedError(f"{model.path} is not the file any more that the plan began with.")

    def _rest(self, live: LiveSession) -> list[str]:
        """Wait until the device is at rest with the model loaded; what is to be noted about it."""
        waiting = "waiting for the device to come to rest"
        self._report(waiting)
        has_power = not isinstance(headline_of(live.session, meters_of(live.session)), Unavailable)
        watch = RestWatch(
            self._plan.cool_down,
            has_power=has_power,
            now_s=time.monotonic(),
            rested_c=self.rested_c,
            idle_w=self._idle_w,
        )
        while True:
            if live.conversation.phase != "ready":
                raise RunFailedError(self._failure or "The engine stopped.")
            now = live.snapshot()
            power_w = None if isinstance(now.power, Unavailable) else now.power.power_w
            idle_known = has_power and energy_of(live.session, now.t_us).knows_idle
            hottest_c = _hottest_c(now)
            watch.note(time.monotonic(), hottest_c, power_w, idle_known=idle_known)
            verdict = watch.verdict(time.monotonic())
            if verdict is not None:
                if verdict:
                    self._note(live, verdict)
                elif self.rested_c is None:
                    self.rested_c = hottest_c
                return [verdict] if verdict else []
            self._report(f"{waiting}, {watch.outlook(time.monotonic())}")
            end_s = time.monotonic() + SAMPLE_S
            while time.monotonic() < end_s:
                self._pump(live)

    def _note(self, live: LiveSession, verdict: str) -> None:
        live.recorder.record(Event(t_us=monotonic_us(), kind="cool_down_cut_short", text=f"The run {verdict}."))

    def _warm_up(self, live: LiveSession) -> None:
        if any(isinstance(test, TokenTest) for test in self._plan.tests) or not self._plan.server:
            self._measure(live, self._plan.warmup_test, repetition=0, warmup=True)
            return
        # A server that takes conversations only.
        live.conversation.sampling = replace(live.conversation.sampling, max_tokens=WARMUP_REPLY)
        live.conversation.submit(WARMUP_QUESTION, warmup=True)
        self._finish_turn(live)

    def _do_test(self, live: LiveSession, test: Test, repetition: int) -> None:
        if isinstance(test, TokenTest):
            self._measure(live, test, repetition=repetition)
        else:
            self._converse(live, test)

    def _measure(self, live: LiveSession, test: TokenTest, *, repetition: int, warmup: bool = False) -> None:
        if test.depth:
            # By itself, so that its energy and time are no part of the test's.
            live.conversation.measure(Measure(turn=0, depth=test.depth), task=f"fill@d{test.depth}", warmup=True)
            self._finish_turn(live)
        command = Measure(
            turn=0, n_prompt=test.n_prompt, n_gen=test.n_gen, depth=test.depth, seed=self._plan.seed + repetition
        )
        live.conversation.measure(command, task=test.name, warmup=warmup)
        self._finish_turn(live)

    def _converse(self, live: LiveSession, test: PromptTest) -> None:
        conversation = live.conversation
        conversation.clear()
        conversation.sampling = replace(conversation.sampling, max_tokens=test.max_tokens)
        for prompt in test.prompts:
            conversation.submit(prompt, task=test.name)
            self._finish_turn(live)

    def _finish_turn(self, live: LiveSession) -> None:
        self._failure = ""
        self._wait(live)
        if live.conversation.phase != "ready" or self._failure:
            death = live.conversation.engine.death()
            self.crashed_in_first_decode = death is not None and death.crashed_in_first_decode
            raise RunFailedError(self._failure or "The engine stopped.")

    def _wait(self, live: LiveSession) -> None:
        if not live.pump_until(IDLE_PHASES, ended=self._interrupted):
            raise InterruptedRunError

    def _pump(self, live: LiveSession) -> None:
        if self._interrupted():
            raise InterruptedRunError
        live.pump(wait_s=PUMP_WAIT_S)

    def _report(self, doing: str) -> None:
        self._on_progress(replace(self._progress, doing=doing))

    def _on_event(self, event: Report | Notice) -> None:
        match event:
            case LoadFailed():
                self._failure = event.message
                phase = "dead" if self._live is None else self._live.conversation.phase
                self._load_failed = phase == "no_model" and event.reason not in {"no_memory", "cancelled"}
            case TurnFinished() if event.stop_reason != "engine_died":
                # An engine that died may be started again and answer; if not, a notice says so.
                self._failure = event.error
            case Notice() if event.severity == "error":
                self._failure = self._failure or event.text
            case Notice():
                self._on_progress(event)
            case LoadProgress() if self._live is not None and (doing := self._live.conversation.doing):
                self._report(doing)
            case _:
                return


def _hottest_c(now: Snapshot) -> float | None:
    temperatures = [
        reading.value
        for name, reading in now.readings.items()
        if name.startswith(TEMPERATURE_PREFIX) and isinstance(reading, Reading)
    ]
    return max(temperatures, default=None)


IDLE_RUNS_MOST = 40
"""Fewer than the sessions in which an earlier idle power is looked for (`live.past_runs`)."""

PLAIN = "ran without repacked weights and AMX, since llama.cpp crashed with them"


class Runner:
    """Does what remains of a plan."""

    def __init__(
        self,
        log: RunLog,
        store: Store,
        live: LiveOptions,
        *,
        on_progress: OnProgress,
        interrupted: Callable[[], bool],
        device: DeviceSettings | None = None,
    ) -> None:
        """`live` says how sessions are run, except for the engine's settings; `interrupted` is asked often.

        Without `device`, no setting may choose anything of the device.
        """
        self._device = device
        self._log = log
        self._plan: Plan = log.plan
        self._store = store
        self._live_options = live
        self._on_progress = on_progress
        self._interrupted = interrupted
        self._rested_c: float | None = None
        self._idle: dict[str, tuple[int, float]] = {}
        """By setting, where it need not be measured again: after how many runs it was, and the power in W."""
        self._without_extra_buffers: set[str] = set()
        """Settings in which llama.cpp crashed with repacked weights and AMX."""

    def run(self) -> bool:
        """Do all that remains, until as much is known as was asked for; False when it was interrupted.

        Raises BenchFolderError, and DeviceError where the device could not be given back as it was.
        """
        runs = self._log.remaining(runs_of(self._plan))
        try:
            while self._carry_out(runs):
                runs = runs_until_known(self._plan, self._log.finished)
                if not runs:
                    return True
            return False
        finally:
            if self._device is not None:
                self._device.restore()

    def _carry_out(self, remaining: list[Run]) -> bool:
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
        measurement = Measurement(
            self._plan,
            run,
            progress,
            on_progress=self._on_progress,
            interrupted=self._interrupted,
            rested_c=self._rested_c,
            idle_w=self._idle_w(key),
        )
        try:
            if self._device is not None:
                self._device.apply(run.setting)
            notes = measurement.do(lambda listener: self._begin(run, listener))
            self._rested_c = measurement.rested_c
            notes += [] if self._device is None else self._device.changed_by_others()
            cold = measurement.cold
            if cold is not None and (cold.left is None or cold.left > GONE):
                left = "an unknown part" if cold.left is None else f"{cold.left:.0%}"
                notes.append(f"was not loaded cold: {left} of the file stayed in memory ({cold.how or 'not dropped'})")
            finished = replace(finished, cold=cold)
            finished = replace(finished, notes=(*notes, *([PLAIN] if key in self._without_extra_buffers else [])))
        except InterruptedRunError:
            measurement.close()
            return None
        except DeviceError as error:
            finished = replace(finished, outcome="failed", reason=f"{error.what}. {error.hint}")
        except NotLoadedError as error:
            finished = replace(finished, outcome="not_loaded", reason=str(error))
        except RunFailedError as error:
            if measurement.crashed_in_first_decode and key not in self._without_extra_buffers:
                self._without_extra_buffers.add(key)
                self._on_progress(
                    Notice(text=f"{error} Trying once more without repacked weights and AMX.", severity="warning")
                )
                measurement.close()
                return None
            finished = replace(finished, outcome="failed", reason=str(error))
        path, trouble = measurement.close()
        if path is None and finished.outcome == "measured":
            return replace(finished, outcome="failed", reason=trouble or "the session was not saved")
        if path is not None and self._idle_w(key) is None and (idle := idle_of(load_file(path).turns)) is not None:
            self._idle[key] = len(self._log.finished), idle.value
        if path is not None and path.parent != self._store.folder:
            finished = replace(finished, notes=(*finished.notes, f"could be saved in {path.parent} only"))
        if finished.outcome != "measured":
            self._on_progress(Notice(text=f"{key}: {finished.reason}", severity="error"))
        return replace(finished, session="" if path is None else str(path))

    def _idle_w(self, key: str) -> float | None:
        """What a setting drew idle, not so long ago that the sessions since would not find it again."""
        runs, power_w = self._idle.get(key, (0, None))
        return power_w if len(self._log.finished) - runs < IDLE_RUNS_MOST else None

    def _begin(self, run: Run, listener: Callable[[Report | Notice], None]) -> LiveSession:
        """Start the session of a run."""
        settings = engine_settings(run.setting, self._plan.n_ctx)
        options = replace(
            self._live_options,
            engine=replace(settings, use_extra_bufts=run.setting.key not in self._without_extra_buffers),
            sampling=SamplingSettings(temperature=0.0, seed=self._plan.seed),
            bench=BenchRun(
                plan=self._plan.identity,
                setting=run.setting.key,
                round=run.round,
                soak_s=self._plan.soak_s or None,
            ),
            record=True,
            output=None,
        )
        return LiveSession(options, self._store, listener)
