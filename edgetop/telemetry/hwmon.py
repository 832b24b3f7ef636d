"""Hwmon power: amdgpu, xe, ACPI, INA, POWER-Z.

Only chips whose name is on the list below are asked, since many others have a `power1_input` of something else. Of what
a chip offers, an energy counter goes before an average, an average before a point reading, and that before volts times
amperes. Where no figure of a maker is given, half-widths are judgement.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.sources import (
    PROCESSOR_DEVICE,
    Channel,
    PowerProperties,
    Scope,
    SensorFlag,
    SourceInfo,
    Unavailable,
    to_properties,
)
from edgetop.telemetry.host import Host, ReadingError, SysfsFile, is_transient, number_of, why
from edgetop.telemetry.jetson import is_board_sensor
from edgetop.telemetry.source import (
    ChannelReader,
    HwmonChip,
    MeterSource,
    RuntimePower,
    Scaled,
    Source,
    UnavailableSource,
    VoltsTimesAmperes,
    find_chips,
)


class ChipKind(Struct, frozen=True, kw_only=True):
    """What is known of the chips of one name."""

    scope: Scope
    gain: float
    p_max_w: float
    period_s: float
    blocking: bool = True
    flags: tuple[SensorFlag, ...] = ()
    adds_up_as: str = ""
    p_min_w: float = -math.inf
    """Less than this is no power of such a device in use."""
    whole: re.Pattern[str] | None = None
    """Labels of the readings that are all of the scope; the chip's others are parts of it, or something else."""
    shunt_offset_uv: float = 0.0
    """Error of zero at the shunt, in microvolts."""
    volts: str = "in1"
    """The voltage that belongs to `curr1`."""
    either_direction: bool = False


_INA = ChipKind(scope="dc_in", gain=0.01, p_max_w=500.0, period_s=0.04, shunt_offset_uv=100.0)
"""The offset is the INA219's largest; later members of the family are better."""

_CELLS_MV = ((2500, 4450), (5600, 8500))
"""Of one lithium cell and of two: no computer is fed so. Whether current that counts as positive flows into the battery
or out of it differs between the boards that carry one (Waveshare's UPS HAT (D) charges so, its UPS base for a CM4 does
the opposite), so its power is nobody's consumption unless a person says so."""

_BOARD = ChipKind(
    scope="gpu_board",
    gain=0.10,
    p_max_w=1500.0,
    p_min_w=0.1,
    period_s=0.05,
    flags=("partial",),
    adds_up_as="gpu",
    blocking=False,
)

_METER = ChipKind(scope="platform", gain=0.05, p_max_w=10_000.0, period_s=0.5)

_GRACE = (
    replace(_METER, scope="module", whole=re.compile(r"Module_Power_Socket_\d+"), adds_up_as="module"),
    replace(_METER, scope="cpu_package", whole=re.compile(r"Grace_Power_Socket_\d+"), adds_up_as="grace"),
    replace(_METER, scope="component", whole=re.compile(r"\w+_Power_Socket_\d+")),
)
"""The meters of an NVIDIA Grace, one a chip (Grace Performance Tuning Guide): a module has the GPU in it as well."""

_POWER_SERVER = ChipKind(scope="platform", gain=0.10, p_max_w=10_000.0, period_s=0.2, whole=re.compile("System"))

