"""Which meters make the headline, and which may be added.

Added are only the packages of different sockets with their memory, and packages with discrete graphics boards. Never
added: anything across levels (a wall meter and a battery, a module and its rails), psys and a package, or two views
of one meter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from msgspec import Struct

from edgetop.core.energy.meter import Meter
from edgetop.core.records import Missing, Scope

WIDEST_FIRST: tuple[Scope, ...] = get_args(Scope)

OUTSIDE = "use an outside meter: a smart plug, a USB-C meter, or any program with --power-exec"


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


def headline(meters: Sequence[Meter], chosen: str | None = None) -> Headline | Missing:
    """The widest scope that is metered, or the source or channel that the user chose by name."""
    if chosen is not None:
        offered = [meter for meter in meters if chosen in {meter.source, meter.name}]
        if not offered:
            names = ", ".join(dict.fromkeys(meter.source or meter.name for meter in meters)) or "none"
            return Missing(f"there is no power source called {chosen!r}", f"choose one of: {names}")
    else:
        offered = [meter for meter in meters if "opt-in" not in meter.flags]
        if not offered:
            return Missing("this device offers no power reading", OUTSIDE)
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
