"""NVML as a library that answers as it is told."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from edgetop.core.sources import Unavailable
from edgetop.telemetry.nvidia import Nvml

GIB = 2**30


class NVMLError(Exception):
    pass


class NotSupportedError(NVMLError):
    def __str__(self) -> str:
        return "Not Supported"


class GpuIsLostError(NVMLError):
    pass


class FunctionNotFoundError(NVMLError):
    pass


Answers = dict[str, object]

DESKTOP: Answers = {
    "nvmlInit": None,
    "nvmlDeviceGetCount": 1,
    "nvmlDeviceGetHandleByIndex": object(),
    "nvmlDeviceGetName": b"NVIDIA GeForce RTX 4060",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 * GIB, total=8 * GIB),
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=61),
    "nvmlDeviceGetClockInfo": 2460,
    "nvmlDeviceGetTemperature": 63,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1,
    "nvmlDeviceGetMigMode": NotSupportedError(),
}


class FakeLibrary:
    """The binding; an answer that is an exception is raised, one that can be called is asked with the arguments."""

    NVMLError = NVMLError
    NVMLError_GpuIsLost = GpuIsLostError
    NVMLError_FunctionNotFound = FunctionNotFoundError
    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def __getattr__(self, name: str) -> Callable[..., object]:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: object) -> object:
            answer = self.answers[name]
            if callable(answer):
                answer = answer(*arguments)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def connect_to(answers: Answers) -> Callable[[], Nvml | Unavailable]:
    return lambda: Nvml(FakeLibrary(answers))
