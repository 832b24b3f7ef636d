"""NVIDIA through NVML: gauges, energy, power, processes.

Each query is asked by itself: on a Jetson the library initialises, lists a device and then answers most of them with
"not supported". What such a query would have given is missing, never zero.

What a reading covers in time depends on the architecture, and for `nvmlDeviceGetPowerUsage` on the driver too. The
windows are those of the result table of "Part-time Power Measurements" (arXiv 2312.02741).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.sources import Channel, PowerProperties, Scope, SourceInfo, Unavailable, to_properties
from edgetop.telemetry.host import Host, text_of
from edgetop.telemetry.source import RuntimePower, Source, SourceLost, UnavailableSource, Values, require_any

PERIOD_S = 1.0
LIBRARY = "libnvidia-ml.so.1"
NO_LIBRARY = Unavailable("there is no NVIDIA driver library on this machine")
_MHZ = 1_000_000

_SLOWDOWNS = {
    "power_limit": 0x4 | 0x80,  # software power cap, power brake from outside
    "heat": 0x20 | 0x40,  # software and hardware thermal slowdown
    "hardware_slowdown": 0x8,  # one of the above by hardware, or the supply; older GPUs say no more
}
"""Bits of nvmlClocksEventReason in nvml.h. The others mean idle, clocks chosen by a user, or several GPUs in step."""

Query = tuple[tuple[Channel, ...], Callable[[], Sequence[float]]]
"""Channels, and the call into the library whose answer fills them."""


class Nvml:
    """The library, initialised, and the handles of its GPUs."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - an untyped library
        """Raises `library.NVMLError` when it cannot be initialised."""
        self.library = library
        library.nvmlInit()
        self.handles: list[Any] = []
        self.unusable: list[Unavailable] = []
        """Why there is no handle of a GPU that NVML counts; the others close ranks."""
        for index in range(library.nvmlDeviceGetCount()):
            try:
                self.handles.append(library.nvmlDeviceGetHandleByIndex(index))
            except library.NVMLError as error:
                self.unusable.append(_missing(error))

    @classmethod
    def open(cls) -> Nvml | Unavailable:
        """Initialise NVML, or say why that cannot be done. The binding is imported only where there is a driver."""
        try:
            ctypes.CDLL(LIBRARY)
        except OSError:
            return NO_LIBRARY
        import pynvml  # noqa: PLC0415

        try:
            return cls(pynvml)
        except pynvml.NVMLError as error:
            return Unavailable(f"the NVIDIA driver does not answer: {str(error).lower()}", "nvidia-smi says more")

    def ask(self, query: Callable[[], float]) -> float | Unavailable:
        """The answer to one query, or why there is none. Raises SourceLost when the GPU is gone."""
        return self.ask_several(1, lambda: (query(),))[0]

    def ask_several(self, count: int, query: Callable[[], Sequence[float]]) -> Values:
        """The `count` figures of the answer to one query, or why there are none. Raises SourceLost as `ask`."""
        try:
            return tuple(float(value) for value in query())
        except self.library.NVMLError_GpuIsLost as error:
            raise SourceLost("the GPU has gone from the bus", "restart the machine") from error
        except self.library.NVMLError as error:
            return (_missing(error),) * count

    def close(self) -> None:
        """Shut the library down."""
        self.library.nvmlShutdown()


_NVIDIA, _DISPLAY = "0x10de", "0x03"

IDLE_PERIOD_S = 1.0
"""One set of queries in so many seconds while no GPU computes for us."""


def find_devices(host: Host) -> dict[str, RuntimePower]:
    """NVIDIA's GPUs on the PCI bus, by their addresses."""
    return {
        device.name.lower(): RuntimePower(device, host)
        for device in sorted(host.path("/sys/bus/pci/devices").glob("*"))
        if text_of(device / "vendor") == _NVIDIA and text_of(device / "class").startswith(_DISPLAY)
    }


