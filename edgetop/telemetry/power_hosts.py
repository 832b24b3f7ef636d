"""The streams of power that the person asked for: a meter of this machine, or the machines that a model is spread over.

One stream without a name, whose header names no host, is a meter of this machine. Any other is a host: by the name
given with it (`pi2=COMMAND`), else by the one in its header, else by its place among the streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from edgetop.core.energy.hosts import LOCAL
from edgetop.core.records import Missing
from edgetop.telemetry.host_stream import HostSource
from edgetop.telemetry.power_connection import TIMEOUT_S, Connection
from edgetop.telemetry.power_feed import parse_stream
from edgetop.telemetry.power_stream import StreamSource
from edgetop.telemetry.power_text import HOST_NAME
from edgetop.telemetry.source import Absent, Host, Probe, Source, SourceLost

HOST_TIMEOUT_S = 20.0
"""A login over a slow line, and Python on a small board, take their time."""
_NAMED = re.compile(rf"({HOST_NAME.pattern})=(.*\S.*)", re.ASCII | re.DOTALL)


def probe_of(streams: Sequence[str]) -> Probe:
    """A probe that starts all streams at once, since each may take seconds, and gives them in their order."""

    def probe(host: Host) -> Iterator[Source | Absent]:
        with ThreadPoolExecutor(max_workers=len(streams), thread_name_prefix="edgetop-streams") as pool:
            opened = [
                pool.submit(_opened, text, place, len(streams), host) for place, text in enumerate(streams, start=1)
            ]
            taken: set[str] = set()
            for future in opened:
                found = future.result()
                name = found.name if isinstance(found, Absent) else found.info.name
                if name in taken:
                    if not isinstance(found, Absent):
                        found.close()
                    found = Absent(
                        name=name,
                        missing=Missing("two streams have its name", "give names: --power-stream NAME=COMMAND"),
                    )
                taken.add(name)
                yield found

    return probe


def _opened(text: str, place: int, count: int, host: Host) -> Source | Absent:
    named = _NAMED.fullmatch(text)
    name = named[1] if named is not None else ""
    is_host = bool(name) or count > 1
    if name == LOCAL:
        missing = Missing(f"{LOCAL!r} is this machine", "give the host another name")
        return Absent(name=f"power.host.host-{place}", missing=missing)
    try:
        feed = parse_stream(text if named is None else named[2])
        connection = Connection(feed, host.clock, timeout_s=HOST_TIMEOUT_S if is_host or _is_ssh(text) else TIMEOUT_S)
        header = connection.open()
        if is_host or header.host:
            return HostSource(connection, name or header.host or f"host-{place}", host)
        return StreamSource(connection, host)
    except (SourceLost, ValueError) as error:
        missing = error.missing if isinstance(error, SourceLost) else Missing(str(error))
        return Absent(name=f"power.host.{name or f'host-{place}'}" if is_host else "power.stream", missing=missing)


def _is_ssh(text: str) -> bool:
    return text.split(maxsplit=1)[0].rpartition("/")[2] == "ssh" if text.strip() else False
