"""Which meters make the headline and may be added, over hosts too.

The headline is the widest scope that contains the hardware where the model runs. Added are only the packages of
different sockets with their memory, and packages with discrete graphics boards. Never added: anything across levels (a
wall meter and a battery, a module and its rails), psys and a package, or two views of one meter.

Powers are added host by host, and only where all are measured alike: a board at its input and another at the wall are
two different things. A host that should be there and is not makes the sum absent, with its name, and never smaller.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

from msgspec import Struct

from edgetop.core.format import format_significant
from edgetop.core.sources import EXTERNAL_METER, Meter, Scope, Unavailable

WIDEST_FIRST: tuple[Scope, ...] = get_args(Scope)

SCOPE_LABELS: Mapping[str, str] = {
    "wall": "at the wall",
    "dc_in": "DC input",
    "board_input": "board input",
    "module": "module",
    "platform": "platform",
    "battery": "battery",
    "board_rails": "board rails",
    "cpu_package": "CPU package",
    "gpu_board": "GPU board",
    "component": "component",
}
"""What each scope covers, for people."""
Hardware = Literal["cpu", "gpu"]
"""Where a model runs: the processor with what is built into it, or a graphics board of its own."""

CHOICES_SHOWN = 4

CHOOSE = "choose one: "
"""How the hint begins where only a person knows which meter measures the whole device."""

PROCESSOR, GRAPHICS = "the processor", "the graphics card"


class Headline(Struct, frozen=True, kw_only=True):
    """The meters whose sum is shown first; all others stay visible beside it."""

    scope: Scope
    meters: tuple[Meter, ...]
    partial: bool = False
    """Something that is known to take power is not in it, be it the rest of the board or the supply's losses."""
    left_out: tuple[str, ...] = ()
    """What of that is known by name."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What weakens the figure, by its meters and by its being put together."""
        flags = [flag for meter in self.meters for flag in meter.flags]
        return tuple(dict.fromkeys([*flags, *(["partial"] if self.partial else [])]))


def headlines(
    meters: Sequence[Meter],
    chosen: str | None = None,
    *,
    runs_on: Collection[Hardware] = (),
    readings_w: Mapping[str, float] | None = None,
) -> tuple[Headline, ...] | Unavailable:
    """All that can stand for the device, the widest first, or the one source or channel that the user chose by name.

    Each contains the hardware that the model runs on, where that is known. `readings_w` are the present powers by
    channel, for the list of meters of which nobody knows what they measure.
    """
    if chosen is not None:
        found = _chosen(meters, chosen, readings_w or {})
        return found if isinstance(found, Unavailable) else (found,)
    offered = [meter for meter in meters if "opt-in" not in meter.flags]
    boards = [meter for meter in offered if meter.scope == "gpu_board"]
    discrete = [board for board in boards if board.adds_up_as and "includes-cpu" not in board.flags]
    candidates: list[Headline] = []
    unclear: list[Meter] = []
    for scope in WIDEST_FIRST:
        alike = [meter for meter in offered if meter.scope == scope]
        if not alike:
            continue
        parts = _parts(alike, offered)
        if scope == "component" or not parts:
            unclear += alike if scope != "component" or not candidates else []
        elif scope == "cpu_package":
            if discrete:
                candidates.append(Headline(scope=scope, meters=(*parts, *_parts(discrete, offered)), partial=True))
            if "gpu" not in runs_on:
                left_out = (GRAPHICS,) if discrete else ()
                candidates.append(Headline(scope=scope, meters=tuple(parts), partial=bool(left_out), left_out=left_out))
        elif scope == "gpu_board":
            if "cpu" not in runs_on or any("includes-cpu" in part.flags for part in parts):
                candidates.append(Headline(scope=scope, meters=tuple(parts), partial=True, left_out=(PROCESSOR,)))
        else:
            candidates.append(Headline(scope=scope, meters=tuple(parts)))
    return tuple(candidates) or _why_none(offered, unclear, readings_w or {})


def headline(meters: Sequence[Meter], chosen: str | None = None) -> Headline | Unavailable:
    """The widest of `headlines`."""
    found = headlines(meters, chosen)
    return found if isinstance(found, Unavailable) else found[0]


def _chosen(meters: Sequence[Meter], chosen: str, readings_w: Mapping[str, float]) -> Headline | Unavailable:
    offered = [meter for meter in meters if chosen in {meter.source, meter.name}]
    if not offered:
        names = ", ".join(dict.fromkeys(meter.source or meter.name for meter in meters)) or "none"
        return Unavailable(f"there is no power source called {chosen!r}", f"choose one of: {names}")
    scope = next(scope for scope in WIDEST_FIRST if any(meter.scope == scope for meter in offered))
    alike = [meter for meter in offered if meter.scope == scope]
    parts = _parts(alike, offered)
    return Headline(scope=scope, meters=tuple(parts)) if parts else _choose_one(alike, readings_w)