_KINDS: dict[str, ChipKind | tuple[ChipKind, ...]] = {
    "amdgpu": _BOARD,
    "xe": _BOARD,
    "i915": _BOARD,
    "power_meter": (*_GRACE, _METER),
    "macsmc_hwmon": ChipKind(
        scope="platform", gain=0.10, p_max_w=1000.0, period_s=0.1, whole=re.compile("Total_System_Power")
    ),
    "corsairpsu": ChipKind(scope="platform", gain=0.05, p_max_w=3000.0, period_s=0.5, whole=re.compile("power_total")),
    "fam15h_power": ChipKind(scope="cpu_package", gain=0.10, p_max_w=1000.0, period_s=0.1),
    # Cores and input and output of one chip are all of it (Documentation/hwmon/xgene-hwmon.rst).
    "apm_xgene": ChipKind(
        scope="cpu_package", gain=0.10, p_max_w=500.0, period_s=0.1, whole=re.compile("(CPU|IO)_power"),
        adds_up_as="xgene",
    ),
    # One counter a core and one a socket (Documentation/hwmon/amd_energy.rst, Linux 5.8 to 5.12).
    "amd_energy": ChipKind(
        scope="cpu_package", gain=0.10, p_max_w=1000.0, period_s=0.1, whole=re.compile(r"Esocket\d+"),
        adds_up_as="socket",
    ),
    # One socket a chip (Documentation/arch/x86/amd_hsmp.rst, from Linux 6.16 on).
    "amd_hsmp_hwmon": ChipKind(scope="cpu_package", gain=0.10, p_max_w=1000.0, period_s=0.1, adds_up_as="hsmp"),
    # All of a POWER server, or where nothing measures that, its processors (Documentation/hwmon/ibmpowernv.rst).
    "ibmpowernv": (
        _POWER_SERVER,
        replace(_POWER_SERVER, scope="cpu_package", whole=re.compile(r"Chip_\d+"), adds_up_as="power"),
    ),
    # Turning a USB meter round turns the sign, so it says nothing.
    "powerz": ChipKind(
        scope="dc_in", gain=0.01, p_max_w=300.0, period_s=0.1, volts="in0", either_direction=True
    ),
    **dict.fromkeys(
        ("ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina233", "ina234", "ina237", "ina238", "ina260",
         "ina745", "ina780", "sq52206", "ina3221"),
        _INA,
    ),
}  # fmt: skip

_APU = ChipKind(
    scope="cpu_package", gain=0.10, p_max_w=300.0, p_min_w=0.1, period_s=0.05, flags=("includes-cpu",), blocking=False
)
"""On an APU the sensor of amdgpu covers the processor too."""

_FORMS = (("energy", "energy", "input"), ("average", "power", "average"), ("input", "power", "input"))
"""Form, beginning and end of the file's name; the best first."""

_READING_FILE = re.compile(r"(power|energy)\d+_(input|average)")

_READINGS, _READ_EVERY_S = 25, 0.02
_VOLTAGE_MAX_MV = 100_000

_CHARGES_W = 0.1
"""A current the wrong way of less than this is an error of zero."""


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

    def label(self, chip: HwmonChip) -> str:
        return chip.label(self.volts or self.file)

    def meter(self, chip: HwmonChip, kind: ChipKind, host: Host) -> ChannelReader:
        folder = chip.directory
        inner: ChannelReader
        if self.form == "product":
            inner = VoltsTimesAmperes(
                folder / f"{self.volts}_input",
                folder / f"{self.file}_input",
                either_direction=kind.either_direction,
                reopens=False,
            )
        else:
            ending = "average" if self.form == "average" else "input"
            inner = Scaled(folder / f"{self.file}_{ending}", 1e-6, reopens=False)
        if self.is_energy and kind is not _BOARD:
            return inner
        current = folder / "curr1_input"
        if kind is _BOARD:
            return PlausiblePower(inner, kind, power=RuntimePower(folder / "device", host), is_energy=self.is_energy)
        is_signed = kind is _INA and self.form != "product" and current.exists()
        return PlausiblePower(inner, kind, current=SysfsFile(current, reopens=False) if is_signed else None)


