"""Extensions: what other packages bring by entry points.

One that fails, when it is loaded or later, is named and switched off, and never takes the session down.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from edgetop.core.text import one_line
from edgetop.io.log import log_exception

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Group = Literal["edgetop.sensors", "edgetop.servers", "edgetop.exporters"]

SENSORS: Final[Group] = "edgetop.sensors"
"""Each a `edgetop.telemetry.source.Probe`."""
SERVERS: Final[Group] = "edgetop.servers"
"""Each a class of `edgetop.inference.server.backend.ServerBackend`."""
EXPORTERS: Final[Group] = "edgetop.exporters"
"""Each gives a `edgetop.live.metrics.Exporter` for the text behind its name in `--export NAME:TEXT`."""

FAILURES: Final = (Exception, SystemExit)
"""What an extension may raise; a module that finds that it cannot work here may end with `sys.exit`."""

_troubles: list[str] = []
_off: dict[tuple[str, str], str] = {}


@cache
def installed(group: Group) -> dict[str, EntryPoint]:
    """Those of a group, by name."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - it takes 30 ms, which no start-up has

    return {point.name: point for point in entry_points(group=group)}


def loaded(group: Group) -> Iterator[tuple[str, Any]]:
    """Those of a group that can be loaded."""
    for name, point in installed(group).items():
        if (group, name) in _off:
            continue
        try:
            found = point.load()
        except FAILURES as error:
            switch_off(group, name, error)
        else:
            yield name, found


def owner(group: Group, found: object) -> str | None:
    """The name of the extension that brought something; `None` for what is our own."""
    return next((name for name, each in loaded(group) if each is found), None)


def switch_off(group: Group, name: str, error: BaseException) -> str:
    """Use it no more; what to say of it."""
    point = installed(group).get(name)
    package = f" of {point.dist.name}" if point is not None and point.dist is not None else ""
    kind = group.partition(".")[2].removesuffix("s")
    text = one_line(f"the {kind} extension {name}{package} failed and is off: {type(error).__name__}: {error}")
    log_exception(error)
    if (group, name) not in _off:
        _off[group, name] = text
        _troubles.append(text)
    return text


def why_off(group: Group, name: str) -> str:
    """What `switch_off` said of it; empty where it is in use."""
    return _off.get((group, name), "")


def new_troubles() -> list[str]:
    """What was switched off since the call before."""
    found = _troubles.copy()
    del _troubles[: len(found)]
    return found
