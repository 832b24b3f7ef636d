"""NVIDIA GPUs through NVML: memory, use, clock, temperature, what holds them back.

Each query is asked by itself: on a Jetson the library initialises, lists a device and then answers most of them with
"not supported". What such a query would have told is missing, never zero.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.source import Absent, Host, Source, SourceLost, Values

PERIOD_S = 1.0
LIBRARY = "libnvidia-ml.so.1"
NO_LIBRARY = Missing("there is no NVIDIA driver library on this machine")
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
        self.unusable: list[Missing] = []
        """Why there is no handle of a GPU that NVML counts; the others close ranks."""
        for index in range(library.nvmlDeviceGetCount()):
            try:
                self.handles.append(library.nvmlDeviceGetHandleByIndex(index))
            except library.NVMLError as error:
                self.unusable.append(_missing(error))

    @classmethod
    def open(cls) -> Nvml | Missing:
        """Initialise NVML, or say why that cannot be done. The binding is imported only where there is a driver."""
        try:
            ctypes.CDLL(LIBRARY)
        except OSError:
            return NO_LIBRARY
        import pynvml  # noqa: PLC0415

        try:
            return cls(pynvml)
        except pynvml.NVMLError as error:
            return Missing(f"the NVIDIA driver does not answer: {str(error).lower()}", "nvidia-smi says more")

    def ask(self, query: Callable[[], float]) -> float | Missing:
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


class GpuGauges:
    """What one GPU does, besides power."""

    blocking = True
    """A query takes milliseconds, and seconds where it has to wake the GPU up."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        """Take a first reading. Raises SourceLost when no query is answered."""
        self._nvml = nvml
        self._queries = _queries(nvml.library, nvml.handles[index], index)
        self.info = SourceInfo(
            name=f"gpu.{index}",
            driver="nvml",
            path=_name(nvml.library, nvml.handles[index]),
            period_s=PERIOD_S,
            channels=tuple(channel for channels, _ in self._queries for channel in channels),
        )
        self.read()

    def read(self) -> Values:
        """Read all channels once. Raises SourceLost when no query is answered."""
        values = tuple(
            value for channels, query in self._queries for value in self._nvml.ask_several(len(channels), query)
        )
        missing = [value for value in values if isinstance(value, Missing)]
        if len(missing) == len(values):
            raise SourceLost(missing[0].reason, missing[0].mend)
        return values

    def close(self) -> None:
        """The library stays initialised for the other sources; it goes with the process."""


def probe(host: Host, *, connect: Callable[[], Nvml | Missing] = Nvml.open) -> Iterator[Source | Absent]:
    """The NVIDIA GPUs of this machine."""
    del host
    nvml = connect()
    if isinstance(nvml, Missing):
        yield Absent(name="gpu", missing=nvml)
        return
    for index in range(len(nvml.handles)):
        try:
            yield GpuGauges(nvml, index)
        except SourceLost as lost:
            yield Absent(name=f"gpu.{index}", missing=lost.missing)
    for number, missing in enumerate(nvml.unusable, len(nvml.handles)):
        yield Absent(name=f"gpu.{number}", missing=missing)


def _queries(library: Any, handle: Any, index: int) -> list[Query]:  # noqa: ANN401 - an untyped library
    def channel(name: str, unit: str) -> Channel:
        return Channel(name=f"gpu.{index}.{name}", unit=unit)

    def memory() -> Sequence[float]:
        info = library.nvmlDeviceGetMemoryInfo(handle)
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

    return [
        ((channel("memory_used", "B"), channel("memory_total", "B")), memory),
        ((channel("use", "%"),), use),
        ((channel("clock", "Hz"),), clock),
        ((channel("temperature", "Cel"),), temperature),
        (tuple(Channel(name=f"throttle.gpu_{index}_{name}", unit="1") for name in _SLOWDOWNS), slowdowns),
    ]


def _missing(error: Exception) -> Missing:
    return Missing(f"NVML: {str(error).lower()}")


def _name(library: Any, handle: Any) -> str:  # noqa: ANN401 - an untyped library
    try:
        name = library.nvmlDeviceGetName(handle)
    except library.NVMLError:
        return ""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
