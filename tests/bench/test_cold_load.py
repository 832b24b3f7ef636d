"""Loads with the model's file out of the page cache and in it, and the medium it is read from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgetop.bench import device_settings
from edgetop.bench.conclusions import conclusions_of
from edgetop.bench.device_settings import ColdFile, make_cold, medium_of
from edgetop.bench.plan import BenchRequest, CoolDown, ModelFile, Plan, settings_of, token_tests
from tests.bench.conftest import Bench
from tests.inference.tiny_gguf import write_tiny_gguf


def plan_of(bench: Bench, *caches: str) -> Plan:
    model = write_tiny_gguf(bench.folder / "tiny.gguf")
    request = BenchRequest(page_cache=caches, n_prompt=(), n_gen=(4,))  # type: ignore[arg-type]
    return Plan(
        name="loads", settings=settings_of([ModelFile(path=str(model), label="tiny")], request), repetitions=1,
        tests=token_tests(request), cool_down=CoolDown(idle_s=0, limit_s=0), warmup=False,
    )  # fmt: skip


def test_cold_and_warm_loads_are_told_with_how_and_the_medium(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What drops the page cache is replaced: it is all the machine's."""
    monkeypatch.setattr(device_settings, "_drop", lambda _paths, _root: "page cache dropped")
    monkeypatch.setattr(device_settings, "_share_cached", lambda _paths: 0.0)
    monkeypatch.setattr(device_settings, "medium_of", lambda _path, _root: "SD card (mmcblk0)")
    plan = plan_of(bench, "cold", "warm")
    finished, log = bench.run(plan)
    assert finished
    assert [run.cold.how if run.cold is not None else "" for run in log.finished] == ["page cache dropped", ""]
    said = next(each for each in conclusions_of(bench.result(plan)).sentences if "a load takes" in each)
    assert said.startswith("tiny: a load takes ")
    assert " cold and " in said
    assert " warm (page cache dropped, SD card (mmcblk0), read at " in said
    assert all(not each.problems for each in bench.result(plan).settings)


def test_a_file_that_stays_in_memory_is_not_called_cold(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_settings, "_drop", lambda _paths, _root: "given up with fadvise")
    monkeypatch.setattr(device_settings, "_share_cached", lambda _paths: 0.6)
    plan = plan_of(bench, "cold")
    _, log = bench.run(plan)
    cold = log.finished[0].cold
    assert cold is not None
    assert (cold.left, cold.bytes_per_s) == (0.6, None)
    (setting,) = bench.result(plan).settings
    assert setting.problems == (
        "round 1: it was not loaded cold: 60% of the file stayed in memory (given up with fadvise)",
    )
    assert "so that it was not cold" in " ".join(conclusions_of(bench.result(plan)).sentences)


def test_without_permission_a_file_is_given_up_alone(tmp_path: Path) -> None:
    """Below a tree without drop_caches nothing of the machine is dropped."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    cold: ColdFile = make_cold([file], tmp_path / "root")
    assert cold.how == "given up with fadvise"
    assert cold.left is None or 0.0 <= cold.left <= 1.0
    assert (cold.bytes_per_s is None) == (cold.left is not None and cold.left > device_settings.GONE)


@pytest.mark.parametrize(
    ("drive", "files", "medium"),
    [
        ("platform/emmc2/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0", {"device/type": "SD"}, "SD card (mmcblk0)"),
        ("platform/sdhci/mmc_host/mmc1/mmc1:0001/block/mmcblk1", {"device/type": "MMC"}, "eMMC (mmcblk1)"),
        ("pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1", {}, "NVMe (nvme0n1)"),
        ("platform/xhci/usb2/2-1/2-1:1.0/host0/target0:0:0/0:0:0:0/block/sda", {}, "USB (sda)"),
        ("pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda", {"queue/rotational": "1"}, "hard disk (sda)"),
        ("pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sdb", {"queue/rotational": "0"}, "SATA SSD (sdb)"),
    ],
)  # fmt: skip
def test_the_medium_is_named_below_partition_and_encryption(
    tmp_path: Path, drive: str, files: dict[str, str], medium: str
) -> None:
    folder = tmp_path / "sys/devices" / drive
    part = folder / f"{folder.name}p1"
    part.mkdir(parents=True)
    (part / "partition").write_text("1\n")
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + "\n")
    mapped = tmp_path / "sys/devices/virtual/block/dm-0/slaves"
    mapped.mkdir(parents=True)
    (mapped / part.name).symlink_to(part)
    numbers = tmp_path / "sys/dev/block"
    numbers.mkdir(parents=True)
    (numbers / "179:1").symlink_to(part)
    (numbers / "254:0").symlink_to(mapped.parent)
    assert medium_of(tmp_path, tmp_path, device=os.makedev(179, 1)) == medium
    assert medium_of(tmp_path, tmp_path, device=os.makedev(254, 0)) == medium
    assert medium_of(tmp_path, tmp_path, device=os.makedev(0, 42)) == ""