def _opened(host: Host, connect: Callable[[], Nvml | Unavailable], name: str) -> Nvml | UnavailableSource:
    """The library; or why not yet: GPUs that sleep are not woken, and a driver may be loaded later."""
    devices = find_devices(host)
    reasons = [power.why_not() for power in devices.values()]
    # Opening NVML would wake GPUs that all sleep, or are left alone to do so.
    asleep = reasons[0] if reasons and all(reason is not None for reason in reasons) else None
    if asleep is not None:
        return UnavailableSource(name=name, missing=asleep, retry=True)
    nvml = connect()
    if isinstance(nvml, Nvml):
        return nvml
    return UnavailableSource(name=name, missing=nvml, retry=nvml is not NO_LIBRARY or bool(devices))


def _runtime_power(nvml: Nvml, index: int, host: Host) -> RuntimePower | None:
    """Whether a GPU sleeps, where the kernel says."""
    devices = find_devices(host)
    if len(devices) <= 1:
        return next(iter(devices.values()), None)
    try:
        bus_id = nvml.library.nvmlDeviceGetPciInfo(nvml.handles[index]).busId
    except nvml.library.NVMLError:
        return None
    name = bus_id.decode("ascii", "replace") if isinstance(bus_id, bytes) else str(bus_id)
    return devices.get(name[-len("0000:00:00.0") :].lower())


class GpuGauges:
    """What one GPU does, besides power."""

    blocking = True
    """A query takes milliseconds, and seconds where it has to wake the GPU up."""
    reads_at_end = True

    def __init__(self, nvml: Nvml, index: int, host: Host) -> None:
        """Take a first reading. Raises SourceLost when no query is answered."""
        self._nvml = nvml
        self._power = _runtime_power(nvml, index, host)
        name = _text(nvml, lambda: nvml.library.nvmlDeviceGetName(nvml.handles[index]))
        self._queries = _queries(nvml.library, nvml.handles[index], index, name)
        self.info = SourceInfo(
            name=f"gpu.{index}",
            driver="nvml",
            path=name,
            period_s=PERIOD_S,
            channels=tuple(channel for channels, _ in self._queries for channel in channels),
        )
        self.read()

    def read(self) -> Values:
        """Read all channels once, unless the GPU sleeps. Raises SourceLost when no query is answered."""
        asleep = None if self._power is None else self._power.why_not()
        if asleep is not None:
            return (asleep,) * len(self.info.channels)
        return require_any(
            tuple(value for channels, query in self._queries for value in self._nvml.ask_several(len(channels), query))
        )

    def close(self) -> None:
        """The library stays initialised for the other sources; it goes with the process."""


def probe(host: Host, *, connect: Callable[[], Nvml | Unavailable] = Nvml.open) -> Iterator[Source | UnavailableSource]:
    """The NVIDIA GPUs of this machine."""
    nvml = _opened(host, connect, "gpu")
    if isinstance(nvml, UnavailableSource):
        yield nvml
        return
    for index in range(len(nvml.handles)):
        try:
            yield GpuGauges(nvml, index, host)
        except SourceLost as lost:
            yield UnavailableSource(name=f"gpu.{index}", missing=lost.missing, retry=True)
    for number, missing in enumerate(nvml.unusable, len(nvml.handles)):
        yield UnavailableSource(name=f"gpu.{number}", missing=missing)


_UNIFIED = r"\bGB10\b|\bN1X\b|\bnvgpu\b|\b(Orin|Thor|Xavier)\b"


def shares_memory(name: str) -> bool:
    """Whether a GPU of that name has no memory of its own.

    On a DGX Spark NVML says "not supported", or reports the machine's memory.
    """
    return re.search(_UNIFIED, name) is not None


