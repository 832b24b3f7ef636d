"""NVIDIA GPUs, against a binding that answers as it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from edgetop.core.sources import Unavailable
from edgetop.telemetry import nvidia
from edgetop.telemetry.host import Host
from edgetop.telemetry.nvidia import Nvml, probe
from edgetop.telemetry.source import ASLEEP, LEFT_ALONE, PacedSource, SourceLost
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
from tests.support.fake_sysfs import absences, below, no_pause, plant, readings, sources

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


PCI = "/sys/bus/pci/devices/0000:01:00.0"


def optimus(status: str, control: str = "auto") -> dict[str, str | int]:
    """A laptop's GPU on the bus."""
    return below(
        PCI, {"vendor": "0x10de", "class": "0x030200", "power/runtime_status": status, "power/control": control}
    )


def never() -> Unavailable:
    raise AssertionError("NVML was opened, which wakes the GPU")


@pytest.mark.parametrize("find", [nvidia.probe, nvidia.power_probe])
def test_a_sleeping_gpu_is_not_woken_to_be_looked_at(tmp_path: Path, find: Callable[..., Iterator[Any]]) -> None:
    (absent,) = find(plant(tmp_path, optimus("suspended")), connect=never)
    assert absent.missing == ASLEEP
    assert absent.retry


@pytest.mark.parametrize("find", [nvidia.probe, nvidia.power_probe])
def test_an_idle_gpu_is_left_alone_so_that_it_can_sleep(tmp_path: Path, find: Callable[..., Iterator[Any]]) -> None:
    host = replace(plant(tmp_path, optimus("active")), uses_gpu=lambda: False)
    (absent,) = find(host, connect=never)
    assert absent.missing == LEFT_ALONE
    assert absent.retry


@pytest.mark.parametrize("find", [nvidia.probe, nvidia.power_probe])
def test_a_driver_that_comes_late_is_looked_for_again(tmp_path: Path, find: Callable[..., Iterator[Any]]) -> None:
    not_loaded = Unavailable("the NVIDIA driver does not answer: driver not loaded", "nvidia-smi says more")
    (absent,) = find(Host(sysroot=tmp_path), connect=lambda: not_loaded)
    assert absent.retry
    (absent,) = find(plant(tmp_path / "a", optimus("active", "on")), connect=lambda: nvidia.NO_LIBRARY)
    assert absent.retry, "its library may be installed while edgetop runs"
    (absent,) = find(Host(sysroot=tmp_path), connect=lambda: nvidia.NO_LIBRARY)
    assert not absent.retry, "a machine without such a GPU is not asked again and again"


def test_the_processes_of_a_gpu_that_sleeps_are_not_asked_for(tmp_path: Path) -> None:
    asked = 0

    def running(_handle: object) -> list[SimpleNamespace]:
        nonlocal asked
        asked += 1
        return [SimpleNamespace(pid=20, usedGpuMemory=100)]

    assert nvidia.GpuProcesses(plant(tmp_path, optimus("suspended")), never).bytes_by_pid() == {}
    library = FakeLibrary({**DESKTOP, "nvmlDeviceGetComputeRunningProcesses": running})
    processes = nvidia.GpuProcesses(plant(tmp_path, optimus("active", "on")), lambda: Nvml(library))
    assert processes.bytes_by_pid() == {20: 100}
    plant(tmp_path, optimus("suspended", "on"))
    assert processes.bytes_by_pid() == {}
    assert asked == 1


MIG_MEMORY = {"whole": 40, "first": 10, "second": 5}
"""GiB of an A100 in MIG mode and of two of its instances."""


@pytest.mark.parametrize(("visible", "instance"), [("", "first"), ("MIG-b2", "second"), ("MIG-other", "first")])
def test_of_a_parted_gpu_the_own_instances_memory_counts(
    visible: str, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    instances = {0: "first", 1: "second"}

    def instance_at(_handle: object, index: int) -> object:
        return instances[index] if index in instances else NVMLError()

    answers: Answers = {
        **DESKTOP,
        "nvmlDeviceGetHandleByIndex": "whole",
        "nvmlDeviceGetMigMode": [1, 1],
        "nvmlDeviceGetMaxMigDeviceCount": 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": instance_at,
        "nvmlDeviceGetUUID": lambda handle: {"first": b"MIG-a1", "second": "MIG-b2c"}[handle],
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=GIB, total=MIG_MEMORY[handle] * GIB),
        "nvmlDeviceGetUtilizationRates": NotSupportedError(),
    }
    source = sources(probe(Host(), connect=connect_to(answers)))["gpu.0"]
    assert readings(source)["gpu.0.memory_total"] == MIG_MEMORY[instance] * GIB


@pytest.mark.parametrize("told", [NotSupportedError(), SimpleNamespace(used=5 * GIB, total=121 * GIB)])
def test_memory_that_a_gpu_shares_with_the_machine_is_not_counted_again(told: object) -> None:
    answers: Answers = {**DESKTOP, "nvmlDeviceGetName": "NVIDIA GB10", "nvmlDeviceGetMemoryInfo": told}
    source = sources(probe(Host(), connect=connect_to(answers)))["gpu.0"]
    assert not [name for name in readings(source) if "memory" in name]


def test_a_gpu_that_falls_asleep_is_asleep_and_not_asked(tmp_path: Path) -> None:
    host = plant(tmp_path, optimus("active", "on"))
    library = FakeLibrary(dict(DESKTOP))
    source = sources(probe(host, connect=lambda: Nvml(library)))["gpu.0"]
    assert readings(source) == READ
    plant(tmp_path, optimus("suspended", "on"))
    library.answers.clear()
    assert set(readings(source).values()) == {ASLEEP}


def test_power_is_read_once_a_second_while_no_gpu_computes_for_us(tmp_path: Path) -> None:
    computing = [False]
    host = replace(plant(tmp_path, optimus("active", "on")), uses_gpu=lambda: computing[0])
    answers: Answers = {
        **DESKTOP,
        "nvmlDeviceGetFieldValues": NotSupportedError(), "nvmlDeviceGetPowerUsage": 60_000,
        "nvmlDeviceGetArchitecture": NotSupportedError(), "nvmlSystemGetDriverVersion": "550",
        "nvmlDeviceGetCudaComputeCapability": NotSupportedError(),
        "nvmlDeviceGetPowerManagementLimitConstraints": NotSupportedError(),
    }  # fmt: skip
    ticks = count(1000, 5)
    answers["nvmlDeviceGetTotalEnergyConsumption"] = lambda _handle: next(ticks)
    found = sources(nvidia.power_probe(host, connect=connect_to(answers), pause=no_pause))
    assert list(found) == ["energy.gpu.0", "power.gpu.0"]
    for source in found.values():
        assert isinstance(source, PacedSource)
        assert source.pause_s == 1.0
    computing[0] = True
    assert {source.pause_s for source in found.values() if isinstance(source, PacedSource)} == {0.05}
