"""Which power sources the person wants besides, or instead of, those that are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from edgetop.core.records import Missing
from edgetop.telemetry.plugs import is_plug, plug
from edgetop.telemetry.power_hosts import probe_of
from edgetop.telemetry.power_stream import exec_source
from edgetop.telemetry.source import Absent, Host, Probe, Source, SourceLost

NO_POWER = "none"


class PowerChoice(Struct, frozen=True, kw_only=True):
    """What `--power`, `--power-exec` and `--power-stream` say."""

    name: str | None = None
    """A source or channel by name, a plug's address such as `shelly:HOST`, hosts such as `local+pi2`, or `none`."""
    command: str | None = None
    """A program that prints one reading each time it is run."""
    streams: tuple[str, ...] = ()
    """Programs that go on printing readings, or `tcp:HOST:PORT`, or `unix:PATH`; `pi2=` before one names its host."""

    @property
    def headline(self) -> str | None:
        """The name that the session records as chosen: a plug's source rather than its address."""
        if self.name is not None and is_plug(self.name):
            return f"power.{self.name.partition(':')[0].lower()}"
        return self.name

    @property
    def probes(self) -> list[tuple[str, Probe]]:
        """Probes for what the person brought along, by the name of the source."""
        if self.name == NO_POWER:
            return []
        wanted: list[tuple[str, Callable[[Host], Source]]] = []
        name, command = self.name, self.command
        if name is not None and is_plug(name):
            wanted.append((self.headline or name, lambda _host: plug(name)))
        if command is not None:
            wanted.append(("power.exec", lambda host: exec_source(command, host)))
        probes = [(source, _probe(source, opened)) for source, opened in wanted]
        return [*probes, ("power.stream", probe_of(self.streams))] if self.streams else probes


def _probe(name: str, opened: Callable[[Host], Source]) -> Probe:
    def probe(host: Host) -> Iterator[Source | Absent]:
        try:
            source = opened(host)
        except SourceLost as lost:
            yield Absent(name=name, missing=lost.missing)
        except ValueError as error:
            yield Absent(name=name, missing=Missing(str(error)))
        else:
            yield source

    return probe
