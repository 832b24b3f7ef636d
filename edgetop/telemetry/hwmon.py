"""Hwmon power: amdgpu, xe, ACPI, INA, POWER-Z.

Only chips whose name is on the list below are asked, since many others have a `power1_input` of something else. Of what
a chip offers, an energy counter goes before an average, an average before a point reading, and that before volts times
amperes. Where no figure of a maker is given, half-widths are judgement.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from msgspec import Struct

from edgetop.core.sources import Channel, PowerProperties, Scope, SensorFlag, SourceInfo, Unavailable, to_properties
from edgetop.telemetry.host import Host, number_of, why
from edgetop.telemetry.jetson import is_board_sensor
from edgetop.telemetry.source import Source, UnavailableSource
from edgetop.telemetry.sysfs import ChannelReader, HwmonChip, MeterSource, Scaled, VoltsTimesAmperes, find_chips


class ChipKind(Struct, frozen=True, kw_only=True):
    """What is known of the chips of one name."""

    scope: Scope
    gain: float
    p_max_w: float
    period_s: float
    blocking: bool = True
    flags: tuple[SensorFlag, ...] = ()
    adds_up_as: str = ""
    shunt_offset_uv: float = 0.0
    """Error of zero at the shunt, in microvolts."""
    volts: str = "in1"
    """The voltage that belongs to `curr1`."""
    either_direction: bool = False


_INA = ChipKind(scope="dc_in", gain=0.01, p_max_w=500.0, period_s=0.04, shunt_offset_uv=100.0)
"""The offset is the INA219's largest; later members of the family are better."""

_BOARD = ChipKind(
    scope="gpu_board", gain=0.10, p_max_w=1500.0, period_s=0.05, flags=("partial",), adds_up_as="gpu", blocking=False
)

_KINDS: dict[str, ChipKind] = {
    "amdgpu": _BOARD,
    "xe": _BOARD,
    "i915": _BOARD,
    "power_meter": ChipKind(scope="platform", gain=0.05, p_max_w=10_000.0, period_s=0.5),
    # Turning a USB meter round turns the sign, so it says nothing.
    "powerz": ChipKind(
        scope="dc_in", gain=0.01, p_max_w=300.0, period_s=0.1, volts="in0", either_direction=True
    ),
    **dict.fromkeys(
        ("ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina234", "ina237", "ina238", "ina260", "ina780",
         "sq52206", "ina3221"),
        _INA,
    ),
}  # fmt: skip

_APU = ChipKind(scope="cpu_package", gain=0.10, p_max_w=300.0, period_s=0.05, flags=("includes-cpu",), blocking=False)
"""On an APU the sensor of amdgpu covers the processor too."""

_FORMS = (("energy", "energy", "input"), ("average", "power", "average"), ("input", "power", "input"))
"""Form, beginning and end of the file's name; the best first."""

_LOOKS, _LOOK_EVERY_S = 25, 0.02

_VOLTAGE_MAX_MV = 100_000


class _Reading(Struct, frozen=True, kw_only=True):
    """One quantity that a chip offers."""

    file: str
    """Without its ending: `energy1`, `power1`, `curr1`."""
    form: str
    """`energy`, `average`, `input` or `product`."""
    volts: str = ""

    @property
    def is_energy(self) -> bool:
        return self.form == "energy"

    def meter(self, chip: HwmonChip, kind: ChipKind) -> ChannelReader:
        folder = chip.directory
        if self.form == "product":
            return VoltsTimesAmperes(
                folder / f"{self.volts}_input", folder / f"{self.file}_input", either_direction=kind.either_direction
            )
        return Scaled(folder / f"{self.file}_{'average' if self.form == 'average' else 'input'}", 1e-6)


def probe(host: Host, *, pause: Callable[[float], None] = time.sleep) -> Iterator[Source | UnavailableSource]:
    """Yield a source for each chip on the list that gives a reading other than zero, an Absent for the others.

    The INA chips that belong to a Jetson are left to `edgetop.telemetry.jetson`.
    """
    chips = [chip for chip in find_chips(host) if chip.name in _KINDS and not is_board_sensor(chip, host)]
    count = Counter(chip.name for chip in chips)
    for chip in chips:
        several = count[chip.name] > 1
        name = f"power.{chip.name}" + (f".{chip.device or chip.directory.name}" if several else "")
        kind = _APU if chip.name == "amdgpu" and not is_discrete(chip) else _KINDS[chip.name]
        yield _probe_chip(host, chip, kind, name, pause)


def is_discrete(chip: HwmonChip) -> bool:
    """Whether an amdgpu is a board of its own rather than part of the processor.

    An APU shows the voltage of its north bridge (`vddnb`) and lacks a power limit; a board has the limit. Where
    neither is there it is taken for an APU, because then nothing is added that may be counted already.
    """
    return chip.label("in1") != "vddnb" and chip.has("power1_cap")


def _probe_chip(
    host: Host, chip: HwmonChip, kind: ChipKind, name: str, pause: Callable[[float], None]
) -> Source | UnavailableSource:
    last = Unavailable(f"{chip.directory} has nothing to read power from")
    for readings in _offered(chip, kind):
        failed = _implausible([reading.meter(chip, kind) for reading in readings], readings[0].is_energy, kind, pause)
        if failed is None:
            return _source(host, chip, kind, name, readings)
        last = failed
    return UnavailableSource(name=name, missing=last)


