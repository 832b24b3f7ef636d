"""Battery power and charge.

A battery's own gauge is the machine's power only while it discharges and no charger is plugged in. It is slow: ACPI
keeps a reading for a second, some gauges for a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from edgetop.core.sources import EXTERNAL_METER, Channel, PowerProperties, SourceInfo, Unavailable, to_properties
from edgetop.telemetry.host import Host, SysfsFile, is_transient, number_of, text_of, why
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource, Values, require_any

POWER_NAME = "power.battery"
CHARGE_NAME = "battery"
_PERIOD_S = 0.5
_CHARGE_PERIOD_S = 10.0
_WINDOW_S = 1.0
_GAIN = 0.07
_P_MAX_W = 250.0
_J_PER_UWH = 3.6e-3
DRAIN_NAME = "energy.battery"
_COUNT_UWH, _COUNT_UAH = 10_000, 1_000
"""A gauge counts in steps of 10 mWh or of 1 mAh (Smart Battery Data Specification 1.1, 5.1)."""
_RIVALS = 2.5
"""Where power and current times voltage differ more than by that, one is not what it is called (the 68 W of an idle
handheld with a Snapdragon 8 Elite); less may be two moments of a load that changes."""
ON_CHARGER = Unavailable("on the charger", "unplug the charger to measure from the battery, or use an external meter")
_NOT_DISCHARGING = Unavailable("the battery is not discharging", "unplug the charger, or use an external meter")


class Battery:
    """One battery's files, held open."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._status = SysfsFile(directory / "status")
        self._volts = SysfsFile(directory / "voltage_now")
        self._amperes = SysfsFile(directory / "current_now")
        self._power = SysfsFile(directory / "power_now")
        self._energy = SysfsFile(directory / "energy_now")
        self._charge = SysfsFile(directory / "charge_now")
        self._capacity = SysfsFile(directory / "capacity")
        self.gives_power = number_of(self._power.path) is not None
        """Whether `power_now` answers; else power is current times voltage."""
        self.power_path = self._power.path if self.gives_power else self._amperes.path
        """The file that stands for the power in messages."""
        self.gives_energy = number_of(self._energy.path) is not None

        self.only_counts = not self._power.path.exists() and not self._amperes.path.exists()
        """Whether what is left in it is all that it reports."""

    def left(self) -> int:
        """What is left, in uWh or uAh as it counts. Raises OSError or ValueError."""
        return self._energy.number() if self.gives_energy else self._charge.number()

    def j_per_unit(self) -> float:
        """J per unit of `left`, a charge at the present voltage. Raises OSError or ValueError."""
        return _J_PER_UWH if self.gives_energy else self._volts.number() * 1e-6 * _J_PER_UWH

    def is_discharging(self) -> bool:
        """Whether the battery says that it discharges. Raises OSError."""
        return self._status.text() == "Discharging"

    def power_w(self) -> float:
        """Power in or out: the sign of the files means different things in different drivers, so it is dropped.

        Raises OSError or ValueError.
        """
        return abs(self._power.number()) * 1e-6 if self.gives_power else self.product_w()

    def product_w(self) -> float:
        """Power by current and voltage. Raises OSError or ValueError."""
        return abs(self._amperes.number() * self._volts.number()) * 1e-12

    def remaining_j(self) -> float:
        """Energy left. From a charge in uAh it is a guess at the present voltage. Raises OSError or ValueError."""
        return self.left() * self.j_per_unit()

    def level_percent(self) -> float:
        """State of charge. Raises OSError or ValueError."""
        return float(self._capacity.number())

    def close(self) -> None:
        """Close the files."""
        for file in (
            self._status, self._volts, self._amperes, self._power, self._energy, self._charge, self._capacity
        ):  # fmt: skip
            file.close()


class BatteryPower:
    """What the batteries give together, in W; missing while a charger is plugged in."""

    blocking = True

    def __init__(self, batteries: tuple[Battery, ...], chargers: tuple[Path, ...]) -> None:
        """`chargers` are the `online` files of mains and USB supplies."""
        self._batteries = batteries
        self._chargers = tuple(SysfsFile(path) for path in chargers)
        properties = PowerProperties(window_s=_WINDOW_S, gain=_GAIN, p_max_w=_P_MAX_W, flags=("slow",), total=True)
        self.info = SourceInfo(
            name=POWER_NAME,
            driver="power_supply",
            path=str(batteries[0].directory),
            kind="power",
            period_s=_PERIOD_S,
            channels=(Channel(name=POWER_NAME, unit="W", digits=3, scope="battery", label="battery"),),
            properties=to_properties({POWER_NAME: properties}),
        )

    def read(self) -> Values:
        """Watts out of all batteries that discharge. Raises SourceLost when they have gone."""
        if any(_is_online(charger) for charger in self._chargers):
            return (ON_CHARGER,)
        return (self._given(),)

    def _given(self) -> float | Unavailable:
        power_w = 0.0
        discharging = 0
        for battery in self._batteries:
            try:
                if battery.is_discharging():
                    power_w += battery.power_w()
                    discharging += 1
            except OSError as error:
                raise SourceLost(why(error, battery.power_path)) from error
            except ValueError as error:
                return why(error, battery.power_path)
        if not discharging:
            return _NOT_DISCHARGING
        # Some gauges say 0 until they have measured for the first time.
        return power_w if power_w > 0 else Unavailable("the battery's gauge reads 0 W while it discharges")

    def close(self) -> None:
        """Close the files."""
        for battery in self._batteries:
            battery.close()
        for charger in self._chargers:
            charger.close()


