"""Bandwidth and core speed measured here, kept on disk.

Each thread lets the C library's `memchr` look through its own part of a large buffer for a byte that is not there. That
reads every byte once, in order and with the widest loads there are, and ctypes lets go of the interpreter's lock
meanwhile. It is what the weights of a model go through for every token.

Decoding is integer multiplication and addition, so the probe multiplies long integers: the inner loop of CPython's
schoolbook multiplication is one multiply-add per pair of digits, for factors below its Karatsuba cutoff of 70 digits
(Objects/longobject.c). It shows clock and core, not the width of the vector units: `quant_speed` has constants for
each kind of those.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import accumulate
from math import inf, isfinite
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Thread
from time import perf_counter
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from edgetop.core.errors import EdgetopError
from edgetop.core.sources import Unavailable
from edgetop.fit.learning import TimingSample, kept
from edgetop.io.files import user_folder
from edgetop.io.json import load_kept, save_kept

MIB = 2**20
BUFFER_BYTES = 192 * MIB
CACHES = 4
"""The buffer has so many times the size of the largest cache, of which a part may stay from pass to pass."""

LARGEST_BUFFER_BYTES = 512 * MIB
MEMORY_SHARE = 0.1
"""... but never takes more of the memory that is available."""

SMALLEST_BUFFER_BYTES = 16 * MIB
PASS_BYTES = 16 * MIB
"""Read by each thread in one pass: a millisecond or less, so that many are over before something comes between."""

PASSES_MIN, PASSES_MAX = 5, 200
QUANTILE = 0.9
"""Of the passes' rates: other processes only ever take away, and the very best pass may have had a cache's help."""

FILL_S, READ_S = 0.35, 0.45
"""Time for making the buffer and for all passes. What is not filled in time is left out."""

_CHUNK_BYTES = 8 * MIB
_FILL, _ABSENT = 1, 0


def measure_bandwidth(
    threads: int, free_bytes: float = inf, *, sysroot: Path = Path("/"), now: Callable[[], float] = perf_counter
) -> dict[int, float]:
    """Bytes a second that so many threads read together, for the `thread_counts` up to `threads`.

    `free_bytes` is how much memory may be had. Raises OSError where there is no memory for it.
    """
    import ctypes  # noqa: PLC0415 - few runs measure, and it takes milliseconds

    wanted = buffer_bytes(free_bytes, sysroot)
    with mmap.mmap(-1, wanted) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):
                memory.madvise(mmap.MADV_HUGEPAGE)
        first = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(first)
        try:
            size_bytes = _fill(address, wanted, now)
            counts = thread_counts(threads)
            limit_s = READ_S / len(counts)
            rates = [_rate(address, size_bytes, cpus_for(count, sysroot), limit_s, now) for count in counts]
            # Fewer threads are a lower bound: a rate below theirs means that another process had a core.
            return dict(zip(counts, accumulate(rates, max), strict=True))
        finally:
            del first


def thread_counts(threads: int) -> tuple[int, ...]:
    """1 to 4, then doubling, and all of them."""
    threads = max(1, threads)
    counts = {1, 2, 3, 4, threads} | {2**power for power in range(3, threads.bit_length())}
    return tuple(sorted(count for count in counts if count <= threads))


def cpus_for(threads: int, sysroot: Path = Path("/"), allowed: Sequence[int] | None = None) -> list[int | None]:
    """The CPU that each thread is to stay on; `None` where the system does not let us choose.

    Left alone, new threads share the core of the one that started them until the kernel moves them. The fastest CPUs
    come first; among equal ones they lie far apart, so that no two are hyperthreads of one core while others are idle.
    """
    if allowed is None:
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ()
    if not allowed:
        return [None] * threads
    capacities = {cpu: _text(sysroot / f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity").strip() for cpu in allowed}
    if len(set(capacities.values())) > 1:
        by_speed = sorted(allowed, key=lambda cpu: -int(capacities[cpu]) if capacities[cpu].isdecimal() else 0)
        return [by_speed[thread % len(by_speed)] for thread in range(threads)]
    return [allowed[thread * len(allowed) // threads % len(allowed)] for thread in range(threads)]


def buffer_bytes(free_bytes: float, sysroot: Path = Path("/")) -> int:
    """Large enough for the caches, small enough for the memory. Raises OSError where not even the smallest fits."""
    wanted = min(LARGEST_BUFFER_BYTES, max(BUFFER_BYTES, CACHES * _largest_cache_bytes(sysroot)))
    if isfinite(free_bytes):
        wanted = min(wanted, int(free_bytes * MEMORY_SHARE) // _CHUNK_BYTES * _CHUNK_BYTES)
    if wanted < SMALLEST_BUFFER_BYTES:
        raise OSError("too little memory is free to measure its speed")
    return wanted


def _fill(address: int, size_bytes: int, now: Callable[[], float]) -> int:
    """Write to the buffer, so that it is real memory and not one page of zeros; returns how much of it came in time."""
    import ctypes  # noqa: PLC0415 - few runs measure, and it takes milliseconds

    begin_s = now()
    for offset in range(0, size_bytes, _CHUNK_BYTES):
        if offset >= SMALLEST_BUFFER_BYTES and now() - begin_s > FILL_S:
            return offset
        ctypes.memset(address + offset, _FILL, min(_CHUNK_BYTES, size_bytes - offset))
    return size_bytes


def _rate(address: int, size_bytes: int, cpus: Sequence[int | None], limit_s: float, now: Callable[[], float]) -> float:
    """The rate of good passes: all threads begin each one together, every thread in its own part of the buffer."""
    threads = len(cpus)
    part_bytes = size_bytes // threads
    pass_bytes = min(PASS_BYTES, part_bytes)
    start = Barrier(threads)
    spans_s: list[list[tuple[float, float]]] = [[] for _ in range(threads)]
    until_s = now() + limit_s
    passes = PASSES_MAX

    memchr = _memchr()

    def read(thread: int) -> None:
        nonlocal passes
        _stay_on(cpus[thread])
        for count in range(PASSES_MAX):
            if thread == 0 and count >= PASSES_MIN and now() > until_s:
                passes = count
            try:
                start.wait()
            except BrokenBarrierError:
                break
            if count >= passes:
                break
            offset = count % (part_bytes // pass_bytes) * pass_bytes
            begin_s = now()
            memchr(address + thread * part_bytes + offset, _ABSENT, pass_bytes)
            spans_s[thread].append((begin_s, now()))

    readers = [Thread(target=read, args=(thread,), daemon=True) for thread in range(threads)]
    try:
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    except BaseException:  # no further thread, or Ctrl-C: nobody may read on when the buffer is given back
        start.abort()
        for reader in readers:
            if reader.ident is not None:
                reader.join()
        raise
    return _quantile(
        [
            threads * pass_bytes / max(max(end for _, end in spans) - min(begin for begin, _ in spans), 1e-9)
            for spans in zip(*spans_s, strict=True)
        ]
    )


def _stay_on(cpu: int | None) -> None:
    """Keep the calling thread, and no other one, on a CPU."""
    if cpu is not None:
        with suppress(OSError):  # a cpuset may have shrunk
            os.sched_setaffinity(0, {cpu})


def _quantile(rates: list[float]) -> float:
    return sorted(rates)[int(QUANTILE * (len(rates) - 1))]


@cache
def _memchr() -> Callable[[int, int, int], object]:
    import ctypes  # noqa: PLC0415 - few runs measure, and it takes milliseconds

    found = ctypes.CDLL(None).memchr
    found.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    found.restype = ctypes.c_void_p
    return found


def _largest_cache_bytes(sysroot: Path) -> int:
    folders = (sysroot / "sys/devices/system/cpu/cpu0/cache").glob("index*")
    return max((_size_bytes(_text(folder / "size")) for folder in folders), default=0)


def _size_bytes(text: str) -> int:
    """A size as the kernel writes it, `32768K`; 0 for anything else."""
    number, unit = text.strip()[:-1], text.strip()[-1:]
    scale = {"K": 2**10, "M": 2**20, "G": 2**30}.get(unit, 0)
    return int(number) * scale if number.isdecimal() and len(number) < 12 else 0


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


DIGITS = 60
_ROUNDS, _PRODUCTS = 120, 60


def measure_core(now: Callable[[], float] = perf_counter) -> float:
    """Products of digits in a second, by one thread: the best of many short rounds, since others may be at work."""
    bits = sys.int_info.bits_per_digit
    left, right = (1 << bits * DIGITS) - 12345, (1 << bits * DIGITS) - 6789
    best_s = float("inf")
    for _ in range(_ROUNDS):
        begin_s = now()
        for _ in range(_PRODUCTS):
            left * right
        best_s = min(best_s, now() - begin_s)
    return _PRODUCTS * DIGITS**2 / best_s


FILE_NAME = "machines.json"
CURRENT_DAYS = 42
"""Older measurements are taken again: firmware, kernel and memory modules change."""

PROFILES_MAX = 16
"""Of one user's machines and their power modes; the newest stay."""

