"""jetson-stats, an optional extra: GPU load and fan of a Jetson where its service runs.

Power is not taken from it: its average is not one, and on the AGX Orin its total counts the memory twice
(`edgetop.telemetry.jetson` reads the sensors themselves). The library is AGPL-3.0 and is imported only here and only
when its service's socket exists.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.source import Absent, Host, Source, SourceLost, Values

SOURCE_NAME = "jetson_stats"
_SOCKET = "/run/jtop.sock"
_PERIOD_S = 1.0

_NOT_INSTALLED = Missing("jetson-stats is not installed beside edgetop", "pip install 'edgetop[jetson]'")
_SERVICE_MEND = "sudo systemctl restart jtop.service; service and library must be of one version"


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
            name=SOURCE_NAME,
            driver="jetson-stats",
            path=_SOCKET,
            period_s=_PERIOD_S,
            channels=tuple(
                Channel(name="gpu.jetson" if key == "GPU" else f"fan.{number}", unit="%", label=key[:40])
                for number, key in enumerate(self._keys)
            ),
        )

    def read(self) -> Values:
        """Percent, in the order of the channels. Raises SourceLost when the service has gone."""
        try:
            if not self._client.ok(spin=True):
                raise SourceLost("jtop.service has stopped", _SERVICE_MEND)
            stats = self._client.stats
        except self._broken as error:
            raise SourceLost("jtop.service does not answer any more", _SERVICE_MEND) from error
        return tuple(_percent(stats.get(key), key) for key in self._keys)

    def close(self) -> None:
        """Leave the service."""
        self._client.close()


def probe(host: Host, *, load: Callable[[], Any] = import_jtop) -> Iterator[Source | Absent]:
    """Yield a source where the service answers; nothing where there is no service."""
    if not host.path(_SOCKET).exists():
        return
    try:
        library = load()
    except ImportError:
        yield Absent(name=SOURCE_NAME, missing=_NOT_INSTALLED)
        return
    broken = (library.JtopException, OSError, EOFError)
    client: JtopClient = library.jtop()
    try:
        client.start()
        source = JetsonStats(client, broken)
    except broken as error:
        lines = str(error).splitlines() or [type(error).__name__]
        yield Absent(name=SOURCE_NAME, missing=Missing(f"jtop.service: {lines[0]}"[:120], _SERVICE_MEND))
        return
    if source.info.channels:
        yield source
    else:
        source.close()
        yield Absent(name=SOURCE_NAME, missing=Missing("jtop.service tells neither GPU load nor fan speed"))


def _percent(value: object, key: str) -> float | Missing:
    if isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 100:
        return float(value)
    return Missing(f"jtop gives no percentage for {key[:40]}")
