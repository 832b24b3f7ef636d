"""This machine: its profile, its free memory, what past runs teach of it, and the defaults that `edgetop tune` found.

What reads sessions is imported when there are any: it takes longer than all the rest of a check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from edgetop import __version__
from edgetop.core.engine_choices import FlashAttention, KvType
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import EdgetopError, ModelError
from edgetop.core.format import plural
from edgetop.core.records import DeviceInfo, ModelLoaded, PastRun, Prediction, machine_key
from edgetop.core.sources import BATTERY_ENERGY, Unavailable
from edgetop.fit.assessment import Assessment, RunTarget, Workload, assess, predict
from edgetop.fit.devices import default_file, devices_like, this_machine
from edgetop.fit.learning import run_of
from edgetop.fit.machine import Machine
from edgetop.fit.machine_profile import (
    FILE_NAME,
    MachineProfile,
    ProfileError,
    add_run,
    load_profile,
    measure_machine,
    save_profile,
)
from edgetop.fit.memory import MemoryRoom, gpu_memory, main_memory
from edgetop.fit.model_facts import ModelFacts, read_facts
from edgetop.io.cpus import decode_threads
from edgetop.io.files import FILE_SUFFIX
from edgetop.io.json import load_kept, save_kept
from edgetop.io.model_file import content_key, in_time
from edgetop.telemetry import nvidia
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host, device_tree_compatible, text_of
from edgetop.telemetry.jetson import l4t_version
from edgetop.telemetry.memory import MachineMemory, find_groups
from edgetop.telemetry.nvidia import Nvml
from edgetop.telemetry.source import PROBE_S, FamilyProbe, Source, SourceLost, UnavailableSource

_FILE_BYTES = 4096


def memory_rooms(
    host: Host, *, connect: Callable[[], Nvml | Unavailable] = Nvml.open
) -> tuple[MemoryRoom, ...] | Unavailable:
    """The room in main memory, then in each NVIDIA GPU with memory of its own; why there is none known."""
    source = MachineMemory(host)
    try:
        total, available, _, swap, _ = source.read()
    except SourceLost as lost:
        return lost.missing
    finally:
        source.close()
    if isinstance(available, Unavailable):
        return available
    if isinstance(total, Unavailable):
        return total
    l4t = l4t_version(host)
    shared = bool(l4t) or any("nvidia,tegra" in name for name in device_tree_compatible(host))
    gpus: list[MemoryRoom] = []
    # A driver may take minutes to answer.
    asked = None if shared else FamilyProbe("nvml", partial(_probe_gpus, connect=connect, rooms=gpus), host)
    found = [] if asked is None else asked.found(PROBE_S)
    names = [each.info.path for each in found or () if not isinstance(each, UnavailableSource)]
    shared = shared or any(map(nvidia.shares_memory, names))
    main = main_memory(
        available_bytes=int(available),
        total_bytes=int(total),
        limited_by_group=_tightest_group_bytes(host) <= available,
        shared_with_gpu=shared,
        l4t_version=l4t,
        swap_bytes=0 if isinstance(swap, Unavailable) else int(swap),
        swap_is_zram="/dev/zram" in text_of(host.path("/proc/swaps"), _FILE_BYTES),
    )
    if found is None:
        note = f"NVML has not answered within {PROBE_S:g} s: what a GPU could take is not known."
        return (replace(main, notes=(*main.notes, note)),)
    return (main,) if shared else (main, *gpus)


def _probe_gpus(
    host: Host, *, connect: Callable[[], Nvml | Unavailable], rooms: list[MemoryRoom]
) -> Iterator[Source | UnavailableSource]:
    """Find the GPUs, and put the room of each that has memory of its own into `rooms`."""
    for index, source in enumerate(nvidia.probe(host, connect=connect)):
        yield source
        if isinstance(source, UnavailableSource):
            continue
        values = dict(zip((channel.name for channel in source.info.channels), source.read(), strict=True))
        used, total = values.get(f"gpu.{index}.memory_used"), values.get(f"gpu.{index}.memory_total")
        if isinstance(used, float) and isinstance(total, float):
            free = int(max(0.0, total - used))
            rooms.append(gpu_memory(name=source.info.path, free_bytes=free, total_bytes=int(total)))


def _tightest_group_bytes(host: Host) -> float:
    """What the control groups above us leave; infinite without a limit."""
    tightest = math.inf
    for group in find_groups(host) if host.system == "linux" else []:
        room = group.room()
        group.close()
        tightest = min(tightest, math.inf if room is None else room.available_bytes)
    return tightest


Probe = Literal["never", "once", "always"]
"""Whether the memory bandwidth is measured, which takes most of a second: `once` where nothing current is known."""

PAST_RUN_SESSIONS = 40
"""The newest sessions that past runs are read from."""


def profile_file(sessions: Path) -> Path:
    """Where the profiles of this user's machines are kept: beside the folder of the sessions."""
    return sessions.parent / FILE_NAME


