from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.device_fit import UNSEEN, Fit, coverage_interval, outcomes, published
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import UsageError
from edgetop.fit.devices import (
    UNMEASURED,
    device_of_model,
    devices_like,
    find_device,
    load_devices,
    machine_of,
    memory_sizes,
    mode_of,
    named_device,
)
from edgetop.fit.machine import Machine
from edgetop.fit.model_facts import ModelFacts, published_models
from edgetop.fit.speed import SpeedPrediction, predict_speed

TABLE = load_devices()
MODELS = {model.name: model for model in published_models()}
OWN = """
[bench]
title = "My bench"
modes.default.cpu = { reading_gb_s = { 1 = 5, 4 = 12.5 }, kernels = "avx2" }
sources = { speed = "own measurement" }
"""


def decode_rate(facts: ModelFacts, machine: Machine, *, depth_tokens: int = 64) -> float:
    speed = predict_speed(
        facts, machine, settings=EngineSettings(), threads=6, depth_tokens=depth_tokens, prompt_tokens=0
    )
    assert isinstance(speed, SpeedPrediction)
    return speed.decode_tokens_per_s.value


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


@pytest.mark.parametrize(
    ("written", "name", "memory_gb"),
    [
        ("pi5", "pi5", None), ("PI5", "pi5", None), ("Raspberry Pi 5", "pi5", None), ("raspberry-pi-5", "pi5", None),
        ("rpi5", "pi5", None), ("cm5", "pi5", None), ("raspberry pi 5 8gb", "pi5", 8),
        ("pi500", "pi5", 8), ("Pi 500+", "pi5", 16), ("Pi 400", "pi4", 4), ("pi400:4gb", "pi4", 4),
        ("pi5:8gb", "pi5", 8), ("pi5:8G", "pi5", 8), ("Pi 5 (16 GB)", "pi5", 16),
        ("Raspberry Pi 4 Model B", "pi4", None),
        ("jetson orin nano", "orin-nano", None), ("Jetson Orin Nano Super 8GB", "orin-nano-super", 8),
        ("mac mini m4", "m4", None), ("MacBook Pro M3 Max 64GB", "m3-max", 64), ("rock 5b", "rk3588", None),
        ("RTX 4090", "rtx-4090", None), ("4090", "rtx-4090", None), ("rtx 4070 laptop", "rtx-4070-laptop", None),
        ("dgx spark", "gb10", None), ("ryzen ai max+ 395", "strix-halo", None),
        ("Ryzen AI Max 395", "strix-halo", None), ("framework desktop", "strix-halo", None),
        ("iphone 16 pro", "a18-pro", None),
    ],
)  # fmt: skip
def test_devices_are_found_as_people_write_them(written: str, name: str, memory_gb: float | None) -> None:
    found = find_device(TABLE, written)
    assert (found.device.name, found.memory_gb) == (name, memory_gb)


@pytest.mark.parametrize(("written", "like"), [("pi6", "pi5"), ("gtx 1080", "rtx-5080"), ("orin nanu", "orin-nano")])
def test_an_unknown_device_says_what_is_like_it(written: str, like: str) -> None:
    with pytest.raises(UsageError, match=f"no device is called '{written}'") as caught:
        find_device(TABLE, written)
    assert like in caught.value.hint
    assert "--device list" in caught.value.hint


def test_what_is_like_nothing_suggests_nothing() -> None:
    with pytest.raises(UsageError) as caught:
        find_device(TABLE, "gtx 1650")
    assert "did you mean" not in caught.value.hint


def test_no_two_devices_answer_to_one_name() -> None:
    for device in TABLE.values():
        for text in (device.name, device.title, *device.models, *device.aliases):
            assert find_device(TABLE, text).device.name == device.name, text


def test_sizes_of_memory_come_the_largest_first() -> None:
    assert [size / 2**30 for size in memory_sizes(TABLE["pi5"])] == [16, 8, 4, 2]


def test_each_device_has_the_instructions_of_its_own_processor() -> None:
    told = {
        name: set(machine_of(TABLE[name]).features or ())
        for name in ("pi4", "pi5", "m1", "m4", "n100", "rtx-4090", "orion-o6")
    }
    assert told == {
        "pi4": {"NEON"}, "pi5": {"NEON", "DOTPROD"}, "m1": {"NEON", "DOTPROD"}, "n100": {"AVX2"}, "rtx-4090": {"AVX2"},
        "m4": {"NEON", "DOTPROD", "MATMUL_INT8"}, "orion-o6": {"NEON", "DOTPROD", "MATMUL_INT8"},
    }  # fmt: skip


