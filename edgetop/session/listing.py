"""What lists say of sessions: columns, and totals of groups.

Meters that cover different things are not added up: the energy of a group that has several is missing, and why.
Errors that the windows of one meter share add up linearly, also over sessions of several meters, which is never too
narrow; the others add up in quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from math import fsum, hypot
from operator import attrgetter
from typing import Final, NamedTuple

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.tokens import Energy, ServedEnergy
from edgetop.core.figures import ENERGY_MISSING, Summary, WatchFigures
from edgetop.core.format import NOT_AVAILABLE, Column, format_duration, format_significant, format_time
from edgetop.core.quantity import COVERAGE_FACTOR, J_PER_WH, WH_PER_KWH, Interval, plus_minus
from edgetop.core.records import LARGEST
from edgetop.core.text import distinct, one_line
from edgetop.session.file import SessionHead
from edgetop.session.store import ListedSession, Store, without_collecting


class SessionEntry(Struct, frozen=True, kw_only=True):
    """A session in a list. An empty text or `None` is not known."""

    listed: ListedSession
    title: str = ""
    """The first prompt, or the note where there is none."""
    device: str = ""
    model: str = ""
    quantization: str = ""
    summary: Summary = Summary()
    watch: WatchFigures | None = None
    """Of a session that watched the servers of others."""
    duration_s: float | None = None
    tags: tuple[str, ...] = ()
    searched: str = ""
    """Title, device, model, quantization and tags, in lines and without regard to case."""

    @property
    def energy(self) -> Energy | None:
        """Of the whole session."""
        return self.summary.energy

    @property
    def j_per_token(self) -> Interval | None:
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
        return self.listed.path.name if head is None else format_time(head.started_at)

    def matches(self, words: Iterable[str]) -> bool:
        """Whether each of the words is part of title, device, model, quantization or a tag, whatever its case."""
        return all(word.casefold() in self.searched for word in words)


def entry_of(listed: ListedSession) -> SessionEntry:
    """What a list says of a session."""
    head = listed.head
    if head is None:
        return SessionEntry(listed=listed)
    title = one_line(listed.first_prompt or head.notes)
    device = head.device.model or head.device.hostname or head.device.cpu
    model = distinct(load.model.name for load in head.loads) or _watched(head)
    quantization = distinct(load.model.quantization for load in head.loads)
    return SessionEntry(
        listed=listed,
        title=title,
        device=device,
        model=model,
        quantization=quantization,
        summary=head.summary,
        watch=head.watch,
        duration_s=head.duration_us / US_PER_S,
        tags=head.tags,
        searched="\n".join((title, device, model, quantization, *head.tags)).casefold(),
    )


def models_of(head: SessionHead) -> str:
    """The models of a session with their quantizations, in the order in which they were loaded."""
    return distinct(f"{load.model.name} {load.model.quantization}".strip() for load in head.loads) or _watched(head)


def _watched(head: SessionHead) -> str:
    """What was watched: programs with their models."""
    watched = distinct(" ".join([each.kind, *each.models]) for each in head.services)
    return f"watch: {watched}" if watched else ""


def energy_cell(entry: SessionEntry) -> str:
    """Energy per token with interval and grade: 0.720 ± 0.050 B."""
    return NOT_AVAILABLE if entry.j_per_token is None else f"{plus_minus(entry.j_per_token)} {entry.grade}"


def _of_head(value: Callable[[SessionHead], object]) -> Callable[[SessionEntry], object]:
    return lambda entry: None if entry.listed.head is None else value(entry.listed.head)


def _if_read(text: Callable[[SessionEntry], str]) -> Callable[[SessionEntry], str]:
    """Empty for a file that cannot be read, of which number, name and the problem are shown."""
    return lambda entry: "" if entry.listed.head is None else text(entry)


TITLE_SHOWN: Final = 60

COLUMNS: Final[Sequence[Column[SessionEntry]]] = (
    Column("number", attrgetter("listed.number"), "#", rank=attrgetter("listed.number"), importance=10),
    Column("path", lambda entry: str(entry.listed.path)),
    Column("id", _of_head(lambda head: head.id)),
    Column("started_at", _of_head(lambda head: head.started_at), "STARTED", attrgetter("started"),
           rank=lambda entry: getattr(entry.listed.head, "started_at", ""), importance=4),
    Column("", heading="DEVICE",
           text=lambda entry: entry.listed.problem if entry.listed.head is None else one_line(entry.device),
           rank=lambda entry: entry.device.casefold() or None, importance=1, least=12, most=24),
    Column("title", lambda entry: entry.title or None, "TITLE", _if_read(lambda entry: entry.title[:TITLE_SHOWN]),
           rank=lambda entry: entry.title.casefold() or None, importance=8, least=20, most=TITLE_SHOWN),
    Column("device", lambda entry: entry.device or None),
    Column("model", lambda entry: entry.model or None, "MODEL", _if_read(lambda entry: one_line(entry.model)),
           rank=lambda entry: entry.model.casefold() or None, importance=6, least=16, most=36),
    Column("quantization", lambda entry: entry.quantization or None, "QUANT",
           _if_read(lambda entry: one_line(entry.quantization)),
           rank=lambda entry: entry.quantization or None, importance=5),
    Column("turns", _of_head(lambda head: head.summary.turns)),
    Column("generated_tokens", _of_head(lambda head: head.summary.generated_tokens)),
    Column("decode_tokens_per_s", attrgetter("summary.decode_tokens_per_s"), "TOK/S",
           _if_read(lambda entry: _value_text(entry.summary.decode_tokens_per_s)),
           rank=attrgetter("summary.decode_tokens_per_s"), importance=9, right=True, greatest_first=True),
    Column("prefill_tokens_per_s", attrgetter("summary.prefill_tokens_per_s")),
    Column("j_per_token", lambda entry: entry.j_per_token and entry.j_per_token.value, "J/TOKEN",
           _if_read(energy_cell), rank=lambda entry: entry.j_per_token and entry.j_per_token.value, importance=7,
           right=True),
    Column("j_per_token_low", lambda entry: entry.j_per_token and entry.j_per_token.low),
    Column("j_per_token_high", lambda entry: entry.j_per_token and entry.j_per_token.high),
    Column("energy_scope", lambda entry: entry.energy and entry.energy.scope),
    Column("energy_grade", lambda entry: entry.energy and entry.energy.grade),
    Column("duration_s", heading="LENGTH", text=_if_read(lambda entry: format_duration(entry.duration_s)),
           rank=attrgetter("duration_s"), importance=2, right=True),
    Column("tags", heading="TAGS", text=_if_read(lambda entry: one_line(" ".join(entry.tags))),
           rank=lambda entry: " ".join(entry.tags) or None, importance=3, least=10, most=40),
    Column("notes", _of_head(lambda head: head.notes)),
    Column("problem", lambda entry: entry.listed.problem or None),
)  # fmt: skip
"""As `edgetop sessions` and the screen of sessions have them."""


def _value_text(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else format_significant(value)


SHOWN: Final = [column for column in COLUMNS if column.is_shown]

ROWS_NAME: Final = ".rows"
"""In the sessions folder; it can be deleted at any time."""

_BY_FILE: Final = SHOWN[2:]
"""Columns of which a file alone decides what they say: numbers change with the next session, times with the zone."""


class _Row(Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a session for lists that people read."""

    started_at: str
    """ISO 8601 in UTC; of a file that cannot be read its name."""
    searched: str
    texts: tuple[str, ...]


