"""The contract of a source and of a probe; hwmon chips, and sources whose channels are files of sysfs.

A family of sensors lives in one file and offers a probe: given the host, it yields the sources it can really read and,
for what it cannot, an `UnavailableSource` with the reason and the hint. A probe decides by capability (a plausible
reading), never by the mere presence of a file or a library.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct

from edgetop.core.sources import SourceInfo, Unavailable
from edgetop.telemetry.host import Host, SysfsFile, text_of, why

Values = tuple[float | Unavailable, ...]
"""One value per channel of the source, in its order, in the channel's unit."""


class UnavailableSource(Struct, frozen=True, kw_only=True):
    """A source that this host does not give."""

    name: str
    missing: Unavailable
    retry: bool = False
    """Whether it may be read later: a device that sleeps, a first reading that comes late. It is then probed again."""


class SourceLost(Exception):  # noqa: N818 - it says what happened; it is no programmer's error
    """A source that was there does not answer any more; the sampler tries again later."""

    def __init__(self, reason: str | Unavailable, hint: str = "", *, retry: bool = False) -> None:
        """`retry` says that the next try may succeed."""
        self.missing = Unavailable(reason, hint) if isinstance(reason, str) else reason
        super().__init__(self.missing.reason)
        self.retry = retry


def require_any(values: Values) -> Values:
    """The values, unless all of them are missing. Raises SourceLost then, with the reason of the first."""
    if values and all(isinstance(value, Unavailable) for value in values) and isinstance(values[0], Unavailable):
        raise SourceLost(values[0])
    return values


class Source(Protocol):
    """Something that can be read again and again."""

    @property
    def info(self) -> SourceInfo:
        """What is read, how often, and what is known of it. Constant over the life of the source."""

    @property
    def blocking(self) -> bool:
        """Whether a reading can take longer than a millisecond or two, and so wants a thread of its own."""

    def read(self) -> Values:
        """Read all channels once.

        Raises SourceLost when nothing can be read now.
        """

    def close(self) -> None:
        """Give back what is held open. Reading afterwards is an error."""


class Stamped(Struct, frozen=True):
    """Values, and when they were measured on edgetop's clock, in microseconds."""

    t_us: int
    values: Values


@runtime_checkable
class PacedSource(Source, Protocol):
    """A source that is read less often while there is little to see, lest the reading itself costs something."""

    @property
    def pause_s(self) -> float:
        """The present period in seconds, no less than that of `info`."""


@runtime_checkable
class ReadAtTheEnd(Source, Protocol):
    """A source whose last moment counts, however lately it was read: a short session's peak of memory."""

    @property
    def reads_at_end(self) -> bool:
        """True."""


@runtime_checkable
class StampedSource(Source, Protocol):
    """A source whose readings were taken elsewhere, at times of their own, and come several at once or not at all."""

    def read_stamped(self) -> Sequence[Stamped]:
        """Give what has come, in order of time, instead of `read`. Raises SourceLost when nothing can come now."""


Probe = Callable[[Host], Iterator[Source | UnavailableSource]]


_FOLDER = r"hwmon(\d{1,6})"
_HOSTILE = r"[^A-Za-z0-9_+-]+"
_READING = "[a-z]*[0-9]_[ai]*"
"""`power1_average`, `in1_input` and the like."""


class HwmonChip(Struct, frozen=True, kw_only=True):
    """One chip, as it is now."""

    directory: Path
    """`/sys/class/hwmon/hwmonN`; N changes from one start, or one plugging in, to the next. Of a driver that registers
    in the older way, as ACPI's power meter for long, `hwmonN/device`."""
    name: str
    """Of the driver, such as `ina226`."""
    device: str
    """Of the device on its bus, such as `1-0041`; empty for a chip without one."""

    def label(self, quantity: str) -> str:
        """Label of `in1`, `power1` and the like, reduced to letters, digits, `_`, `+` and `-`; empty without one.

        ACPI's power meter has what its maker calls it for one.
        """
        file = self.directory / quantity
        return plain_name(text_of(Path(f"{file}_label")) or text_of(Path(f"{file}_oem_info")))

    def has(self, *files: str) -> bool:
        """Whether the chip has all of these files."""
        return all((self.directory / file).exists() for file in files)

    def is_same_device(self, other: HwmonChip) -> bool:
        """Whether it is the same device, perhaps come back under another number."""
        return (self.name, self.device) == (other.name, other.device)


def find_chips(host: Host) -> Iterator[HwmonChip]:
    """All chips of the host, in the order of their numbers."""
    folders: dict[str, Path] = {}
    drivers = host.path("/sys/bus/i2c/drivers")
    for folder in (*host.path("/sys/class/hwmon").glob("hwmon*"), *drivers.glob("ina*/*/hwmon/hwmon*")):
        if re.fullmatch(_FOLDER, folder.name):
            folders.setdefault(folder.name, folder)
    for folder in sorted(folders.values(), key=lambda folder: int(folder.name.removeprefix("hwmon"))):
        device = folder / "device"
        name = plain_name(text_of(folder / "name") or text_of(device / "name"))
        if name:
            is_older = not any(folder.glob(_READING)) and any(device.glob(_READING))
            yield HwmonChip(directory=device if is_older else folder, name=name, device=_device(folder))


def plain_name(text: str) -> str:
    """`text` as part of a channel's name: other characters than letters, digits, `_`, `+`, `-` become one `_`."""
    return re.sub(_HOSTILE, "_", text)[:32].strip("_")


def _device(directory: Path) -> str:
    device = directory / "device"
    if device.exists():
        return plain_name(device.resolve().name)
    # Below a driver's folder, rather than in `/sys/class/hwmon`.
    *_, above, parent, _ = directory.parts
    return plain_name(above) if parent == "hwmon" and above != "class" else ""


