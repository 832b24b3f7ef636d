"""The device table; this machine from profile and table.

`devices.toml` beside this module says how a device is described, and where each figure comes from; `devices.csv` holds
the devices that differ by a few numbers only, a row each. `benchmarks/device_fit.py` fits the rates of both to
published measurements.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from edgetop.core.engine_choices import THREADS_MAX
from edgetop.core.errors import UsageError
from edgetop.core.quantity import Interval, banded
from edgetop.core.records import DeviceInfo, machine_key
from edgetop.core.sources import Scope
from edgetop.core.text import one_line
from edgetop.fit.learning import learn
from edgetop.fit.machine import (
    KERNELS,
    REFERENCE_DIGITS_PER_S,
    Kernels,
    KernelSet,
    Machine,
    Power,
    Processor,
    gpu_kernels,
)
from edgetop.fit.machine_profile import MachineProfile
from edgetop.fit.memory import Features, usual_features
from edgetop.io.files import toml_text, user_folder

TABLE = Path(__file__).with_name("devices.toml")
ROWS = Path(__file__).with_name("devices.csv")
FILE_NAME = "devices.toml"

SIGMA = 0.20
"""Deviation of the logarithm of speeds from published figures, where a device does not state its own: boards differ by
memory chips, cooling, system and version of the engine. See `benchmarks/device_fit.py`."""

POWER_SIGMA = 0.15
PREFILL_SIGMA = 0.35

DESKTOP_THREADS = 8
DESKTOP = Processor(name="CPU", bandwidth_bytes_per_s={DESKTOP_THREADS: banded(45e9, 0.35)})
DESKTOP_NOTE = "What stays in the computer's memory is taken to be read at 45 GB/s, as desktops do while they decode."
"""42 to 57 GB/s by published rates of mixtures of experts with the experts on the CPU: RTX 2080 with four channels of
DDR4 (llmfit pull request 755), RTX 4070 and RTX 5070 Ti with two of DDR5."""

UNMEASURED = "no measurement of this device: from its data sheet and what others of its kind reach"

Positive = Annotated[float, Meta(gt=0, lt=1e9)]
Sigma = Annotated[float, Meta(gt=0, le=2)]


class _Facts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class CpuFacts(_Facts, frozen=True, kw_only=True):
    """What decodes without a GPU."""

    name: str = "CPU"
    reading_gb_s: Annotated[dict[str, Positive], Meta(min_length=1)]
    """Rate of reading memory by number of threads, reached while decoding."""
    kernels: KernelSet
    speed: Positive = 1.0
    """Of a core, relative to that which the constants of the kernels are for."""
    prefill_gflops: Positive | None = None
    """Reached by all threads together; goes before the kernels' own figures."""
    sigma: Sigma = SIGMA
    prefill_sigma: Sigma = PREFILL_SIGMA


class GpuFacts(_Facts, frozen=True, kw_only=True):
    """What decodes when layers are offloaded."""

    name: str = "GPU"
    reading_gb_s: Positive
    weight_ps: Annotated[float, Meta(ge=0, lt=1e6)] = 0.0
    """Time per weight beside reading it, for weights packed in fewer than 8 bits."""
    layer_us: Annotated[float, Meta(ge=0, lt=1e6)] = 0.0
    """Fixed time per layer and token."""
    prefill_gflops: Positive | None = None
    sigma: Sigma = SIGMA
    prefill_sigma: Sigma = PREFILL_SIGMA


class PowerFacts(_Facts, frozen=True, kw_only=True):
    """What the device draws while it decodes, idle power among it."""

    scope: Scope
    meter: str
    decode_w: Positive | Annotated[dict[str, Positive], Meta(min_length=1)]
    """One figure, or by number of threads."""
    weight_pj: Annotated[float, Meta(ge=0, lt=1e6)] = 0.0
    """Picojoules per weight that a token is multiplied with, beside those watts: models draw differently."""
    prefill_w: Positive | None = None
    idle_w: Positive | None = None
    sigma: Sigma = POWER_SIGMA
    token_sigma: Sigma | None = None
    """Of the joules per token, where these were published: what time and watts are off by partly cancels."""


