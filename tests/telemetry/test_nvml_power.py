from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from edgetop.core.sources import Unavailable, of_channel
from edgetop.telemetry.host import Host
from edgetop.telemetry.nvidia import Gpu, Nvml, Timing, power_probe
from edgetop.telemetry.source import Source, SourceLost
from tests.support.fake_sysfs import absences, no_pause, readings, sources

NOT_SUPPORTED = 3
PASCAL, VOLTA, TURING, AMPERE, ADA, HOPPER, BLACKWELL = 4, 5, 6, 7, 8, 9, 10


class NVMLError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__({NOT_SUPPORTED: "Not Supported", 13: "Function Not Found"}.get(code, f"error {code}"))
        self.code = code


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801, N818 - the library's own name
    pass


class FakeLibrary:
    """pynvml with one GPU. A query whose answer is an exception raises it; a field's answer may be an error code."""

    NVML_SUCCESS = 0
    NVMLError = NVMLError
    NVMLError_GpuIsLost = NVMLError_GpuIsLost

    def __init__(self) -> None:
        self.name: str | NVMLError = "NVIDIA GeForce RTX 4090"
        self.architecture: int | NVMLError = ADA
        self.capability = (8, 9)
        self.driver = "550.54.15"
        self.energy_mj: int | NVMLError = 1_000_000
        self.energy_step_mj = 3000
        self.usage_mw: int | NVMLError = 61_000
        self.fields: dict[tuple[int, int], int | NVMLError] = {(186, 0): 60_000, (185, 0): 59_000}
        self.all_fields: NVMLError | None = None
        self.limit_mw: int | NVMLError = 450_000

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, _: int) -> Any:  # noqa: N802
        return answer(self.name)

    def nvmlDeviceGetArchitecture(self, _: int) -> Any:  # noqa: N802
        return answer(self.architecture)

    def nvmlDeviceGetCudaComputeCapability(self, _: int) -> tuple[int, int]:  # noqa: N802
        return self.capability

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self.driver

    def nvmlDeviceGetPowerManagementLimitConstraints(self, _: int) -> list[Any]:  # noqa: N802
        return [0, answer(self.limit_mw)]

    def nvmlDeviceGetTotalEnergyConsumption(self, _: int) -> Any:  # noqa: N802
        value = answer(self.energy_mj)
        self.energy_mj = value + self.energy_step_mj
        return value

    def nvmlDeviceGetPowerUsage(self, _: int) -> Any:  # noqa: N802
        return answer(self.usage_mw)

    def nvmlDeviceGetFieldValues(self, _: int, asked: list[tuple[int, int]]) -> list[SimpleNamespace]:  # noqa: N802
        if self.all_fields is not None:
            raise self.all_fields
        values = []
        for each in asked:
            value = self.fields.get(each, NVMLError(NOT_SUPPORTED))
            failed = isinstance(value, NVMLError)
            # What stands in a field that failed is left over from before.
            number = SimpleNamespace(uiVal=123_456 if failed else value)
            code = value.code if isinstance(value, NVMLError) else 0
            values.append(SimpleNamespace(nvmlReturn=code, valueType=1, value=number))
        return values


def answer(value: object) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def find(
    library: FakeLibrary, pause: Callable[[float], None] = no_pause
) -> tuple[dict[str, Source], dict[str, Unavailable]]:
    each = list(power_probe(Host(), connect=lambda: Nvml(cast("ModuleType", library)), pause=pause))
    return sources(each), absences(each)


def test_counter_instant_and_average_power_are_offered_in_joules_and_watts() -> None:
    found, absent = find(FakeLibrary())
    assert absent == {}
    assert readings(found["power.gpu.0"]) == {"power.gpu.0.instant": 60.0, "power.gpu.0.average": 59.0}
    first, second = (readings(found["energy.gpu.0"])["energy.gpu.0"] for _ in range(2))
    assert isinstance(first, float)
    assert second == pytest.approx(first + 3.0)
    assert (found["energy.gpu.0"].info.kind, found["power.gpu.0"].info.kind) == ("energy", "power")


def test_of_all_readings_of_a_gpu_only_one_may_be_added_to_other_gpus() -> None:
    library = FakeLibrary()
    library.name = "NVIDIA GH200 480GB"
    library.fields[186, 1] = 90_000
    for energy_mj in (1_000_000, NVMLError(NOT_SUPPORTED)):
        library.energy_mj = energy_mj
        known = [
            of_channel(source.info, channel.name)
            for source in find(library)[0].values()
            for channel in source.info.channels
        ]
        assert [each.adds_up_as for each in known].count("gpu") == 1


def test_windows_are_those_of_the_architecture_and_limits_those_of_the_board() -> None:
    info = find(FakeLibrary())[0]["power.gpu.0"].info
    instant, average = of_channel(info, "power.gpu.0.instant"), of_channel(info, "power.gpu.0.average")
    assert (instant.window_s, instant.update_s, instant.p_max_w) == (0.1, 0.1, 900.0)
    assert (average.window_s, average.update_s) == (1.0, 0.1)


