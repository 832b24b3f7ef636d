"""This machine for predictions: profile, free memory, past runs, one learner.

What reads sessions is imported when there are any: it takes longer than all the rest of a check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.errors import EdgetopError
from edgetop.core.records import DeviceInfo, Event, LoadEntry, ModelLoaded, PastRun, Prediction, machine_key
from edgetop.core.sources import BATTERY_ENERGY, Unavailable
from edgetop.fit.assessment import RunTarget, Workload, predict
from edgetop.fit.devices import default_file, load_devices, this_machine
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
from edgetop.fit.model_facts import ModelFacts
from edgetop.inference.llama.library import offloads_to_gpu
from edgetop.io.cpus import decode_threads
from edgetop.io.files import FILE_SUFFIX
from edgetop.telemetry import nvidia
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host, device_tree_compatible, text_of
from edgetop.telemetry.jetson import l4t_version
from edgetop.telemetry.memory import MachineMemory, find_groups
from edgetop.telemetry.nvidia import Nvml
from edgetop.telemetry.registry import PROBE_S, FamilyProbe
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource

if TYPE_CHECKING:
    from edgetop.session.past_runs import Outcome
    from edgetop.session.session import Session


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


TURNS_MAX = 40
"""Of one load, the newest."""

SESSIONS_MAX = 200
"""The newest ones; older ones say little of today's engine and today's machine."""


def past_runs_in(folder: Path, device: DeviceInfo, *, limit: int) -> tuple[PastRun, ...]:
    """What the newest sessions of a folder teach of `device` in its present power mode."""
    outcomes = outcomes_in(folder, device, limit=limit)
    return tuple(each for each in map(past_run_of, outcomes) if each is not None)


def outcomes_in(folder: Path, device: DeviceInfo, *, limit: int = SESSIONS_MAX) -> list[Outcome]:
    """Predictions and measurements of the newest sessions of a folder that were recorded on `device`, as it is now."""
    paths = _newest(folder, limit)
    return list(_outcomes(paths, machine_key(device))) if paths else []


def past_run_of(outcome: Outcome) -> PastRun | None:
    """An outcome as a past run; `None` where nothing was decoded long enough to be measured."""
    measured, load = outcome.measured, outcome.load
    if measured.decode_tokens_per_s is None:
        return None
    return PastRun(
        **_of_load(load, outcome.device),
        session=outcome.session_id,
        measured_at=outcome.started_at,
        weight_bytes_per_token=outcome.prediction.bytes_per_token,
        depth_tokens=round(measured.depth_tokens),
        decode_tokens=measured.decode_tokens,
        decode_tokens_per_s=measured.decode_tokens_per_s,
        prefill_tokens=round(measured.evaluated_tokens),
        prefill_tokens_per_s=measured.prefill_tokens_per_s,
        decode_j_per_token=outcome.decode_j_per_token,
        prefill_j_per_token=outcome.prefill_j_per_token,
        energy_scope=outcome.energy_scope,
    )


def _of_load(load: LoadEntry, device: DeviceInfo) -> dict[str, Any]:
    """What a past run says of its machine, model and settings."""
    model, settings = load.model, load.settings
    return {
        "machine_key": machine_key(device),
        "model_name": model.name,
        "architecture": model.architecture,
        "parameters": model.parameters or 0,
        "size_bytes": model.size_bytes or 0,
        "file_type": model.quantization,
        "threads": settings.n_threads or 1,
        "gpu_layers": settings.n_gpu_layers or 0,
        "type_k": settings.type_k,
        "type_v": settings.type_v,
    }


def past_runs_of_session(session: Session, t_us: int) -> tuple[PastRun, ...]:
    """What a session that goes on teaches of its machine, each model for itself, the last one first.

    Turns that something disturbed are left out, as those of recorded sessions are.
    """
    if session.header is None:
        return ()
    found = []
    until_us = t_us
    for load in reversed(session.loads):
        run = _run(session, load, until_us, t_us)
        until_us = load.t_us - 1
        if run is not None:
            found.append(run)
    return tuple(found)


def _run(session: Session, load: ModelLoaded, until_us: int, now_us: int) -> PastRun | None:
    """The newest turns of one load together; `None` where too little was decoded to be measured."""
    from edgetop.session.past_runs import DISTURBED, GENERATED_MIN, PREFILLED_MIN  # noqa: PLC0415 - see above
    from edgetop.session.summary import turn_result  # noqa: PLC0415 - see above

    last = session.turn_at(until_us)
    turns = [] if last is None else range(max(0, last + 1 - TURNS_MAX), last + 1)
    progresses = [
        session.turns[index].progress(now_us)
        for index in turns
        if session.turns[index].started.t_us >= load.t_us
        and turn_result(session, index, now_us).figures.limited_by not in DISTURBED
    ]
    decoded = [each for each in progresses if each.after_first and each.decode_us]
    generated = sum(each.generated for each in decoded)
    decode_us = sum(each.decode_us for each in decoded)
    header = session.header
    if header is None or generated < GENERATED_MIN:
        return None
    evaluated, prefill_us = sum(each.evaluated for each in decoded), sum(each.prefill_us for each in decoded)
    prediction = session.prediction_at(until_us)
    return PastRun(
        **_of_load(load, header.device),
        session="this session",
        measured_at=header.started_at,
        weight_bytes_per_token=None if prediction is None else prediction.bytes_per_token,
        depth_tokens=round(sum((each.prompt_tokens or 0) + each.generated / 2 for each in decoded) / len(decoded)),
        decode_tokens=generated,
        decode_tokens_per_s=sum(each.after_first or 0 for each in decoded) * US_PER_S / decode_us,
        prefill_tokens=round(evaluated / len(decoded)),
        prefill_tokens_per_s=(
            evaluated * US_PER_S / prefill_us if prefill_us and evaluated >= PREFILLED_MIN * len(decoded) else None
        ),
    )


def outcome_in(path: Path) -> Outcome | None:
    """Prediction and measurement in one session's file; `None` where there are none, or the file is not a session."""
    from edgetop.session.file_io import (  # noqa: PLC0415 - see above
        SessionFileError,
        load_file,
        load_head,
    )
    from edgetop.session.past_runs import outcome_of  # noqa: PLC0415 - see above

    try:
        head = load_head(path)
        if not head.predictions:
            return None
        return outcome_of(head, None if head.bench is None else load_file(path).turns)
    except SessionFileError:
        return None  # `edgetop sessions validate` tells of it