class Mode(_Facts, frozen=True, kw_only=True):
    """The device in one power mode."""

    cpu: CpuFacts | None = None
    gpu: GpuFacts | None = None
    power: PowerFacts | None = None


class Device(_Facts, frozen=True, kw_only=True):
    """A board or computer."""

    name: str = ""
    """Its key in the file."""
    title: str
    models: tuple[str, ...] = ()
    """How the device names itself, or begins to: `/proc/device-tree/model`, DMI, NVML."""
    aliases: tuple[str, ...] = ()
    """What people call it beside that."""
    instructions: tuple[str, ...] | None = None
    """Of its processor, by ggml's names; what its kernels are made for where it does not say."""
    measured: bool = True
    """Whether published measurements of this very device stand behind its rates."""
    cores: Annotated[int, Meta(ge=1, le=THREADS_MAX)] | None = None
    memory_gb: tuple[Positive, ...] = ()
    """Sizes it is sold with."""
    peak_gb_s: Positive | None = None
    """Of the memory, by its data sheet."""
    gpu_shares_memory: bool = False
    price_usd: Positive | None = None
    default_mode: str = "default"
    modes: Annotated[dict[str, Mode], Meta(min_length=1)]
    sources: Annotated[dict[str, str], Meta(min_length=1)]
    """Where the figures come from: `memory`, `speed`, `prefill`, `power`, `price`."""
    note: str = ""


DeviceTable = Mapping[str, Device]


def default_file() -> Path:
    """The user's own devices."""
    return user_folder("config") / FILE_NAME


def load_devices(own: Path | None = None) -> dict[str, Device]:
    """The table by name, with the devices of `own` added or put in the place of those with their names.

    A file that is not there adds nothing. Raises UsageError, which says what is wrong and where.
    """
    table = _table()
    return dict(table) if own is None or not own.exists() else table | _read(own)


@cache
def _table() -> dict[str, Device]:
    return _read(TABLE) | {device.name: device for device in _rows()}


_KERNELS_NEED: dict[KernelSet, tuple[str, ...]] = {
    "avx2": ("AVX2",), "arm-dotprod": ("NEON", "DOTPROD"), "arm-neon": ("NEON",), "plain": (),
}  # fmt: skip


def _rows() -> Iterator[Device]:
    """The devices of `devices.csv`: each has one processor that computes, with memory of its own or the machine's."""
    with ROWS.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            apple, gb10 = row["kind"].startswith("apple"), row["name"] == "gb10"
            arm = ("NEON", "DOTPROD", *(() if row["name"].startswith("m1") else ("MATMUL_INT8",)))
            gpu = GpuFacts(
                name=row["title"],
                reading_gb_s=float(row["reading_gb_s"]),
                weight_ps=float(row["weight_ps"] or 0),
                layer_us=float(row["layer_us"]),
                prefill_gflops=float(row["prefill_gflops"]),
                sigma=float(row["sigma"]),
                prefill_sigma=float(row["prefill_sigma"]),
            )
            measured = int(row["rows"]) > 0
            yield Device(
                name=row["name"],
                title=row["title"],
                models=tuple(row["models"].split(";")),
                instructions=arm if apple or gb10 else ("AVX2",),
                cores=int(row["cores"]) if row["cores"] else None,
                memory_gb=tuple(float(size) for size in row["memory_gb"].split()),
                peak_gb_s=float(row["peak_gb_s"]),
                gpu_shares_memory=row["shares_memory"] == "1",
                modes={"default": Mode(gpu=gpu)},
                sources={
                    "memory": row["source"],
                    "speed": f"{row['rows']} published rows (benchmarks/published.csv)" if measured else UNMEASURED,
                    "prefill": row["source"],
                },
                measured=measured,
            )