@pytest.mark.parametrize(
    ("architecture", "capability", "driver", "instant", "usage"),
    [
        (PASCAL, (6, 1), 535, Timing(0.010, 0.020), Timing(0.010, 0.020)),
        (VOLTA, (7, 0), 535, Timing(0.010, 0.020), Timing(0.010, 0.020)),
        (TURING, (7, 5), 535, Timing(0.1, 0.1), Timing(0.1, 0.1)),
        (AMPERE, (8, 0), 535, Timing(0.025, 0.1), Timing(0.025, 0.1)),
        (AMPERE, (8, 6), 535, Timing(0.1, 0.1), Timing(1.0, 0.1)),
        (AMPERE, (8, 6), 530, Timing(0.1, 0.1), Timing(0.1, 0.1)),
        (ADA, (8, 9), 525, Timing(0.1, 0.1), Timing(1.0, 0.1)),
        (HOPPER, (9, 0), 550, Timing(0.025, 0.1), Timing(1.0, 0.1)),
        (BLACKWELL, (12, 0), 570, Timing(), Timing()),
        (None, None, None, Timing(), Timing()),
    ],
)
def test_timing_by_architecture_and_driver(
    architecture: int | None, capability: tuple[int, int] | None, driver: int | None, instant: Timing, usage: Timing
) -> None:
    gpu = Gpu(name="", architecture=architecture, capability=capability, driver=driver)
    assert (gpu.instant(), gpu.usage()) == (instant, usage)


def test_a_field_that_failed_is_absent_and_what_its_value_holds_is_not_read() -> None:
    library = FakeLibrary()
    library.fields[185, 0] = NVMLError(NOT_SUPPORTED)
    found, absent = find(library)
    assert readings(found["power.gpu.0"]) == {"power.gpu.0.instant": 60.0}
    assert absent == {"power.gpu.0.average": Unavailable("NVML: not supported")}


@pytest.mark.parametrize("code", [NOT_SUPPORTED, 13])
def test_power_usage_serves_where_fields_do_not(code: int) -> None:
    library = FakeLibrary()
    library.all_fields = NVMLError(code)
    found, _ = find(library)
    assert readings(found["power.gpu.0"]) == {"power.gpu.0.usage": 61.0}
    assert of_channel(found["power.gpu.0"].info, "power.gpu.0.usage").window_s == 1.0


def test_a_jetson_that_initialises_and_supports_nothing_has_no_power_and_says_where_it_is() -> None:
    library = FakeLibrary()
    library.name = "Orin (nvgpu)"
    library.energy_mj = library.usage_mw = library.limit_mw = NVMLError(NOT_SUPPORTED)
    library.fields = {}
    found, absent = find(library)
    assert found == {}
    assert absent["power.gpu.0"].reason == "Orin (nvgpu): NVML gives no power on a Jetson"
    assert "power.jetson" in absent["power.gpu.0"].hint


def test_a_counter_that_stands_still_is_absent_and_power_is_offered() -> None:
    library = FakeLibrary()
    library.energy_step_mj = 0
    found, absent = find(library)
    assert list(found) == ["power.gpu.0"]
    assert "stands still" in absent["energy.gpu.0"].reason


def test_a_counter_that_steps_late_is_waited_for() -> None:
    library = FakeLibrary()
    library.energy_step_mj = 0
    waited = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if sum(waited) > 0.09 and isinstance(library.energy_mj, int):
            library.energy_mj += 6000

    assert "energy.gpu.0" in find(library, pause)[0]


@pytest.mark.parametrize("power_mw", [0, 4_000_000])
def test_a_power_that_cannot_be_is_no_reading(power_mw: int) -> None:
    library = FakeLibrary()
    library.usage_mw = power_mw
    library.fields = {(186, 0): power_mw, (185, 0): power_mw}
    assert list(find(library)[0]) == ["energy.gpu.0"]


def test_the_module_of_a_superchip_is_a_meter_apart_from_its_gpu() -> None:
    library = FakeLibrary()
    library.name, library.fields[186, 1] = "NVIDIA GH200 480GB", 90_000
    source = find(library)[0]["power.gpu.0"]
    assert readings(source)["power.gpu.0.module"] == 90.0
    assert {channel.name: channel.scope for channel in source.info.channels}["power.gpu.0.module"] == "module"
    known = of_channel(source.info, "power.gpu.0.module")
    assert (known.total, known.adds_up_as) == (False, "")


def test_the_module_scope_of_an_ordinary_gpu_is_not_asked_for() -> None:
    library = FakeLibrary()
    library.fields[186, 1] = 60_000
    assert len(find(library)[0]["power.gpu.0"].info.channels) == 2


def test_a_query_that_begins_to_fail_is_missing_and_a_gpu_that_answers_none_is_lost() -> None:
    library = FakeLibrary()
    source = find(library)[0]["power.gpu.0"]
    library.fields[186, 0] = NVMLError(999)
    assert readings(source) == {"power.gpu.0.instant": Unavailable("NVML: error 999"), "power.gpu.0.average": 59.0}
    library.fields[185, 0] = NVMLError(999)
    with pytest.raises(SourceLost, match="error 999"):
        source.read()


