"""What was measured of this machine, kept between runs: memory bandwidth, a core's speed, and what benches taught."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import platformdirs
from msgspec import Meta, Struct
from msgspec.structs import replace

from edgetop.core.records import DeviceInfo, Missing
from edgetop.fit.bandwidth import measure_bandwidth
from edgetop.fit.calibration import Run, kept
from edgetop.fit.compute_probe import measure_core

FILE_NAME = "machines.json"
CURRENT_DAYS = 42
"""Older measurements are taken again: firmware, kernel and memory modules change."""
PROFILES_MAX = 16
"""Of one user's machines and their power modes; the newest stay."""
LARGEST_FILE_BYTES = 2**20

Positive = Annotated[float, Meta(gt=0, lt=1e15)]
Key = Annotated[str, Meta(max_length=64)]


class MachineProfile(Struct, frozen=True, kw_only=True):
    """One machine in one power mode."""

    key: Key
    measured_at: str
    """Wall clock, ISO 8601 in UTC."""
    bandwidth_bytes_per_s: Annotated[dict[int, Positive], Meta(min_length=1, max_length=64)]
    """Of reading main memory, by number of threads."""
    digits_per_s: Positive
    """`compute_probe.measure_core`."""
    runs: Annotated[tuple[Run, ...], Meta(max_length=1000)] = ()
    """What benches measured, beside what the formulas said."""

    def is_current(self, now: datetime) -> bool:
        """Whether it is young enough to be used without measuring again; not where its date cannot be read."""
        try:
            measured_at = datetime.fromisoformat(self.measured_at)
        except ValueError:
            return False
        if measured_at.tzinfo is None:
            return False
        return timedelta(0) <= now - measured_at <= timedelta(days=CURRENT_DAYS)


class _Profiles(Struct, frozen=True, kw_only=True):
    format: Literal["edgetop-machines"] = "edgetop-machines"
    version: Literal[1] = 1
    profiles: tuple[MachineProfile, ...] = ()


def machine_key(device: DeviceInfo) -> str:
    """What tells a machine in one power mode from another: model, CPU, cores, memory, power mode and governor.

    The name of the host is not in it, nor what changes with an update of the system.
    """
    parts = (
        device.model, device.cpu, device.cores_physical, device.cores_logical, _gib(device.memory_bytes),
        device.power_mode, device.governor,
    )  # fmt: skip
    return sha256("\n".join("" if part is None else str(part) for part in parts).encode()).hexdigest()[:24]


def default_file() -> Path:
    """Where the profiles of this user's machines are kept."""
    return platformdirs.user_data_path("edgetop") / FILE_NAME


def measure_machine(
    key: str, threads: int, *, now: datetime | None = None, sysroot: Path = Path("/"), runs: Iterable[Run] = ()
) -> MachineProfile | Missing:
    """Measure this machine with 1 to `threads` threads, in less than a second.

    `runs` are what an earlier profile has learned.
    """
    digits_per_s = measure_core()
    try:
        bandwidth = measure_bandwidth(threads, sysroot=sysroot)
    except (OSError, RuntimeError) as error:  # no memory, or no further thread
        return Missing(f"memory bandwidth could not be measured: {error}", "free some memory and try again")
    return MachineProfile(
        key=key,
        measured_at=(now or datetime.now(timezone.utc)).isoformat(timespec="seconds"),
        bandwidth_bytes_per_s=bandwidth,
        digits_per_s=max(digits_per_s, measure_core()),  # what disturbs one is often over by the other
        runs=kept(runs),
    )


def load_profile(file: Path, key: str) -> MachineProfile | Missing:
    """The profile of a machine. Missing, with the reason, where there is none or the file is not one of ours."""
    profiles = load_profiles(file)
    if isinstance(profiles, Missing):
        return profiles
    for profile in profiles:
        if profile.key == key:
            return profile
    return Missing("this machine has not been measured in this power mode")


def load_profiles(file: Path) -> tuple[MachineProfile, ...] | Missing:
    """All profiles in a file, none where there is no file; Missing, with the reason, where it cannot be used."""
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        return Missing(f"{file}: {error.strerror}", f"make {file} readable")
    mend = f"remove {file}; it is measured again"
    if len(content) > LARGEST_FILE_BYTES:
        return Missing(f"{file} is larger than any of ours", mend)
    try:
        profiles = msgspec.json.decode(content, type=_Profiles).profiles
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Missing(f"{file} cannot be used: {error}", mend)
    return tuple(profile for profile in profiles if all(map(isfinite, profile.bandwidth_bytes_per_s.values())))


def save_profile(file: Path, profile: MachineProfile) -> None:
    """Put a profile in the place of the one with its key, all of it or nothing. Raises OSError.

    A file that cannot be used is replaced.
    """
    others = load_profiles(file)
    kept_ones = [] if isinstance(others, Missing) else [each for each in others if each.key != profile.key]
    newest = sorted([*kept_ones, profile], key=lambda each: each.measured_at)[-PROFILES_MAX:]
    if profile not in newest:
        newest = [*newest[1:], profile]
    _write(file, msgspec.json.format(msgspec.json.encode(_Profiles(profiles=tuple(newest))), indent=1) + b"\n")


def add_run(file: Path, profile: MachineProfile, run: Run) -> MachineProfile:
    """The profile with one run more, which is also written. Raises OSError."""
    stored = load_profile(file, profile.key)
    runs = profile.runs if isinstance(stored, Missing) else stored.runs
    grown = replace(profile, runs=kept([*runs, run]))
    save_profile(file, grown)
    return grown


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _gib(size_bytes: int | None) -> int | None:
    return None if size_bytes is None else round(size_bytes / 2**30)