def _own_instance(library: Any, handle: Any) -> Any:  # noqa: ANN401 - an untyped library
    """Of a GPU that is parted (MIG), the instance that CUDA takes: the one named, or the first. Else `None`."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    try:
        if library.nvmlDeviceGetMigMode(handle)[0] != library.NVML_DEVICE_MIG_ENABLE:
            return None
        count = library.nvmlDeviceGetMaxMigDeviceCount(handle)
    except library.NVMLError:
        return None
    found = []
    for index in range(count):
        with contextlib.suppress(library.NVMLError):
            instance = library.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            uuid = library.nvmlDeviceGetUUID(instance)
            found.append((uuid.decode("ascii", "replace") if isinstance(uuid, bytes) else str(uuid), instance))
    own = [instance for uuid, instance in found if named and uuid.startswith(named)]
    return next(iter([*own, *(instance for _, instance in found)]), None)


def _queries(library: Any, handle: Any, index: int, name: str) -> list[Query]:  # noqa: ANN401 - an untyped library
    def channel(name: str, unit: str) -> Channel:
        return Channel(name=f"gpu.{index}.{name}", unit=unit)

    memory_of = _own_instance(library, handle) or handle

    def memory() -> Sequence[float]:
        info = library.nvmlDeviceGetMemoryInfo(memory_of)
        return (info.used, info.total)

    def slowdowns() -> Sequence[float]:
        try:
            reasons = library.nvmlDeviceGetCurrentClocksEventReasons(handle)
        except library.NVMLError_FunctionNotFound:  # the name before driver 535
            reasons = library.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        return tuple(float(bool(reasons & bits)) for bits in _SLOWDOWNS.values())

    def use() -> Sequence[float]:
        return (library.nvmlDeviceGetUtilizationRates(handle).gpu,)

    def clock() -> Sequence[float]:
        return (library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM) * _MHZ,)

    def temperature() -> Sequence[float]:
        return (library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU),)

    # What such a GPU says of its memory, if anything, is the machine's, which is counted already.
    own_memory: list[Query] = [((channel("memory_used", "B"), channel("memory_total", "B")), memory)]
    return [
        *([] if shares_memory(name) else own_memory),
        ((channel("use", "%"),), use),
        ((channel("clock", "Hz"),), clock),
        ((channel("temperature", "Cel"),), temperature),
        (tuple(Channel(name=f"throttle.gpu_{index}_{name}", unit="1") for name in _SLOWDOWNS), slowdowns),
    ]


def _missing(error: Exception) -> Unavailable:
    return Unavailable(f"NVML: {str(error).lower()}")


GAIN = 0.07
"""Half-width, by judgement: of that paper's boards since Volta all but one (+10.9 %) were off by 6.2 % or less."""

_PERIOD_S = 0.05
_P_MAX_W = 1500.0
"""Where the board does not report its highest power limit. Otherwise twice that limit, as instants exceed it."""

_AVERAGE, _INSTANT = 185, 186
"""NVML_FI_DEV_POWER_AVERAGE and NVML_FI_DEV_POWER_INSTANT (nvml.h); averaged over 1 s and not."""

_SCOPE_GPU, _SCOPE_MODULE = 0, 1
_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}
"""Member of a field's value by NVML_VALUE_TYPE_..."""

_PASCAL, _VOLTA, _TURING, _AMPERE, _ADA, _HOPPER = 4, 5, 6, 7, 8, 9
"""NVML_DEVICE_ARCH_... of nvml.h; GA100 is Ampere with compute capability 8.0."""

_SUPERCHIP = r"(?i)\bG[HB]\d{2,3}\b.*|\bGrace\b"
_JETSON = r"\bnvgpu\b|\b(Orin|Thor|Xavier)\b"

_CHANGE_PAUSE_S = 0.025
_CHANGE_TRIES = 40
"""Counters advance every 20 to 100 ms; one that stands still for a second at the watts of an idle board is frozen."""


class Timing(Struct, frozen=True):
    """Window and update period of one kind of reading, in seconds; `None` where nobody has measured them."""

    window_s: float | None = None
    update_s: float | None = None


class Gpu(Struct, frozen=True, kw_only=True):
    """What says how a GPU's readings are made."""

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

    def __init__(
        self, nvml: Nvml, info: SourceInfo, readings: tuple[_Reading, ...], host: Host, power: RuntimePower | None
    ) -> None:
        self._nvml = nvml
        self._readings = readings
        self._host, self._power = host, power
        self.info = info

    @property
    def pause_s(self) -> float:
        """See PacedSource."""
        return self.info.period_s if self._host.uses_gpu() else IDLE_PERIOD_S

    def read(self) -> Values:
        """Watts or joules, in the order of the channels. Raises SourceLost when the GPU is gone or answers nothing."""
        asleep = None if self._power is None else self._power.why_not()
        if asleep is not None:
            return (asleep,) * len(self._readings)
        return require_any(tuple(_plausible(self._nvml.ask(reading.ask), reading) for reading in self._readings))

    def close(self) -> None:
        """The library stays open for the other sources; it goes with the process."""