def named_device(name: str, own: Path | None = None) -> NamedDevice:
    """The device of the table, or of `own`, by what a person wrote. Raises UsageError that says what is like it.

    Where it is a name of our own table, no more than its part of that is read, which takes most of the time else.
    """
    known = None if own is not None and own.exists() else _part(name)
    return find_device(load_devices(own) if known is None else known, name)


def _part(name: str) -> dict[str, Device] | None:
    """The one device of our own table with exactly this name, a size of memory left aside."""
    key = re.sub(_SIZE, "", name.strip())
    text = TABLE.read_text("utf-8")
    if not re.fullmatch(r"[a-z0-9-]+", key) or f"\n[{key}]\n" not in text:
        return None
    return _parts(text, [key])


def _parts(text: str, keys: Iterable[str]) -> dict[str, Device]:
    """Some devices of the text of our own table."""
    parts = (part for key in keys for part in re.findall(rf"(?ms)^\[{key}[\].].*?(?=^\[|\Z)", text))
    return _decoded("".join(parts).encode(), TABLE)


def devices_like(models: Iterable[str], own: Path | None = None) -> DeviceTable:
    """All devices that may be a board or cards which name themselves so, by as little reading as that takes.

    Raises UsageError as `load_devices` does.
    """
    wanted = [model.casefold() for model in models if model]
    if own is not None and own.exists():
        return load_devices(own)
    if not wanted:
        return {}
    text = TABLE.read_text("utf-8")
    keys = [
        key
        for key, listed in re.findall(r"(?m)^\[([a-z0-9-]+)\]\n(?:[^\[\n].*\n)*?models = \[(.*)\]$", text)
        if any(model.startswith(each.casefold()) for each in re.findall(r'"(.*?)"', listed) for model in wanted)
    ]
    return _parts(text, keys) | {device.name: device for device in _rows()}


class NamedDevice(NamedTuple):
    """A device as a person named it."""

    device: Device
    memory_gb: float | None
    """The size of its memory, where that was said."""


_SIZE = r"(?i)[\s:,(]+(\d{1,4})\s*(?:g|gb|gib)\)?$|(?<=\D)(\d{1,4})(?:gb|gib)$"
_MAKERS = (
    r"\b(nvidia|geforce|rtx|rx|amd|radeon|intel|apple|macbook (?:pro|air)|mac ?(?:mini|studio|pro)|imac|macbook|mac|"
    r"gpu|graphics)\b"
)


def find_device(devices: DeviceTable, name: str) -> NamedDevice:
    """By name, title, model or alias, however it is written, with a size of memory behind it: `pi5:8gb`.

    Raises UsageError that says what is like it.
    """
    size = re.search(_SIZE, name.strip())
    tried: list[tuple[str, float | None]] = [(name, None)]
    if size is not None:
        tried.insert(0, (name.strip()[: size.start()], float(size[1] or size[2])))
    for text, memory_gb in tried:
        if text in devices:
            return NamedDevice(devices[text], memory_gb)
    forms = _forms_of(devices)
    for text, memory_gb in tried:
        for form in _forms(text):
            if form in forms:
                named = forms[form]
                return NamedDevice(named.device, named.memory_gb if memory_gb is None else memory_gb)
    wanted = (_forms(tried[0][0]) or [""])[-1]
    import difflib  # noqa: PLC0415 - only for what is not found

    close = difflib.get_close_matches(wanted, forms, 8, 0.65)
    close += [form for form in forms if wanted and len(wanted) > 2 and (wanted in form or form in wanted)]
    like = ", ".join(list(dict.fromkeys(forms[form].device.name for form in close))[:6])
    raise UsageError(
        f"no device is called {one_line(name)!r}",
        (f"did you mean {like}? " if like else "")
        + f"`edgetop check --device list` shows all; others are described in {default_file()}",
    )


