"""A source whose channels are each computed from a few sysfs files: what RAPL, hwmon and the Jetsons have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from edgetop.core.records import Missing, SourceInfo
from edgetop.telemetry.source import SourceLost, Values
from edgetop.telemetry.sysfs_file import SysfsFile, why


class Meter(Protocol):
    """What gives one channel its value."""

    @property
    def path(self) -> Path:
        """The file that stands for it in messages."""

    def read(self) -> float:
        """One value in the channel's unit. Raises OSError or ValueError."""

    def close(self) -> None:
        """Give back what is held open."""


class Scaled:
    """A file times a factor: microjoules to joules, milliwatts to watts."""

    def __init__(self, path: Path, factor: float) -> None:
        self.path = path
        self._file = SysfsFile(path)
        self._factor = factor

    def read(self) -> float:
        """One value in the channel's unit. Raises OSError or ValueError."""
        return self._file.number() * self._factor

    def close(self) -> None:
        """Give back what is held open."""
        self._file.close()


class VoltsTimesAmperes:
    """Power from a voltage in mV and a current in mA, read one after the other."""

    def __init__(self, volts: Path, amperes: Path, *, either_direction: bool = False) -> None:
        """`either_direction` takes the absolute value, for a meter that may be plugged in the other way round."""
        self.path = amperes
        self._volts = SysfsFile(volts)
        self._amperes = SysfsFile(amperes)
        self._either_direction = either_direction

    def read(self) -> float:
        """Watts. Raises OSError or ValueError."""
        power_w = self._volts.number() * self._amperes.number() * 1e-6
        return abs(power_w) if self._either_direction else power_w

    def close(self) -> None:
        """Give back what is held open."""
        self._volts.close()
        self._amperes.close()


Relocate = Callable[[], "tuple[Meter, ...] | None"]
"""Looks for a device that came back under another path; `None` when it is not there."""


class MeterSource:
    """One meter per channel, and before them, where the board has none, the sum of some of them."""

    def __init__(
        self,
        info: SourceInfo,
        meters: Iterable[Meter],
        *,
        blocking: bool,
        sum_of: tuple[int, ...] = (),
        permission_mend: str = "",
        relocate: Relocate | None = None,
    ) -> None:
        """`sum_of` are places in `meters` whose sum is the first channel; without it, channels and meters are the same.

        `permission_mend` is what to type when a file may not be read.
        """
        self.info = info
        self.blocking = blocking
        self._meters = tuple(meters)
        self._sum_of = sum_of
        self._permission_mend = permission_mend
        self._relocate = relocate

    def read(self) -> Values:
        """Read every meter once, in the order of the channels.

        Raises SourceLost when none of them gives a value, not even where the device may have gone to.
        """
        values = self._read_meters()
        if all(isinstance(value, Missing) for value in values):
            moved = self._relocate() if self._relocate is not None else None
            if moved is not None:
                self.close()
                self._meters = moved
                values = self._read_meters()
        missing = [value for value in values if isinstance(value, Missing)]
        if len(missing) == len(values):
            raise SourceLost(missing[0].reason, missing[0].mend)
        return (self._sum(values), *values) if self._sum_of else values

    def close(self) -> None:
        """Close the files."""
        for meter in self._meters:
            meter.close()

    def _read_meters(self) -> Values:
        values: list[float | Missing] = []
        for meter in self._meters:
            try:
                values.append(meter.read())
            except (OSError, ValueError) as error:
                values.append(why(error, meter.path, self._permission_mend))
        return tuple(values)

    def _sum(self, values: Values) -> float | Missing:
        total = 0.0
        for index in self._sum_of:
            value = values[index]
            if isinstance(value, Missing):
                return value
            total += value
        return total
