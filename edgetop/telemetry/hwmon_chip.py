"""The chips of the kernel's hardware monitoring: found by name and device, never by the number of their folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from edgetop.telemetry.source import Host
from edgetop.telemetry.sysfs_file import text_of

_FOLDER = re.compile(r"hwmon(\d{1,6})")
_HOSTILE = re.compile(r"[^A-Za-z0-9_+-]+")


class HwmonChip(Struct, frozen=True, kw_only=True):
    """One chip, as it is now."""

    directory: Path
    """`/sys/class/hwmon/hwmonN`; N changes from one start, or one plugging in, to the next."""
    name: str
    """Of the driver, such as `ina226`."""
    device: str
    """Of the device on its bus, such as `1-0041`; empty for a chip without one."""

    def label(self, quantity: str) -> str:
        """Label of `in1`, `power1` and the like, reduced to letters, digits, `_`, `+` and `-`; empty without one."""
        return plain_name(text_of(self.directory / f"{quantity}_label"))

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
        if _FOLDER.fullmatch(folder.name):
            folders.setdefault(folder.name, folder)
    for directory in sorted(folders.values(), key=lambda folder: int(folder.name.removeprefix("hwmon"))):
        name = plain_name(text_of(directory / "name"))
        if name:
            yield HwmonChip(directory=directory, name=name, device=_device(directory))


def plain_name(text: str) -> str:
    """`text` as part of a channel's name: other characters than letters, digits, `_`, `+`, `-` become one `_`."""
    return _HOSTILE.sub("_", text)[:32].strip("_")


def _device(directory: Path) -> str:
    device = directory / "device"
    if device.exists():
        return plain_name(device.resolve().name)
    return plain_name(directory.parent.parent.name) if directory.parent.name == "hwmon" else ""