def _offered(chip: HwmonChip, kind: ChipKind) -> Iterator[tuple[_Reading, ...]]:
    """List what the chip offers, the best form first; several readings where it has several inputs."""
    numbers = range(1, 5)
    for form, stem, ending in (
        ("energy", "energy", "input"),
        ("average", "power", "average"),
        ("input", "power", "input"),
    ):
        found = tuple(_Reading(file=f"{stem}{n}", form=form) for n in numbers if chip.has(f"{stem}{n}_{ending}"))
        if found:
            yield found
    if chip.name == "ina3221":
        # Its fourth current and seventh voltage are sums over the shunts.
        pairs = [(f"in{n}", f"curr{n}") for n in (1, 2, 3) if chip.label(f"in{n}") != "NC"]
    else:
        pairs = [(kind.volts, "curr1")]
    products = tuple(
        _Reading(file=curr, form="product", volts=volts)
        for volts, curr in pairs
        if chip.has(f"{volts}_input", f"{curr}_input") and number_of(chip.directory / f"{curr}_input") is not None
    )
    if products:
        yield products


def _implausible(
    meters: list[ChannelReader], is_energy: bool, kind: ChipKind, pause: Callable[[float], None]
) -> Unavailable | None:
    """Why the first of the meters cannot be used: not readable, frozen counter, nothing but zeros, or beyond belief."""
    meter = meters[0]
    try:
        first = meter.read()
        for look in range(_LOOKS + 1):
            value = meter.read() if look else first
            if not is_energy and abs(value) > kind.p_max_w:
                return Unavailable(f"{meter.path} reads {value:.0f} W, which cannot be")
            if (value != first) if is_energy else (value != 0):
                return None
            pause(_LOOK_EVERY_S)
    except (OSError, ValueError) as error:
        return why(error, meter.path)
    finally:
        for each in meters:
            each.close()
    if is_energy:
        return Unavailable(f"{meter.path} stands still")
    return Unavailable(f"{meter.path} reads 0 W", "check that the load's current flows through this sensor")


def _source(host: Host, chip: HwmonChip, kind: ChipKind, name: str, readings: tuple[_Reading, ...]) -> MeterSource:
    is_energy = readings[0].is_energy
    unit = "J" if is_energy else "W"
    single = len(readings) == 1
    channels: list[Channel] = []
    known: dict[str, PowerProperties] = {}
    for place, reading in enumerate(readings):
        label = chip.label(reading.volts or reading.file) or ("" if single else reading.file)
        # What the inputs of one chip are parts of only its builder knows; a graphics card's first is the whole card.
        is_whole = single or (place == 0 and kind is _BOARD)
        channel = f"{'energy' if is_energy else 'power'}.{name.removeprefix('power.')}" + (
            f".{label}" if not single else ""
        )
        channels.append(
            Channel(
                name=channel,
                unit=unit,
                digits=3,
                label=label or chip.name,
                scope=kind.scope if is_whole else "component",
            )
        )
        known[channel] = _properties(chip, kind, reading, is_whole=is_whole)
    info = SourceInfo(
        name=name,
        driver=f"hwmon {chip.name}",
        path=str(chip.directory),
        kind="energy" if is_energy else "power",
        period_s=kind.period_s,
        channels=tuple(channels),
        properties=to_properties(known),
    )

    def relocate() -> tuple[ChannelReader, ...] | None:
        now = next((other for other in find_chips(host) if other.is_same_device(chip)), None)
        return None if now is None else tuple(reading.meter(now, kind) for reading in readings)

    meters = [reading.meter(chip, kind) for reading in readings]
    return MeterSource(info, meters, blocking=kind.blocking, relocate=relocate)


def _properties(chip: HwmonChip, kind: ChipKind, reading: _Reading, *, is_whole: bool) -> PowerProperties:
    interval_ms = number_of(chip.directory / f"{reading.file}_average_interval") if reading.form == "average" else None
    update_ms = interval_ms or number_of(chip.directory / "update_interval")
    seconds = update_ms / 1000 if update_ms is not None and update_ms > 0 else None
    return PowerProperties(
        window_s=None if reading.is_energy else seconds,
        update_s=seconds,
        gain=kind.gain,
        offset_w=_offset_w(chip, kind, reading),
        p_max_w=kind.p_max_w,
        flags=kind.flags,
        total=is_whole,
        adds_up_as=kind.adds_up_as if is_whole else "",
    )


def _offset_w(chip: HwmonChip, kind: ChipKind, reading: _Reading) -> float:
    """Offset at the shunt as power, at the present voltage; 0 where the shunt is not known."""
    number = reading.file[-1]
    shunt_uohm = number_of(chip.directory / "shunt_resistor") or number_of(chip.directory / f"shunt{number}_resistor")
    volts_mv = number_of(chip.directory / f"{reading.volts or kind.volts}_input")
    if not shunt_uohm or volts_mv is None or shunt_uohm < 0 or not 0 < volts_mv <= _VOLTAGE_MAX_MV:
        return 0.0
    return kind.shunt_offset_uv / shunt_uohm * volts_mv / 1000