def _row_of(listed: ListedSession) -> _Row:
    entry = entry_of(listed)
    started_at = listed.path.name if listed.head is None else listed.head.started_at
    return _Row(started_at, entry.searched, tuple(one_line(column.text(entry)) for column in _BY_FILE))


def shown_rows(store: Store, words: Iterable[str]) -> tuple[list[Sequence[str]], int]:
    """What the columns of `SHOWN` say of each session that has all of the words, and how many sessions there are."""
    wanted = [word.casefold() for word in words]
    with without_collecting():
        found = store.kept(ROWS_NAME, _Row, _row_of)
        rows: list[Sequence[str]] = [
            (str(number), format_time(row.started_at), *row.texts)
            for number, (_, row) in enumerate(found, 1)
            if not wanted or all(word in row.searched for word in wanted)
        ]
    return rows, len(found)


S_PER_H: Final = 3600.0

NOT_KNOWN: Final = ""
"""A group of sessions that do not say it."""


def _month(head: SessionHead) -> str:
    try:
        return datetime.fromisoformat(head.started_at).astimezone().strftime("%Y-%m")
    except (ValueError, OverflowError, OSError):
        return NOT_KNOWN


def _energy(head: SessionHead) -> Energy | ServedEnergy | None:
    return head.summary.energy if head.watch is None else head.watch.energy


class _Counted(NamedTuple):
    """A session, or what one of several hosts did in it."""

    head: SessionHead
    model: str
    host: str
    tokens: int
    at_least: bool
    measured_tokens: int
    scope: str
    energy_j: Interval | None
    missing: str