def test_what_nobody_measured_says_so_and_has_the_wider_band() -> None:
    measured, guessed = TABLE["rtx-4090"], TABLE["rtx-3070"]
    assert UNMEASURED in machine_of(guessed).notes
    assert UNMEASURED not in machine_of(measured).notes
    sigmas = [machine_of(each).gpu.kernels.sigma for each in (measured, guessed)]  # type: ignore[union-attr]
    assert sigmas[0] < sigmas[1]


def test_orin_nx_is_no_slower_than_the_nano_super() -> None:
    facts = MODELS["Llama-3.2-3B-Instruct"].facts("Q4_K_M")
    rates = [
        decode_rate(facts, machine_of(TABLE[name], mode))
        for name, mode in (("orin-nx", None), ("orin-nano-super", "MAXN_SUPER"))
    ]
    assert rates[0] > rates[1]


def test_a_device_is_known_by_how_it_names_itself() -> None:
    found = device_of_model(TABLE, "Raspberry Pi 5 Model B Rev 1.0")
    assert found is not None
    assert found.name == "pi5"
    super_board = device_of_model(TABLE, "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super")
    assert super_board is not None
    assert super_board.name == "orin-nano-super"
    assert device_of_model(TABLE, "") is None
    assert device_of_model(TABLE, "Some Laptop") is None


def test_a_part_of_the_table_knows_a_device_by_its_own_name_as_the_whole_does() -> None:
    names = {model for device in TABLE.values() for model in device.models}
    for model in [*names, *(f"{name} Rev 1.1" for name in names), "NVIDIA GeForce RTX 4070 Laptop GPU", "Dell XPS"]:
        assert device_of_model(devices_like([model]), model) == device_of_model(TABLE, model), model
    assert not devices_like(["", ""])


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
    facts = MODELS["Llama-3.2-1B-Instruct"].facts("Q4_K_M")
    rates = [decode_rate(facts, machine, depth_tokens=2176) for machine in (slow, fast)]
    assert rates[1] / rates[0] == pytest.approx(51.9 / 12.1, rel=0.1)


def test_most_published_rows_lie_within_the_band() -> None:
    """What the project holds, by the table as it is; `benchmarks/device_fit.py` leaves each model out."""
    rows = [row for row in published() if row.engine == "llama.cpp"]
    found = [each for each in outcomes(rows, as_is=True) if each.figure == "decode"]
    assert len(found) > 140
    off = sorted(abs(each.predicted / each.measured - 1) for each in found)
    assert off[len(off) // 2] < 0.04
    assert 0.75 <= sum(each.held for each in found) / len(found) <= 0.97


def test_rows_that_were_never_fitted_to_are_no_rows_of_the_fit() -> None:
    fitted = {(row.device, row.model) for row in published()}
    assert not fitted & {(row.device, row.model) for row in published(UNSEEN)}


def test_the_table_is_what_the_script_fits() -> None:
    fit = Fit(published())
    for name in ("m4-pro", "rtx-4090", "rtx-3070", "strix-halo"):
        for key, value in fit.of_row(name).items():
            assert float(fit.cells[name][key]) == pytest.approx(value, rel=2e-3), (name, key)
    jetson = fit.of_jetson("orin-nano-super", "25W")
    gpu = TABLE["orin-nano-super"].modes["25W"].gpu
    assert jetson is not None
    assert gpu is not None
    assert (gpu.weight_ps, gpu.layer_us) == pytest.approx((jetson["weight_ps"], jetson["layer_us"]), rel=1e-2)


@pytest.mark.parametrize(
    ("held", "count", "expected"), [(0, 10, (0, 0.308)), (10, 10, (0.692, 1)), (8, 10, (0.444, 0.975))]
)
def test_the_interval_of_a_share_is_clopper_and_pearsons(held: int, count: int, expected: tuple[float, float]) -> None:
    assert coverage_interval(held, count) == pytest.approx(expected, abs=1e-3)


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


@pytest.mark.parametrize("name", ["pi5", "pi5:8gb", "orin-nano", "orin-nano-super", "x86", "rtx-4090", "rpi5"])
def test_the_part_of_the_table_that_is_read_for_a_name_is_what_the_whole_says(name: str, tmp_path: Path) -> None:
    assert named_device(name, tmp_path / "absent.toml") == find_device(TABLE, name)
