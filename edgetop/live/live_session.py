"""A session while it grows: engine, sampler and recorder together, for a screen or for a command without one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

from msgspec import Struct

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.engine import EngineSettings, SamplingSettings
from edgetop.core.records import Missing
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import Report
from edgetop.live.conversation import Conversation, Notice
from edgetop.live.priority import give_way
from edgetop.live.recorder import Recorder
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.session.store import RecoveredJournal, Store
from edgetop.telemetry.device import describe
from edgetop.telemetry.power_choice import NO_POWER, PowerChoice
from edgetop.telemetry.registry import Inventory, probes_of, take_inventory
from edgetop.telemetry.sampler import Sampler
from edgetop.telemetry.source import Host

SETTLE_S = 5.0
"""Longer than the lag of any sensor that gives a turn a figure."""


class LiveOptions(Struct, frozen=True, kw_only=True):
    """How a live session is run, besides the model."""

    engine: EngineSettings = EngineSettings()
    sampling: SamplingSettings = SamplingSettings()
    system: str | None = None
    sysroot: Path = Path("/")
    power: PowerChoice = PowerChoice()
    record: bool = True
    text_recorded: bool = True
    output: Path | None = None
    model_folders: tuple[Path, ...] = ()
    """Where to look for models besides the usual places, when another one is asked for."""
    engine_name: str = "llama"
    """`scripted:FILE` in tests."""


@cache
def _spawner() -> ThreadPoolExecutor:
    """The thread that starts engines, for all sessions of this process.

    Linux threads have their own niceness, and what a thread spawns inherits it: this one is started before ours gives
    way to the model. It lives as long as the process, since the kernel ends a worker with the thread that started it.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgetop-spawner")


class LiveSession:
    """Starts everything, and brings together what comes in when `pump` is called.

    The driver calls `pump` a few times a second while something is under way and about once a second otherwise; nothing
    here wakes it up, so that the screen alone decides how often it takes a core from the model.
    """

    def __init__(self, options: LiveOptions, store: Store, listener: Callable[[Report | Notice], None]) -> None:
        self.options = options
        self._listener = listener
        self._spawner = _spawner()
        self._host = Host(sysroot=options.sysroot, worker_pid=self._worker_pid)
        self._conversation: Conversation | None = None
        first_engine = self._spawn_engine()
        self._first_engine: EngineProcess | None = first_engine
        give_way()
        self.recorder = Recorder(
            device=describe(self._host),
            store=store if options.record else None,
            text_recorded=options.text_recorded,
            power=options.power.headline,
            output=options.output,
            on_trouble=lambda text: listener(Notice(text=text, severity="warning")),
        )
        self.conversation = self._conversation = Conversation(
            start_engine=self._next_engine,
            record=self.recorder.record,
            listener=listener,
            system=options.system,
            sampling=options.sampling,
        )
        # Looking for sensors and reading the journals of an edgetop that died may take a second, so they happen beside
        # the loading of the model.
        self._background = ThreadPoolExecutor(max_workers=2, thread_name_prefix="edgetop-start")
        self._sampler: Sampler | None = None
        self._inventory: Future[Inventory] | None = self._background.submit(self._look_for_sensors)
        self._recovery: Future[list[RecoveredJournal]] | None = self._background.submit(store.recover)

    @property
    def session(self) -> Session:
        """The session so far."""
        return self.recorder.session

    def now_us(self) -> int:
        """Microseconds since the session began."""
        return self.session.relative(monotonic_us())

    def snapshot(self) -> Snapshot:
        """The session as it is now."""
        return snapshot(self.session, self.now_us())

    def pump(self, wait_s: float = 0.0) -> None:
        """Take in reports and readings, waiting at most `wait_s` for the first report."""
        self.conversation.receive(wait_s=wait_s)
        self._take_samples()

    @property
    def senses(self) -> bool:
        """Whether the sensors have been found and are being read."""
        return self._sampler is not None

    def check(self) -> None:
        """Look after the engine, the recording and what an earlier edgetop left; to be called about once a second."""
        self._tell_recovered()
        self.conversation.check()
        self.recorder.check()

    def settle(self, limit_s: float = SETTLE_S) -> None:
        """Go on reading after a turn until its energy is final, for at most `limit_s`; return at once without power.

        A sensor that averages or comes late has a part of the turn only in its next readings.
        """
        deadline_us = monotonic_us() + round(limit_s * US_PER_S)
        while monotonic_us() < deadline_us:
            now = self.snapshot()
            energy = None if now.turn is None else now.turn.figures.energy
            if isinstance(now.power, Missing) or (energy is not None and energy.final):
                return
            self.pump(wait_s=0.1)

    def close(self) -> Path | None:
        """End the engine and the sampler and save the session; its path, or `None` if there was nothing to keep.

        Raises StoreError when the session can be written nowhere.
        """
        self.conversation.end_turn()
        self._start_sampler()
        if self._sampler is not None:
            # While the engine still lives, since the last reading is to show what it holds.
            self._sampler.stop()
        self._take_samples()
        self.conversation.close()
        self._background.shutdown(wait=False)
        return self.recorder.finish()

    def _tell_recovered(self) -> None:
        if self._recovery is None or not self._recovery.done():
            return
        recovery, self._recovery = self._recovery, None
        for recovered in recovery.result():
            if recovered.path is not None:
                self._listener(Notice(text=f"A session that was cut off has been restored: {recovered.path.name}"))
            else:
                self._listener(Notice(text=f"A journal could not be restored: {recovered.problem}", severity="warning"))

    def _take_samples(self) -> None:
        if self._sampler is None and self._inventory is not None and self._inventory.done():
            self._start_sampler()
        if self._sampler is not None:
            for record in self._sampler.drain():
                self.recorder.record(record)

    def _look_for_sensors(self) -> Inventory:
        power = self.options.power
        return take_inventory(self._host, [*power.probes, *probes_of(power=power.name != NO_POWER)])

    def _start_sampler(self) -> None:
        if self._inventory is None:
            return
        inventory, self._inventory = self._inventory, None
        self._sampler = Sampler(inventory.result())
        self._sampler.start()

    def _worker_pid(self) -> int | None:
        conversation = self._conversation
        if conversation is None or conversation.phase == "dead":
            return None
        return conversation.engine.pid

    def _spawn_engine(self) -> EngineProcess:
        options = self.options
        spawned = self._spawner.submit(EngineProcess.start, engine=options.engine_name, sysroot=options.sysroot)
        return spawned.result()

    def _next_engine(self) -> EngineProcess:
        engine, self._first_engine = self._first_engine, None
        return engine or self._spawn_engine()
