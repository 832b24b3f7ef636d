"""Drives one engine: ask, stop, retry, restart.

The conversation has the messages, sends the commands and handles the reports. It has no thread and no timer: its owner
calls `receive` a few times a second, or when `fileno` is readable, and `check` about once a second. What is to be shown
goes to a listener, what is to be recorded to the recorder.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import psutil
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import STOPPED_US, US_PER_S, Clock, monotonic_us
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.format import format_bytes, time_left
from edgetop.core.records import STOOD_STILL, Event, ModelLoaded, Prefill, Record, Tokens, TurnFinished, TurnStarted
from edgetop.core.text import one_line
from edgetop.inference.child_process import WorkerExit
from edgetop.inference.client import EngineProcess
from edgetop.inference.model_stores import weights_of
from edgetop.inference.protocol import (
    ChatMessage,
    ChoicesScored,
    Choose,
    Generate,
    Hello,
    LoadFailed,
    LoadProgress,
    Log,
    Measure,
    Noted,
    Perplexity,
    Report,
    ScoreFailed,
    StoodStill,
    TextScored,
    Waiting,
    load_of,
)
from edgetop.io.log import log
from edgetop.live.history import CLEARED, OF_EARLIER_SESSION, RESUMED, UNDONE, ChatHistory
from edgetop.session.session import PAUSED
from edgetop.session.turn import Turn, pause_of

Phase = Literal["starting", "no_model", "loading", "ready", "answering", "stopping", "scoring", "dead"]

UNRESPONSIVE_AFTER_S = 3.0
"""A stop that takes longer than this is reported to the user; a healthy engine answers within 50 ms."""

STUCK_AFTER_S = 60.0
"""No report for this long while answering, and no processor time used either: the engine is stuck."""


class Notice(Struct, frozen=True, kw_only=True):
    """A message for the user: what happened, and what to do."""

    text: str
    hint: str = ""
    severity: Literal["note", "warning", "error"] = "note"


Listener = Callable[[Report | Notice], None]


class Conversation:
    """Messages to and from one engine, across its restarts."""

    def __init__(
        self,
        *,
        start_engine: Callable[[], EngineProcess],
        record: Callable[[Record], None],
        listener: Listener,
        clock: Clock = monotonic_us,
        system: str | None = None,
        sampling: SamplingSettings | None = None,
        on_load: Callable[[Path, int, EngineSettings], LoadFailed | None] = lambda _path, _size_bytes, _settings: None,
    ) -> None:
        """`on_load` is called for each model that is about to be loaded, with its bytes; it may say why it is not."""
        self.phase: Phase = "starting"
        self.system = system
        self.sampling = sampling or SamplingSettings()
        self.history = ChatHistory()
        """What the engine is asked to continue."""
        self.model: ModelLoaded | None = None
        self.load_fraction = 0.0
        self._loading = ("", 0, 0)
        """Name and bytes of the model that is being loaded, and since when."""
        self.turn = 0
        """Number of the current or last turn, from 1."""
        self._on_load = on_load
        self._start_engine = start_engine
        self._record = record
        self._listener = listener
        self._clock = clock
        self._path: Path | None = None
        self._settings = EngineSettings()
        self._next_load: tuple[Path, EngineSettings] | None = None
        self._answer_after_load = False
        self._current: Turn
        self._continues = False
        self._measures = False
        self._late: dict[int, bool] = {}
        """The turn's tokens that came late and are not known to be late by a pause, by their indices, and whether their
        gaps have been held against the others."""
        self._standstills: list[StoodStill] = []
        """Of the worker, in the turn."""
        self._usual_gaps_us: Sequence[int] = ()
        """Between tokens of the turn before."""
        self._stop_asked_us: int | None = None
        self._progress_us = clock()
        self._progress_cpu_s: float | None = None
        self._reported_unresponsive = False
        self.engine = start_engine()

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load a model in place of the present one. Reports follow; a dead engine is restarted.

        What the engine is busy with is stopped first.
        """
        if self.phase in {"answering", "stopping", "loading", "scoring"}:
            self._next_load = (path, settings)
            self.stop()
            return
        weights = weights_of(path)
        size_bytes = _size_bytes(weights)
        refused = self._on_load(weights, size_bytes, settings)
        if refused is not None:
            log("engine", f"not loaded: {refused.message}")
            if self.phase == "starting":
                self.phase = "no_model"
            # What is loaded stays, which a failed load does not leave.
            self._event("load_failed" if self.model is None else "load_refused", refused.message)
            self._listener(refused)
            return
        if self.phase == "dead":
            self.engine.close(timeout_s=0)
            self.engine = self._start_engine()
        self._path, self._settings = path, settings
        self.model, self.load_fraction = None, 0.0
        self.phase = "loading"
        self._mark_progress()
        self._loading = (path.name, size_bytes, self._clock())
        self._event("model_loading", path.name)
        self.engine.send(load_of(weights, settings))

    @property
    def doing(self) -> str:
        """What is waited for and how long still: a model that is loaded, a prompt that is read; else empty."""
        if self.phase == "loading":
            name, size_bytes, begin_us = self._loading
            elapsed_s, share = (self._clock() - begin_us) / US_PER_S, self.load_fraction
            size = f" {format_bytes(share * size_bytes)} of {format_bytes(size_bytes)}" if size_bytes else ""
            rate = f", {format_bytes(share * size_bytes / elapsed_s)}/s" if size and share and elapsed_s > 0 else ""
            return f"loading {one_line(name)}{size or f' {share:.0%}'}{rate}{time_left(share, elapsed_s)}"
        if self.phase != "answering" or not self._current.prefill_t_us:
            return ""
        turn = self._current
        done, total = turn.prefill_done[-1], turn.to_evaluate or 0
        if turn.token_t_us or done >= total:
            return ""
        elapsed_s = (turn.prefill_t_us[-1] - turn.prefill_t_us[0]) / US_PER_S
        return f"reading the prompt {done}/{total}{time_left(done / total, elapsed_s)}"

    @property
    def source(self) -> Path | None:
        """What was asked to be loaded last: a model file, or a manifest that names one."""
        return self._path

    def reload(self) -> None:
        """Start the engine again with the model it had; the messages stay."""
        if self._path is not None:
            self.load(self._path, self._settings)

    def unload(self, why: str) -> None:
        """Give the memory of the model back until `reload`. The engine must not be busy.

        The session counts the time until then as loading: what others do with the device meanwhile is not its idle
        power.
        """
        self.engine.close()
        self.engine = self._start_engine()
        self.model, self.phase = None, "starting"
        self._event("model_loading", why)

    def submit(self, prompt: str, *, task: str = "", warmup: bool = False) -> None:
        """Ask. The conversation must be `ready`. `task` and `warmup` are a benchmark's (`TurnStarted`)."""
        self.history.ask(prompt, self.turn + 1)
        self._generate(prompt, task=task, warmup=warmup)

    def measure(self, command: Measure, *, task: str, warmup: bool = False) -> None:
        """Let the engine evaluate random tokens, as a turn of its own. The conversation must be `ready`."""
        self._begin_turn("", task=task, warmup=warmup)
        self._measures = True
        self.engine.send(replace(command, turn=self.turn))

    def score(self, command: Perplexity | Choose) -> None:
        """Let the engine score a text or choices; the listener gets the result. The conversation must be `ready`."""
        self.phase = "scoring"
        self._mark_progress()
        self.engine.send(command)

    def retry(self) -> bool:
        """Answer the last prompt once more in place of its answer. False if there is none or the model is busy."""
        prompt = self.history.last_prompt
        return prompt is not None and self.replace_prompt(prompt)

    def replace_prompt(self, prompt: str) -> bool:
        """Ask in place of the last prompt and its answer. False if there is none or the model is busy."""
        replaced = self.history.turn_of_last_prompt
        if self.phase != "ready" or replaced is None:
            return False
        if replaced == OF_EARLIER_SESSION:
            # A turn of another session cannot be named as the one that is replaced.
            self._event(UNDONE, "The last turn of the earlier session was undone.")
        self.history.ask_again(prompt, self.turn + 1)
        self._generate(prompt, retry_of=replaced or None)
        return True

    def undo(self) -> bool:
        """Forget the last prompt and its answer. False if there is none or the model is busy."""
        if self._is_busy or self.history.turn_of_last_prompt is None:
            return False
        self.history.undo()
        self._event(UNDONE, "The last turn was undone.")
        return True

    @property
    def _is_busy(self) -> bool:
        """The messages are being answered, or will be when the engine is back."""
        return self.phase in {"answering", "stopping", "scoring"} or self._answer_after_load

    def resume(self, messages: Sequence[ChatMessage], *, system: str | None, session_id: str) -> bool:
        """Continue the conversation of an earlier session in place of this one. False if the model is busy."""
        if self._is_busy:
            return False
        self.history.replace(messages)
        self.system = system
        text = f"The conversation of session {session_id} is continued."
        self._record(Event(t_us=self._clock(), kind=RESUMED, text=text, data={"session": session_id}))
        return True

    def continue_answer(self) -> bool:
        """Have the model continue an answer that was stopped. False if there is none."""
        if self.phase != "ready" or not self.history.ends_with_answer:
            return False
        self._generate("", continues=True)
        return True

    def stop(self) -> None:
        """Stop loading, scoring or answering. The answer so far stays."""
        if self.phase in {"answering", "stopping", "loading", "scoring"}:
            self.engine.stop()
            if self.phase == "answering":
                self.phase = "stopping"
                self._stop_asked_us = self._clock()

    def kill(self) -> None:
        """End an engine that does not respond any more; `check` then finds it dead."""
        self.engine.kill()

    def clear(self) -> None:
        """Forget the messages. The session keeps what was recorded."""
        if self.history.messages:
            self._event(CLEARED, "The conversation was cleared.")
        self.history = ChatHistory()
        self._answer_after_load = False

    def end_turn(self) -> None:
        """End a turn under way as cancelled, waiting for the engine for up to a second."""
        if self.phase in {"answering", "stopping"}:
            self.engine.stop()
            deadline_us = self._clock() + US_PER_S
            while self.phase in {"answering", "stopping"} and self._clock() < deadline_us and not self.engine.death():
                self.receive(wait_s=0.05)
            if self.phase in {"answering", "stopping"}:
                self._finish_unanswered("cancelled", "edgetop was closed before the engine stopped")

    def close(self) -> None:
        """End the engine, and before it a turn under way."""
        self.end_turn()
        self.engine.close()

    def fileno(self) -> int:
        """Readable when `receive` has something to do. Changes when the engine is restarted."""
        return self.engine.fileno()

    def receive(self, wait_s: float = 0.0) -> None:
        """Handle the reports that have arrived, waiting at most `wait_s` seconds for the first."""
        if wait_s:
            select.select([self.engine], [], [], wait_s)
        reports = self.engine.receive()
        for report in reports:
            self._mark_progress()
            self._handle(report)
        if not reports and self.phase != "dead":
            death = self.engine.death()
            if death is not None:
                self._died(death)

    def check(self) -> None:
        """Find out whether the engine has died or is stuck; to be called about once a second."""
        self.receive()
        if self.phase not in {"answering", "stopping"}:
            return
        now_us = self._clock()
        waited_us = 0 if self._stop_asked_us is None else now_us - self._stop_asked_us
        if waited_us > UNRESPONSIVE_AFTER_S * US_PER_S and not self._reported_unresponsive:
            self._reported_unresponsive = True
            self._notify(
                "The engine does not react to stop.", "Ctrl+C once more ends it; the answer so far stays.", "warning"
            )
        if now_us - self._progress_us > STUCK_AFTER_S * US_PER_S:
            self._check_progress(now_us)

    def _check_progress(self, now_us: int) -> None:
        """End an engine that has neither reported nor computed since the last check.

        One that waits for a server computes nothing, and times out by itself.
        """
        if self.model is not None and self.model.engine.stamps == "arrival":
            return
        cpu_s = _cpu_time_s(self.engine.pid)
        if cpu_s is not None and self._progress_cpu_s is not None and cpu_s - self._progress_cpu_s < 1.0:
            self._event("engine_stuck", f"The engine computed nothing for {STUCK_AFTER_S:.0f} s and was ended.")
            self.kill()
        self._progress_us, self._progress_cpu_s = now_us, cpu_s

    def _handle(self, report: Report) -> None:
        match report:
            case Prefill() | Tokens() | TurnFinished():
                self._handle_of_turn(report)
            case Hello():
                if self.phase == "starting":
                    self.phase = "no_model"
            case ModelLoaded():
                self.model, self.phase = report, "ready"
                self._record(report)
                self._note_lock(report)
            case LoadFailed():
                self.phase = "no_model"
                self._answer_after_load = False
                self._event("load_failed", report.message)
            case LoadProgress():
                self.load_fraction = report.fraction
            case TextScored() | ChoicesScored() | ScoreFailed():
                self.phase = "ready"
            case Waiting() | Noted() | Log():
                self._note(report)
            case StoodStill():
                self._take_standstill(report)
        _log_report(report)
        self._listener(report)
        if self._next_load is not None and self.phase in {"ready", "no_model"}:
            (path, settings), self._next_load = self._next_load, None
            self.load(path, settings)
        elif self._answer_after_load and self.phase == "ready":
            self._answer_after_load = False
            self._answer_again()

    def _note(self, report: Waiting | Noted | Log) -> None:
        if isinstance(report, Waiting | Noted):
            self._event("waiting" if isinstance(report, Waiting) else "noted", report.text)
            self._notify(report.text, "", "note")
        elif report.level == "error":
            self._event("engine_log", report.text)

    def _handle_of_turn(self, report: Prefill | Tokens | TurnFinished) -> None:
        self._record(report)
        match report:
            case Prefill():
                self._current.add_prefill(report, report.t_us)
            case Tokens():
                known = max(1, len(self._current.token_t_us))
                self._current.add_tokens(report, report.t_us)
                self._look_for_pauses(known)
            case TurnFinished():
                self._close_reply()
                if not self._measures:
                    self.history.counted_tokens = report.context_used if report.generated_tokens else None

    def _take_standstill(self, report: StoodStill) -> None:
        """Record that the worker stood still while it evaluated the prompt, or between two tokens."""
        if self.phase not in {"answering", "stopping"}:
            return
        stamps = self._current.token_t_us
        if all(report.t_us - report.for_us < t_us for t_us in stamps[:1]):
            self._record_pause(report.t_us, report.for_us)
        else:
            self._standstills.append(report)
            self._look_for_pauses(len(stamps))

    def _record_pause(self, t_us: int, paused_us: int) -> None:
        paused_s = paused_us / US_PER_S
        text = f"No token came for {paused_s:.1f} s: the model was {STOOD_STILL}."
        self._record(Event(t_us=t_us, kind=PAUSED, text=text, data={"paused_s": paused_s, "turn": self.turn}))

    def _look_for_pauses(self, known: int) -> None:
        """Record the pauses among the gaps before the tokens from index `known` on, and those not judged so far."""
        stamps = self._current.token_t_us
        late = (index for index in range(known, len(stamps)) if stamps[index] - stamps[index - 1] >= STOPPED_US)
        self._late |= dict.fromkeys(late, False)
        if not self._late:
            return
        gaps_us = [later - earlier for earlier, later in pairwise(stamps)]
        others_us = [*self._usual_gaps_us, *(gap_us for gap_us in gaps_us if gap_us < STOPPED_US)]
        for index, is_judged in tuple(self._late.items()):
            paused_us = None if is_judged else pause_of(gaps_us[index - 1], others_us)
            self._late[index] = is_judged or paused_us is not None
            paused_us = paused_us or self._stood_still_us(stamps[index - 1], stamps[index])
            if paused_us:
                del self._late[index]
                self._record_pause(stamps[index], paused_us)

    def _stood_still_us(self, begin_us: int, end_us: int) -> int:
        """For how long the worker said that it did not run between two moments."""
        parts = (min(end_us, each.t_us) - max(begin_us, each.t_us - each.for_us) for each in self._standstills)
        return sum(part_us for part_us in parts if part_us > 0)

    def _answer_again(self) -> None:
        """Answer the prompt that a dead engine left unanswered."""
        replaced = self.turn
        prompt = self.history.last_prompt or ""
        if not self._continues:
            self.history.ask_again(prompt, self.turn + 1)
        self._generate("" if self._continues else prompt, retry_of=replaced, continues=self._continues)

    def _begin_turn(
        self, prompt: str, *, retry_of: int | None = None, continues: bool = False, task: str = "", warmup: bool = False
    ) -> None:
        self.turn += 1
        self.phase = "answering"
        self._continues, self._measures = continues, False
        self._stop_asked_us, self._reported_unresponsive = None, False
        self._mark_progress()
        if self.turn > 1:
            before = pairwise(self._current.token_t_us)
            self._usual_gaps_us = [gap_us for a, b in before if (gap_us := b - a) < STOPPED_US]
        self._late, self._standstills = {}, []
        started = TurnStarted(
            turn=self.turn,
            t_us=self._clock(),
            prompt=prompt,
            system=self.system,
            sampling=self.sampling,
            retry_of=retry_of,
            task=task,
            warmup=warmup,
        )
        self._current = Turn(started)
        self._record(started)

    def _generate(
        self, prompt: str, *, retry_of: int | None = None, continues: bool = False, task: str = "", warmup: bool = False
    ) -> None:
        self._begin_turn(prompt, retry_of=retry_of, continues=continues, task=task, warmup=warmup)
        head = (ChatMessage("system", self.system),) if self.system else ()
        self.engine.send(
            Generate(
                turn=self.turn,
                messages=head + tuple(self.history.messages),
                sampling=self.sampling,
                continue_reply=continues,
            )
        )

    def _close_reply(self) -> None:
        if not self._measures:  # a test has no messages
            self.history.answer(self._current.answer, continued=self._continues)
        self.phase = "ready"

    def _died(self, death: WorkerExit) -> None:
        was_answering = self.phase in {"answering", "stopping"}
        was_loading = self.phase in {"starting", "loading"}
        self._event("engine_died", death.what)
        if was_answering:
            self._finish_unanswered("engine_died", death.what)
        self.phase = "dead"
        self.model = None
        self._answer_after_load = False
        waiting, self._next_load = self._next_load, None
        if waiting is not None:
            self._notify(death.what, "", "warning")
            self.load(*waiting)
        elif (
            was_answering
            and not self._measures
            and death.crashed_in_first_decode
            and self._settings.use_extra_bufts
            and self._path
        ):
            self._retry_without_extra_buffers(self._path, death)
        elif was_loading:
            self._listener(LoadFailed(reason="failed", message=death.what, hint=death.hint))
        else:
            self._notify(death.what, death.hint, "error")

    def _retry_without_extra_buffers(self, path: Path, death: WorkerExit) -> None:
        text = f"{death.what} Trying once more without repacked weights and AMX."
        self._event("engine_restarted", text)
        self._notify(text, "`edgetop engine build` makes one that has it right from the start.", "warning")
        if not self._continues:
            self.history.drop_answer()  # which is empty
        self._answer_after_load = True
        self.load(path, replace(self._settings, use_extra_bufts=False))

    def _finish_unanswered(self, reason: Literal["engine_died", "cancelled"], error: str) -> None:
        turn = self._current
        cached, generated = turn.cached or 0, len(turn.token_t_us)
        finished = TurnFinished(
            turn=self.turn,
            t_us=self._clock(),
            stop_reason=reason,
            prompt_tokens=cached + (turn.to_evaluate or 0),
            cached_tokens=cached,
            generated_tokens=generated,
            context_used=cached + (turn.prefill_done[-1] if turn.prefill_done else 0) + generated,
            error=error,
        )
        self._record(finished)
        self._close_reply()
        self._listener(finished)

    def _event(self, kind: str, text: str) -> None:
        self._record(Event(t_us=self._clock(), kind=kind, text=text))

    def _note_lock(self, loaded: ModelLoaded) -> None:
        if self._settings.load_mode == "mlock" != loaded.settings.load_mode:
            what = "The kernel did not let the weights be locked in memory (mlock); they are only mapped."
            self._notify(what, "Raise `ulimit -l`, or LimitMEMLOCK= of a service.", "warning")

    def _notify(self, text: str, hint: str, severity: Literal["note", "warning", "error"]) -> None:
        self._listener(Notice(text=text, hint=hint, severity=severity))

    def _mark_progress(self) -> None:
        self._progress_us, self._progress_cpu_s = self._clock(), None


def _cpu_time_s(pid: int) -> float | None:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _log_report(report: Report) -> None:
    match report:
        case Hello():
            log("engine", f"process {report.pid} is {report.engine.missing or report.engine.label}")
        case LoadFailed():
            log("engine", f"load failed, {report.reason}: {report.message}")
        case Log():
            log("engine", f"{report.level}: {report.text}")


def _size_bytes(weights: Path) -> int:
    """Of a model file with all of its parts; 0 where it is none, as on a server."""
    try:
        parts = [weights] if "-of-" not in weights.name else weights.parent.glob(f"{weights.name[:-19]}*-of-*.gguf")
        return sum(part.stat().st_size for part in parts)
    except (OSError, ValueError):
        return 0
