"""The power rails of the Jetson boards: which there are, which of them make the total, and how fine they are read.

| board | total | rails beside or within it |
|---|---|---|
| Thor | VIN, the input with carrier board (INA238) | VDD_GPU, VDD_CPU_SOC_MSS, VIN_SYS_5V0 |
| Orin Nano, Orin NX, Xavier NX | VDD_IN, the module | VDD_CPU_GPU_CV, VDD_SOC |
| Nano, TX1, TX2 | POM_5V_IN or VDD_IN, the module | POM_5V_GPU, POM_5V_CPU ... |
| AGX Orin | VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 | VDDQ_VDD2_1V8AO, already in VIN_SYS_5V0 |
| AGX Xavier | GPU + CPU + SOC + CV + VDDRQ + SYS5V | |

The totals of modules leave the carrier board out. A sub-rail can stand above its total for a moment, since they are
not read at the same instant; and an idle rail can be one step below zero, which must not be clamped, or the mean would
be too high.

INA3221 (TI SBOS576): one step is 40 uV at the shunt, the offset up to 80 uV, the power within 0.5 %; at its reset
setting all three channels are converted in 6.6 ms, 1.1 ms for each voltage.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path

from msgspec import Struct

from edgetop.core.records import Scope
from edgetop.telemetry.hwmon_chip import HwmonChip, find_chips, plain_name
from edgetop.telemetry.meter_source import Meter, Scaled, VoltsTimesAmperes
from edgetop.telemetry.power_properties import PowerProperties
from edgetop.telemetry.source import Host
from edgetop.telemetry.surroundings import device_tree_compatible
from edgetop.telemetry.sysfs_file import number_of, text_of

GAIN = 0.01
P_MAX_W = 300.0

_STEP_UV, _OFFSET_UV = 40.0, 80.0
_VIN_OFFSET_UV = 5.0
"""Of the INA238 that measures VIN on Thor. Its shunt is taken to be as small as those of the other rails."""
_SHUNT_2_MILLIOHM = frozenset({"VDD_GPU_SOC", "VDD_CPU_CV", "VDDQ_VDD2_1V8AO", "VIN_SYS_5V0", "VDD_GPU",
                               "VDD_CPU_SOC_MSS", "VIN"})  # fmt: skip
"""Rails of AGX Orin (device tree of P3701) and Thor (whose one step of 392 mW means the same)."""
_SHUNT_UOHM, _LARGE_BOARD_SHUNT_UOHM = 5000, 2000
_UPDATE_S, _CONVERSION_S = 0.0066, 0.0011

_MEASURED_TOTALS: dict[str, Scope] = {"VIN": "board_input", "VDD_IN": "module", "POM_5V_IN": "module"}
"""A rail that is all of the board, the widest first."""
_SUMMED_TOTALS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
_BOARD_RAILS = frozenset({*_MEASURED_TOTALS, "VDD_CPU_SOC_MSS", "VDDQ_VDD2_1V8AO", *_SUMMED_TOTALS[0]})


class Rail(Struct, frozen=True, kw_only=True):
    """One rail and where it is read."""

    label: str
    directory: Path
    """Of the chip, or of the iio device on JetPack 4."""
    number: int
    """Of the input at the chip: from 1 in hwmon, from 0 in iio."""
    chip: HwmonChip | None = None
    """`None` on JetPack 4."""

    def meter(self) -> Meter:
        """Open nothing yet; return what reads the rail's power in W."""
        folder, n = self.directory, self.number
        if self.chip is None:
            power = folder / f"in_power{n}_input"
            if power.exists():
                return Scaled(power, 1e-3)
            return VoltsTimesAmperes(folder / f"in_voltage{n}_input", folder / f"in_current{n}_input")
        if self.chip.name == "ina238":
            return Scaled(folder / "power1_input", 1e-6)
        return VoltsTimesAmperes(folder / f"in{n}_input", folder / f"curr{n}_input")

    def properties(self) -> PowerProperties:
        """Step, offset and timing, from the chip's own files where it has them, else from the board's table."""
        volts_file = f"in{self.number}_input" if self.chip is not None else f"in_voltage{self.number}_input"
        volts = (number_of(self.directory / volts_file) or 0) / 1000
        shunt_uohm = number_of(self.directory / f"shunt{self.number}_resistor") or number_of(
            self.directory / "shunt_resistor"
        )
        if not shunt_uohm or shunt_uohm < 0:
            shunt_uohm = _LARGE_BOARD_SHUNT_UOHM if self.label in _SHUNT_2_MILLIOHM else _SHUNT_UOHM
        watts_per_uv = max(volts, 0.0) / shunt_uohm
        is_ina238 = self.chip is not None and self.chip.name == "ina238"
        update_s, window_s = (None, None) if is_ina238 else self._timing_s()
        return PowerProperties(
            window_s=window_s,
            update_s=update_s,
            gain=GAIN,
            offset_w=(_VIN_OFFSET_UV if is_ina238 else _OFFSET_UV) * watts_per_uv,
            lsb_w=None if is_ina238 or not volts else _STEP_UV * watts_per_uv,
            p_max_w=P_MAX_W,
        )

    def _timing_s(self) -> tuple[float, float]:
        update_ms = number_of(self.directory / "update_interval")
        update_s = update_ms / 1000 if update_ms is not None and update_ms > 0 else _UPDATE_S
        averaged = (number_of(self.directory / "samples") or 1) > 1
        return update_s, update_s if averaged else _CONVERSION_S


