"""Power of NVIDIA GPUs: the energy counter, and power as an instant reading and as a running mean.

What a reading covers in time depends on the architecture, and for `nvmlDeviceGetPowerUsage` on the driver too. The
windows are those of the result table of "Part-time Power Measurements" (arXiv 2312.02741).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.records import Channel, Missing, Scope, SourceInfo
from edgetop.telemetry.nvml import Nvml
from edgetop.telemetry.power_properties import PowerProperties, to_properties
from edgetop.telemetry.source import Absent, Host, Source, SourceLost, Values

GAIN = 0.07
"""Half-width, by judgement: of that paper's boards since Volta all but one (+10.9 %) were off by 6.2 % or less."""
_PERIOD_S = 0.05
_P_MAX_W = 1500.0
"""Where the board does not tell its highest power limit. Otherwise twice that limit, as instants exceed it."""

_AVERAGE, _INSTANT = 185, 186
"""NVML_FI_DEV_POWER_AVERAGE and NVML_FI_DEV_POWER_INSTANT (nvml.h); averaged over 1 s and not."""
_SCOPE_GPU, _SCOPE_MODULE = 0, 1
_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}
"""Member of a field's value by NVML_VALUE_TYPE_..."""

_PASCAL, _VOLTA, _TURING, _AMPERE, _ADA, _HOPPER = 4, 5, 6, 7, 8, 9
"""NVML_DEVICE_ARCH_... of nvml.h; GA100 is Ampere with compute capability 8.0."""
_SUPERCHIP = re.compile(r"\bG[HB]\d{2,3}\b.*|\bGrace\b", re.IGNORECASE)
_JETSON = re.compile(r"\bnvgpu\b|\b(Orin|Thor|Xavier)\b")

_CHANGE_PAUSE_S = 0.025
_CHANGE_TRIES = 40
"""Counters advance every 20 to 100 ms; one that stands still for a second at the watts of an idle board is frozen."""


class Timing(Struct, frozen=True):
    """Window and update period of one kind of reading, in seconds; `None` where nobody has measured them."""

    window_s: float | None = None
    update_s: float | None = None


class Gpu(Struct, frozen=True, kw_only=True):
    """What tells how a GPU's readings are made."""

    name: str
    architecture: int | None
    capability: tuple[int, int] | None
    driver: int | None
    """Major number of the driver's version."""

    def instant(self) -> Timing:
        """Timing of field 186."""
        if self.architecture in (_PASCAL, _VOLTA):
            return Timing(0.010, 0.020)
        if self.architecture == _HOPPER or self._is_ga100:
            return Timing(0.025, 0.100)
        if self.architecture in (_TURING, _AMPERE, _ADA):
            return Timing(0.100, 0.100)
        return Timing()

    def usage(self) -> Timing:
        """Timing of `nvmlDeviceGetPowerUsage`: a mean over a second since Ampere, but for GA100 and for driver 530."""
        if self.architecture is None:
            return Timing()
        if self._is_ga100 or self.architecture < _AMPERE or (self.architecture <= _ADA and self.driver == 530):
            return self.instant()
        return Timing(1.0, 0.100) if self.architecture <= _HOPPER else Timing()

    @property
    def _is_ga100(self) -> bool:
        return self.architecture == _AMPERE and self.capability == (8, 0)


class _Reading(Struct, frozen=True, kw_only=True):
    channel: Channel
    ask: Callable[[], float]
    known: PowerProperties


class NvmlPower:
    """Some readings of one GPU, all of one kind."""

    blocking = True

    def __init__(self, nvml: Nvml, info: SourceInfo, readings: tuple[_Reading, ...]) -> None:
        self._nvml = nvml
        self._readings = readings
        self.info = info

    def read(self) -> Values:
        """Watts or joules, in the order of the channels. Raises SourceLost when the GPU is gone or answers nothing."""
        values = tuple(_plausible(self._nvml.ask(reading.ask), reading) for reading in self._readings)
        missing = [value for value in values if isinstance(value, Missing)]
        if len(missing) == len(values):
            raise SourceLost(missing[0].reason, missing[0].mend)
        return values

    def close(self) -> None:
        """The library stays open for the other sources; it goes with the process."""