def _forms_of(devices: DeviceTable) -> dict[str, NamedDevice]:
    """Devices by each way to write them; a name comes before what another device is called beside.

    An alias with a size of memory, such as `pi400 4gb`, is of what is sold with this size alone.
    """
    found: dict[str, NamedDevice] = {}
    for device in devices.values():
        found.setdefault(_plain(device.name), NamedDevice(device, None))
    for device in devices.values():
        for text in (*device.aliases, *device.models, device.title):
            size = re.search(_SIZE, text) if text in device.aliases else None
            named = NamedDevice(device, None if size is None else float(size[1] or size[2]))
            for form in _forms(re.sub(_SIZE, "", text)) + _forms(text):
                found.setdefault(form, named)
    return found


def _forms(text: str) -> list[str]:
    """Without capitals, blanks and signs; the same without makers and kinds of computers."""
    spaced = re.sub(r"[^a-z0-9+]+", " ", text.casefold())
    exact = spaced.replace(" ", "")
    forms = dict.fromkeys(
        (exact, _plain(text), _plain(re.sub(_MAKERS, " ", spaced)), _plain(re.sub(r"\([^)]*\)", "", text)))
    )
    return [form for form in forms if form]


def memory_sizes(device: Device) -> tuple[int, ...]:
    """Bytes of the sizes that it is sold with, the largest first."""
    return tuple(round(size * 2**30) for size in sorted(device.memory_gb, reverse=True))


