"""Which machines make the headline where a model is spread over several, and when their powers may be added.

Powers are added host by host, and only where all are measured alike: a board at its input and another at the wall are
two different things. A host that should be there and is not makes the sum absent, with its name, and never smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgetop.core.energy.meter import Meter
from edgetop.core.energy.scope import Headline, headline
from edgetop.core.records import Missing, Scope

LOCAL = "local"
"""What this machine is called among hosts; a stream cannot have that name."""
AND = "+"
"""Joins the hosts that the person wants: `local+pi2`."""


def host_name(meter: Meter) -> str:
    """The machine that the meter measures, by its name among hosts."""
    return meter.host or LOCAL


def hosts_of(found: Headline) -> tuple[str, ...]:
    """The machines whose powers make the headline, in order."""
    return tuple(dict.fromkeys(host_name(meter) for meter in found.meters))


def lost_host(host: str, missing: Missing) -> Missing:
    """Why there is no sum of hosts: one of them gives nothing."""
    mend = missing.mend or f"see whether {host} is up; --power HOST{AND}HOST names those that are to be added"
    return Missing(f"{host}: {missing.reason}", mend)


def headline_over_hosts(
    meters: Sequence[Meter], chosen: str | None = None, absent: Mapping[str, Missing] | None = None
) -> Headline | Missing:
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
        wanted = list(dict.fromkeys(chosen.split(AND)))
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
        if isinstance(of_host, Missing):
            return lost_host(host, of_host)
        found[host] = of_host
    return _together(found)


def _own(here: Sequence[Meter], chosen: str | None, remote: set[Scope]) -> Headline | Missing:
    """This machine's headline: the widest, unless the other hosts are measured otherwise and it can be so too."""
    own = headline(here, chosen)
    if isinstance(own, Missing) or chosen is not None or len(remote) != 1 or own.scope in remote:
        return own
    (scope,) = remote
    alike = headline([meter for meter in here if meter.scope in {scope, "component", "gpu_board"}])
    return alike if isinstance(alike, Headline) and alike.scope == scope else own


def _together(found: Mapping[str, Headline]) -> Headline | Missing:
    headlines = list(found.values())
    if len({each.scope for each in headlines}) > 1:
        said = ", ".join(f"{host} is measured as {each.scope.replace('_', ' ')}" for host, each in found.items())
        return Missing(
            f"powers of different scope are not added: {said}",
            f"name hosts that are measured alike with --power HOST{AND}HOST, or choose there: "
            "edgetop power --power NAME --stream",
        )
    return Headline(
        scope=headlines[0].scope,
        meters=tuple(meter for each in headlines for meter in each.meters),
        partial=any(each.partial for each in headlines),
    )
