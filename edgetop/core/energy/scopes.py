"""Which meters make the headline and may be added, over hosts too.

Added are only the packages of different sockets with their memory, and packages with discrete graphics boards. Never
added: anything across levels (a wall meter and a battery, a module and its rails), psys and a package, or two views
of one meter.

Powers are added host by host, and only where all are measured alike: a board at its input and another at the wall are
two different things. A host that should be there and is not makes the sum absent, with its name, and never smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from msgspec import Struct

from edgetop.core.sources import OUTSIDE, Meter, Scope, Unavailable

WIDEST_FIRST: tuple[Scope, ...] = get_args(Scope)


class Headline(Struct, frozen=True, kw_only=True):
    """The meters whose sum is shown first; all others stay visible beside it."""

    scope: Scope
    meters: tuple[Meter, ...]
    partial: bool = False
    """Processor and graphics board together: not the rest of the board, not the supply's losses."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What weakens the figure, by its meters and by its being put together."""
        flags = [flag for meter in self.meters for flag in meter.flags]
        return tuple(dict.fromkeys([*flags, *(["partial"] if self.partial else [])]))


def headline(meters: Sequence[Meter], chosen: str | None = None) -> Headline | Unavailable:
    """The widest scope that is metered, or the source or channel that the user chose by name."""
    if chosen is not None:
        offered = [meter for meter in meters if chosen in {meter.source, meter.name}]
        if not offered:
            names = ", ".join(dict.fromkeys(meter.source or meter.name for meter in meters)) or "none"
            return Unavailable(f"there is no power source called {chosen!r}", f"choose one of: {names}")
    else:
        offered = [meter for meter in meters if "opt-in" not in meter.flags]
        if not offered:
            return Unavailable("this device offers no power reading", OUTSIDE)
    scope = next(scope for scope in WIDEST_FIRST if any(meter.scope == scope for meter in offered))
    parts = _parts([meter for meter in offered if meter.scope == scope], offered)
    boards = [meter for meter in offered if meter.scope == "gpu_board" and meter.adds_up_as]
    if scope == "cpu_package" and boards and parts[0].adds_up_as:
        boards = _parts(boards, offered)
        if not any("includes-cpu" in board.flags for board in boards):
            return Headline(scope=scope, meters=(*parts, *boards), partial=True)
    return Headline(scope=scope, meters=tuple(parts))


def _parts(meters: Sequence[Meter], offered: Sequence[Meter]) -> list[Meter]:
    """The best of several meters of one scope, and those that may be added to it.

    These are others of its scope, and components that its own source offers, such as the memory beside a package.
    Of one source only channels of one kind are added: its counter and its power are two views of the same thing.
    """
    best = min(meters, key=lambda meter: (not meter.total, not meter.adds_up_as, meter.kind != "energy"))
    if not best.adds_up_as:
        return [best]
    sources = {meter.source for meter in meters}
    alike = [
        meter
        for meter in offered
        if meter.adds_up_as == best.adds_up_as
        and (meter.scope == best.scope or (meter.scope == "component" and meter.source in sources))
    ]
    counted = {meter.source for meter in alike if meter.kind == "energy"}
    return [meter for meter in alike if meter.kind == "energy" or meter.source not in counted]


LOCAL = "local"
"""What this machine is called among hosts; a stream cannot have that name."""

HOST_SEPARATOR = "+"
"""Joins the hosts that the person wants: `local+pi2`."""


def host_name(meter: Meter) -> str:
    """The machine that the meter measures, by its name among hosts."""
    return meter.host or LOCAL


def hosts_of(found: Headline) -> tuple[str, ...]:
    """The machines whose powers make the headline, in order."""
    return tuple(dict.fromkeys(host_name(meter) for meter in found.meters))


def lost_host(host: str, missing: Unavailable) -> Unavailable:
    """Why there is no sum of hosts: one of them gives nothing."""
    hint = (
        missing.hint or f"see whether {host} is up; --power HOST{HOST_SEPARATOR}HOST names those that are to be added"
    )
    return Unavailable(f"{host}: {missing.reason}", hint)


def headline_over_hosts(
    meters: Sequence[Meter], chosen: str | None = None, absent: Mapping[str, Unavailable] | None = None
) -> Headline | Unavailable:
    """The headline of this machine and of the hosts that streams measure.

    `chosen` is a source or channel by name, as for `headline`, or hosts joined by `+`, each by its name or `local`, or
    by a source of this machine. Unless something is chosen, all hosts are added up, and this machine where it has
    power. `absent` are hosts whose stream gave nothing, by name.
    """
    absent = absent or {}
    here = [meter for meter in meters if not meter.host]
    by_host: dict[str, list[Meter]] = {}
    for meter in meters:
        if meter.host:
            by_host.setdefault(meter.host, []).append(meter)
    known = {LOCAL, *by_host, *absent}
    if chosen is None:
        own = [LOCAL] if isinstance(headline(here), Headline) else []
        wanted = [*own, *by_host, *(host for host in absent if host not in by_host)]
        if not by_host and not absent:
            return headline(here)
    else:
        wanted = list(dict.fromkeys(chosen.split(HOST_SEPARATOR)))
        if wanted == [chosen] and (chosen not in known or any(chosen in {each.source, each.name} for each in meters)):
            return headline(meters, chosen)
    for host in wanted:
        if host in absent:
            return lost_host(host, absent[host])
    found: dict[str, Headline] = {}
    remote = {meter.scope for host in wanted for meter in by_host.get(host, ())}
    for host in wanted:
        own_choice = None if host in known else host
        of_host = headline(by_host[host]) if host in by_host else _own(here, own_choice, remote)
        if isinstance(of_host, Unavailable):
            return lost_host(host, of_host)
        found[host] = of_host
    return _together(found)


def _own(here: Sequence[Meter], chosen: str | None, remote: set[Scope]) -> Headline | Unavailable:
    """This machine's headline: the widest, unless the other hosts are measured otherwise and it can be so too."""
    own = headline(here, chosen)
    if isinstance(own, Unavailable) or chosen is not None or len(remote) != 1 or own.scope in remote:
        return own
    (scope,) = remote
    alike = headline([meter for meter in here if meter.scope in {scope, "component", "gpu_board"}])
    return alike if isinstance(alike, Headline) and alike.scope == scope else own


def _together(found: Mapping[str, Headline]) -> Headline | Unavailable:
    headlines = list(found.values())
    if len({each.scope for each in headlines}) > 1:
        said = ", ".join(f"{host} is measured as {each.scope.replace('_', ' ')}" for host, each in found.items())
        return Unavailable(
            f"powers of different scope are not added: {said}",
            f"name hosts that are measured alike with --power HOST{HOST_SEPARATOR}HOST, or choose there: "
            "edgetop power --power NAME --stream",
        )
    return Headline(
        scope=headlines[0].scope,
        meters=tuple(meter for each in headlines for meter in each.meters),
        partial=any(each.partial for each in headlines),
    )