def power_probe(
    host: Host,
    *,
    connect: Callable[[], Nvml | Unavailable] = Nvml.open,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Source | UnavailableSource]:
    """The energy counter and the power of each GPU, as far as they give plausible readings and the counter advances."""
    nvml = _opened(host, connect, "power.gpu")
    if isinstance(nvml, UnavailableSource):
        yield nvml
        return
    for index in range(len(nvml.handles)):
        try:
            yield from list(_gpu_sources(nvml, index, host, pause))
        except SourceLost as lost:
            yield UnavailableSource(name=f"power.gpu.{index}", missing=lost.missing, retry=True)


def _gpu_sources(
    nvml: Nvml, index: int, host: Host, pause: Callable[[float], None]
) -> Iterator[Source | UnavailableSource]:
    gpu = _describe(nvml, index)
    counter = _counter(nvml, index)
    advancing = _advance(nvml, counter, pause)
    absent: list[UnavailableSource] = []
    powers: list[_Reading] = []
    for reading in _powers(nvml, index, gpu):
        value = _plausible(nvml.ask(reading.ask), reading)
        if isinstance(value, Unavailable):
            absent.append(UnavailableSource(name=reading.channel.name, missing=value))
        else:
            powers.append(reading)
    if not any(_covers_gpu(reading) for reading in powers):
        usage = _usage(nvml, index, gpu)
        value = _plausible(nvml.ask(usage.ask), usage)
        if not isinstance(value, Unavailable):
            powers.insert(0, usage)
    if advancing is not None and not powers:
        yield UnavailableSource(name=f"power.gpu.{index}", missing=_nothing(gpu, advancing))
        return
    power = _runtime_power(nvml, index, host)
    if advancing is None:
        yield NvmlPower(nvml, _info(gpu, f"energy.gpu.{index}", [counter], adds_up=True), (counter,), host, power)
    else:
        yield UnavailableSource(name=f"energy.gpu.{index}", missing=advancing)
    if powers:
        info = _info(gpu, f"power.gpu.{index}", powers, adds_up=advancing is not None)
        yield NvmlPower(nvml, info, tuple(powers), host, power)
    yield from absent


def _info(gpu: Gpu, name: str, readings: list[_Reading], *, adds_up: bool) -> SourceInfo:
    """Only one of the readings of a GPU may be added to those of others, or the board would count twice."""
    known: dict[str, PowerProperties] = {}
    for reading in readings:
        is_first = reading is readings[0] and _covers_gpu(reading)
        known[reading.channel.name] = replace(
            reading.known,
            total=is_first,
            adds_up_as="gpu" if is_first and adds_up else "",
            device=name.partition(".")[2] if reading.channel.scope == "gpu_board" else "",
        )
    return SourceInfo(
        name=name,
        driver="nvml",
        path=gpu.name,
        kind="energy" if readings[0].channel.unit == "J" else "power",
        period_s=_PERIOD_S,
        channels=tuple(reading.channel for reading in readings),
        properties=to_properties(known),
    )


def _powers(nvml: Nvml, index: int, gpu: Gpu) -> Iterator[_Reading]:
    name, p_max_w = f"power.gpu.{index}", _p_max_w(nvml, index)
    yield _power(f"{name}.instant", _field(nvml, index, _INSTANT, _SCOPE_GPU), gpu.instant(), p_max_w)
    yield _power(f"{name}.average", _field(nvml, index, _AVERAGE, _SCOPE_GPU), Timing(1.0, 0.100), p_max_w)
    if re.search(_SUPERCHIP, gpu.name):
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


