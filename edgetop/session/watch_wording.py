"""The figures of a watch for a person: what servers did for all their users, and at what energy."""

from __future__ import annotations

from edgetop.core.energy.figure import with_interval
from edgetop.core.energy.served import ServedEnergy
from edgetop.core.format import NOT_AVAILABLE, format_duration, format_rate
from edgetop.core.watch_figures import WatchFigures


def figure_rows(figures: WatchFigures) -> list[list[str]]:
    """The figures of a watch, each with its name."""
    rows = [
        ["watched", format_duration(figures.watched_s)],
        ["generated", NOT_AVAILABLE if figures.generated_tokens is None else f"{figures.generated_tokens} tokens"],
        ["prompts", NOT_AVAILABLE if figures.prompt_tokens is None else f"{figures.prompt_tokens} tokens"],
        ["generating", f"{format_duration(figures.generating_s)}, {format_rate(figures.tokens_per_s)} in it"],
    ]
    if figures.left_out_s:
        rows.append(["left out", f"{format_duration(figures.left_out_s)}: {figures.left_out}"])
    if figures.energy is None:
        return [*rows, ["energy", f"{NOT_AVAILABLE}: {figures.energy_missing}"]]
    return rows + energy_rows(figures.energy)


def energy_rows(energy: ServedEnergy) -> list[list[str]]:
    """The energy over all users, each figure with its interval."""
    flags = f", {', '.join(energy.flags)}" if energy.flags else ""
    return [
        ["J/token", f"{with_interval(energy.j_per_token)} gross, over all users"],
        ["generating", f"{with_interval(energy.generating_j_per_token)} J/token while requests were under way"],
        ["waiting", f"{with_interval(energy.waiting_j_per_token)} J/token for the time in which none was"],
        ["net", _net(energy)],
        ["in all", f"{with_interval(energy.gross_j)} J, {with_interval(energy.mean_w)} W in the mean"],
        ["measured", f"{energy.scope.replace('_', ' ')}, {energy.source}, grade {energy.grade}{flags}"],
    ]


def _net(energy: ServedEnergy) -> str:
    if energy.net_j_per_token is None:
        missing = energy.missing["net_j_per_token"]
        return f"{NOT_AVAILABLE}: {missing.reason}" + (f": {missing.mend}" if missing.mend else "")
    return f"{with_interval(energy.net_j_per_token)} J/token above {with_interval(energy.idle_w)} W idle"