ASLEEP = Unavailable("asleep")

LEFT_ALONE = Unavailable("left alone so that it can sleep", "it is read once a model runs on it")


class RuntimePower:
    """Whether a device sleeps, or is to be left alone so that it can (Documentation/power/runtime_pm.rst).

    Reading most sensors of a sleeping device wakes it up, and reading them again and again keeps it awake.
    """

    def __init__(self, device: Path, host: Host) -> None:
        """`device` is its folder in sysfs."""
        self._status = SysfsFile(device / "power" / "runtime_status")
        self._may_sleep = text_of(device / "power" / "control") == "auto"
        self._host = host

    def why_not(self) -> Unavailable | None:
        """Why it is not to be touched now, if so."""
        try:
            status = self._status.text()
        except OSError:
            return None
        if status in ("suspended", "suspending"):
            return ASLEEP
        return LEFT_ALONE if self._may_sleep and self._host.uses_gpu() is False else None

    def close(self) -> None:
        """Give back what is held open."""
        self._status.close()


class ChannelReader(Protocol):
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

    def __init__(self, path: Path, factor: float, *, reopens: bool = True) -> None:
        """`reopens`: see `SysfsFile`."""
        self.path = path
        self._file = SysfsFile(path, reopens=reopens)
        self._factor = factor

    def read(self) -> float:
        """One value in the channel's unit. Raises OSError or ValueError."""
        return self._file.number() * self._factor

    def close(self) -> None:
        """Give back what is held open."""
        self._file.close()


class VoltsTimesAmperes:
    """Power from a voltage in mV and a current in mA, read one after the other."""

    def __init__(self, volts: Path, amperes: Path, *, either_direction: bool = False, reopens: bool = True) -> None:
        """`either_direction` takes the absolute value, for a meter that may be plugged in the other way round.

        `reopens`: see `SysfsFile`.
        """
        self.path = amperes
        self._volts = SysfsFile(volts, reopens=reopens)
        self._amperes = SysfsFile(amperes, reopens=reopens)
        self._either_direction = either_direction

    def read(self) -> float:
        """Watts. Raises OSError or ValueError."""
        power_w = self._volts.number() * self._amperes.number() * 1e-6
        return abs(power_w) if self._either_direction else power_w

    def close(self) -> None:
        """Give back what is held open."""
        self._volts.close()
        self._amperes.close()


Relocate = Callable[[], "tuple[ChannelReader, ...] | None"]
"""Looks for a device that came back under another path; `None` when it is not there."""


class MeterSource:
    """One meter per channel, and before them, where the board has none, the sum of some of them."""

    def __init__(
        self,
        info: SourceInfo,
        meters: Iterable[ChannelReader],
        *,
        blocking: bool,
        sum_of: tuple[int, ...] = (),
        permission_hint: str = "",
        relocate: Relocate | None = None,
    ) -> None:
        """`sum_of` are places in `meters` whose sum is the first channel; without it, channels and meters are the same.

        `permission_hint` is what to type when a file may not be read.
        """
        self.info = info
        self.blocking = blocking
        self._meters = tuple(meters)
        self._sum_of = sum_of
        self._permission_hint = permission_hint
        self._relocate = relocate

    def read(self) -> Values:
        """Read every meter once, in the order of the channels.

        Raises SourceLost when none of them gives a value, not even where the device may have gone to.
        """
        values = self._read_meters()
        if all(isinstance(value, Unavailable) for value in values):
            moved = self._relocate() if self._relocate is not None else None
            if moved is not None:
                self.close()
                self._meters = moved
                values = self._read_meters()
        require_any(values)
        return (self._sum(values), *values) if self._sum_of else values

    def close(self) -> None:
        """Close the files."""
        for meter in self._meters:
            meter.close()

    def _read_meters(self) -> Values:
        values: list[float | Unavailable] = []
        for meter in self._meters:
            try:
                values.append(meter.read())
            except (OSError, ValueError) as error:
                values.append(why(error, meter.path, self._permission_hint))
        return tuple(values)

    def _sum(self, values: Values) -> float | Unavailable:
        total = 0.0
        for index in self._sum_of:
            value = values[index]
            if isinstance(value, Unavailable):
                return value
            total += value
        return total


PROBE_S = 2.0
"""A probe that takes longer is waited for no more; what it finds joins later."""


class FamilyProbe:
    """One run of a family's probe in a thread of its own, since nobody knows how long a driver takes."""

    def __init__(self, family: str, probe: Probe, host: Host) -> None:
        self.family = family
        self.taken = False
        """Whether what it found was taken in."""
        self._probe, self._host = probe, host
        self._found: list[Source | UnavailableSource] = []
        self._thread = threading.Thread(target=self._run, name=f"edgetop-probe-{family}", daemon=True)
        self._thread.start()

    def found(self, timeout_s: float | None = None) -> list[Source | UnavailableSource] | None:
        """What it found; `None` when it has not ended within `timeout_s`."""
        self._thread.join(timeout_s)
        return None if self._thread.is_alive() else self._found

    def again(self) -> FamilyProbe:
        """Another run of the same probe."""
        return FamilyProbe(self.family, self._probe, self._host)

    def _run(self) -> None:
        try:
            self._found.extend(self._probe(self._host))
        except Exception as error:  # noqa: BLE001 - a sensor of a kind nobody has seen must not end the program
            words = " ".join(f"{type(error).__name__}: {error}".split())
            missing = Unavailable(f"looking for it failed: {words}", "please report this")
            self._found.append(UnavailableSource(name=self.family, missing=missing))
