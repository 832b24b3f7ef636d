"""NVIDIA GPUs, against a binding that answers as it is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgetop.core.sources import Unavailable
from edgetop.telemetry import nvidia
from edgetop.telemetry.host import Host
from edgetop.telemetry.nvidia import probe
from edgetop.telemetry.source import SourceLost
from tests.support.fake_nvml import (
    DESKTOP,
    GIB,
    Answers,
    FakeLibrary,
    FunctionNotFoundError,
    GpuIsLostError,
    NotSupportedError,
    NVMLError,
    connect_to,
)
from tests.support.fake_sysfs import absences, readings, sources

READ: dict[str, float] = {
    "gpu.0.memory_used": 3 * GIB,
    "gpu.0.memory_total": 8 * GIB,
    "gpu.0.use": 97,
    "gpu.0.clock": 2.46e9,
    "gpu.0.temperature": 63,
    "throttle.gpu_0_power_limit": 0,
    "throttle.gpu_0_heat": 0,
    "throttle.gpu_0_hardware_slowdown": 0,
}
FILLS = {
    "nvmlDeviceGetMemoryInfo": {"gpu.0.memory_used", "gpu.0.memory_total"},
    "nvmlDeviceGetUtilizationRates": {"gpu.0.use"},
    "nvmlDeviceGetClockInfo": {"gpu.0.clock"},
    "nvmlDeviceGetTemperature": {"gpu.0.temperature"},
    "nvmlDeviceGetCurrentClocksEventReasons": {name for name in READ if name.startswith("throttle.")},
}


def test_a_gpu_tells_everything_in_the_units_of_its_channels() -> None:
    source = sources(probe(Host(), connect=connect_to(DESKTOP)))["gpu.0"]
    assert readings(source) == READ
    assert source.info.path == "NVIDIA GeForce RTX 4060"
    assert source.blocking


@pytest.mark.parametrize("query", FILLS)
def test_what_one_query_does_not_support_is_missing_and_not_zero_and_the_others_are_there(query: str) -> None:
    source = sources(probe(Host(), connect=connect_to({**DESKTOP, query: NotSupportedError()})))["gpu.0"]
    unsupported = Unavailable("NVML: not supported")
    assert readings(source) == {name: unsupported if name in FILLS[query] else value for name, value in READ.items()}


def test_a_gpu_that_answers_no_query_is_absent_as_on_a_jetson() -> None:
    orin: Answers = {**DESKTOP, **dict.fromkeys(FILLS, NotSupportedError()), "nvmlDeviceGetName": "Orin (nvgpu)"}
    found = list(probe(Host(), connect=connect_to(orin)))
    assert absences(found) == {"gpu.0": Unavailable("NVML: not supported")}


@pytest.mark.parametrize(
    ("bits", "held"),
    [
        (0x1 | 0x2 | 0x10 | 0x100, set()),
        (0x4, {"power_limit"}),
        (0x80 | 0x8, {"power_limit", "hardware_slowdown"}),
        (0x20, {"heat"}),
        (0x40, {"heat"}),
    ],
)
def test_only_what_holds_the_gpu_back_counts_as_throttling(bits: int, held: set[str]) -> None:
    answers: Answers = {**DESKTOP, "nvmlDeviceGetCurrentClocksEventReasons": bits}
    values = readings(sources(probe(Host(), connect=connect_to(answers)))["gpu.0"])
    assert {name for name, value in values.items() if name.startswith("throttle.") and value == 1.0} == {
        f"throttle.gpu_0_{name}" for name in held
    }


def test_an_older_driver_is_asked_for_throttling_under_the_older_name() -> None:
    answers: Answers = {
        **DESKTOP,
        "nvmlDeviceGetCurrentClocksEventReasons": FunctionNotFoundError(),
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x40,
    }
    assert readings(sources(probe(Host(), connect=connect_to(answers)))["gpu.0"])["throttle.gpu_0_heat"] == 1.0


def test_a_gpu_that_falls_off_the_bus_is_lost_and_can_come_back() -> None:
    answers = dict(DESKTOP)
    source = sources(probe(Host(), connect=connect_to(answers)))["gpu.0"]
    answers["nvmlDeviceGetMemoryInfo"] = GpuIsLostError()
    with pytest.raises(SourceLost, match="gone from the bus"):
        source.read()
    answers["nvmlDeviceGetMemoryInfo"] = DESKTOP["nvmlDeviceGetMemoryInfo"]
    assert readings(source) == READ
    answers.update(dict.fromkeys(FILLS, NVMLError("Unknown Error")))
    with pytest.raises(SourceLost, match="NVML: unknown error"):
        source.read()


def test_one_lost_gpu_does_not_hide_the_other_ones() -> None:
    def handle(index: int) -> object:
        return NVMLError("Insufficient Permissions") if index == 0 else index

    def memory(index: int) -> object:
        return GpuIsLostError() if index == 1 else SimpleNamespace(used=index * GIB, total=8 * GIB)

    answers: Answers = {
        **DESKTOP,
        "nvmlDeviceGetCount": 3,
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetMemoryInfo": memory,
    }
    found = list(probe(Host(), connect=connect_to(answers)))
    assert absences(found) == {
        "gpu.0": Unavailable("the GPU has gone from the bus", "restart the machine"),
        "gpu.2": Unavailable("NVML: insufficient permissions"),
    }
    assert readings(sources(found)["gpu.1"])["gpu.1.memory_used"] == 2 * GIB


def test_without_a_driver_the_binding_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "LIBRARY", "libnvidia-ml-of-nobody.so.1")
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)  # importing it would fail
    assert absences(probe(Host())) == {"gpu": Unavailable("there is no NVIDIA driver library on this machine")}


def test_a_driver_that_does_not_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary({**DESKTOP, "nvmlInit": NVMLError("Driver Not Loaded")})
    monkeypatch.setattr(nvidia, "LIBRARY", None)  # the program itself, which can always be loaded
    monkeypatch.setitem(__import__("sys").modules, "pynvml", library)
    missing = absences(probe(Host()))["gpu"]
    assert missing == Unavailable("the NVIDIA driver does not answer: driver not loaded", "nvidia-smi says more")


def test_the_real_binding_has_every_name_that_is_used() -> None:
    library = pytest.importorskip("pynvml")
    used = [*FILLS, *DESKTOP, "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlShutdown"]
    constants = [
        "NVMLError",
        "NVMLError_GpuIsLost",
        "NVMLError_FunctionNotFound",
        "NVML_CLOCK_SM",
        "NVML_TEMPERATURE_GPU",
    ]
    assert [name for name in (*used, *constants) if not hasattr(library, name)] == []