def own_run_target(
    host: Host,
    sessions: Path,
    *,
    probe: Probe,
    report: Callable[[str, str], None],
    recent: Sequence[PastRun] = (),
    say: Callable[[str], None] = lambda _words: None,
) -> RunTarget:
    """This machine now, with what the sessions in a folder tell of it.

    `recent` are runs of a session that is not in the folder yet. `report` is called with what went wrong and a hint,
    `say` with what is waited for.
    """
    device = describe(host)
    threads = decode_threads(host.sysroot)
    rooms = memory_rooms(host)
    if isinstance(rooms, Unavailable):
        report(f"how much memory is free is not known: {rooms.reason}", rooms.hint)
        rooms = ()
    cards = rooms[1:]
    names = tuple(room.name for room in cards)
    room = rooms[0] if rooms else None
    free_bytes = math.inf if room is None else room.available_bytes
    profile = _profile(
        host, device, sessions, threads=threads, free_bytes=free_bytes, probe=probe, report=report, say=say
    )
    return RunTarget(
        machine=own_machine(device, profile, names),
        threads=threads,
        room=room,
        gpu_room=all_cards(cards),
        past_runs=(*recent, *past_runs_in(sessions, device)),
        battery_j=battery_j(host),
    )


PAST_RUNS_FILE_NAME = "past_runs.json"


class _PastRunsFile(Struct, frozen=True, kw_only=True):
    """What the newest sessions taught, for as long as they are the same."""

    edgetop: str
    """The version that read them."""
    machine: str
    """`machine_key` of the device."""
    sessions: tuple[tuple[str, int, int], ...]
    """Name, bytes and time of the last change in nanoseconds."""
    runs: tuple[PastRun, ...]


def past_runs_in(sessions: Path, device: DeviceInfo) -> tuple[PastRun, ...]:
    """What the newest sessions teach of this machine; they are read where one has changed."""
    names = sorted((path.name for path in sessions.glob("[!.]*" + FILE_SUFFIX)), reverse=True)[:PAST_RUN_SESSIONS]
    if not names:
        return ()
    file, key, seen = sessions.parent / PAST_RUNS_FILE_NAME, machine_key(device), []
    for name in names:
        with suppress(OSError):
            now = (sessions / name).stat()
            seen.append((name, now.st_size, now.st_mtime_ns))
    with suppress(EdgetopError):
        kept = load_kept(file, _PastRunsFile, EdgetopError, "delete it")
        if kept is not None and (kept.edgetop, kept.machine, list(kept.sessions)) == (__version__, key, seen):
            return kept.runs
    from edgetop.live.past_runs import outcomes_in, past_run_of  # noqa: PLC0415 - see above

    outcomes = outcomes_in(sessions, device, limit=PAST_RUN_SESSIONS)
    runs = tuple(run for run in map(past_run_of, outcomes) if run is not None)
    with suppress(EdgetopError):
        save_kept(file, _PastRunsFile(edgetop=__version__, machine=key, sessions=tuple(seen), runs=runs), EdgetopError)
    return runs


def predict_load(load: ModelLoaded, facts: ModelFacts, host: Host, sessions: Path) -> Prediction:
    """What is expected of a model that was loaded here. Nothing is measured; the profile of an earlier check serves."""
    device = describe(host)
    found = load_profile(profile_file(sessions), machine_key(device))
    machine = own_machine(device, None if isinstance(found, Unavailable) else found)
    threads = load.settings.n_threads or 1
    past_runs = past_runs_in(sessions, device)
    place = RunTarget(machine=machine, threads=threads, room=None, past_runs=past_runs)
    return predict(facts, load.settings, Workload(), place)


def assess_now(path: Path, settings: EngineSettings, host: Host, *, freed_bytes: int) -> Assessment | None:
    """What `check` says of a model that is about to be loaded; `None` where that is not known.

    `freed_bytes` is what the model takes that it is loaded in place of.
    """
    rooms = memory_rooms(host)
    if isinstance(rooms, Unavailable):
        return None
    room = replace(rooms[0], available_bytes=rooms[0].available_bytes + freed_bytes)
    names = tuple(each.name for each in rooms[1:])
    place = RunTarget(
        machine=own_machine(describe(host), None, names),
        threads=decode_threads(host.sysroot),
        room=room,
        gpu_room=all_cards(rooms[1:]),
    )
    try:
        return in_time(lambda: assess(read_facts(path), settings, Workload(), place, with_context=False))
    except ModelError:
        return None


