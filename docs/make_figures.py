"""Writes `docs/figures.md` from the table of figures: `python -m docs.make_figures`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from docs.make_settings import escaped
from edgetop.core.figures import BY_NAME, FIGURES, Combined, Evidence, Figure, Kind

FILE = Path(__file__).with_name("figures.md")
HEAD = """\
# Where every number comes from

Each figure has one name everywhere: in session files, in `--json`, in CSV, in `edgetop compare --fail-if`. A dot stands
for an object in an object: `energy.gross_j` is `{"energy": {"gross_j": ...}}`. A figure that cannot be computed is
`null`, never 0, and the last column says where its reason stands or what it is.

Energies and powers are objects `{value, low, high, u_systematic, u_random}`: the interval is the value ± two standard
uncertainties. The systematic part is shared by all figures of one meter, the random part differs from window to window.

*Of* names what has the figure: a turn, a session (`summary`) and how its value is made from the turns, a test or a
setting of a benchmark (`bench --json`), a watch (`watch`, over all users of the servers). Figures with ▲ (higher is
better) or ▼ (lower is better) are judged by `edgetop compare`. `edgetop sessions validate` computes again what rests on
stamps, readings or the engine alone.

This page is made from the program's own table, `edgetop/core/figures.py` (`python -m docs.make_figures`).
"""
COLUMNS = ("name", "unit", "what it is", "formula", "source", "of", "missing")
SECTIONS: dict[str, tuple[Kind, ...]] = {
    "Speed and time": ("speed", "time"),
    "Tokens and turns": ("count",),
    "Energy and power": ("energy", "power"),
    "Memory": ("memory",),
    "Shares": ("share",),
    "Words": ("text", "reason"),
}
COMBINED: dict[Combined, str] = {
    "sum": "sum",
    "ratio": "totals over totals",
    "pooled": "all turns pooled",
    "median": "median of the turns",
    "mean": "mean",
    "maximum": "maximum",
    "minimum": "minimum",
    "last": "the last",
    "longest": "of the turns that took longest together",
}
EVIDENCE: dict[Evidence, str] = {"stamps": "stamps", "readings": "readings", "engine": "the engine", "rules": "rules"}


def page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for title, kinds in SECTIONS.items():
        yield f"## {title}\n"
        yield _row(COLUMNS)
        yield _row(["---"] * len(COLUMNS))
        for figure in FIGURES:
            if figure.kind in kinds:
                yield _row(_cells(figure))
        yield ""


def _cells(figure: Figure) -> list[str]:
    judged = {"higher": " ▲", "lower": " ▼", "": ""}[figure.better] if figure.share else ""
    rests_on = ", ".join(EVIDENCE[each] for each in figure.rests_on)
    of = [f"session: {COMBINED[figure.combined]}" if each == "session" else each for each in figure.of]
    return [
        f"`{figure.name}`{judged}",
        figure.unit,
        figure.label,
        escaped(figure.formula),
        f"{escaped(figure.source)} (rests on: {rests_on})",
        ", ".join(of),
        _missing(figure),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _missing(figure: Figure) -> str:
    if figure.kind == "reason":
        return "never"
    if not figure.reason:
        return figure.absent
    inside = f"`{figure.name.partition('.')[0]}.missing` or " if figure.kind in {"energy", "power"} else ""
    return f"reason in {inside}`{BY_NAME[figure.reason].name}`"


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
