from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgetop.core.records import DeviceInfo, machine_key
from edgetop.fit.devices import load_devices, this_machine
from edgetop.fit.machine import AVX2, REFERENCE_DIGITS_PER_S
from edgetop.fit.machine_profile import MachineProfile
from tests.fit.test_calibration import run

TABLE = load_devices()
PC = DeviceInfo(hostname="pc", cpu="Some CPU", cores_physical=8, memory_bytes=16 * 2**30)
PI = DeviceInfo(hostname="pi", model="Raspberry Pi 5 Model B Rev 1.0", cpu="4x Cortex-A76", cores_physical=4)
JETSON = DeviceInfo(
    hostname="jetson", model="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", power_mode="15W"
)
AVX = frozenset({"AVX2"})
PROFILE = MachineProfile(
    key="k", measured_at="2026-05-01T00:00:00+00:00", bandwidth_bytes_per_s={1: 20e9, 2: 35e9},
    digits_per_s=REFERENCE_DIGITS_PER_S,
)  # fmt: skip


def test_what_was_measured_is_used_and_said() -> None:
    machine = this_machine(PC, PROFILE, TABLE, features=AVX)
    assert machine.basis == "formula"
    assert "35 GB/s, measured 2026-05-01" in machine.explanation
    assert machine.cpu is not None
    fastest = machine.cpu.bandwidth(8)
    assert fastest is not None
    assert fastest.value == 35e9
    assert machine.key == machine_key(PC)


def test_an_unmeasured_machine_has_a_wide_band() -> None:
    machine = this_machine(PC, None, TABLE, features=AVX)
    assert machine.cpu is not None
    rate = machine.cpu.bandwidth(8)
    assert rate is not None
    assert rate.high > 5 * rate.low
    assert "nothing of this machine has been measured" in machine.explanation


@pytest.mark.parametrize(("speed", "expected"), [(0.5, 0.5), (2.0, 2.0), (0.001, 0.1), (100.0, 2.5)])
def test_arithmetic_follows_the_probe_within_bounds(speed: float, expected: float) -> None:
    profile = replace(PROFILE, digits_per_s=speed * REFERENCE_DIGITS_PER_S)
    machine = this_machine(PC, profile, TABLE, features=AVX)
    assert machine.cpu is not None
    assert machine.cpu.kernels is not None
    assert machine.cpu.kernels.decode_s["q4_0"] == pytest.approx(AVX2.decode_s["q4_0"] / expected)


def test_a_board_of_the_table_keeps_its_arithmetic_and_power_beside_the_measured_bandwidth() -> None:
    listed, measured = this_machine(PI, None, TABLE), this_machine(PI, PROFILE, TABLE)
    assert listed.basis == "device table"
    assert measured.basis == "formula"
    assert measured.power == listed.power is not None
    assert measured.cpu is not None
    assert listed.cpu is not None
    assert measured.cpu.kernels == listed.cpu.kernels
    assert measured.cpu.bandwidth_bytes_per_s[1].value == 20e9


def test_a_board_with_a_gpu_is_taken_in_its_present_power_mode() -> None:
    machine = this_machine(JETSON, PROFILE, TABLE)
    assert machine.gpu is not None
    assert machine.gpu_shares_memory
    assert machine.basis == "device table"
    assert "at 15W" in machine.explanation


def test_an_engine_without_a_gpu_leaves_it_aside() -> None:
    machine = this_machine(JETSON, PROFILE, TABLE, gpu_offload=False)
    assert machine.gpu is None
    assert machine.basis == "formula"


def test_runs_in_the_profile_are_what_the_machine_has_learned() -> None:
    machine = this_machine(PC, replace(PROFILE, runs=(run(1.3), run(1.3))), TABLE, features=AVX)
    assert [each.factor for each in machine.learned] == [pytest.approx(1.3)]
