"""What a Raspberry Pi's firmware does to keep the board within its supply and its temperature.

A turn during which it slowed the processor down is not comparable with others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.pi_mailbox import Gencmd, MailboxError
from edgetop.telemetry.source import Absent, Host, Source, SourceLost, Values

_THROTTLE_BITS = ("undervoltage", "frequency_capped", "slowed_down", "soft_temperature_limit")
"""Bits 0 to 3 of `get_throttled` are now; 16 to 19 are the same, at any time since boot."""
_THROTTLED = re.compile(r"^throttled=0x([0-9a-fA-F]{1,8})$")


class PiThrottle:
    """What the firmware does to keep the board within its supply and its temperature: 1 while it does, else 0.

    A dip of the supply between two readings shows in the bits that are kept since boot, the first time it happens. Such
    a bit that was set since the reading before counts as one that is set now.
    """

    blocking = True

    def __init__(self, gencmd: Gencmd) -> None:
        """Take a first reading. Raises SourceLost when there is none."""
        self._gencmd = gencmd
        self._since_boot = 0xF
        now = tuple(Channel(name=f"throttle.{name}", unit="1") for name in _THROTTLE_BITS)
        since_boot = tuple(Channel(name=f"throttle.{name}_since_boot", unit="1") for name in _THROTTLE_BITS)
        self.info = SourceInfo(
            name="throttle",
            driver="Raspberry Pi get_throttled",
            path=gencmd.path,
            period_s=1.0,
            channels=now + since_boot,
        )
        self.read()

    def read(self) -> Values:
        """The eight bits. Raises SourceLost when the firmware does not answer."""
        try:
            answer = self._gencmd.ask("get_throttled")
        except MailboxError as error:
            raise SourceLost(error.reason, error.mend) from error
        match = _THROTTLED.match(answer)
        if match is None:
            raise SourceLost(f"get_throttled: {answer[:80]!r} is not an answer")
        bits = int(match[1], 16)
        since_boot = bits >> 16 & 0xF
        now = bits & 0xF | since_boot & ~self._since_boot
        self._since_boot = since_boot
        return tuple(float(word >> bit & 1) for word in (now, since_boot) for bit in range(4))

    def close(self) -> None:
        """Close the way to the firmware."""
        self._gencmd.close()


class UndervoltageAlarm:
    """The one bit of throttling that the kernel shows to everybody, for when the firmware cannot be asked."""

    blocking = False

    def __init__(self, file: Path) -> None:
        """Take a first reading. Raises SourceLost when there is none."""
        self._file = file
        self.info = SourceInfo(
            name="throttle",
            driver="hwmon rpi_volt",
            path=str(file),
            period_s=1.0,
            channels=(Channel(name="throttle.undervoltage", unit="1"),),
        )
        self.read()

    def read(self) -> Values:
        """1 while the supply is too low. Raises SourceLost when the alarm cannot be read."""
        try:
            text = self._file.read_text("ascii", "replace").strip()
        except OSError as error:
            raise SourceLost(f"{self._file}: {error.strerror}") from error
        if text not in {"0", "1"}:
            raise SourceLost(f"{self._file}: {text[:40]!r} is neither 0 nor 1")
        return (float(text),)

    def close(self) -> None:
        """Nothing is held open."""


def throttle(host: Host, connect: Callable[[Host], Gencmd]) -> Source | Absent:
    """The throttling bits, as many of them as this host shows."""
    gencmd: Gencmd | None = None
    try:
        gencmd = connect(host)
        return PiThrottle(gencmd)
    except MailboxError as error:
        missing = Missing(error.reason, error.mend)
    except SourceLost as lost:
        missing = lost.missing
    if gencmd is not None:
        gencmd.close()
    for name in sorted(host.path("/sys/class/hwmon").glob("hwmon*/name")):
        try:
            if name.read_text("ascii", "replace").strip() == "rpi_volt":
                return UndervoltageAlarm(name.parent / "in0_lcrit_alarm")
        except (OSError, SourceLost):
            continue
    return Absent(name="throttle", missing=missing)