def _why_none(offered: Sequence[Meter], unclear: Sequence[Meter], readings_w: Mapping[str, float]) -> Unavailable:
    scopes = {meter.scope for meter in offered}
    if scopes & {"cpu_package", "gpu_board"}:
        runs_on, unread = (PROCESSOR, GRAPHICS) if "gpu_board" in scopes else (GRAPHICS, PROCESSOR)
        name = next(meter.name for meter in offered if meter.scope in {"cpu_package", "gpu_board"})
        hint = f"{EXTERNAL_METER}; --power {name} measures {unread} alone"
        return Unavailable(f"the model runs on {runs_on}, and only the power of {unread} is read", hint)
    if unclear:
        return _choose_one(unclear, readings_w)
    return Unavailable("this device offers no power reading", EXTERNAL_METER)


def _choose_one(meters: Sequence[Meter], readings_w: Mapping[str, float]) -> Unavailable:
    """Nobody but the builder knows what several meters of one kind measure."""
    shown = ", ".join(
        f"{meter.name} {format_significant(readings_w[meter.name])} W" if meter.name in readings_w else meter.name
        for meter in meters
    )
    if all(meter.scope == "component" for meter in meters):
        reason = f"no meter is known to measure the whole device: {shown}"
    else:
        reason = f"which of {len(meters)} meters measures the whole device is not known: {shown}"
    names = " or ".join(f"--power {meter.name}" for meter in meters[:CHOICES_SHOWN])
    return Unavailable(reason, f"{CHOOSE}{names}, or /power NAME in the chat")


def _parts(meters: Sequence[Meter], offered: Sequence[Meter]) -> list[Meter]:
    """The best of several meters of one scope, and those that may be added to it; none where that is not known.

    These are others of its scope, and components that its own source offers, such as the memory beside a package.
    Of one source only channels of one kind are added: its counter and its power are two views of the same thing.
    All meters of a battery measure the same thing too, and its own slow gauge is the worst of them.
    """
    if meters[0].scope == "battery":
        meters = [meter for meter in meters if "slow" not in meter.flags] or meters
    best = min(meters, key=lambda meter: (not meter.total, not meter.adds_up_as, meter.kind != "energy"))
    if not best.adds_up_as:
        others = [meter for meter in meters if meter.source != best.source or (not best.total and meter is not best)]
        rivals = [other for other in others if not other.adds_up_as and not _is_other_view(other, best)]
        return [] if rivals else [best]
    sources = {meter.source for meter in meters}
    alike = [
        meter
        for meter in offered
        if meter.adds_up_as == best.adds_up_as
        and (meter.scope == best.scope or (meter.scope == "component" and meter.source in sources))
    ]
    counted = {meter.source for meter in alike if meter.kind == "energy"}
    return [meter for meter in alike if meter.kind == "energy" or meter.source not in counted]


def _is_other_view(one: Meter, other: Meter) -> bool:
    """Whether both measure the same thing: a board's counter and its power (`energy.gpu.0` and `power.gpu.0`)."""
    if one.scope != other.scope or one.kind == other.kind or one.host != other.host:
        return False
    is_other_half = one.source.partition(".")[2] == other.source.partition(".")[2]
    return is_other_half or bool(one.device and one.device == other.device)


def other_views(meters: Sequence[Meter], chosen: Sequence[Meter]) -> tuple[Meter | None, ...]:
    """By each of the chosen meters another that measures the same thing in another way, where there is one."""
    return tuple(next((other for other in meters if _is_other_view(other, main)), None) for main in chosen)


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
    """The widest of `headlines_over_hosts`."""
    found = headlines_over_hosts(meters, chosen, absent)
    return found if isinstance(found, Unavailable) else found[0]


def headlines_over_hosts(
    meters: Sequence[Meter],
    chosen: str | None = None,
    absent: Mapping[str, Unavailable] | None = None,
    *,
    runs_on: Collection[Hardware] = (),
    readings_w: Mapping[str, float] | None = None,
) -> tuple[Headline, ...] | Unavailable:
    """The headlines of this machine, or the one of it and of the hosts that streams measure.

    `chosen` is a source or channel by name, as for `headlines`, or hosts joined by `+`, each by its name or `local`, or
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
            return headlines(here, runs_on=runs_on, readings_w=readings_w)
    else:
        wanted = list(dict.fromkeys(chosen.split(HOST_SEPARATOR)))
        if wanted == [chosen] and (chosen not in known or any(chosen in {each.source, each.name} for each in meters)):
            return headlines(meters, chosen, readings_w=readings_w)
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
    summed = _sum_over_hosts(found)
    return summed if isinstance(summed, Unavailable) else (summed,)


def _own(here: Sequence[Meter], chosen: str | None, remote: set[Scope]) -> Headline | Unavailable:
    """This machine's headline: the widest, unless the other hosts are measured otherwise and it can be so too."""
    own = headline(here, chosen)
    if isinstance(own, Unavailable) or chosen is not None or len(remote) != 1 or own.scope in remote:
        return own
    (scope,) = remote
    alike = headline([meter for meter in here if meter.scope in {scope, "component", "gpu_board"}])
    return alike if isinstance(alike, Headline) and alike.scope == scope else own


def _sum_over_hosts(found: Mapping[str, Headline]) -> Headline | Unavailable:
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
        left_out=tuple(dict.fromkeys(left_out for each in headlines for left_out in each.left_out)),
    )
