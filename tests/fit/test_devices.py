from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import UsageError
from edgetop.fit.devices import device_of_model, find_device, load_devices, machine_of, mode_of
from edgetop.fit.energy import EnergyPrediction, predict_energy
from edgetop.fit.speed import SpeedPrediction, predict_speed
from tests.support.published_models import facts_of_published

TABLE = load_devices()
OWN = """
[bench]
title = "My bench"
modes.default.cpu = { reading_gb_s = { 1 = 5, 4 = 12.5 }, kernels = "avx2" }
sources = { speed = "own measurement" }
"""


@pytest.mark.parametrize("name", TABLE)
def test_every_device_becomes_a_machine_in_every_mode(name: str) -> None:
    device = TABLE[name]
    for mode in device.modes:
        machine = machine_of(device, mode)
        assert machine.basis == "device table"
        assert device.sources["speed"] in machine.explanation
        for processor in (machine.cpu, machine.gpu):
            if processor is not None and device.peak_gb_s is not None:
                rates = [figure.value for figure in processor.bandwidth_bytes_per_s.values()]
                assert max(rates) < device.peak_gb_s * 1e9
        assert (machine.power is None) == (device.modes[mode].power is None)


@pytest.mark.parametrize("name", TABLE)
def test_every_figure_of_the_table_names_its_source(name: str) -> None:
    device = TABLE[name]
    modes = device.modes.values()
    needed = {
        "speed": True,
        "memory": device.peak_gb_s is not None,
        "price": device.price_usd is not None,
        "power": any(mode.power is not None for mode in modes),
        "prefill": any(each is not None and each.prefill_gflops for mode in modes for each in (mode.cpu, mode.gpu)),
    }
    assert {what for what, is_needed in needed.items() if is_needed} <= set(device.sources)


def test_names_titles_and_models_are_found_however_they_are_written() -> None:
    for name in ("pi5", "PI5", "Raspberry Pi 5", "raspberry-pi-5"):
        assert find_device(TABLE, name).name == "pi5"
    assert find_device(TABLE, "Jetson Orin Nano Super 8GB").name == "orin-nano-super"


def test_an_unknown_device_says_which_there_are() -> None:
    with pytest.raises(UsageError, match="no device is called 'toaster'") as caught:
        find_device(TABLE, "toaster")
    assert "pi5" in caught.value.hint


def test_a_device_is_known_by_how_it_names_itself() -> None:
    found = device_of_model(TABLE, "Raspberry Pi 5 Model B Rev 1.0")
    assert found is not None
    assert found.name == "pi5"
    super_board = device_of_model(TABLE, "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super")
    assert super_board is not None
    assert super_board.name == "orin-nano-super"
    assert device_of_model(TABLE, "") is None
    assert device_of_model(TABLE, "Some Laptop") is None


def test_power_modes_are_found_as_tools_write_them() -> None:
    board = TABLE["orin-nano-super"]
    assert [mode_of(board, each) for each in ("25W", "25 w", "maxn super", None, "99W")] == [
        "25W", "25W", "MAXN_SUPER", "25W", None,
    ]  # fmt: skip


def test_a_power_mode_that_the_table_lacks_is_told_unless_it_may_be_passed_over() -> None:
    board = TABLE["orin-nano-super"]
    with pytest.raises(UsageError, match="no power mode '99W'"):
        machine_of(board, "99W")
    assert machine_of(board, "99W", strict=False).power_mode == "25W"


def test_power_modes_matter() -> None:
    slow, fast = (machine_of(TABLE["orin-nano-super"], mode) for mode in ("7W", "MAXN_SUPER"))
    facts = facts_of_published("Llama-3.2-1B", "Q4_K_M", 771, mebibytes=True)
    assert facts is not None
    rates = []
    for machine in (slow, fast):
        speed = predict_speed(facts, machine, settings=EngineSettings(), threads=6, depth_tokens=2176, prompt_tokens=0)
        assert isinstance(speed, SpeedPrediction)
        rates.append(speed.decode_tokens_per_s.value)
    assert rates[1] / rates[0] == pytest.approx(51.9 / 12.1, rel=0.1)


