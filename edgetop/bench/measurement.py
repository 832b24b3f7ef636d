"""One run under way: the model is loaded, the device comes to rest, and every test is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.conditions import TEMPERATURE_PREFIX
from edgetop.bench.plan import WARMUP_REPLY, Plan, PromptTest, Run, Test, TokenTest
from edgetop.bench.rest import RestWatch
from edgetop.core.clock import monotonic_us
from edgetop.core.errors import EdgetopError, ModelError
from edgetop.core.records import Event, Missing, TurnFinished
from edgetop.inference.protocol import LoadFailed, Measure, Report
from edgetop.inference.quantization import content_key
from edgetop.live.conversation import Notice
from edgetop.live.live_session import LiveSession
from edgetop.session.energy_account import energy_account
from edgetop.session.meters import headline_of, meters_of
from edgetop.session.snapshot import Reading, Snapshot

WAIT_S = 0.1
"""How soon an interruption is noticed."""
WARMUP_QUESTION = "Count from one to ten."
LOOK_S = 1.0
"""How often the idle device is looked at."""


class Progress(Struct, frozen=True, kw_only=True):
    """What is going on."""

    run: int
    """From 1, of those that remained when it began."""
    runs: int
    setting: str
    doing: str
    """Such as `loading`, `waiting for the device to come to rest`, or a test's name."""


Tell = Callable[[Progress | Notice], None]


class RunFailedError(Exception):
    """The run cannot go on; the message says why."""


class NotLoadedError(RunFailedError):
    """The model cannot be loaded."""


class InterruptedRunError(Exception):
    """The person wants it to end."""


class Measurement:
    """One run under way. Every step raises InterruptedRunError soon after the person wants it to end."""

    def __init__(
        self, plan: Plan, run: Run, progress: Progress, *, tell: Tell, interrupted: Callable[[], bool]
    ) -> None:
        self._plan = plan
        self._run = run
        self._progress = progress
        self._tell = tell
        self._interrupted = interrupted
        self._live: LiveSession | None = None
        self._failure = ""
        self._load_failed = False
        self.crashed_in_first_decode = False

    def do(self, begin: Callable[[Callable[[Report | Notice], None]], LiveSession]) -> list[str]:
        """Begin the session, load, rest, warm up, test; what a reader of the figures must know.

        `begin` takes the listener of the session. Raises RunFailedError.
        """
        live = self._live = begin(self._hear)
        self._load(live)
        notes = self._rest(live)
        if self._plan.warmup:
            self._say("warm-up")
            self._warm_up(live)
        undone: dict[str, str] = {}
        for repetition in range(1, self._run.repetitions + 1):
            for test in self._plan.tests:
                if test.name in undone:
                    continue
                self._say(test.name if self._run.repetitions == 1 else f"{test.name}, {repetition}")
                try:
                    self._do_test(live, test, (self._run.round - 1) * self._run.repetitions + repetition)
                except RunFailedError as error:
                    # What a server cannot do, it says; the other tests may still be done.
                    if not self._plan.server or live.conversation.phase != "ready":
                        raise
                    undone[test.name] = f"could not do {test.name}: {error}"
                live.settle()
        return [*notes, *undone.values()]

    def close(self) -> tuple[Path | None, str]:
        """End the session; where it was saved, or why not."""
        if self._live is None:
            return None, ""
        live, self._live = self._live, None
        try:
            return live.close(), ""
        except EdgetopError as error:
            return None, error.what

    def _load(self, live: LiveSession) -> None:
        self._say("loading")
        self._require_same_file()
        live.conversation.load(Path(self._run.setting.model.path), live.options.engine)
        self._wait(live, {"ready", "no_model", "dead"})
        if live.conversation.phase != "ready":
            reason = self._failure or "The model was not loaded."
            # An engine that was killed while it loaded may have more room the next time.
            raise NotLoadedError(reason) if self._load_failed else RunFailedError(reason)
        while not live.senses:
            self._pump(live)

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
        self._say("waiting for the device to come to rest")
        has_power = not isinstance(headline_of(live.session, meters_of(live.session)), Missing)
        watch = RestWatch(self._plan.cool_down, has_power=has_power, now_s=time.monotonic())
        while True:
            if live.conversation.phase != "ready":
                raise RunFailedError(self._failure or "The engine stopped.")
            now = live.snapshot()
            power_w = None if isinstance(now.power, Missing) else now.power.power_w
            idle_known = has_power and energy_account(live.session, now.t_us).knows_idle
            watch.note(time.monotonic(), _hottest_c(now), power_w, idle_known=idle_known)
            verdict = watch.verdict(time.monotonic())
            if verdict is not None:
                if verdict:
                    self._note(live, verdict)
                return [verdict] if verdict else []
            end_s = time.monotonic() + LOOK_S
            while time.monotonic() < end_s:
                self._pump(live)
            live.check()

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
        self._wait(live, {"ready", "no_model", "dead"})
        if live.conversation.phase != "ready" or self._failure:
            death = live.conversation.engine.death()
            self.crashed_in_first_decode = death is not None and death.crashed_in_first_decode
            raise RunFailedError(self._failure or "The engine stopped.")

    def _wait(self, live: LiveSession, phases: set[str]) -> None:
        checked_s = time.monotonic()
        while live.conversation.phase not in phases:
            self._pump(live)
            if time.monotonic() - checked_s >= LOOK_S:
                checked_s = time.monotonic()
                live.check()

    def _pump(self, live: LiveSession) -> None:
        if self._interrupted():
            raise InterruptedRunError
        live.pump(wait_s=WAIT_S)

    def _say(self, doing: str) -> None:
        self._tell(replace(self._progress, doing=doing))

    def _hear(self, said: Report | Notice) -> None:
        match said:
            case LoadFailed():
                self._failure = said.message
                phase = "dead" if self._live is None else self._live.conversation.phase
                self._load_failed = phase == "no_model" and said.reason not in {"no_memory", "cancelled"}
            case TurnFinished() if said.stop_reason != "engine_died":
                # An engine that died may be started again and answer; if not, a notice says so.
                self._failure = said.error
            case Notice() if said.severity == "error":
                self._failure = self._failure or said.text
            case Notice():
                self._tell(said)
            case _:
                return


def _hottest_c(now: Snapshot) -> float | None:
    temperatures = [
        reading.value
        for name, reading in now.readings.items()
        if name.startswith(TEMPERATURE_PREFIX) and isinstance(reading, Reading)
    ]
    return max(temperatures, default=None)
