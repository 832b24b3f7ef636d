"""Engine, prediction and recording of a chat.

Everything happens in a thread of the process that gives way to the model: reading the header takes some milliseconds,
the prediction as many. Nothing waits for it, and nothing is measured.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, Clock, monotonic_us
from edgetop.core.energy.duty import Duty
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.records import BenchRun, Event, ModelLoaded, Predicted, Prediction, Record, TurnFinished, machine_key
from edgetop.core.sources import Unavailable
from edgetop.fit.model_facts import ModelFacts, read_facts
from edgetop.inference.catalog import find_model, remember_model, repo_of, revision_of
from edgetop.inference.child_process import anonymous_file, lower_priority, start_module
from edgetop.inference.client import EngineProcess
from edgetop.inference.model_stores import ollama_model, store_settings, weights_of
from edgetop.inference.protocol import Hello, LoadFailed, Report
from edgetop.inference.server.address import ServerChoice
from edgetop.io.cpus import start_load
from edgetop.io.http import is_loopback
from edgetop.io.log import log_exception
from edgetop.io.model_file import compute_digest, in_time, known_digest
from edgetop.live.conversation import Conversation, Notice, Phase
from edgetop.live.live_session import RecordedSession, RecordingOptions
from edgetop.live.server_monitor import ServerLocation
from edgetop.session.energy import energy_of
from edgetop.session.journal import RecoveredJournal
from edgetop.session.meters import PULSE, gpus_of
from edgetop.session.store import Store
from edgetop.settings.option import SCRIPT_PREFIX, SERVER_ENGINE
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host
from edgetop.telemetry.memory import MachineMemory
from edgetop.telemetry.model_processes import descendants
from edgetop.telemetry.registry import Inventory, remote_placeholders, take_inventory
from edgetop.telemetry.source import SourceLost

if TYPE_CHECKING:
    from edgetop.fit.assessment import Assessment
    from edgetop.io.hub import DownloadProgress
    from edgetop.live.advice import Observed
    from edgetop.live.this_machine import TunedModel


STRETCH_US = 250_000
AHEAD_US = 1_000_000


def sequence() -> list[bool]:
    """When the load is on, stretch by stretch."""
    state, found = [True] * 5, []
    for _ in range(31):
        found.append(state[-1])
        state = [state[-1] ^ state[2], *state[:-1]]
    return found


def spans_us() -> list[tuple[int, int]]:
    """The same from when to when, since the beginning."""
    spans: list[tuple[int, int]] = []
    for index, is_on in enumerate(sequence()):
        begin_us = index * STRETCH_US
        if is_on and spans and spans[-1][1] == begin_us:
            spans[-1] = (spans[-1][0], begin_us + STRETCH_US)
        elif is_on:
            spans.append((begin_us, begin_us + STRETCH_US))
    return spans


class SyncPulse:
    """A pulse that was begun."""

    def __init__(self) -> None:
        self._begin_us = monotonic_us() + AHEAD_US
        self._processes = start_load([
            (self._begin_us + on_us, self._begin_us + off_us) for on_us, off_us in spans_us()
        ])  # fmt: skip

    @property
    def event(self) -> Event:
        """What the session records of it."""
        spans = " ".join(f"{begin_us}-{end_us}" for begin_us, end_us in spans_us())
        return Event(
            t_us=self._begin_us,
            kind=PULSE,
            text=f"A load pulse of {len(sequence()) * STRETCH_US / US_PER_S:.0f} s, to align a meter's log by.",
            data={"spans_us": spans},
        )

    @property
    def is_over(self) -> bool:
        """Whether all processes have ended."""
        return all(process.poll() is not None for process in self._processes)

    def stop(self) -> None:
        """End it early."""
        for process in self._processes:
            process.kill()
            process.wait()


class Recovery:
    """What edgetops that died have left is saved by a process of its own, at the lowest priority.

    A session of a day takes long and much memory, which is not this session's. The process ends by itself.
    """

    def __init__(self, store: Store) -> None:
        """Begin, where there are journals; those of edgetops that live are left alone."""
        self._process: subprocess.Popen[bytes] | None = None
        self._output = -1
        self._said = False
        if not store.has_journals:
            return
        try:
            self._output = anonymous_file("edgetop-recovery")
            self._process = start_module(
                "edgetop.session.store", str(store.folder), stdout=self._output, stderr=subprocess.DEVNULL
            )
        except OSError as error:  # the journals stay for the next start
            log_exception(error)

    def words(self) -> str:
        """How far it is, once, where it takes long."""
        if self._said or self._process is None or not os.fstat(self._output).st_size:
            return ""
        first, newline, _ = os.pread(self._output, 1000, 0).decode(errors="replace").partition("\n")
        self._said = bool(newline)
        return first if newline else ""

    def results(self) -> list[RecoveredJournal]:
        """What was recovered, once it is all done; nothing before and after."""
        if self._process is None or self._process.poll() is None:
            return []
        self._process = None
        with os.fdopen(self._output, "rb") as file:
            file.seek(0)
            try:
                return msgspec.json.decode(
                    file.read().rpartition(b"\n")[2],
                    type=list[RecoveredJournal],
                    dec_hook=lambda kind, text: kind(text),
                )
            except msgspec.MsgspecError as error:
                log_exception(error)
                return []


Predict = Callable[[ModelLoaded, ModelFacts], Prediction]


class BackgroundPrediction:
    """Predicts each model that is loaded: its header is read while it loads, the rest follows its settings."""

    def __init__(self, executor: Executor, predict: Predict, clock: Clock = monotonic_us) -> None:
        """`predict` is called in a thread of the executor."""
        self._executor = executor
        self._predict = predict
        self._clock = clock
        self._facts: tuple[Path, Future[ModelFacts]] | None = None
        self._pending: Future[Prediction] | None = None

    def begin(self, path: Path) -> None:
        """Note that a model is about to be loaded."""
        self._pending = None
        self._facts = (path, self._executor.submit(in_time, lambda: read_facts(path)))

    def loaded(self, load: ModelLoaded) -> None:
        """Note that it has been, and with which settings."""
        path = Path(load.model.path)
        if self._facts is None or self._facts[0] != path:
            self.begin(path)
        assert self._facts is not None  # noqa: S101 - set by begin
        facts = self._facts[1]
        self._pending = self._executor.submit(in_time, lambda: self._predict(load, facts.result()))

    @property
    def facts(self) -> ModelFacts | None:
        """Of the model that was loaded last; `None` where its header could not be read."""
        if self._facts is None or not self._facts[1].done() or self._facts[1].exception() is not None:
            return None
        return self._facts[1].result()

    def poll(self) -> Predicted | None:
        """The prediction of the model that was loaded last, once, when it is there; never if there can be none."""
        pending = self._pending
        if pending is None or not pending.done():
            return None
        self._pending = None
        try:
            return Predicted(t_us=self._clock(), prediction=pending.result())
        except (EdgetopError, OSError, ValueError, ArithmeticError):
            return None  # a model that the engine has loaded is not given up because we cannot read it


_Download = tuple[Future[Path], threading.Event, Callable[[str], None], Callable[[Callable[[], Path]], None]]
"""What comes of it, what stops it, and who hears of its progress and of its end."""

DOWNLOAD_SAID_US = 10 * US_PER_S
"""How often the progress of a download is said."""

ROOM_ENOUGH, N_CTX_USUAL = 3, 8192
"""A model whose file fits into the free memory so many times, with such a context, fits."""

IDLE_PHASES: frozenset[Phase] = frozenset({"ready", "no_model", "dead"})
"""The engine has nothing to do."""

PUMP_WAIT_S = 0.1
"""How soon an interruption is noticed, and how often text is written without a screen."""

DIGEST_US = US_PER_S
"""How long the end of a session may take for the SHA-256 of its model; a larger file's is computed when it is shown."""

