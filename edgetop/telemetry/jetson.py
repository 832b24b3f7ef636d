"""Jetson rails, power mode, L4T; jtop.

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

jtop gives the load of the GPU and the speed of fans. Power is not taken from it: its average is not one, and on the
AGX Orin its total counts the memory twice. The library is AGPL-3.0 and is imported only here, and only when its
service's socket exists.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.sources import (
    EXTERNAL_METER,
    Channel,
    PowerProperties,
    Scope,
    SourceInfo,
    Unavailable,
    to_properties,
)
from edgetop.telemetry.host import Host, device_tree_compatible, is_transient, number_of, text_of, why
from edgetop.telemetry.source import (
    ChannelReader,
    HwmonChip,
    MeterSource,
    Scaled,
    Source,
    SourceLost,
    UnavailableSource,
    Values,
    VoltsTimesAmperes,
    find_chips,
    plain_name,
)

_STATUS = "/var/lib/nvpmodel/status"
_MODES = "/etc/nvpmodel.conf"
_RELEASE = "/etc/nv_tegra_release"
_STATUS_MODE = r"\bpmode:(\d{1,4})\b"
_MODE = r"(?m)^\s*<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=(\w{1,40})\s*>"
_DEFAULT = r"(?m)^\s*<\s*PM_CONFIG\s+DEFAULT=(\d{1,4})\s*>"
_VERSION = r"(?m)^#\s*R(\d{1,3})\s*\(release\),\s*REVISION:\s*(\d{1,3}(?:\.\d{1,3}){0,2})"
_SIZE_MAX = 1 << 20


def power_mode(host: Host) -> str:
    """Name of the power mode last set, such as `MAXN_SUPER` or `15W`; `mode 2` when only its number is known.

    Before any mode was set it is the default one. Empty on a machine without power modes. After some failures at boot
    the clocks do not follow the mode; this is what was asked for.
    """
    chosen = _found(_STATUS_MODE, host, _STATUS) or _found(_DEFAULT, host, _MODES)
    if chosen is None:
        return ""
    mode = str(int(chosen.group(1)))
    return power_modes(host).get(mode, f"mode {mode}")


def power_modes(host: Host) -> dict[str, str]:
    """Names of the power modes that there are, by number."""
    return {str(int(number)): name for number, name in re.findall(_MODE, text_of(host.path(_MODES), _SIZE_MAX))}


def l4t_version(host: Host) -> str:
    """Version of Jetson Linux, such as `36.4.3`; empty on other machines."""
    release = _found(_VERSION, host, _RELEASE)
    return ".".join(release.groups()) if release else ""


def _found(pattern: str, host: Host, file: str) -> re.Match[str] | None:
    text = text_of(host.path(file), _SIZE_MAX)
    return re.search(pattern, text) if text else None  # most machines have no such file


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

_XAVIER_CHIPS = (frozenset({"GPU", "CPU", "SOC"}), frozenset({"CV", "VDDRQ", "SYS5V"}))
"""Rails of the two chips of an AGX Xavier, whose single names could be anybody's."""