Positive = Annotated[float, Meta(gt=0, lt=1e15)]
Key = Annotated[str, Meta(max_length=64)]


class ProfileError(EdgetopError):
    """The file of profiles cannot be read or written."""


class MachineProfile(Struct, frozen=True, kw_only=True):
    """One machine in one power mode."""

    key: Key
    measured_at: str
    """Wall clock, ISO 8601 in UTC."""
    bandwidth_bytes_per_s: Annotated[dict[int, Positive], Meta(min_length=1, max_length=64)]
    """Of reading main memory, by number of threads."""
    digits_per_s: Positive
    """`compute_probe.measure_core`."""
    runs: Annotated[tuple[TimingSample, ...], Meta(max_length=1000)] = ()
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


def default_file() -> Path:
    """Where the profiles of this user's machines are kept."""
    return user_folder("data") / FILE_NAME


def measure_machine(
    key: str,
    threads: int,
    free_bytes: float = inf,
    *,
    now: datetime | None = None,
    runs: Iterable[TimingSample] = (),
) -> MachineProfile | Unavailable:
    """Measure this machine with 1 to `threads` threads, in less than a second.

    `runs` are what an earlier profile has learned.
    """
    digits_per_s = measure_core()
    try:
        bandwidth = measure_bandwidth(threads, free_bytes)
    except (OSError, RuntimeError) as error:  # no memory, or no further thread
        return Unavailable(f"memory bandwidth could not be measured: {error}", "free some memory and try again")
    return MachineProfile(
        key=key,
        measured_at=(now or datetime.now(timezone.utc)).isoformat(timespec="seconds"),
        bandwidth_bytes_per_s=bandwidth,
        digits_per_s=max(digits_per_s, measure_core()),  # what disturbs one is often over by the other
        runs=kept(runs),
    )