SETTLE_S = 5.0
"""Longer than the lag of any sensor that gives a turn a figure."""


class LiveOptions(RecordingOptions, frozen=True, kw_only=True):
    """How a live session is run, besides the model."""

    engine: EngineSettings = EngineSettings()
    left_open: frozenset[str] = frozenset()
    """Fields of `engine` that the person did not choose: a tuned model has its own defaults for them."""
    sampling: SamplingSettings = SamplingSettings()
    system: str | None = None
    model_folders: tuple[Path, ...] = ()
    """Where to look for models besides the usual places, when another one is asked for."""
    use: Duty = Duty()
    sync_pulse: bool = False
    """Begin with a load pulse, to align a meter's log by."""
    bench: BenchRun | None = None
    """Which part of a benchmark the session is."""
    engine_name: str = "llama"
    """`llama`, a server as `ServerChoice.engine_name` says it, or `scripted:FILE` in tests."""


@cache
def _spawner() -> ThreadPoolExecutor:
    """The thread that starts engines, for all sessions of this process.

    Linux threads have their own niceness, and what a thread spawns inherits it: this one is started before ours gives
    way to the model. It lives as long as the process, since the kernel ends a worker with the thread that started it.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgetop-spawner")


class LiveSession(RecordedSession):
    """Starts everything, and brings together what comes in when `pump` is called.

    The driver calls `pump` a few times a second while something is under way and about once a second otherwise; nothing
    here wakes it up, so that the screen alone decides how often it takes a core from the model.
    """

    def __init__(self, options: LiveOptions, store: Store, listener: Callable[[Report | Notice], None]) -> None:
        self.options = options
        self._listener = listener
        self._spawner = _spawner()
        choice = ServerChoice.of_engine(options.engine_name)
        self._location = None if choice is None else ServerLocation(choice.address)
        self._predicts = self._location is None and not options.engine.rpc_servers
        """Predictions are of this machine alone."""
        scripted = options.engine_name.startswith(SCRIPT_PREFIX)
        self._remembers = not (scripted or self._location is not None or options.bench is not None)
        """A model that has answered is the one used last."""
        self._rpc_warned = False
        self._host = Host(sysroot=options.sysroot, worker_pid=self._worker_pid, uses_gpu=self._uses_gpu)
        if self._location is not None:
            self._host = replace(self._host, helper_pids=self._location.helper_pids, no_worker=self._location.missing)
            self._location.use(self._host)
        elif options.engine_name.startswith(SERVER_ENGINE):
            self._host = replace(self._host, helper_pids=lambda: self._server_pids)
        self._server_pids: tuple[int, ...] = ()
        self._conversation: Conversation | None = None
        first_engine = self._spawn_engine()
        self._first_engine: EngineProcess | None = first_engine
        lower_priority()
        # Sensors are looked for and the journals of an edgetop that died are read while the model loads.
        super().__init__(
            options,
            store,
            describe(self._host),
            lambda text: listener(Notice(text=text, severity="warning")),
            bench=options.bench,
            use=options.use,
            threads=4,
        )
        self._prediction = BackgroundPrediction(self._background, self._predict)
        self.conversation = self._conversation = Conversation(
            start_engine=self._next_engine,
            record=self._record,
            listener=self._follow if self._location is None else listener,
            system=options.system,
            sampling=options.sampling,
            on_load=self._begin_load,
        )
        self._download: _Download | None = None
        self._download_words = ""
        self._download_said_us = 0
        self._advice: tuple[Future[str], Callable[[str], None]] | None = None
        self._of_store: tuple[str | None, SamplingSettings] | None = None
        """System prompt and sampling that came with the model."""
        self._last_idle: Future[Event | None] | None = None
        self.pulse = SyncPulse() if options.sync_pulse else None
        if self.pulse is not None:
            self.recorder.record(self.pulse.event)
        self.tuned: TunedModel | None = None
        """The defaults that the model asked for last was tuned to, if it was."""
        self._find_sensors(self._inventory_of_machine)
        self._recovery = Recovery(store)

    def settings_for(self, path: Path) -> EngineSettings:
        """How a model is to be run: as the person said, else as it was tuned on this machine, else as by default.

        What a model of Ollama's brings for system prompt and sampling is taken over as well, and said.
        """
        engine = self._tuned_settings(path)
        model, conversation = ollama_model(path), self.conversation
        if self._of_store == (conversation.system, conversation.sampling):
            conversation.system, conversation.sampling = self.options.system, self.options.sampling
        self._of_store = None
        if model is None:
            return engine
        brought = store_settings(
            model,
            system=conversation.system,
            sampling=conversation.sampling,
            left_open=self.options.left_open,
        )
        conversation.system, conversation.sampling = self._of_store = brought.system, brought.sampling
        if brought.words:
            self._listener(Notice(text=f"{model.name} (Ollama): {brought.words}"))
        lora = (*engine.lora, *(str(file) for file in model.adapters))
        return replace(engine, n_ctx=brought.n_ctx or engine.n_ctx, lora=lora)

    def _tuned_settings(self, path: Path) -> EngineSettings:
        self.tuned = None
        path = weights_of(path)
        header = self.session.header
        if not self.options.left_open or header is None:
            return self.options.engine
        from edgetop.live.this_machine import (  # noqa: PLC0415 - a benchmark has no use for it
            TunedError,
            tuned_file,
            tuned_for,
            with_tuned,
        )

        try:
            file = tuned_file(self.store.folder)
            self.tuned = tuned_for(path, machine_key(header.device), file)
        except TunedError as error:
            self._listener(Notice(text=error.what, hint=error.hint, severity="warning"))
        if self.tuned is None:
            return self.options.engine
        return with_tuned(self.options.engine, self.options.left_open, self.tuned)

    def find_model(self, name: str) -> Path:
        """The model of a name, for `Conversation.load`. Raises ModelError."""
        return find_model(name, folders=self.options.model_folders)

    def download(self, name: str, say: Callable[[str], None], done: Callable[[Callable[[], Path]], None]) -> None:
        """Find or download a model while the session goes on; `done` gets what gives its path, or raises.

        A download under way is stopped, as it is at the end of the session; what has come of it is kept.
        """
        self.stop_download()
        stopped = threading.Event()

        def report(progress: DownloadProgress) -> None:
            self._download_words = progress.words

        found = self._background.submit(
            find_model, name, folders=self.options.model_folders, report=report, stopped=stopped.is_set
        )
        self._download = (found, stopped, say, done)

    @property
    def downloading(self) -> str:
        """How far a download under way is, in a line; else empty."""
        return "" if self._download is None else self._download_words or "asking the hub"

    def stop_download(self) -> None:
        """End a download under way; what has come of it is kept."""
        self._download_words = ""
        if self._download is not None:
            self._download[1].set()
            self._download = None

    def _follow_download(self) -> None:
        if self._download is None:
            return
        found, _, say, done = self._download
        if found.done():
            self._download = None
            done(found.result)
        elif self._download_words and monotonic_us() >= self._download_said_us + DOWNLOAD_SAID_US:
            self._download_said_us = monotonic_us()
            say(self._download_words)

    def advise(self, say: Callable[[str], None]) -> None:
        """Compute in the background what to change of the loaded model's settings, and `say` it."""
        from edgetop.live.advice import observe_session  # noqa: PLC0415 - only when asked for

        facts = self._prediction.facts
        if self._location is not None:
            say("What to change at a server says `edgetop doctor --server URL`.")
        elif not self._predicts:
            say("Nothing can be computed for layers on other machines (--rpc).")
        elif facts is None or not self.session.loads:
            say("No model is loaded whose file can be read.")
        else:
            observed = observe_session(self.session, facts, self.now_us(), self._host, self._worker_pid())
            self._advice = self._background.submit(in_time, lambda: self._advice_on(observed)), say

    def _advice_on(self, observed: Observed) -> str:
        from edgetop.live.advice import NOTHING_KNOWN, advise, words_of  # noqa: PLC0415 - the same
        from edgetop.live.this_machine import own_run_target  # noqa: PLC0415 - the same

        place = own_run_target(self._host, self.store.folder, probe="never", report=lambda _what, _hint: None)
        prove = f"edgetop bench -m {shlex.quote(observed.facts.files[0])} -p 128 -n 64"
        found = [words_of(each) for each in advise(observed, place, prove)]
        if not found:
            asked = "" if observed.decode_tokens_per_s else " Longer answers show more."
            return f"{NOTHING_KNOWN[:1].upper()}{NOTHING_KNOWN[1:]}.{asked}"
        return "\n".join(f"{what}\n{change}" + (f"\n{prove}" if prove else "") for what, change, prove in found)

    def _say_advice(self) -> None:
        if self._advice is not None and self._advice[0].done():
            (found, say), self._advice = self._advice, None
            try:
                say(found.result())
            except (EdgetopError, OSError, ValueError, ArithmeticError) as error:
                say(f"What to change cannot be said: {error}.")

    def pump(self, wait_s: float = 0.0) -> None:
        """Process reports and readings, waiting at most `wait_s` for the first report."""
        self.conversation.receive(wait_s=wait_s)
        self._record_prediction()
        self._record_samples()
        self._check_when_due()

    def pump_until(self, phases: Container[Phase], *, ended: Callable[[], bool] = lambda: False) -> bool:
        """Pump until the conversation is in one of these phases, or `ended` is true, which is False."""
        while self.conversation.phase not in phases:
            if ended():
                return False
            self.pump(wait_s=PUMP_WAIT_S)
        return True

    def check(self) -> None:
        """Report trouble with the engine and the recording, and what an earlier edgetop left."""
        self._report_recovered()
        self._follow_download()
        self._say_advice()
        self.conversation.check()
        super().check()

    def settle(self, limit_s: float = SETTLE_S) -> None:
        """Go on reading after a turn until its energy is final, for at most `limit_s`; return at once without power.

        A sensor that averages or comes late has a part of the turn only in its next readings.
        """
        deadline_us = monotonic_us() + round(limit_s * US_PER_S)
        while monotonic_us() < deadline_us:
            now = self.snapshot()
            energy = None if now.turn is None else now.turn.figures.energy
            # Without a source of power; one that only comes late is missing for a while as well.
            if isinstance(energy_of(self.session, now.t_us).headline, Unavailable):
                return
            if energy is not None and energy.final:
                return
            self.pump(wait_s=0.1)

    def close(self) -> Path | None:
        """End the engine and the sampler and save the session; its path, or `None` if there was nothing to keep.

        Raises StoreError when the session can be written nowhere.
        """
        self.stop_download()
        self.conversation.end_turn()
        if self.pulse is not None:
            self.pulse.stop()
        self._record_prediction()
        # While the engine still lives, since the last reading is to show its memory.
        self._stop_sensors()
        self.conversation.close()
        self._background.shutdown(wait=False)
        self._complete_digests()
        path = self.recorder.finish()
        if path is not None and self._prediction.facts is not None and self.session.predictions:
            from edgetop.live.this_machine import learn_from  # noqa: PLC0415 - at the end

            learn_from(path, self._prediction.facts, self._host, self.store.folder)
        return path

    def _complete_digests(self) -> None:
        """Compute the SHA-256 of the models, now that the engine has ended, if that does not take long."""
        until_us = monotonic_us() + DIGEST_US
        for index, load in enumerate(self.session.loads):
            if self._remembers and not load.model.sha256:
                digest = compute_digest(Path(load.model.path), goes_on=lambda: monotonic_us() < until_us)
                self.session.loads[index] = replace(load, model=replace(load.model, sha256=digest))

    def _record(self, record: Record) -> None:
        if isinstance(record, ModelLoaded) and self._location is None:
            record = with_origin(record)
        self.recorder.record(record)
        if isinstance(record, TurnFinished) and record.generated_tokens and self._remembers:
            source = self.conversation.source
            if source is not None:
                self._background.submit(remember_model, source)
        if not isinstance(record, ModelLoaded):
            return
        if self._predicts:
            self._prediction.loaded(record)
            self._last_idle = self._background.submit(self._find_last_idle, record)
        if record.settings.rpc_servers and not self._rpc_warned:
            self._rpc_warned = True
            self._listener(rpc_notice(record.settings.rpc_servers))

    def _begin_load(self, path: Path, size_bytes: int, settings: EngineSettings) -> LoadFailed | None:
        """Refuse what can never run here, warn of what will be read from the disk for each token."""
        if not self._predicts:
            return None
        found = None if self._surely_fits(size_bytes, settings) else self._assess_now(path, settings)
        if found is not None and found.verdict.paging is not None:
            from edgetop.fit.wording import verdict_text  # noqa: PLC0415 - few models have no room

            what = f"{path.name}: {verdict_text(found)}"
            hint = f"`edgetop check {shlex.quote(str(path))}` says what would fit."
            if found.verdict.paging == "impossible":
                return LoadFailed(reason="no_memory", message=what, hint=hint)
            text = f"{what}. What has no room is read from the disk again for each token."
            self._listener(Notice(text=text, hint=hint, severity="warning"))
        self._prediction.begin(path)
        return None

    def _surely_fits(self, size_bytes: int, settings: EngineSettings) -> bool:
        """Whether memory is so plenty that nothing need be computed, or nothing is known of it."""
        memory = MachineMemory(self._host)
        try:
            available = memory.read()[1]
        except SourceLost:
            return True
        finally:
            memory.close()
        enough = isinstance(available, Unavailable) or available >= ROOM_ENOUGH * size_bytes
        return enough and (settings.n_ctx or 0) <= N_CTX_USUAL

    def _assess_now(self, path: Path, settings: EngineSettings) -> Assessment | None:
        from edgetop.live.this_machine import assess_now  # noqa: PLC0415 - few models take most of the memory

        pid, freed_bytes = self._worker_pid(), 0
        with suppress(psutil.Error):
            memory = None if pid is None else psutil.Process(pid).memory_info()
            # What it has mapped counts as free already.
            freed_bytes = 0 if memory is None else max(0, memory.rss - getattr(memory, "shared", memory.rss))
        return assess_now(path, settings, self._host, freed_bytes=freed_bytes)

    def _predict(self, load: ModelLoaded, facts: ModelFacts) -> Prediction:
        from edgetop.live.this_machine import (  # noqa: PLC0415 - in a thread, when the first frame is long drawn
            predict_load,
        )

        return predict_load(load, facts, self._host, self.store.folder)

    def _find_last_idle(self, load: ModelLoaded) -> Event | None:
        from edgetop.live.past_runs import last_idle  # noqa: PLC0415 - in a thread, as predictions

        header = self.session.header
        return None if header is None else last_idle(self.store.folder, header.device, load, time.time())

    def _record_prediction(self) -> None:
        if self._last_idle is not None and self._last_idle.done():
            found, self._last_idle = self._last_idle.result(), None
            if found is not None:
                self.recorder.record(found)
        predicted = self._prediction.poll()
        if predicted is not None:
            self.recorder.record(predicted)

    def _report_recovered(self) -> None:
        if words := self._recovery.words():
            self._listener(Notice(text=f"{words[:1].upper()}{words[1:]}"))
        for recovered in self._recovery.results():
            if recovered.path is not None:
                self._listener(Notice(text=f"A session that was cut off has been restored: {recovered.path.name}"))
            if recovered.problem:
                failed = recovered.path is None
                text = f"A journal could not be restored: {recovered.problem}" if failed else recovered.problem
                self._listener(Notice(text=text, severity="warning"))

    def _inventory_of_machine(self) -> Inventory:
        power = self.options.power
        found_here = power.families
        place = self._location
        if place is not None and not place.is_here:
            found_here = [(family, probe) for family, probe in found_here if family == "processes"]
            found_here += remote_placeholders(place.no_readings, place.no_power)
        return take_inventory(self._host, [*power.probes, *found_here])

    def _uses_gpu(self) -> bool | None:
        """Whether the resident model runs on a GPU, or a person measures by one; of a server's that is not known."""
        conversation = self._conversation
        if conversation is None or conversation.phase == "dead":
            return False
        loads = self.session.loads
        if self._location is not None or self.options.power.is_of_gpu:
            return True
        return bool(loads) and bool(gpus_of(loads[-1]))

    def _worker_pid(self) -> int | None:
        conversation = self._conversation
        if conversation is None or conversation.phase == "dead":
            return None
        if self._location is not None:
            return self._location.pid()
        return conversation.engine.pid

    def _follow(self, report: Report | Notice) -> None:
        """Keep the processes of the server that the worker has started, which hold the model."""
        if isinstance(report, Hello):
            engine = None if self._conversation is None else self._conversation.engine
            self._server_pids = () if engine is None or report.pid == engine.pid else (report.pid,)
        elif isinstance(report, ModelLoaded):
            self._server_pids = tuple(
                each for pid in self._server_pids for each in (pid, *descendants(self._host, pid))
            )
        self._listener(report)

    def _spawn_engine(self) -> EngineProcess:
        options = self.options
        spawned = self._spawner.submit(EngineProcess.start, engine=options.engine_name, sysroot=options.sysroot)
        return spawned.result()

    def _next_engine(self) -> EngineProcess:
        engine, self._first_engine = self._first_engine, None
        return engine or self._spawn_engine()


def with_origin(loaded: ModelLoaded) -> ModelLoaded:
    """With what is known of the file without reading it: its SHA-256, repository and revision."""
    file = Path(loaded.model.path)
    model = replace(loaded.model, sha256=known_digest(file), repo=repo_of(file), revision=revision_of(file))
    return replace(loaded, model=model)


_HOW = "Let them listen on 127.0.0.1 and reach them through SSH: ssh -L 50052:127.0.0.1:50052 HOST."


def rpc_notice(servers: Sequence[str]) -> Notice:
    """The warning of llama.cpp's SECURITY.md, and what the panes do not show."""
    text = "llama.cpp's RPC is neither encrypted nor authenticated: its SECURITY.md forbids it on untrusted networks."
    hosts = [server.rpartition(":")[0] for server in servers]
    away = [host for host in hosts if not is_loopback(host)]
    if not away:
        return Notice(text=text, hint=_HOW, severity="warning")
    text += f" Memory and power are shown of this machine, not of {', '.join(dict.fromkeys(away))}"
    more = f'; --power-stream "ssh {away[0]} edgetop power --stream" brings the power of another one.'
    return Notice(text=text + more, hint=_HOW, severity="warning")