def probe(
    host: Host,
    *,
    connect: Callable[[], Nvml | Missing] = Nvml.open,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Source | Absent]:
    """The energy counter and the power of each GPU, as far as they give plausible readings and the counter advances."""
    del host
    nvml = connect()
    if isinstance(nvml, Missing):
        yield Absent(name="power.gpu", missing=nvml)
        return
    for index in range(len(nvml.handles)):
        try:
            yield from list(_gpu_sources(nvml, index, pause))
        except SourceLost as lost:
            yield Absent(name=f"power.gpu.{index}", missing=lost.missing)


def _gpu_sources(nvml: Nvml, index: int, pause: Callable[[float], None]) -> Iterator[Source | Absent]:
    gpu = _describe(nvml, index)
    counter = _counter(nvml, index)
    advancing = _advance(nvml, counter, pause)
    absent: list[Absent] = []
    powers: list[_Reading] = []
    for reading in _powers(nvml, index, gpu):
        value = _plausible(nvml.ask(reading.ask), reading)
        if isinstance(value, Missing):
            absent.append(Absent(name=reading.channel.name, missing=value))
        else:
            powers.append(reading)
    if not any(_covers_gpu(reading) for reading in powers):
        usage = _usage(nvml, index, gpu)
        value = _plausible(nvml.ask(usage.ask), usage)
        if not isinstance(value, Missing):
            powers.insert(0, usage)
    if advancing is not None and not powers:
        yield Absent(name=f"power.gpu.{index}", missing=_nothing(gpu, advancing))
        return
    if advancing is None:
        yield _source(nvml, gpu, f"energy.gpu.{index}", [counter], adds_up=True)
    else:
        yield Absent(name=f"energy.gpu.{index}", missing=advancing)
    if powers:
        yield _source(nvml, gpu, f"power.gpu.{index}", powers, adds_up=advancing is not None)
    yield from absent


def _source(nvml: Nvml, gpu: Gpu, name: str, readings: list[_Reading], *, adds_up: bool) -> Source:
    """Only one of the readings of a GPU may be added to those of others, or the board would count twice."""
    known: dict[str, PowerProperties] = {}
    for reading in readings:
        is_first = reading is readings[0] and _covers_gpu(reading)
        known[reading.channel.name] = replace(
            reading.known, total=is_first, adds_up_as="gpu" if is_first and adds_up else ""
        )
    info = SourceInfo(
        name=name,
        driver="nvml",
        path=gpu.name,
        kind="energy" if readings[0].channel.unit == "J" else "power",
        period_s=_PERIOD_S,
        channels=tuple(reading.channel for reading in readings),
        properties=to_properties(known),
    )
    return NvmlPower(nvml, info, tuple(readings))


def _powers(nvml: Nvml, index: int, gpu: Gpu) -> Iterator[_Reading]:
    name, p_max_w = f"power.gpu.{index}", _p_max_w(nvml, index)
    yield _power(f"{name}.instant", _field(nvml, index, _INSTANT, _SCOPE_GPU), gpu.instant(), p_max_w)
    yield _power(f"{name}.average", _field(nvml, index, _AVERAGE, _SCOPE_GPU), Timing(1.0, 0.100), p_max_w)
    if _SUPERCHIP.search(gpu.name):
        # Processor and GPU of a Grace superchip together: another meter, never to be added to either.
        ask = _field(nvml, index, _INSTANT, _SCOPE_MODULE)
        yield _power(f"{name}.module", ask, gpu.instant(), 2 * p_max_w, scope="module")


def _usage(nvml: Nvml, index: int, gpu: Gpu) -> _Reading:
    library, handle = nvml.library, nvml.handles[index]

    def ask() -> float:
        return float(library.nvmlDeviceGetPowerUsage(handle)) / 1000

    return _power(f"power.gpu.{index}.usage", ask, gpu.usage(), _p_max_w(nvml, index))