class PlausiblePower:
    """A power that a device of its kind can have; the power that charges a battery is no consumption."""

    def __init__(
        self,
        inner: ChannelReader,
        kind: ChipKind,
        *,
        current: SysfsFile | None = None,
        power: RuntimePower | None = None,
        is_energy: bool = False,
    ) -> None:
        """`current` gives a power without a sign its direction; `power` says whether the device sleeps."""
        self.path = inner.path
        self._inner, self._kind, self._current, self._power = inner, kind, current, power
        self._is_energy = is_energy

    def read(self) -> float:
        """Watts, or joules. Raises OSError, ValueError, and ReadingError for what cannot be."""
        asleep = None if self._power is None else self._power.why_not()
        if asleep is not None:
            raise ReadingError(asleep.reason)
        power_w = self._inner.read()
        if self._is_energy:
            return power_w
        if self._current is not None and self._current.number() < 0:
            power_w = -abs(power_w)
        if abs(power_w) > self._kind.p_max_w:
            raise ReadingError(f"{self.path} reads {power_w:.0f} W, which cannot be")
        if power_w < self._kind.p_min_w:
            raise ReadingError(f"{self.path} reads {power_w:.3g} W, which no such device in use draws")
        if self._kind is _INA and power_w < -_CHARGES_W:
            raise ReadingError(f"{self.path}: {-power_w:.1f} W flow the other way, as in or out of a battery")
        return power_w

    def close(self) -> None:
        """Close the files."""
        for each in (self._inner, self._current, self._power):
            if each is not None:
                each.close()


def probe(
    host: Host, *, pause: Callable[[float], None] = time.sleep, cards: bool = True
) -> Iterator[Source | UnavailableSource]:
    """Yield a source for each chip on the list that gives a reading other than zero.

    Unavailable are the others, and those with power readings that nobody here knows the meaning of. The INA chips that
    belong to a Jetson are left to `edgetop.telemetry.jetson`.
    """
    chips = [chip for chip in find_chips(host) if not is_board_sensor(chip, host)]
    count = Counter(chip.name for chip in chips)
    for chip in chips:
        several = count[chip.name] > 1
        name = f"power.{chip.name}" + (f".{chip.device or chip.directory.name}" if several else "")
        if chip.name in _KINDS:
            kind = _kind_of(chip)
            if kind is _BOARD and not cards:
                continue
            yield _probe_chip(host, chip, kind, name, pause)
        elif any(_READING_FILE.fullmatch(file.name) for file in chip.directory.glob("[pe]*")):
            missing = Unavailable(
                f"what the power readings of {chip.directory} ({chip.name}) are of is not known",
                "read it with a program of your own: --power-exec CMD",
            )
            yield UnavailableSource(name=name, missing=missing)


def probe_without_cards(host: Host) -> Iterator[Source | UnavailableSource]:
    """The same without graphics cards, which are not touched."""
    return probe(host, cards=False)


def is_discrete(chip: HwmonChip) -> bool:
    """Whether an amdgpu is a board of its own rather than part of the processor.

    An APU shows the voltage of its north bridge (`vddnb`) and lacks a power limit; a board has the limit. Where
    neither is there it is taken for an APU, because then nothing is added that may be counted already.
    """
    return chip.label("in1") != "vddnb" and chip.has("power1_cap")


def _kind_of(chip: HwmonChip) -> ChipKind:
    """What is known of a chip; where its labels say what it measures, of one with those labels."""
    kinds = _KINDS[chip.name]
    if isinstance(kinds, ChipKind):
        return _APU if chip.name == "amdgpu" and not is_discrete(chip) else kinds
    fitting = (kind for kind in kinds if any(_has_whole(each, chip, kind) for each in _offered(chip, kind)))
    return next(fitting, kinds[-1])


def _has_whole(readings: Sequence[_Reading], chip: HwmonChip, kind: ChipKind) -> bool:
    """Whether one of the readings is all of what the chip covers."""
    return kind.whole is None or any(kind.whole.fullmatch(each.label(chip)) for each in readings)


def _probe_chip(
    host: Host, chip: HwmonChip, kind: ChipKind, name: str, pause: Callable[[float], None]
) -> Source | UnavailableSource:
    last = UnavailableSource(name=name, missing=Unavailable(f"{chip.directory} has nothing to read power from"))
    for readings in _offered(chip, kind):
        usable: list[_Reading] = []
        for reading in readings:
            failed = _implausible(name, reading.meter(chip, kind, host), is_energy=reading.is_energy, pause=pause)
            if failed is None:
                usable.append(reading)
            else:
                last = failed
        if usable and _has_whole(usable, chip, kind):
            return _source(host, chip, kind, name, tuple(usable))
    return last