def device_of_model(devices: DeviceTable, model: str) -> Device | None:
    """The device that names itself so: the one whose model is the longest beginning of it."""
    found = [
        (len(each), device)
        for device in devices.values()
        for each in device.models
        # A laptop's graphics card has the name of a larger one with one word more.
        if model.casefold().startswith(each.casefold()) and ("Laptop" in each or "Laptop GPU" not in model)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def mode_of(device: Device, power_mode: str | None) -> str | None:
    """The device's own name of a power mode, its default one if none is asked for; `None` if it does not have it.

    `MAXN_SUPER`, `25W` and `25 w` are as jtop, nvpmodel and a person write them.
    """
    if power_mode is None:
        return device.default_mode
    return next((name for name in device.modes if _plain(name) == _plain(power_mode)), None)


def machine_of(device: Device, power_mode: str | None = None, *, strict: bool = True) -> Machine:
    """The device in one power mode, its default one if none is given.

    Raises UsageError for a mode that it does not have; unless `strict`, its default one is taken then.
    """
    name = mode_of(device, power_mode)
    if name is None:
        if strict:
            raise UsageError(
                f"{device.title} has no power mode {one_line(power_mode or '')!r} in the table",
                f"use one of {', '.join(device.modes)}",
            )
        name = device.default_mode
    mode = device.modes[name]
    several = len(device.modes) > 1
    where = device.sources.get("speed", next(iter(device.sources.values())))
    return Machine(
        name=device.title,
        power_mode=name if several else "",
        cpu=None if mode.cpu is None else _cpu(mode.cpu),
        gpu=None if mode.gpu is None else _gpu(mode.gpu),
        gpu_shares_memory=device.gpu_shares_memory,
        cores=device.cores,
        memory_bytes=round(max(device.memory_gb) * 2**30) if device.memory_gb else None,
        power=None if mode.power is None else _power(mode.power),
        price_usd=device.price_usd,
        features=_features(device),
        notes=tuple(note for note in (device.note, "" if device.measured else UNMEASURED) if note),
        basis="device table",
        explanation=f"device table, {device.title}{f' at {name}' if several else ''}: {where}",
        sources=tuple(dict.fromkeys(device.sources.values())),
    )


def _features(device: Device) -> Features:
    """The instructions that its own llama.cpp uses, which decide what is repacked."""
    if device.instructions is not None:
        return frozenset(device.instructions)
    kinds = (mode.cpu.kernels for mode in device.modes.values() if mode.cpu is not None)
    return frozenset(_KERNELS_NEED[next(kinds, "plain")])


def _cpu(facts: CpuFacts) -> Processor:
    # The band of the device is that of the whole prediction; it lies with the arithmetic, so that it counts once.
    return Processor(
        name=facts.name,
        bandwidth_bytes_per_s={int(count): banded(rate * 1e9, 0.0) for count, rate in facts.reading_gb_s.items()},
        kernels=msgspec.structs.replace(KERNELS[facts.kernels].scaled(facts.speed), sigma=facts.sigma),
        prefill_flops=_flops(facts.prefill_gflops, facts.prefill_sigma),
    )


def _gpu(facts: GpuFacts) -> Processor:
    return Processor(
        name=facts.name,
        bandwidth_bytes_per_s={0: banded(facts.reading_gb_s * 1e9, 0.0)},
        kernels=gpu_kernels(weight_s=facts.weight_ps * 1e-12, layer_s=facts.layer_us * 1e-6, sigma=facts.sigma),
        prefill_flops=_flops(facts.prefill_gflops, facts.prefill_sigma),
    )


def _power(facts: PowerFacts) -> Power:
    by_threads = facts.decode_w if isinstance(facts.decode_w, dict) else {"0": facts.decode_w}
    return Power(
        scope=facts.scope,
        decode_w={int(count): banded(watts, facts.sigma) for count, watts in by_threads.items()},
        prefill_w=None if facts.prefill_w is None else banded(facts.prefill_w, facts.sigma),
        weight_j=facts.weight_pj * 1e-12,
        token_sigma=facts.token_sigma,
        idle_w=facts.idle_w,
        meter=facts.meter,
    )


def _flops(gflops: float | None, sigma: float) -> Interval | None:
    return None if gflops is None else banded(gflops * 1e9, sigma)


_HINT = "fix {file}, or remove it; the table that comes with edgetop shows how devices are described"


def _read(file: Path) -> dict[str, Device]:
    hint = _HINT.format(file=file)
    try:
        return _decoded(toml_text(file).encode(), file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint) from None
    except ValueError as error:
        raise UsageError(f"{file}: {error}", hint) from None


def _decoded(content: bytes, file: Path) -> dict[str, Device]:
    hint = _HINT.format(file=file)
    try:
        devices = msgspec.toml.decode(content, type=dict[str, Device])
    except (ValueError, RecursionError) as error:  # of the TOML, of its text encoding, of what it describes
        raise UsageError(f"{file}: {one_line(str(error)[:300])}", hint) from None
    for name, device in devices.items():
        problem = _problem(device)
        if problem:
            raise UsageError(f"{file}: {one_line(name)}: {problem}", hint)
    return {name: msgspec.structs.replace(device, name=name) for name, device in devices.items()}


def _problem(device: Device) -> str:
    """What the types do not say; empty if there is nothing."""
    if device.default_mode not in device.modes:
        return f"default_mode {one_line(device.default_mode)!r} is not among its modes"
    for name, mode in device.modes.items():
        where = f"modes.{one_line(name)}"
        if mode.cpu is None and mode.gpu is None:
            return f"{where} has neither cpu nor gpu"
        by_threads = [] if mode.cpu is None else [("cpu.reading_gb_s", mode.cpu.reading_gb_s)]
        if mode.power is not None and isinstance(mode.power.decode_w, dict):
            by_threads.append(("power.decode_w", mode.power.decode_w))
        for field, numbers in by_threads:
            for count in numbers:
                if not (count.isascii() and count.isdecimal() and 1 <= int(count[:6]) <= THREADS_MAX):
                    return f"{where}.{field}: {one_line(count)!r} is not a number of threads"
    return ""


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


MEASURED_SIGMA = 0.08
"""Deviation of the logarithm of one measured bandwidth."""

UNMEASURED_BYTES_PER_S, UNMEASURED_SIGMA = 15e9, 0.7
"""A single channel of DDR4 or LPDDR4X as it is really read; with the band, from a Pi 4 to a workstation."""

SPEEDS = (0.1, 2.5)
"""Cores relative to the one the constants were found on; beyond, the probe was disturbed."""


def this_machine(
    device: DeviceInfo,
    profile: MachineProfile | None,
    table: DeviceTable,
    *,
    features: Features | None = None,
    gpu_offload: bool = True,
    gpu_names: tuple[str, ...] = (),
) -> Machine:
    """What is known of the machine we run on.

    What was measured goes before the table, and the table, if it has this model, before general figures. `features`
    are the instructions that the engine uses; `gpu_offload` is whether it can use a GPU at all. `gpu_names` are those
    of graphics cards, by which the table may know them.
    """
    known = device_of_model(table, device.model)
    listed = None if known is None else machine_of(known, device.power_mode or None, strict=False)
    kernels = _kernels(features if features is not None else usual_features(), profile)
    cpu = Processor(
        name=device.cpu or "CPU",
        bandwidth_bytes_per_s={1: banded(UNMEASURED_BYTES_PER_S, UNMEASURED_SIGMA)},
        kernels=kernels,
    )
    machine = Machine(
        name=device.model or device.cpu or "this machine",
        power_mode=device.power_mode,
        cpu=cpu,
        cores=device.cores_physical,
        memory_bytes=device.memory_bytes,
        key=machine_key(device),
        basis="formula",
        explanation="nothing of this machine has been measured yet",
    )
    if listed is not None:
        machine = replace(
            machine,
            cpu=listed.cpu or cpu,
            gpu=listed.gpu if gpu_offload else None,
            gpu_shares_memory=listed.gpu_shares_memory,
            power=listed.power,
            price_usd=listed.price_usd,
            basis="device table",
            explanation=listed.explanation,
            sources=listed.sources,
        )
    if machine.gpu is None and gpu_offload and gpu_names:
        machine = _with_card(machine, table, gpu_names)
    return machine if profile is None else _measured(machine, cpu, profile)


def _with_card(machine: Machine, table: DeviceTable, names: tuple[str, ...]) -> Machine:
    """With the slowest card, where the table knows all of them: their layers are computed one after the other."""
    cards = [card for name in names if (card := device_of_model(table, name)) is not None]
    if len(cards) < len(names):
        return machine
    slowest = min((machine_of(card) for card in cards), key=_rate_of)
    count = f"{len(names)} x " if len(names) > 1 else ""
    return replace(
        machine,
        gpu=slowest.gpu,
        basis="device table",
        explanation=f"{slowest.explanation.replace('device table, ', f'device table, {count}')}; {machine.explanation}",
        sources=slowest.sources,
    )


def _rate_of(machine: Machine) -> float:
    return 0.0 if machine.gpu is None else machine.gpu.bandwidth_bytes_per_s[0].value


def _measured(machine: Machine, own_cpu: Processor, profile: MachineProfile) -> Machine:
    """With the bandwidth of the profile; the processor of the table keeps its arithmetic where it has any."""
    listed = machine.cpu if machine.cpu is not None and machine.cpu.kernels is not None else own_cpu
    cpu = replace(
        listed,
        bandwidth_bytes_per_s={
            threads: banded(rate, MEASURED_SIGMA) for threads, rate in sorted(profile.bandwidth_bytes_per_s.items())
        },
    )
    on_gpu = machine.gpu is not None
    rate = max(profile.bandwidth_bytes_per_s.values())
    measured = f"memory read at {rate / 1e9:.3g} GB/s, measured {profile.measured_at[:10]}"
    return replace(
        machine,
        cpu=cpu,
        learned=learn(profile.runs, profile.bandwidth_bytes_per_s),
        basis="device table" if on_gpu else "formula",
        explanation=f"{machine.explanation}; {measured}" if on_gpu else measured,
    )


def _kernels(features: Features, profile: MachineProfile | None) -> Kernels:
    """The arithmetic of the instructions there are, at the speed that the probe showed."""
    kind: KernelSet = "plain"
    if "AVX2" in features:
        kind = "avx2"
    elif features & {"DOTPROD", "MATMUL_INT8"}:
        kind = "arm-dotprod"
    kernels = KERNELS[kind]
    if profile is None or kind != "avx2":
        return kernels
    speed = profile.digits_per_s / REFERENCE_DIGITS_PER_S
    return kernels.scaled(min(max(speed, SPEEDS[0]), SPEEDS[1]))