def _outcomes(paths: Iterable[Path], key: str) -> Iterable[Outcome]:
    for path in paths:
        outcome = outcome_in(path)
        if outcome is not None and machine_key(outcome.device) == key:
            yield outcome


def _newest(folder: Path, limit: int) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(folder.glob("[!.]*" + FILE_SUFFIX), key=lambda path: path.name, reverse=True)[:limit]


Probe = Literal["never", "once", "always"]
"""Whether the memory bandwidth is measured, which takes most of a second: `once` where nothing current is known."""

PAST_RUN_SESSIONS = 40
"""The newest sessions that past runs are read from."""


IDLE_LOOKED_AT = 50
"""The newest sessions in which an idle power is searched."""


def last_idle(folder: Path, device: DeviceInfo, load: ModelLoaded, now_unix_s: float) -> Event | None:
    """The last idle power that was measured on this machine with this model loaded, as the session is to keep it.

    A machine in another power mode or with another governor is the same; what has changed is said.
    """
    from edgetop.session.file_io import SessionFileError, load_head  # noqa: PLC0415 - reads sessions
    from edgetop.session.meters import IDLE_BASELINE, IDLE_WORDS, ago  # noqa: PLC0415 - the same

    for path in _newest(folder, IDLE_LOOKED_AT):
        try:
            head = load_head(path)
            measured_s = datetime.fromisoformat(head.started_at).timestamp() + head.duration_us / US_PER_S
        except (SessionFileError, ValueError):
            continue
        energy, then = head.summary.energy, head.device
        if energy is None or energy.idle_w is None or len(head.loads) != 1:
            continue
        if any(IDLE_WORDS in flag for flag in energy.flags):
            continue  # it had none of its own
        if head.loads[0].model.name != load.model.name or head.loads[0].model.size_bytes != load.model.size_bytes:
            continue
        alike = {"power_mode": device.power_mode, "governor": device.governor}
        if machine_key(replace(then, **alike)) != machine_key(device):
            continue
        changed = [name.replace("_", " ") for name, now in alike.items() if getattr(then, name) != now]
        age_s = max(0.0, now_unix_s - measured_s)
        return Event(
            t_us=load.t_us,
            kind=IDLE_BASELINE,
            text=f"Idle power of an earlier session ({head.id}): {energy.idle_w.value:.3g} W, {ago(age_s)} ago.",
            data={
                "power_w": energy.idle_w.value,
                "u_w": energy.idle_w.u_random,
                "age_s": age_s,
                "scope": energy.scope,
                "source": energy.source,
                "changed": ", ".join(changed),
            },
        )
    return None


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
) -> RunTarget:
    """This machine now, with what the sessions in a folder tell of it.

    `recent` are runs of a session that is not in the folder yet. `report` is called with what went wrong and a hint.
    """
    device = describe(host)
    threads = decode_threads(host.sysroot)
    rooms = memory_rooms(host)
    if isinstance(rooms, Unavailable):
        report(f"how much memory is free is not known: {rooms.reason}", rooms.hint)
        rooms = ()
    cards = rooms[1:]
    names = tuple(room.name for room in cards)
    profile = _profile(host, device, sessions, threads=threads, probe=probe, report=report)
    return RunTarget(
        machine=own_machine(device, profile, names),
        threads=threads,
        room=rooms[0] if rooms else None,
        gpu_room=all_cards(cards),
        past_runs=(*recent, *past_runs_in(sessions, device, limit=PAST_RUN_SESSIONS)),
        battery_j=battery_j(host),
    )


