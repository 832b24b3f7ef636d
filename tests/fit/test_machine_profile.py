from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.records import DeviceInfo, machine_key
from edgetop.core.sources import Unavailable
from edgetop.fit.machine_profile import (
    PROFILES_MAX,
    MachineProfile,
    ProfileError,
    add_run,
    load_profile,
    load_profiles,
    measure_machine,
    save_profile,
)
from tests.fit.test_calibration import run

NOW = datetime(2026, 5, 20, tzinfo=timezone.utc)
DEVICE = DeviceInfo(
    hostname="pi", model="Raspberry Pi 5 Model B Rev 1.0", cpu="4x Cortex-A76", cores_physical=4, cores_logical=4,
    memory_bytes=8 * 2**30 - 77_000_000, governor="ondemand", system="Debian 12",
)  # fmt: skip
PROFILE = MachineProfile(
    key="a" * 24, measured_at="2026-05-01T08:00:00+00:00", bandwidth_bytes_per_s={1: 9e9, 4: 12e9}, digits_per_s=5e8
)


def test_a_profile_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    file = tmp_path / "new" / "machines.json"
    kept = replace(PROFILE, runs=(run(1.2), run(1.3)))
    save_profile(file, kept)
    assert load_profile(file, PROFILE.key) == kept
    assert list(file.parent.iterdir()) == [file]


def test_each_machine_and_power_mode_has_its_own(tmp_path: Path) -> None:
    file = tmp_path / "machines.json"
    other = replace(PROFILE, key="b" * 24)
    save_profile(file, PROFILE)
    save_profile(file, other)
    save_profile(file, replace(PROFILE, digits_per_s=7e8))
    assert load_profile(file, other.key) == other
    found = load_profile(file, PROFILE.key)
    assert isinstance(found, MachineProfile)
    assert found.digits_per_s == 7e8


def test_a_machine_that_was_never_measured_is_missing(tmp_path: Path) -> None:
    missing = load_profile(tmp_path / "machines.json", PROFILE.key)
    assert isinstance(missing, Unavailable)
    assert "not been measured" in missing.reason


def test_only_so_many_profiles_are_kept_and_the_one_just_saved_is_among_them(tmp_path: Path) -> None:
    file = tmp_path / "machines.json"
    for number in range(PROFILES_MAX + 3):
        save_profile(file, replace(PROFILE, key=f"{number:024}", measured_at=f"2026-05-{number + 1:02}T00:00:00+00:00"))
    old = replace(PROFILE, measured_at="2020-01-01T00:00:00+00:00")
    save_profile(file, old)
    profiles = load_profiles(file)
    assert not isinstance(profiles, Unavailable)
    assert len(profiles) == PROFILES_MAX
    assert old in profiles


def test_a_run_is_added_to_those_that_another_process_kept(tmp_path: Path) -> None:
    file = tmp_path / "machines.json"
    save_profile(file, replace(PROFILE, runs=(run(1.1),)))
    grown = add_run(file, PROFILE, run(1.2))
    assert [each.measured_s for each in grown.runs] == [1.1, 1.2]
    assert load_profile(file, PROFILE.key) == grown


def file_with(bandwidth: str) -> bytes:
    profile = f'{{"key":"a","measured_at":"","bandwidth_bytes_per_s":{bandwidth},"digits_per_s":1}}'
    return f'{{"format":"edgetop-machines","version":1,"profiles":[{profile}]}}'.encode()


def test_the_form_that_broken_files_are_made_of_is_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "machines.json"
    file.write_bytes(file_with('{"1":5e9}'))
    assert isinstance(load_profile(file, "a"), MachineProfile)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"format":"edgetop-calibration"}',
        b'{"format":"edgetop-machines","version":2}',
        b'{"format":"edgetop-machines","version":1,"profiles":[{"key":"a"}]}',
        file_with('{"1":-5}'), file_with("{}"), file_with('{"1":1e400}'), file_with('{"one":1}'),
        b"[" * 100_000, b" " * (2**20 + 1),
    ],
)  # fmt: skip
def test_a_broken_file_is_missing_with_its_reason_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "machines.json"
    file.write_bytes(content)
    missing = load_profile(file, PROFILE.key)
    assert isinstance(missing, Unavailable)
    assert str(file) in missing.reason
    save_profile(file, PROFILE)
    assert load_profile(file, PROFILE.key) == PROFILE


@given(content=st.binary(max_size=300))
def test_any_content_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("hostile") / "machines.json"
    file.write_bytes(content)
    assert isinstance(load_profiles(file), (Unavailable, tuple))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "machines.json"
    save_profile(file, PROFILE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ProfileError, match="No space left"):
        save_profile(file, replace(PROFILE, digits_per_s=1e9))
    assert load_profile(file, PROFILE.key) == PROFILE
    assert list(tmp_path.iterdir()) == [file]


def test_the_key_tells_power_modes_and_governors_apart() -> None:
    changed = [
        replace(DEVICE, power_mode="25W"), replace(DEVICE, governor="performance"), replace(DEVICE, cpu="x"),
        replace(DEVICE, cores_logical=2), replace(DEVICE, memory_bytes=4 * 2**30),
    ]  # fmt: skip
    keys = {machine_key(device) for device in [DEVICE, *changed]}
    assert len(keys) == 1 + len(changed)


def test_the_key_stays_when_host_name_or_kernel_change() -> None:
    renamed = replace(DEVICE, hostname="other", system="Debian 13", memory_bytes=8 * 2**30 - 78_000_000)
    assert machine_key(renamed) == machine_key(DEVICE)


@pytest.mark.parametrize(
    ("measured_at", "current"),
    [
        ((NOW - timedelta(days=1)).isoformat(), True), ((NOW - timedelta(days=60)).isoformat(), False),
        ((NOW + timedelta(days=1)).isoformat(), False), ("yesterday", False), ("2026-05-19T00:00:00", False),
    ],
)  # fmt: skip
def test_a_profile_is_used_while_it_is_young(measured_at: str, current: bool) -> None:
    assert replace(PROFILE, measured_at=measured_at).is_current(NOW) is current


def test_a_measurement_keeps_what_was_learned_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.fit.machine_profile.measure_bandwidth", lambda threads, _free_bytes: {threads: 9e9})
    profile = measure_machine("k", 4, now=NOW, runs=[run(1.2)])
    assert isinstance(profile, MachineProfile)
    assert profile.bandwidth_bytes_per_s == {4: 9e9}
    assert profile.digits_per_s > 0
    assert profile.runs == (run(1.2),)
    assert profile.is_current(NOW)


def test_a_machine_that_cannot_be_measured_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(threads: int, free_bytes: float) -> dict[int, float]:
        raise OSError("too little memory is free")

    monkeypatch.setattr("edgetop.fit.machine_profile.measure_bandwidth", refuse)
    missing = measure_machine("k", 4)
    assert isinstance(missing, Unavailable)
    assert "too little memory" in missing.reason