def _offered(chip: HwmonChip, kind: ChipKind) -> Iterator[tuple[_Reading, ...]]:
    """List what the chip offers, the best form first; several readings where it has several inputs."""
    for form, stem, ending in _FORMS:
        names = sorted(chip.directory.glob(f"{stem}[0-9]*_{ending}"), key=lambda file: (len(file.name), file.name))
        found = tuple(_Reading(file=file.name.partition("_")[0], form=form) for file in names)
        if kind.whole is not None:
            found = tuple(each for each in found if not each.is_energy or kind.whole.fullmatch(each.label(chip)))
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
    name: str, meter: ChannelReader, *, is_energy: bool, pause: Callable[[float], None]
) -> UnavailableSource | None:
    """Why a meter cannot be used: not readable, frozen counter, nothing but zeros, or beyond belief."""
    try:
        first = meter.read()
        for number in range(_READINGS + 1):
            value = meter.read() if number else first
            if (value != first) if is_energy else (value != 0):
                return None
            pause(_READ_EVERY_S)
    except (OSError, ValueError) as error:
        retry = isinstance(error, ReadingError) or is_transient(error)
        return UnavailableSource(name=name, missing=why(error, meter.path), retry=retry)
    finally:
        meter.close()
    if is_energy:
        return UnavailableSource(name=name, missing=Unavailable(f"{meter.path} stands still"), retry=True)
    missing = Unavailable(f"{meter.path} reads 0 W", "check that the load's current flows through this sensor")
    return UnavailableSource(name=name, missing=missing, retry=True)


def _source(host: Host, chip: HwmonChip, kind: ChipKind, name: str, readings: tuple[_Reading, ...]) -> MeterSource:
    is_energy = readings[0].is_energy
    unit = "J" if is_energy else "W"
    single = len(readings) == 1
    channels: list[Channel] = []
    known: dict[str, PowerProperties] = {}
    for place, reading in enumerate(readings):
        label = reading.label(chip) or ("" if single else reading.file)
        # What the inputs of one chip are parts of only its builder knows; a graphics card's first is the whole card.
        if kind.whole is not None:
            is_whole = kind.whole.fullmatch(label) is not None
        else:
            is_whole = (single and not _is_at_battery(chip, kind, reading)) or (place == 0 and kind is _BOARD)
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
        return None if now is None else tuple(reading.meter(now, kind, host) for reading in readings)

    meters = [reading.meter(chip, kind, host) for reading in readings]
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
        total=is_whole and kind.adds_up_as in ("", "gpu"),
        adds_up_as=kind.adds_up_as if is_whole else "",
        device=PROCESSOR_DEVICE if kind is _APU and is_whole and chip.label("in1") == "vddnb" else "",
    )


def _is_at_battery(chip: HwmonChip, kind: ChipKind, reading: _Reading) -> bool:
    volts_mv = number_of(chip.directory / f"{reading.volts or kind.volts}_input") if kind is _INA else None
    return volts_mv is not None and any(low <= volts_mv <= high for low, high in _CELLS_MV)


def _offset_w(chip: HwmonChip, kind: ChipKind, reading: _Reading) -> float:
    """Offset at the shunt as power, at the present voltage; 0 where the shunt is not known."""
    number = reading.file[-1]
    shunt_uohm = number_of(chip.directory / "shunt_resistor") or number_of(chip.directory / f"shunt{number}_resistor")
    volts_mv = number_of(chip.directory / f"{reading.volts or kind.volts}_input")
    if not shunt_uohm or volts_mv is None or shunt_uohm < 0 or not 0 < volts_mv <= _VOLTAGE_MAX_MV:
        return 0.0
    return kind.shunt_offset_uv / shunt_uohm * volts_mv / 1000