def _power(
    name: str, ask: Callable[[], float], timing: Timing, p_max_w: float, *, scope: Scope = "gpu_board"
) -> _Reading:
    return _Reading(
        channel=Channel(name=name, unit="W", digits=3, scope=scope),
        ask=ask,
        known=PowerProperties(window_s=timing.window_s, update_s=timing.update_s, gain=GAIN, p_max_w=p_max_w),
    )


def _field(nvml: Nvml, index: int, field: int, scope_id: int) -> Callable[[], float]:
    library, handle = nvml.library, nvml.handles[index]

    def ask() -> float:
        # The call succeeds even where the field failed: each field has a return code of its own.
        answer = library.nvmlDeviceGetFieldValues(handle, [(field, scope_id)])[0]
        if answer.nvmlReturn != library.NVML_SUCCESS:
            raise library.NVMLError(answer.nvmlReturn)
        return float(getattr(answer.value, _MEMBERS[answer.valueType])) / 1000

    return ask


def _counter(nvml: Nvml, index: int) -> _Reading:
    library, handle = nvml.library, nvml.handles[index]
    return _Reading(
        channel=Channel(name=f"energy.gpu.{index}", unit="J", digits=3, scope="gpu_board"),
        ask=lambda: library.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,
        known=PowerProperties(gain=GAIN, lsb_j=0.001, p_max_w=_p_max_w(nvml, index)),
    )


def _advance(nvml: Nvml, counter: _Reading, pause: Callable[[float], None]) -> Missing | None:
    """Why the counter cannot be used, `None` once it has advanced."""
    first = nvml.ask(counter.ask)
    if isinstance(first, Missing):
        return first
    for _ in range(_CHANGE_TRIES):
        pause(_CHANGE_PAUSE_S)
        value = nvml.ask(counter.ask)
        if isinstance(value, Missing):
            return value
        if value > first:
            return None
    return Missing(f"the energy counter stands still at {first:.3f} J", "update the NVIDIA driver")


def _plausible(value: float | Missing, reading: _Reading) -> float | Missing:
    if isinstance(value, Missing) or reading.channel.unit == "J":
        return value
    p_max_w = reading.known.p_max_w or _P_MAX_W
    return value if 0 < value <= p_max_w else Missing(f"{value:.1f} W is not the power of a GPU that answers")


def _nothing(gpu: Gpu, counter: Missing) -> Missing:
    if _JETSON.search(gpu.name):
        return Missing(
            f"{gpu.name}: NVML gives no power on a Jetson",
            "the board's own sensors give it: see power.jetson in edgetop doctor",
        )
    return Missing(f"{gpu.name} gives neither energy nor power: {counter.reason}")


def _describe(nvml: Nvml, index: int) -> Gpu:
    library, handle = nvml.library, nvml.handles[index]
    architecture = nvml.ask(lambda: library.nvmlDeviceGetArchitecture(handle))
    major = nvml.ask(lambda: library.nvmlDeviceGetCudaComputeCapability(handle)[0])
    minor = nvml.ask(lambda: library.nvmlDeviceGetCudaComputeCapability(handle)[1])
    driver = re.match(r"\d+", _text(nvml, library.nvmlSystemGetDriverVersion))
    name = _text(nvml, lambda: library.nvmlDeviceGetName(handle)) or f"GPU {index}"
    return Gpu(
        name=name,
        architecture=None if isinstance(architecture, Missing) else int(architecture),
        capability=None if isinstance(major, Missing) or isinstance(minor, Missing) else (int(major), int(minor)),
        driver=None if driver is None else int(driver[0]),
    )


def _text(nvml: Nvml, query: Callable[[], str]) -> str:
    try:
        text = query()
    except nvml.library.NVMLError:
        return ""
    return "".join(c for c in text if c.isprintable())[:80]


def _p_max_w(nvml: Nvml, index: int) -> float:
    library, handle = nvml.library, nvml.handles[index]
    limit_mw = nvml.ask(lambda: library.nvmlDeviceGetPowerManagementLimitConstraints(handle)[1])
    return _P_MAX_W if isinstance(limit_mw, Missing) or limit_mw <= 0 else 2 * limit_mw / 1000


def _covers_gpu(reading: _Reading) -> bool:
    return reading.channel.scope == "gpu_board"