def load_profile(file: Path, key: str) -> MachineProfile | Unavailable:
    """The profile of a machine. Unavailable, with the reason, where there is none or the file is not one of ours."""
    profiles = load_profiles(file)
    if isinstance(profiles, Unavailable):
        return profiles
    for profile in profiles:
        if profile.key == key:
            return profile
    return Unavailable("this machine has not been measured in this power mode")


def load_profiles(file: Path) -> tuple[MachineProfile, ...] | Unavailable:
    """All profiles in a file, none where there is no file; Unavailable, with the reason, where it cannot be used."""
    try:
        kept_ones = load_kept(file, _Profiles, ProfileError, f"remove {file}; it is measured again")
    except ProfileError as error:
        return Unavailable(error.what, error.hint)
    profiles = () if kept_ones is None else kept_ones.profiles
    return tuple(profile for profile in profiles if all(map(isfinite, profile.bandwidth_bytes_per_s.values())))


def save_profile(file: Path, profile: MachineProfile) -> None:
    """Put a profile in the place of the one with its key, all of it or nothing. Raises ProfileError.

    A file that cannot be used is replaced.
    """
    others = load_profiles(file)
    kept_ones = [] if isinstance(others, Unavailable) else [each for each in others if each.key != profile.key]
    newest = sorted([*kept_ones, profile], key=lambda each: each.measured_at)[-PROFILES_MAX:]
    if profile not in newest:
        newest = [*newest[1:], profile]
    save_kept(file, _Profiles(profiles=tuple(newest)), ProfileError)


def add_run(file: Path, profile: MachineProfile, run: TimingSample) -> MachineProfile:
    """The profile with one run more, which is also written. Raises ProfileError."""
    stored = load_profile(file, profile.key)
    runs = profile.runs if isinstance(stored, Unavailable) else stored.runs
    grown = replace(profile, runs=kept([*runs, run]))
    save_profile(file, grown)
    return grown