class Rail(Struct, frozen=True, kw_only=True):
    """One rail and where it is read."""

    label: str
    directory: Path
    """Of the chip, or of the iio device on JetPack 4."""
    number: int
    """Of the input at the chip: from 1 in hwmon, from 0 in iio."""
    chip: HwmonChip | None = None
    """`None` on JetPack 4."""

    def meter(self) -> ChannelReader:
        """Open nothing yet; return what reads the rail's power in W."""
        folder, n = self.directory, self.number
        if self.chip is None:
            power = folder / f"in_power{n}_input"
            if power.exists():
                return Scaled(power, 1e-3)
            return VoltsTimesAmperes(folder / f"in_voltage{n}_input", folder / f"in_current{n}_input")
        if self.chip.name == "ina238":
            return Scaled(folder / "power1_input", 1e-6, reopens=False)
        return VoltsTimesAmperes(folder / f"in{n}_input", folder / f"curr{n}_input", reopens=False)

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
    """Properties of a sum of rails.

    Their steps are independent and add as roots of squares. Their errors of zero are those of one converter, common to
    its channels, and add up.
    """
    windows = [part.window_s for part in parts if part.window_s is not None]
    updates = [part.update_s for part in parts if part.update_s is not None]
    steps = [part.lsb_w for part in parts if part.lsb_w is not None]
    return PowerProperties(
        window_s=max(windows, default=None),
        update_s=max(updates, default=None),
        gain=GAIN,
        offset_w=sum(part.offset_w for part in parts),
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
        labels = {chip.label(f"in{n}") for n in (1, 2, 3)}
        return bool(labels & _BOARD_RAILS) or labels in _XAVIER_CHIPS
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


SOURCE_NAME = "power.jetson"
TOTAL = "power.total"
"""The sum of rails, on boards that do not measure their total."""

_PERIOD_S = 0.04

_NO_SENSOR = Unavailable("no current sensor is offered by this Jetson (the Nano 2GB has none)", EXTERNAL_METER)


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """Yield one source with the total first and then every rail; nothing on a machine that is no Jetson."""
    readable: list[Rail] = []
    failed: list[Unavailable] = []
    retry = False
    powers: dict[str, float] = {}
    for rail in find_rails(host):
        meter = rail.meter()
        try:
            power_w = meter.read()
        except (OSError, ValueError) as error:
            failed.append(why(error, meter.path))
            retry |= is_transient(error)
            continue
        finally:
            meter.close()
        if abs(power_w) > P_MAX_W:
            failed.append(Unavailable(f"{meter.path}: {power_w:.0f} W cannot be"))
            continue
        readable.append(rail)
        powers[rail.label] = power_w
    total = total_of(powers)
    if total is not None and sum(powers[label] for label in total.rails) <= 0:
        failed.append(Unavailable(f"{' + '.join(total.rails)}: 0 W cannot be"))
        readable, retry = [], True
    if readable:
        yield _source(host, readable)
    elif failed:
        yield UnavailableSource(name=SOURCE_NAME, missing=failed[0], retry=retry)
    elif any(name.startswith("nvidia,tegra") for name in device_tree_compatible(host)):
        yield UnavailableSource(name=SOURCE_NAME, missing=_NO_SENSOR)


def _source(host: Host, rails: list[Rail]) -> MeterSource:
    total = total_of([rail.label for rail in rails])
    if total is not None:
        rails = sorted(rails, key=lambda rail: rail.label not in total.rails)
    known: dict[str, PowerProperties] = {}
    channels: list[Channel] = []
    own = {rail.label: rail.properties() for rail in rails}
    sum_of: tuple[int, ...] = ()
    if total is not None and len(total.rails) > 1:
        sum_of = tuple(place for place, rail in enumerate(rails) if rail.label in total.rails)
        names = tuple(f"power.{rails[place].label}" for place in sum_of)
        known[TOTAL] = sum_properties([own[label] for label in total.rails], names)
        channels.append(Channel(name=TOTAL, unit="W", digits=3, scope=total.scope, label=" + ".join(total.rails)))
    for rail in rails:
        is_total = total is not None and total.rails == (rail.label,)
        name = f"power.{rail.label}"
        known[name] = replace(own[rail.label], total=is_total)
        scope = total.scope if total is not None and is_total else "component"
        channels.append(Channel(name=name, unit="W", digits=3, scope=scope, label=rail.label))
    info = SourceInfo(
        name=SOURCE_NAME,
        driver="hwmon ina3221" if rails[0].chip is not None else "iio ina3221x",
        path=str(rails[0].directory),
        kind="power",
        period_s=_PERIOD_S,
        channels=tuple(channels),
        properties=to_properties(known),
    )

    def relocate() -> tuple[ChannelReader, ...] | None:
        now = {rail.label: rail for rail in find_rails(host)}
        if any(rail.label not in now for rail in rails):
            return None
        return tuple(now[rail.label].meter() for rail in rails)

    # Each register of the sensor is read over I2C, which takes about half a millisecond.
    return MeterSource(info, [rail.meter() for rail in rails], blocking=True, sum_of=sum_of, relocate=relocate)


JTOP_SOURCE_NAME = "jetson_stats"
_SOCKET = "/run/jtop.sock"
_JTOP_PERIOD_S = 1.0

_NOT_INSTALLED = Unavailable("jetson-stats is not installed beside edgetop", "pip install 'edgetop[jetson]'")

_SERVICE_HINT = "sudo systemctl restart jtop.service; service and library must be of one version"


class JtopClient(Protocol):
    """What is used of `jtop.jtop`."""

    @property
    def stats(self) -> Mapping[str, object]:
        """The latest values by name, such as `GPU` and `Fan pwmfan0`."""

    def start(self) -> None:
        """Connect to the service."""

    def ok(self, spin: bool = False) -> bool:
        """Whether the connection stands; raises what broke it."""

    def close(self) -> None:
        """Leave the service."""


def import_jtop() -> Any:  # noqa: ANN401 (an untyped optional library)
    """Import the library. Raises ImportError where the extra is not installed."""
    return importlib.import_module("jtop")


class JetsonStats:
    """GPU load and fan speeds, in %, as the service last sent them."""

    blocking = True

    def __init__(self, client: JtopClient, broken: tuple[type[Exception], ...]) -> None:
        """`client` is started; `broken` are the errors by which it says that the service is gone."""
        self._client = client
        self._broken = broken
        self._keys = tuple(key for key in client.stats if key == "GPU" or key.startswith("Fan "))
        self.info = SourceInfo(
            name=JTOP_SOURCE_NAME,
            driver="jetson-stats",
            path=_SOCKET,
            period_s=_JTOP_PERIOD_S,
            channels=tuple(
                Channel(name="gpu.jetson" if key == "GPU" else f"fan.{number}", unit="%", label=key[:40])
                for number, key in enumerate(self._keys)
            ),
        )

    def read(self) -> Values:
        """Percent, in the order of the channels. Raises SourceLost when the service has gone."""
        try:
            if not self._client.ok(spin=True):
                raise SourceLost("jtop.service has stopped", _SERVICE_HINT)
            stats = self._client.stats
        except self._broken as error:
            raise SourceLost("jtop.service does not answer any more", _SERVICE_HINT) from error
        return tuple(_percent(stats.get(key), key) for key in self._keys)

    def close(self) -> None:
        """Leave the service."""
        self._client.close()


def jtop_probe(host: Host, *, load: Callable[[], Any] = import_jtop) -> Iterator[Source | UnavailableSource]:
    """Yield a source where the service answers; nothing where there is no service."""
    if not host.path(_SOCKET).exists():
        return
    try:
        library = load()
    except ImportError:
        yield UnavailableSource(name=JTOP_SOURCE_NAME, missing=_NOT_INSTALLED)
        return
    broken = (library.JtopException, OSError, EOFError)
    client: JtopClient = library.jtop()
    try:
        client.start()
        source = JetsonStats(client, broken)
    except broken as error:
        lines = str(error).splitlines() or [type(error).__name__]
        yield UnavailableSource(
            name=JTOP_SOURCE_NAME, missing=Unavailable(f"jtop.service: {lines[0]}"[:120], _SERVICE_HINT)
        )
        return
    if source.info.channels:
        yield source
    else:
        source.close()
        yield UnavailableSource(
            name=JTOP_SOURCE_NAME, missing=Unavailable("jtop.service reports neither GPU load nor fan speed")
        )


def _percent(value: object, key: str) -> float | Unavailable:
    if isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 100:
        return float(value)
    return Unavailable(f"jtop gives no percentage for {key[:40]}")
