"""A comparison, ready to be drawn: what the table, the screen and the report all show.

The types are here; `edgetop.session.comparison.compare` makes them.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.session.comparison.result import Result

Verdict = Literal["base", "better", "worse", "same", "unclear", "unlike", "absent"]
"""`same`: any difference is small; `unclear`: noise hides whether there is one; `unlike`: the two cannot be held
against each other; `absent`: this result or the base lacks the figure."""
FlagName = Literal[
    "other device", "other power scope", "other power source", "other grade", "other prompts", "other context length",
    "other depth", "other engine build", "other power mode", "other kind", "throttled", "contention", "paging", "swap",
    "on battery", "edgetop disturbed",
]  # fmt: skip


class Cell(Struct, frozen=True, kw_only=True):
    """One figure of one result, and how it stands to the base."""

    value: float | None = None
    low: float | None = None
    """95 % interval of the value, the sensor's systematic error included; `None` where the spread is not known."""
    high: float | None = None
    missing: str = ""
    """Why there is no value."""
    change_percent: float | None = None
    """From the base; `None` for the base itself and where either lacks the figure."""
    change_low: float | None = None
    """95 % interval of the change for this figure alone; `None` where the spread is not known."""
    change_high: float | None = None
    p_value: float | None = None
    """Chance of so large a difference without a true one; `None` where the spread is not known."""
    verdict: Verdict = "absent"
    """Held to the 5 % of false alarms that all figures of a row share."""
    why: str = ""
    """What the verdict rests on, in one line."""
    repetitions: int = 0
    best: bool = False
    """Of all results that can be held against each other in this figure, and there are at least two."""


class Flag(Struct, frozen=True, kw_only=True):
    """Why this result is not like the base, or not a clean measurement."""

    name: FlagName
    text: str
    """One sentence."""


class Row(Struct, frozen=True, kw_only=True):
    """One result."""

    result: Result
    title: str
    """Says only what differs between the results of its group."""
    cells: dict[str, Cell]
    """By name of the figure; the same names in every row."""
    flags: tuple[Flag, ...] = ()
    is_base: bool = False
    on_front: bool = False
    """No other result is both faster and takes less energy for a token."""


class Group(Struct, frozen=True, kw_only=True):
    """Results that are alike in what is named by `title`."""

    title: str
    """Empty when there is only one group."""
    rows: tuple[int, ...]
    """Indices into `Comparison.rows`."""


class Trait(Struct, frozen=True, kw_only=True):
    """Something by which results are told apart, such as threads."""

    name: str
    values: tuple[str, ...]
    """One for each row; a single one where all are alike."""


class Comparison(Struct, frozen=True, kw_only=True):
    """Results held against one of them."""

    rows: tuple[Row, ...]
    base: int
    """Index of the row that the others are held against."""
    groups: tuple[Group, ...]
    figures: tuple[str, ...]
    """Names of the figures that at least one result has, in the order of `FIGURES`."""
    differing: tuple[Trait, ...]
    alike: tuple[Trait, ...]
    front: tuple[int, ...]
    """Rows on the Pareto front of energy per token against tokens per second, the fastest first."""
    front_note: str = ""
    """Why there is no front, or what it leaves out."""
    notes: tuple[str, ...] = ()
    """How the intervals and verdicts were made, in sentences."""