def test_a_gpu_that_falls_off_the_bus_is_lost() -> None:
    library = FakeLibrary()
    source = find(library)[0]["energy.gpu.0"]
    library.energy_mj = NVMLError_GpuIsLost(15)
    with pytest.raises(SourceLost, match="gone from the bus"):
        source.read()
    found, absent = find(library)
    assert found == {}
    assert "gone from the bus" in absent["power.gpu.0"].reason


def test_without_a_driver_the_reason_is_the_drivers() -> None:
    each = list(power_probe(Host(), connect=lambda: Unavailable("there is no driver")))
    assert absences(each) == {"power.gpu": Unavailable("there is no driver")}


PROBE_AND_READ = """
import json, sys
from edgetop.core.sources import Unavailable as Missing
from edgetop.telemetry.nvidia import power_probe as probe
from edgetop.telemetry.source import UnavailableSource as Absent, SourceLost
from edgetop.telemetry.host import Host

said = {"absent": {}, "read": {}, "lost": {}}
for each in probe(Host()):
    if isinstance(each, Absent):
        said["absent"][each.name] = each.missing.reason
        continue
    names = [channel.name for channel in each.info.channels]
    try:
        values = [value.reason if isinstance(value, Missing) else value for value in each.read()]
        said["read"].update(zip(names, values))
    except SourceLost as lost:
        said["lost"][each.info.name] = lost.missing.reason
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a compiled libnvidia-ml.so.1: one of today, one without field values, and one that is no library."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    folders = {}
    for kind, options in {"whole": [], "old": ["-DNO_FIELD_VALUES"]}.items():
        folders[kind] = tmp_path_factory.mktemp(kind)
        target = folders[kind] / "libnvidia-ml.so.1"
        source = Path(__file__).with_name("fake_nvml.c")
        subprocess.run([compiler, "-shared", "-fPIC", *options, "-o", target, source], check=True)
    folders["damaged"] = tmp_path_factory.mktemp("damaged")
    (folders["damaged"] / "libnvidia-ml.so.1").write_bytes(b"\x7fELF and nothing more")
    return folders


def probe_in_a_process(folder: Path, **environment: str) -> dict[str, dict[str, Any]]:
    """What the probe finds with the library in `folder`: the loader reads its path only when a process begins."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE_AND_READ],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return cast("dict[str, dict[str, Any]]", json.loads(done.stdout))


def test_a_real_library_of_a_desktop_gives_energy_and_power(libraries: dict[str, Path]) -> None:
    said = probe_in_a_process(libraries["whole"])
    assert said["absent"] == said["lost"] == {}
    assert said["read"]["power.gpu.0.instant"] == 60.0
    assert said["read"]["power.gpu.0.average"] == 59.0
    assert said["read"]["energy.gpu.0"] % 6 == pytest.approx(5000 % 6)


def test_a_real_library_of_a_jetson_gives_reasons_and_no_zeros(libraries: dict[str, Path]) -> None:
    said = probe_in_a_process(libraries["whole"], FAKE_NVML_MODE="jetson")
    assert said["read"] == {}
    assert said["absent"] == {"power.gpu.0": "Orin (nvgpu): NVML gives no power on a Jetson"}


def test_a_real_library_without_field_values_gives_power_usage(libraries: dict[str, Path]) -> None:
    said = probe_in_a_process(libraries["old"])
    assert said["read"]["power.gpu.0.usage"] == 61.0
    assert "function not found" in said["absent"]["power.gpu.0.instant"]


def test_a_real_counter_that_is_frozen_is_absent(libraries: dict[str, Path]) -> None:
    said = probe_in_a_process(libraries["whole"], FAKE_NVML_MODE="frozen")
    assert "stands still" in said["absent"]["energy.gpu.0"]
    assert list(said["read"]) == ["power.gpu.0.instant", "power.gpu.0.average"]


def test_a_gpu_lost_after_the_probe_is_lost_in_the_reading(libraries: dict[str, Path]) -> None:
    said = probe_in_a_process(libraries["whole"], FAKE_NVML_MODE="lost", FAKE_NVML_READS="2")
    assert list(said["read"]) == ["energy.gpu.0"]
    assert "gone from the bus" in said["lost"]["power.gpu.0"]


def test_a_library_that_does_not_initialise_is_a_driver_that_does_not_answer(libraries: dict[str, Path]) -> None:
    said = probe_in_a_process(libraries["whole"], FAKE_NVML_MODE="no-driver")
    assert said["read"] == {}
    assert "driver does not answer" in said["absent"]["power.gpu"]


def test_a_damaged_library_is_a_missing_driver(libraries: dict[str, Path]) -> None:
    said = probe_in_a_process(libraries["damaged"])
    assert (said["read"], list(said["absent"])) == ({}, ["power.gpu"])
