"""What a list of sessions says of each: the same in `edgetop sessions`, on the screen of sessions and in a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.figures import Energy, Figure
from edgetop.core.figures import Summary
from edgetop.core.format import NOT_AVAILABLE, format_duration, format_significant
from edgetop.core.text import one_line
from edgetop.core.watch_figures import WatchFigures
from edgetop.session.file import SessionHead
from edgetop.session.store import ListedSession

MINUTES: Final = len("2026-10-12 14:03")


class SessionEntry(Struct, frozen=True, kw_only=True):
    """A session in a list. An empty text or `None` is not known."""

    listed: ListedSession
    device: str = ""
    model: str = ""
    quantization: str = ""
    summary: Summary = Summary()
    watch: WatchFigures | None = None
    """Of a session that watched the servers of others."""
    duration_s: float | None = None
    tags: tuple[str, ...] = ()

    @property
    def energy(self) -> Energy | None:
        """Of the whole session."""
        return self.summary.energy

    @property
    def j_per_token(self) -> Figure | None:
        """All-in gross; of a watch over all users, with the time in which the servers waited."""
        if self.watch is not None:
            return None if self.watch.energy is None else self.watch.energy.j_per_token
        return None if self.energy is None else self.energy.j_per_token

    @property
    def grade(self) -> str:
        """How far the energy can be trusted; empty where it is not known."""
        energy = self.energy if self.watch is None else self.watch.energy
        return "" if energy is None else energy.grade

    @property
    def started(self) -> str:
        """To the minute; the name of a file that cannot be read."""
        head = self.listed.head
        return self.listed.path.name if head is None else head.started_at[:MINUTES].replace("T", " ")

    def matches(self, words: Iterable[str]) -> bool:
        """Whether each of the words is part of the device, the model, the quantization or a tag, whatever its case."""
        texts = [text.casefold() for text in (self.device, self.model, self.quantization, *self.tags)]
        return all(any(word.casefold() in text for text in texts) for word in words)


def entry_of(listed: ListedSession) -> SessionEntry:
    """What a list says of a session."""
    head = listed.head
    if head is None:
        return SessionEntry(listed=listed)
    device = head.device
    return SessionEntry(
        listed=listed,
        device=device.model or device.hostname or device.cpu,
        model=_joined(load.model.name for load in head.loads) or _watched(head),
        quantization=_joined(load.model.quantization for load in head.loads),
        summary=head.summary,
        watch=head.watch,
        duration_s=head.duration_us / US_PER_S,
        tags=head.tags,
    )


def models_of(head: SessionHead) -> str:
    """The models of a session with their quantizations, in the order in which they were loaded."""
    return _joined(f"{load.model.name} {load.model.quantization}".strip() for load in head.loads) or _watched(head)


def _watched(head: SessionHead) -> str:
    """What was watched: programs with their models."""
    watched = _joined(" ".join([each.kind, *each.models]) for each in head.services)
    return f"watch: {watched}" if watched else ""


def figure_text(figure: Figure | None, between: str = "±") -> str:
    """A figure with half its interval: 0.720 ± 0.050."""
    if figure is None:
        return NOT_AVAILABLE
    return f"{format_significant(figure.value)} {between} {format_significant((figure.high - figure.low) / 2, 2)}"


def energy_cell(entry: SessionEntry, between: str = "±") -> str:
    """Energy per token with interval and grade: 0.720 ± 0.050 B."""
    if entry.j_per_token is None:
        return NOT_AVAILABLE
    return f"{figure_text(entry.j_per_token, between)} {entry.grade}"


class ListColumn(NamedTuple):
    """A column of the list: its heading, its text, and what sorts by it."""

    heading: str
    text: Callable[[SessionEntry], str]
    rank: Callable[[SessionEntry], float | str | None]
    """`None` where there is nothing to sort by; such sessions come last."""
    numeric: bool = False
    """Aligned to the right."""
    greatest_first: bool = False
    """What is looked for is the most of it."""


COLUMNS: Final[Sequence[ListColumn]] = (
    ListColumn("#", lambda entry: str(entry.listed.number), lambda entry: entry.listed.number),
    ListColumn("STARTED", lambda entry: entry.started, lambda entry: entry.started),
    ListColumn("DEVICE", lambda entry: one_line(entry.device), lambda entry: entry.device.casefold() or None),
    ListColumn("MODEL", lambda entry: one_line(entry.model), lambda entry: entry.model.casefold() or None),
    ListColumn("QUANT", lambda entry: one_line(entry.quantization), lambda entry: entry.quantization or None),
    ListColumn(
        "TOK/S",
        lambda entry: _value_text(entry.summary.decode_tokens_per_s),
        lambda entry: entry.summary.decode_tokens_per_s,
        numeric=True,
        greatest_first=True,
    ),
    ListColumn(
        "J/TOKEN",
        energy_cell,
        lambda entry: None if entry.j_per_token is None else entry.j_per_token.value,
        numeric=True,
    ),
    ListColumn("LENGTH", lambda entry: format_duration(entry.duration_s), lambda entry: entry.duration_s, numeric=True),
    ListColumn("TAGS", lambda entry: one_line(" ".join(entry.tags)), lambda entry: " ".join(entry.tags) or None),
)
"""As `edgetop sessions` and the screen of sessions have them."""


def _value_text(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else format_significant(value)


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(text for text in texts if text))