def own_machine(device: DeviceInfo, profile: MachineProfile | None, gpu_names: tuple[str, ...] = ()) -> Machine:
    """This machine with what was measured of it and what the table knows of its model and of its graphics cards."""
    table = devices_like((device.model, *gpu_names), default_file())
    machine = this_machine(device, profile, table, gpu_names=gpu_names)
    if machine.gpu is None and not gpu_names:
        return machine
    from edgetop.inference.llama.library import offloads_to_gpu  # noqa: PLC0415 - only where there is a GPU

    if not offloads_to_gpu():
        machine = this_machine(device, profile, table, gpu_offload=False)
        if gpu_names:
            note = (
                f"{', '.join(gpu_names)} is not used: this llama.cpp is built without GPU; `edgetop engine` says more."
            )
            machine = replace(machine, notes=(*machine.notes, note))
    elif machine.gpu is None:
        note = f"{', '.join(gpu_names)}: not in the device table; a chat or a bench with it teaches its speed."
        machine = replace(machine, notes=(*machine.notes, note))
    return machine


def all_cards(cards: Sequence[MemoryRoom]) -> MemoryRoom | None:
    """The rooms of several graphics cards together, which share out a model's layers; `None` without any."""
    if len(cards) < 2:
        return cards[0] if cards else None
    return MemoryRoom(
        available_bytes=sum(card.available_bytes for card in cards),
        limit="gpu",
        total_bytes=sum(card.total_bytes for card in cards),
        name=" + ".join(card.name for card in cards),
        notes=(f"The layers are shared out over {len(cards)} graphics cards.",),
    )


def battery_j(host: Host) -> float | None:
    """What is left in the battery; `None` without one."""
    if next(host.path("/sys/class/power_supply").glob("*"), None) is None:
        return None
    from edgetop.telemetry import battery  # noqa: PLC0415 - most boards have no battery

    for source in battery.probe(host):
        if isinstance(source, UnavailableSource):
            continue
        names = [channel.name for channel in source.info.channels]
        try:
            value = dict(zip(names, source.read(), strict=True)).get(BATTERY_ENERGY)
        except SourceLost:
            continue
        finally:
            source.close()
        if isinstance(value, float):
            return value
    return None


def _profile(
    host: Host,
    device: DeviceInfo,
    sessions: Path,
    *,
    threads: int,
    free_bytes: float,
    probe: Probe,
    report: Callable[[str, str], None],
    say: Callable[[str], None],
) -> MachineProfile | None:
    file, key = profile_file(sessions), machine_key(device)
    found = load_profile(file, key)
    known = None if isinstance(found, Unavailable) else found
    now = datetime.now(timezone.utc)
    current = known is not None and known.is_current(now)
    # Below another root stands another machine, and what could be measured is this one.
    if probe == "never" or (probe == "once" and current) or host.sysroot != Path("/"):
        return known
    say("measuring this machine's memory bandwidth and cores, about 1 s left")
    measured = measure_machine(key, threads, free_bytes, now=now, runs=() if known is None else known.runs)
    if isinstance(measured, Unavailable):
        report(measured.reason, measured.hint)
        return known
    try:
        save_profile(file, measured)
    except ProfileError as error:
        report(f"what was measured of this machine could not be kept: {error.what}", error.hint)
    return measured


def learn_from(session: Path, facts: ModelFacts, host: Host, sessions: Path) -> bool:
    """Let the calibration learn from a session's file; whether it did.

    It learns from sessions of one model that was predicted and that nothing disturbed, on a machine that has been
    measured. A profile that cannot be written is left as it is: nobody waits for it.
    """
    try:
        return _learn(session, facts, host, sessions)
    except (EdgetopError, OSError, ValueError, ArithmeticError):
        return False


def _learn(session: Path, facts: ModelFacts, host: Host, sessions: Path) -> bool:
    from edgetop.live.past_runs import outcome_in  # noqa: PLC0415 - reads sessions

    outcome = outcome_in(session)
    if outcome is None or outcome.measured.decode_tokens_per_s is None:
        return False
    device, file = describe(host), profile_file(sessions)
    profile = load_profile(file, machine_key(device))
    if isinstance(profile, Unavailable):
        return False
    measured, settings = outcome.measured, outcome.load.settings
    run = run_of(
        facts,
        own_machine(device, profile),
        settings,
        threads=settings.n_threads or 1,
        depth_tokens=round(measured.depth_tokens),
        decode_tokens_per_s=outcome.measured.decode_tokens_per_s or 0.0,
        prompt_tokens=round(measured.evaluated_tokens),
        prefill_tokens_per_s=measured.prefill_tokens_per_s,
        measured_at=outcome.started_at,
    )
    if isinstance(run, Unavailable):
        return False
    add_run(file, profile, run)
    return True


TUNED_FILE_NAME = "tuned.json"
TUNED_MAX = 500
"""Models of one user's machines; the newest stay."""