def predict_load(load: ModelLoaded, facts: ModelFacts, host: Host, sessions: Path) -> Prediction:
    """What is expected of a model that was loaded here. Nothing is measured; the profile of an earlier check serves."""
    device = describe(host)
    found = load_profile(profile_file(sessions), machine_key(device))
    machine = own_machine(device, None if isinstance(found, Unavailable) else found)
    threads = load.settings.n_threads or 1
    past_runs = past_runs_in(sessions, device, limit=PAST_RUN_SESSIONS)
    place = RunTarget(machine=machine, threads=threads, room=None, past_runs=past_runs)
    return predict(facts, load.settings, Workload(), place)


def own_machine(device: DeviceInfo, profile: MachineProfile | None, gpu_names: tuple[str, ...] = ()) -> Machine:
    """This machine with what was measured of it and what the table knows of its model and of its graphics cards."""
    # Without a name of its own it is no device of the table, which takes longer to read than all the rest.
    table = load_devices(default_file()) if device.model or gpu_names else {}
    machine = this_machine(device, profile, table, gpu_names=gpu_names)
    if (machine.gpu is not None or gpu_names) and not offloads_to_gpu():
        machine = this_machine(device, profile, table, gpu_offload=False)
        if gpu_names:
            note = (
                f"{', '.join(gpu_names)} is not used: this llama.cpp is built without GPU; `edgetop engine` says more."
            )
            machine = replace(machine, notes=(*machine.notes, note))
    elif gpu_names and machine.gpu is None:
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
    if not host.path("/sys/class/power_supply").is_dir():
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
    probe: Probe,
    report: Callable[[str, str], None],
) -> MachineProfile | None:
    file, key = profile_file(sessions), machine_key(device)
    found = load_profile(file, key)
    known = None if isinstance(found, Unavailable) else found
    now = datetime.now(timezone.utc)
    current = known is not None and known.is_current(now)
    # Below another root stands another machine, and what could be measured is this one.
    if probe == "never" or (probe == "once" and current) or host.sysroot != Path("/"):
        return known
    measured = measure_machine(key, threads, now=now, runs=() if known is None else known.runs)
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
