"""This machine as the predictions see it: what was measured of it, what it has done, and what it has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from edgetop.core.prediction import Prediction
from edgetop.core.records import DeviceInfo, Missing, ModelLoaded
from edgetop.fit.assessment import Place, Talk, predict
from edgetop.fit.devices import default_file, load_devices
from edgetop.fit.experience import Experience
from edgetop.fit.machine import Machine
from edgetop.fit.machine_profile import (
    FILE_NAME,
    MachineProfile,
    load_profile,
    machine_key,
    measure_machine,
    save_profile,
)
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.this_machine import this_machine
from edgetop.inference.backends import offloads_to_gpu
from edgetop.inference.threads import decode_threads
from edgetop.live.experience import experience_in
from edgetop.live.memory_room import memory_rooms
from edgetop.telemetry.device import describe
from edgetop.telemetry.source import Host

Probe = Literal["never", "once", "always"]
"""Whether the memory bandwidth is measured, which takes most of a second: `once` where nothing current is known."""
EXPERIENCE_SESSIONS = 40
"""The newest sessions that are asked for experience."""


def profile_file(sessions: Path) -> Path:
    """Where the profiles of this user's machines are kept: beside the folder of the sessions."""
    return sessions.parent / FILE_NAME


def own_place(
    host: Host,
    sessions: Path,
    *,
    probe: Probe,
    tell: Callable[[str, str], None],
    lately: Sequence[Experience] = (),
) -> Place:
    """This machine now, with what the sessions in a folder tell of it.

    `lately` is what a session has taught that is not in the folder yet. `tell` hears what went wrong, and how to mend
    it.
    """
    device = describe(host)
    threads = decode_threads(host.sysroot)
    rooms = memory_rooms(host)
    if isinstance(rooms, Missing):
        tell(f"how much memory is free is not known: {rooms.reason}", rooms.mend)
        rooms = ()
    return Place(
        machine=own_machine(device, _profile(host, device, sessions, threads=threads, probe=probe, tell=tell)),
        threads=threads,
        room=rooms[0] if rooms else None,
        gpu_room=max(rooms[1:], key=lambda room: room.available_bytes, default=None),
        experience=(*lately, *experience_in(sessions, device, limit=EXPERIENCE_SESSIONS)),
        battery_j=battery_j(host),
    )


def foresee(load: ModelLoaded, facts: ModelFacts, host: Host, sessions: Path) -> Prediction:
    """What is expected of a model that was loaded here. Nothing is measured; the profile of an earlier check serves."""
    device = describe(host)
    found = load_profile(profile_file(sessions), machine_key(device))
    machine = own_machine(device, None if isinstance(found, Missing) else found)
    threads = load.settings.n_threads or 1
    experience = experience_in(sessions, device, limit=EXPERIENCE_SESSIONS)
    place = Place(machine=machine, threads=threads, room=None, experience=experience)
    return predict(facts, load.settings, Talk(), place)


def own_machine(device: DeviceInfo, profile: MachineProfile | None) -> Machine:
    """This machine with what was measured of it and what the table knows of its model."""
    # Without a name of its own it is no device of the table, which takes longer to read than all the rest.
    table = load_devices(default_file()) if device.model else {}
    machine = this_machine(device, profile, table)
    if machine.gpu is not None and not offloads_to_gpu():
        machine = this_machine(device, profile, table, gpu_offload=False)
    return machine


def battery_j(host: Host) -> float | None:
    """What is left in the battery; `None` without one."""
    if not host.path("/sys/class/power_supply").is_dir():
        return None
    from edgetop.session.channels import BATTERY_ENERGY  # noqa: PLC0415 - most boards have no battery
    from edgetop.telemetry import battery  # noqa: PLC0415 - the same
    from edgetop.telemetry.source import Absent, SourceLost  # noqa: PLC0415 - the same

    for source in battery.probe(host):
        if isinstance(source, Absent):
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
    tell: Callable[[str, str], None],
) -> MachineProfile | None:
    file, key = profile_file(sessions), machine_key(device)
    found = load_profile(file, key)
    known = None if isinstance(found, Missing) else found
    now = datetime.now(timezone.utc)
    current = known is not None and known.is_current(now)
    # Below another root stands another machine, and what could be measured is this one.
    if probe == "never" or (probe == "once" and current) or host.sysroot != Path("/"):
        return known
    measured = measure_machine(key, threads, now=now, runs=() if known is None else known.runs)
    if isinstance(measured, Missing):
        tell(measured.reason, measured.mend)
        return known
    try:
        save_profile(file, measured)
    except OSError as error:
        tell(f"what was measured of this machine could not be kept in {file}: {error.strerror}", "make room there")
    return measured