Goal = Literal["speed", "energy"]
Count = Annotated[int, Meta(ge=1, le=2**20)]
Words = Annotated[str, Meta(max_length=1000)]


class TunedError(EdgetopError):
    """The file of defaults cannot be read or written."""


class TunedModel(Struct, frozen=True, kw_only=True):
    """The defaults of one model on one machine in one power mode."""

    model: Words
    """`inference.quantization.content_key` of the file."""
    machine: Words
    """`fit.machine_profile.machine_key`."""
    label: Words
    size_bytes: int
    """Of the file: one of another size need not be read to know that it is another model."""
    goal: Goal
    tuned_at: Words
    """Wall clock, ISO 8601 in UTC."""
    n_threads: Count
    n_threads_batch: Count
    n_ubatch: Count | None = None
    """`None` where nothing was to be chosen from."""
    kv_type: KvType = "f16"
    flash_attn: FlashAttention = "auto"
    cpu_mask: Words | None = None
    """The cores that compute, where others would be in the way."""

    @property
    def words(self) -> str:
        """The settings, for a person."""
        threads = plural(self.n_threads, "thread")
        if self.n_threads_batch != self.n_threads:
            threads += f" ({self.n_threads_batch} for prefill)"
        ubatch = "" if self.n_ubatch is None else f", ubatch {self.n_ubatch}"
        mask = "" if self.cpu_mask is None else f" on cores {self.cpu_mask}"
        attention = "" if self.flash_attn == "auto" else f", flash attention {self.flash_attn}"
        return f"{threads}{mask}{ubatch}, KV cache {self.kv_type}{attention}; tuned for {self.goal}"


class _TunedFile(Struct, frozen=True, kw_only=True):
    format: Literal["edgetop-tuned"] = "edgetop-tuned"
    version: Literal[1] = 1
    models: tuple[TunedModel, ...] = ()


def tuned_file(sessions: Path) -> Path:
    """Where the defaults of this user's models are kept: beside the folder of the sessions."""
    return sessions.parent / TUNED_FILE_NAME


def load_tuned(file: Path) -> tuple[TunedModel, ...]:
    """All defaults in a file, none where there is no file. Raises TunedError."""
    kept = load_kept(file, _TunedFile, TunedError, f"remove {file}, and tune again")
    return () if kept is None else kept.models


def save_tuned(file: Path, tuned: TunedModel) -> None:
    """Put defaults in the place of those of the same model and machine, all of it or nothing. Raises TunedError."""
    others = (each for each in load_tuned(file) if (each.model, each.machine) != (tuned.model, tuned.machine))
    newest = sorted([*others, tuned], key=lambda each: each.tuned_at)[-TUNED_MAX:]
    save_kept(file, _TunedFile(models=tuple(newest)), TunedError)


def remove_tuned(file: Path, model: str, machine: str) -> bool:
    """Forget the defaults of a model on a machine; false if there are none. Raises TunedError."""
    known = load_tuned(file)
    left = [each for each in known if (each.model, each.machine) != (model, machine)]
    if len(left) == len(known):
        return False
    save_kept(file, _TunedFile(models=tuple(left)), TunedError)
    return True


def tuned_for(path: Path, machine: str, file: Path) -> TunedModel | None:
    """The defaults of the model at `path`, a GGUF file; `None` if it was not tuned here. Raises TunedError."""
    here = [each for each in load_tuned(file) if each.machine == machine]
    try:
        size_bytes = path.stat().st_size if here else -1
        if all(each.size_bytes != size_bytes for each in here):
            return None
        key = content_key(path)
    except (OSError, ModelError):
        return None
    return next((each for each in here if each.model == key), None)


def with_tuned(engine: EngineSettings, left_open: Iterable[str], tuned: TunedModel) -> EngineSettings:
    """Settings with the defaults of a model for those that were left open (`settings.engine.left_open`).

    What was found together goes together: the threads of prefill only with those of decoding, and the size of the
    pieces that prefill is done in only where no other limit on them was given.
    """
    is_open = frozenset(left_open)
    if "n_threads" in is_open:
        engine = replace(engine, n_threads=tuned.n_threads)
        if "cpu_mask" in is_open:
            engine = replace(engine, cpu_mask=tuned.cpu_mask)
        if "n_threads_batch" in is_open:
            engine = replace(engine, n_threads_batch=tuned.n_threads_batch)
    if {"n_batch", "n_ubatch"} <= is_open:
        engine = replace(engine, n_ubatch=tuned.n_ubatch)
    if {"type_k", "type_v"} <= is_open:
        engine = replace(engine, type_k=tuned.kv_type, type_v=tuned.kv_type)
        if "flash_attention" in is_open:
            engine = replace(engine, flash_attention=tuned.flash_attn)
    return engine
