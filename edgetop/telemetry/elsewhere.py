"""In place of this machine's gauges when the model runs on another one: they would describe the wrong machine."""

from __future__ import annotations

from collections.abc import Iterator

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.source import Absent, Host, Probe, Source, Values

PERIOD_S = 10.0
_CHANNELS = {
    "cpu": (("cpu.total", "%"), ("cpu.steal", "%"), ("cpu.others", "%"), ("cpu.frequency", "Hz")),
    "memory": (
        ("memory.total", "B"), ("memory.available", "B"), ("memory.used", "B"), ("swap.total", "B"), ("swap.used", "B"),
    ),
}  # fmt: skip
"""The channels of `processor` and `memory` that panes ask for, by source."""


class Elsewhere:
    """A source whose readings are all missing, for one reason."""

    blocking = False

    def __init__(self, name: str, missing: Missing) -> None:
        self._missing = missing
        self.info = SourceInfo(
            name=name,
            driver="none",
            period_s=PERIOD_S,
            channels=tuple(Channel(name=channel, unit=unit) for channel, unit in _CHANNELS[name]),
        )

    def read(self) -> Values:
        """Say why there is nothing to read."""
        return (self._missing,) * len(self.info.channels)

    def close(self) -> None:
        """Nothing is held open."""


def elsewhere(missing: Missing, power: Missing) -> list[tuple[str, Probe]]:
    """Probes that say why processor and memory, and with `power` why power, are not known."""

    def probe(_host: Host) -> Iterator[Source | Absent]:
        for name in _CHANNELS:
            yield Elsewhere(name, missing)
        yield Absent(name="thermal", missing=missing)
        yield Absent(name="power", missing=power)

    return [("elsewhere", probe)]