class Published(NamedTuple):
    device: str
    mode: str | None
    model: str
    quant: str
    file_mb: float | None
    threads: int
    depth: int
    tokens_per_s: float
    j_per_token: float | None = None


@pytest.mark.parametrize(
    "row",
    [  # none of these was used to make the table
        Published("pi5", None, "Qwen2.5-1.5B", "Q4_K_M", None, 2, 64, 10.46, 0.5656),
        Published("pi5", None, "Qwen2.5-1.5B", "Q8_0", None, 1, 64, 6.63, 0.7199),
        Published("pi5", None, "llama3.1:8b", "Q4_K_M", 4920, 4, 64, 2.17),
        Published("orin-nano-super", "15W", "LFM2.5-1.2B", "Q4_K_M", 732, 6, 2176, 36.9, 0.1618),
        Published("orin-nano-super", "25W", "LFM2.5-1.2B", "Q4_K_M", 732, 6, 2176, 54.1, 0.157),
        Published("m3-pro", None, "LLaMA-7B", "Q4_0", 3823, 8, 64, 30.74),
        Published("m4-max", None, "LLaMA-7B", "Q4_0", 3823, 8, 64, 83.06),
        Published("m4", None, "Llama-3.1-8B", "Q4_K_M", 4920, 8, 64, 20.87),
    ],
    ids=lambda row: f"{row.device} {row.mode} {row.model} {row.quant}",
)
def test_published_rows_lie_within_the_band(row: Published) -> None:
    facts = facts_of_published(row.model, row.quant, row.file_mb, mebibytes=False)
    assert facts is not None
    machine = machine_of(TABLE[row.device], row.mode)
    speed = predict_speed(
        facts, machine, settings=EngineSettings(), threads=row.threads, depth_tokens=row.depth, prompt_tokens=0
    )
    assert isinstance(speed, SpeedPrediction)
    assert speed.decode_tokens_per_s.low < row.tokens_per_s < speed.decode_tokens_per_s.high
    if row.j_per_token is not None:
        energy = predict_energy(
            facts, machine, speed, settings=EngineSettings(), threads=row.threads, depth_tokens=row.depth
        )
        assert isinstance(energy, EnergyPrediction)
        assert energy.decode_j_per_token.low < row.j_per_token < energy.decode_j_per_token.high


def test_a_users_own_file_adds_devices_and_replaces_those_with_its_names(tmp_path: Path) -> None:
    own = tmp_path / "devices.toml"
    own.write_text(OWN + OWN.replace("[bench]", "[pi5]"))
    table = load_devices(own)
    assert set(table) == {*TABLE, "bench"}
    assert table["pi5"].title == "My bench"
    cpu = machine_of(table["bench"]).cpu
    assert cpu is not None
    assert {count: figure.value for count, figure in cpu.bandwidth_bytes_per_s.items()} == {1: 5e9, 4: 12.5e9}


def test_no_file_of_the_users_own_is_no_trouble(tmp_path: Path) -> None:
    assert load_devices(tmp_path / "devices.toml") == TABLE


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"avx2"', '"sse"', "kernels"),
        ("12.5", '"much"', "reading_gb_s"),
        ("12.5", "-3", "reading_gb_s"),
        ("12.5", "nan", "reading_gb_s"),
        ("4 =", "four =", "'four' is not a number of threads"),
        ("4 =", "0 =", "'0' is not a number of threads"),
        ("title", "tittle", "tittle"),
        ("modes.default", "modes.fast", "default_mode 'default'"),
        (
            'modes.default.cpu = { reading_gb_s = { 1 = 5, 4 = 12.5 }, kernels = "avx2" }',
            "modes.default = {}",
            "neither",
        ),
        ('{ speed = "own measurement" }', "{}", "sources"),
        ("[bench]", "[bench", "bench"),
    ],
)
def test_a_mistake_in_a_users_own_file_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    own = tmp_path / "devices.toml"
    own.write_text(OWN.replace(old, new, 1))
    with pytest.raises(UsageError, match=str(own)) as caught:
        load_devices(own)
    if told != "bench":
        assert told in caught.value.what


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    own = tmp_path / "devices.toml"
    own.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"devices\.toml"):
        load_devices(own)