def _counted(head: SessionHead) -> Iterator[_Counted]:
    hosts = [(each, each.served) for each in head.services if each.served is not None]
    for host, served in hosts:
        yield _Counted(
            head,
            distinct(host.models),
            host.address.removeprefix("ssh:"),
            served.generated_tokens or 0,
            served.at_least,
            served.measured_tokens,
            served.scope if served.energy_j is not None else NOT_KNOWN,
            served.energy_j,
            served.energy_missing,
        )
    if hosts:
        return
    energy, tokens = _energy(head), _generated(head)
    yield _Counted(
        head,
        models_of(head),
        head.device.hostname,
        tokens,
        head.watch is not None and head.watch.at_least,
        min(tokens, _measured(head)),
        NOT_KNOWN if energy is None else energy.scope,
        None if energy is None else energy.gross_j,
        _missing(head),
    )


GROUPS: Final[Mapping[str, Callable[[_Counted], str]]] = {
    "model": attrgetter("model"),
    "month": lambda each: _month(each.head),
    "host": attrgetter("host"),
    "scope": attrgetter("scope"),
}
"""By what sessions can be put together; months are those of the local calendar."""


class Totals(Struct, frozen=True, kw_only=True):
    """Sessions of one group together."""

    group: dict[str, str]
    """What they have in common, by the names of `GROUPS`; an empty text where it is not known."""
    sessions: int
    answers: int
    """Turns; the answers of watched servers are not counted one by one."""
    hours: float
    generated_tokens: int
    at_least: bool
    """Some watched server's tokens were seen only in part: there were more."""
    scopes: tuple[str, ...]
    """What the meters covered."""
    energy_j: Interval | None
    """Gross, of the turns; of watched servers of all the time."""
    measured_tokens: int
    """Those that the energy was measured of."""
    unmeasured_sessions: int
    unmeasured_tokens: int
    unmeasured_hours: float
    energy_missing: str
    """Why there is no energy; empty where there is."""

    @property
    def kwh(self) -> float | None:
        """The energy in kilowatt-hours."""
        return None if self.energy_j is None else self.energy_j.value / J_PER_WH / WH_PER_KWH


def totals(heads: Iterable[SessionHead], by: Sequence[str] = ()) -> list[Totals]:
    """The totals of each group, in the order of the groups; a session that is there twice counts once."""
    groups: dict[tuple[str, ...], list[_Counted]] = {}
    for head in {head.id: head for head in heads}.values():
        for each in _counted(head):
            groups.setdefault(tuple(GROUPS[name](each) for name in by), []).append(each)
    return [_total(dict(zip(by, key, strict=True)), found) for key, found in sorted(groups.items())]


def _total(group: dict[str, str], parts: Sequence[_Counted]) -> Totals:
    energies = [each.energy_j for each in parts if each.energy_j is not None]
    scopes = tuple(sorted({each.scope for each in parts if each.energy_j is not None}))
    generated, measured = sum(each.tokens for each in parts), sum(each.measured_tokens for each in parts)
    # Several hosts of a session were watched in the same hours.
    heads = list({each.head.id: each.head for each in parts}.values())
    with_energy = {each.head.id for each in parts if each.energy_j is not None}
    without = [head for head in heads if head.id not in with_energy]
    if not energies:
        missing = "; ".join(dict.fromkeys(each.missing for each in parts if each.missing)) or ENERGY_MISSING
    else:
        missing = f"the meters cover different things: {', '.join(scopes)}" if len(scopes) > 1 else ""
    return Totals(
        group=group,
        sessions=len(heads),
        answers=sum(head.summary.turns for head in heads if head.watch is None),
        hours=_hours(heads),
        generated_tokens=generated,
        at_least=any(each.at_least for each in parts),
        scopes=scopes,
        energy_j=_sum(energies) if len(scopes) == 1 else None,
        measured_tokens=measured,
        unmeasured_sessions=len(without),
        unmeasured_tokens=generated - measured,
        unmeasured_hours=_hours(without),
        energy_missing=missing,
    )


def _generated(head: SessionHead) -> int:
    return head.summary.generated_tokens if head.watch is None else head.watch.generated_tokens or 0


def _measured(head: SessionHead) -> int:
    """The tokens that a session's energy was spent on, which are fewer than all where a turn was not measured."""
    energy = _energy(head)
    if energy is None or energy.j_per_token is None or energy.j_per_token.value <= 0:
        return 0
    return round(max(0.0, min(energy.gross_j.value / energy.j_per_token.value, LARGEST)))


def _missing(head: SessionHead) -> str:
    return head.summary.energy_missing if head.watch is None else head.watch.energy_missing


def _hours(heads: Iterable[SessionHead]) -> float:
    return fsum(head.duration_us for head in heads) / US_PER_S / S_PER_H


def _sum(parts: Sequence[Interval]) -> Interval:
    value = fsum(part.value for part in parts)
    systematic, random = fsum(part.u_systematic for part in parts), hypot(*(part.u_random for part in parts))
    reach = COVERAGE_FACTOR * hypot(systematic, random)
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=systematic, u_random=random)