class BatteryDrain(BatteryPower):
    """What batteries have given that report no power, in J since the first reading, by what is left in them."""

    def __init__(self, batteries: tuple[Battery, ...], chargers: tuple[Path, ...]) -> None:
        """See `BatteryPower`. Raises OSError or ValueError when a battery cannot be read."""
        super().__init__(batteries, chargers)
        self._given_j = 0.0
        self._left: dict[Battery, int] = {}
        lsb_j = sum((_COUNT_UWH if each.gives_energy else _COUNT_UAH) * each.j_per_unit() for each in batteries)
        properties = PowerProperties(gain=_GAIN, lsb_j=lsb_j, p_max_w=_P_MAX_W, flags=("slow",), total=True)
        self.info = replace(
            self.info,
            name=DRAIN_NAME,
            kind="energy",
            channels=(Channel(name=DRAIN_NAME, unit="J", digits=3, scope="battery", label="battery"),),
            properties=to_properties({DRAIN_NAME: properties}),
        )

    def _given(self) -> float | Unavailable:
        before, self._left = self._left, {}
        for battery in self._batteries:
            try:
                if battery.is_discharging():
                    self._left[battery] = left = battery.left()
                    self._given_j += max(0, before.get(battery, left) - left) * battery.j_per_unit()
            except OSError as error:
                raise SourceLost(why(error, battery.directory)) from error
            except ValueError as error:
                return why(error, battery.directory)
        return self._given_j if self._left else _NOT_DISCHARGING


class BatteryCharge:
    """What is left in the batteries together, in J; and the level in % where there is only one."""

    blocking = True

    def __init__(self, batteries: tuple[Battery, ...]) -> None:
        self._batteries = batteries
        channels = [Channel(name="battery.energy", unit="J", label="energy left")]
        if len(batteries) == 1:
            channels.append(Channel(name="battery.level", unit="%", label="charge"))
        self.info = SourceInfo(
            name=CHARGE_NAME,
            driver="power_supply",
            path=str(batteries[0].directory),
            period_s=_CHARGE_PERIOD_S,
            channels=tuple(channels),
        )

    def read(self) -> Values:
        """Joules and percent. Raises SourceLost when neither can be read."""
        values: list[float | Unavailable] = [self._remaining_j()]
        if len(self._batteries) == 1:
            battery = self._batteries[0]
            try:
                values.append(battery.level_percent())
            except (OSError, ValueError) as error:
                values.append(why(error, battery.directory / "capacity"))
        return require_any(tuple(values))

    def close(self) -> None:
        """Close the files."""
        for battery in self._batteries:
            battery.close()

    def _remaining_j(self) -> float | Unavailable:
        try:
            return sum(battery.remaining_j() for battery in self._batteries)
        except (OSError, ValueError) as error:
            return why(error, self._batteries[0].directory)


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """Yield the power of the machine's batteries and what is left in them; those of mice and headsets do not count."""
    supplies = sorted(host.path("/sys/class/power_supply").glob("*"))
    directories = [supply for supply in supplies if _is_of_machine(supply)]
    if not directories:
        yield UnavailableSource(name=POWER_NAME, missing=Unavailable("this machine has no battery"))
        return
    chargers = tuple(supply / "online" for supply in supplies if text_of(supply / "type") not in ("Battery", "UPS"))
    batteries = tuple(Battery(directory) for directory in directories)
    failed = _no_power(batteries)
    if all(battery.only_counts for battery in batteries):
        try:
            yield BatteryDrain(batteries, chargers)
        except (OSError, ValueError) as error:
            yield UnavailableSource(name=DRAIN_NAME, missing=why(error, batteries[0].directory), retry=True)
    elif failed is None:
        yield BatteryPower(batteries, chargers)
    else:
        yield failed
    charge = BatteryCharge(tuple(Battery(directory) for directory in directories))
    try:
        charge.read()
    except SourceLost as lost:
        yield UnavailableSource(name=CHARGE_NAME, missing=lost.missing, retry=True)
    else:
        yield charge


def _is_of_machine(supply: Path) -> bool:
    return (
        text_of(supply / "type") == "Battery"
        and text_of(supply / "scope") != "Device"
        and number_of(supply / "present") != 0
    )


def _no_power(batteries: tuple[Battery, ...]) -> UnavailableSource | None:
    for battery in batteries:
        try:
            power_w = battery.power_w()
        except (OSError, ValueError) as error:
            missing = why(error, battery.power_path)
            return UnavailableSource(name=POWER_NAME, missing=missing, retry=is_transient(error))
        product_w = power_w
        with suppress(OSError, ValueError):
            product_w = (battery.is_discharging() and battery.product_w()) or power_w
        if power_w > 0 and not 1 / _RIVALS < product_w / power_w < _RIVALS:
            reason = (
                f"{battery.directory} reads {power_w:.1f} W, and its current times its voltage are {product_w:.1f} W"
            )
            return UnavailableSource(name=POWER_NAME, missing=Unavailable(reason, EXTERNAL_METER), retry=True)
        if power_w > _P_MAX_W:
            missing = Unavailable(f"{battery.directory} reads {power_w:.0f} W, which cannot be")
            return UnavailableSource(name=POWER_NAME, missing=missing, retry=True)
    return None


def _is_online(charger: SysfsFile) -> bool:
    try:
        return charger.number() != 0
    except (OSError, ValueError):
        return False  # a charger that is gone does not charge