def _advance(nvml: Nvml, counter: _Reading, pause: Callable[[float], None]) -> Unavailable | None:
    """Why the counter cannot be used, `None` once it has advanced."""
    first = nvml.ask(counter.ask)
    if isinstance(first, Unavailable):
        return first
    for _ in range(_CHANGE_TRIES):
        pause(_CHANGE_PAUSE_S)
        value = nvml.ask(counter.ask)
        if isinstance(value, Unavailable):
            return value
        if value > first:
            return None
    return Unavailable(f"the energy counter stands still at {first:.3f} J", "update the NVIDIA driver")


def _plausible(value: float | Unavailable, reading: _Reading) -> float | Unavailable:
    if isinstance(value, Unavailable) or reading.channel.unit == "J":
        return value
    p_max_w = reading.known.p_max_w or _P_MAX_W
    return value if 0 < value <= p_max_w else Unavailable(f"{value:.1f} W is not the power of a GPU that answers")


def _nothing(gpu: Gpu, counter: Unavailable) -> Unavailable:
    if re.search(_JETSON, gpu.name):
        return Unavailable(
            f"{gpu.name}: NVML gives no power on a Jetson",
            "the board's own sensors give it: see power.jetson in edgetop doctor",
        )
    return Unavailable(f"{gpu.name} gives neither energy nor power: {counter.reason}")


def _describe(nvml: Nvml, index: int) -> Gpu:
    library, handle = nvml.library, nvml.handles[index]
    architecture = nvml.ask(lambda: library.nvmlDeviceGetArchitecture(handle))
    major = nvml.ask(lambda: library.nvmlDeviceGetCudaComputeCapability(handle)[0])
    minor = nvml.ask(lambda: library.nvmlDeviceGetCudaComputeCapability(handle)[1])
    driver = re.match(r"\d+", _text(nvml, library.nvmlSystemGetDriverVersion))
    name = _text(nvml, lambda: library.nvmlDeviceGetName(handle)) or f"GPU {index}"
    return Gpu(
        name=name,
        architecture=None if isinstance(architecture, Unavailable) else int(architecture),
        capability=None
        if isinstance(major, Unavailable) or isinstance(minor, Unavailable)
        else (int(major), int(minor)),
        driver=None if driver is None else int(driver[0]),
    )


def _text(nvml: Nvml, query: Callable[[], str | bytes]) -> str:
    try:
        answer = query()
    except nvml.library.NVMLError:
        return ""
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return "".join(c for c in text if c.isprintable())[:80]


def _p_max_w(nvml: Nvml, index: int) -> float:
    library, handle = nvml.library, nvml.handles[index]
    limit_mw = nvml.ask(lambda: library.nvmlDeviceGetPowerManagementLimitConstraints(handle)[1])
    return _P_MAX_W if isinstance(limit_mw, Unavailable) or limit_mw <= 0 else 2 * limit_mw / 1000


def _covers_gpu(reading: _Reading) -> bool:
    return reading.channel.scope == "gpu_board"


class GpuProcesses:
    """The processes on all GPUs; the library is opened when they are asked for, and a GPU is awake."""

    def __init__(self, host: Host, connect: Callable[[], Nvml | Unavailable] = Nvml.open) -> None:
        self._host = host
        self._connect = connect
        self._nvml: Nvml | None = None
        self._power: list[RuntimePower | None] = []

    def bytes_by_pid(self) -> dict[int, int]:
        """Bytes of GPU memory by process; a process that NVML does not report the memory of is left out."""
        if self._nvml is None:
            nvml = _opened(self._host, self._connect, "gpu")
            if isinstance(nvml, UnavailableSource):
                return {}
            self._nvml = nvml
            self._power = [_runtime_power(nvml, index, self._host) for index in range(len(nvml.handles))]
        nvml = self._nvml
        held: dict[int, int] = {}
        for handle, power in zip(nvml.handles, self._power, strict=True):
            if power is not None and power.why_not() is not None:
                continue
            try:
                processes = nvml.library.nvmlDeviceGetComputeRunningProcesses(handle)
            except nvml.library.NVMLError:
                continue
            for process in processes:
                if process.usedGpuMemory is not None:
                    held[int(process.pid)] = held.get(int(process.pid), 0) + int(process.usedGpuMemory)
        return held