class Total(Struct, frozen=True, kw_only=True):
    """What stands for the whole board: a rail, or several that add up to it."""

    rails: tuple[str, ...]
    scope: Scope


def find_rails(host: Host) -> tuple[Rail, ...]:
    """List the rails of a Jetson in the order of their sensors; none on other machines and while none is readable."""
    chips = [chip for chip in find_chips(host) if is_board_sensor(chip, host)]
    rails = [rail for chip in chips for rail in _chip_rails(chip)] or list(_iio_rails(host))
    first = {rail.label: rail for rail in reversed(rails)}
    return tuple(rail for rail in rails if first[rail.label] is rail)


def total_of(labels: Collection[str]) -> Total | None:
    """Say which rails make the whole; `None` for a set of rails that is not of a known board."""
    for label, scope in _MEASURED_TOTALS.items():
        if label in labels:
            return Total(rails=(label,), scope=scope)
    for rails in _SUMMED_TOTALS:
        if all(label in labels for label in rails):
            return Total(rails=rails, scope="module")
    return None


def sum_properties(parts: Collection[PowerProperties], names: tuple[str, ...]) -> PowerProperties:
    """Properties of a sum of rails: steps and offsets are independent, so they add as roots of squares."""
    windows = [part.window_s for part in parts if part.window_s is not None]
    updates = [part.update_s for part in parts if part.update_s is not None]
    steps = [part.lsb_w for part in parts if part.lsb_w is not None]
    return PowerProperties(
        window_s=max(windows, default=None),
        update_s=max(updates, default=None),
        gain=GAIN,
        offset_w=math.hypot(*(part.offset_w for part in parts)),
        lsb_w=math.hypot(*steps) if steps else None,
        p_max_w=P_MAX_W,
        total=True,
        sum_of=names,
    )


def is_board_sensor(chip: HwmonChip, host: Host) -> bool:
    """Whether the chip is one of a Jetson's own, rather than one that somebody connected to it."""
    if chip.name == "ina3221":
        if any(name.startswith("nvidia,tegra") for name in device_tree_compatible(host)):
            return True
        return any(chip.label(f"in{n}") in _BOARD_RAILS for n in (1, 2, 3))
    if chip.name == "ina238":
        thor = "nvidia,tegra264" in device_tree_compatible(host)
        return thor or any(
            other.name == "ina3221" and any(other.label(f"in{n}") == "VDD_CPU_SOC_MSS" for n in (1, 2, 3))
            for other in find_chips(host)
        )
    return False


def _chip_rails(chip: HwmonChip) -> Iterator[Rail]:
    if chip.name == "ina238":
        yield Rail(label="VIN", chip=chip, number=1, directory=chip.directory)
        return
    # The fourth current and the seventh voltage are sums over the shunts, and unused inputs are labelled NC.
    for number in (1, 2, 3):
        label = chip.label(f"in{number}")
        if label and label != "NC":
            yield Rail(label=label, chip=chip, number=number, directory=chip.directory)


def _iio_rails(host: Host) -> Iterator[Rail]:
    """List the rails of JetPack 4, whose driver offers them as iio devices."""
    for directory in sorted(host.path("/sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        for number in (0, 1, 2):
            label = plain_name(text_of(directory / f"rail_name_{number}"))
            if label and label != "NC":
                yield Rail(label=label, number=number, directory=directory)
