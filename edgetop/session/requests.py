"""Requests that a proxy passed on, or a benchmark sent: figures by client, model, number of clients; shares of energy.

The rule: the energy of each moment in which requests ran is shared equally among them. What one ran alone is its own;
of what it shared with others its part may be anything from nothing to twice as much, and the interval reaches so far.
Within a cell, which is at least a second long where requests follow each other without a pause, the parts are taken by
time. Gross, without the time in which nothing ran. A request whose energy was not measured all the time is left out
with its tokens.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise
from math import hypot
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.scopes import Headline
from edgetop.core.energy.tokens import UNCOUNTED, EnergyBasis, ServedEnergy, ServedTotals, TokensServed, served_energy
from edgetop.core.energy.windows import Window, sum_over_meters, sum_over_turns
from edgetop.core.figures import ENERGY_MISSING, WatchFigures
from edgetop.core.format import NOT_AVAILABLE, format_clock, format_rate, format_seconds
from edgetop.core.quantity import Interval, Quantity, figure, scaled, summed, with_interval
from edgetop.core.records import Count, RequestServed
from edgetop.core.sources import Unavailable
from edgetop.core.statistics import percentile
from edgetop.session.meters import ChannelFeed, headline_of, meters_of
from edgetop.session.session import PerSession, Session
from edgetop.session.turn import US_PER_MS, tokens_per_s

PROXY_EVENT = "proxy_began"
"""Kind of the event that says where requests came in; `no_energy` in it says why there is none."""

CELL_US = US_PER_S

KNEE_GAIN = 0.1
"""The knee is the fewest clients with which all but so much of the highest throughput is reached (judgement: what is
above that is hardly more than noise, and is paid for with waiting)."""

CONCURRENCY_EVENT = "concurrency_began"
"""Kind of the event that says what a benchmark asks for; `no_energy` in it as of a proxy's."""

_NOT_SUBTRACTED = Unavailable("gross energy only")
_ONLY_REQUESTS = Unavailable("the time between requests is not measured where the server counts nothing")
_STILL = Unavailable("it ran when nothing was measured")


class ClientFigures(Struct, frozen=True, kw_only=True):
    """What the requests of one client to one model came to."""

    client: str
    model: str
    requests: Count = 0
    failed: Count = 0
    """Those without a whole answer, or with an error."""
    prompt_tokens: Count | None = None
    cached_tokens: Count | None = None
    generated_tokens: Count | None = None
    at_least: bool = False
    """Some answers were counted by their chunks."""
    first_token_s: float | None = None
    """Median, from the request to the first token."""
    gap_p50_ms: float | None = None
    """Median of the answers' medians."""
    gap_p95_ms: float | None = None
    tokens_per_s: float | None = None
    """Tokens after the first ones by the time they took, of one answer in the mean."""
    gross_j: Interval | None = None
    j_per_token: Interval | None = None
    """Gross energy of the requests, prompts among it, by generated tokens."""
    shared: float | None = None
    """Part of the time of its requests in which those of others ran, too: 0 to 1."""
    energy_missing: str = ENERGY_MISSING


class LevelFigures(Struct, frozen=True, kw_only=True):
    """What a server did for so many clients of a benchmark at once, each of which asked again once it was answered."""

    at_once: Count
    requests: Count = 0
    failed: Count = 0
    """Those without a whole answer, or with an error."""
    prompt_tokens: Count | None = None
    generated_tokens: Count | None = None
    at_least: bool = False
    seconds: float = 0.0
    """From the first request to the end of the last answer."""
    tokens_per_s: float | None = None
    """Generated for all of them together in those seconds, prompts among it."""
    tokens_per_s_each: float | None = None
    """Decode speed of one answer in the mean."""
    first_token_p50_s: float | None = None
    first_token_p95_s: float | None = None
    first_token_p99_s: float | None = None
    gap_p50_ms: float | None = None
    """Between the tokens of all answers together; `None` where pieces are not tokens."""
    gap_p95_ms: float | None = None
    gap_p99_ms: float | None = None
    gross_j: Interval | None = None
    j_per_token: Interval | None = None
    """Gross energy while requests ran, prompts among it, by generated tokens."""
    energy_missing: str = ENERGY_MISSING
    is_knee: bool = False
    """More clients brought at most `KNEE_GAIN` more."""


class RereadFigures(Struct, frozen=True, kw_only=True):
    """Prompt tokens that a server processed though it had seen them, for one reason."""

    model: str
    why: str
    requests: Count
    tokens: Count
    prompt_tokens: Count
    """Of those requests."""
    seconds: float | None = None
    """As the server says how long it processed; of requests of which it does not, none."""
    energy_j: Interval | None = None
    """Gross, for those seconds."""


class _Cell(NamedTuple):
    start_us: int
    end_us: int
    segments: list[tuple[int, tuple[int, ...]]]
    """How long which requests ran together."""


class _Part(NamedTuple):
    """What a group has of the energy."""

    energy: Interval
    shared: float


def _cells(spans: Sequence[tuple[int, int]]) -> Iterator[_Cell]:
    """The time in which requests ran, cut where one begins or ends, in pieces that are not too short to be measured."""
    changes: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for index, (begin_us, end_us) in enumerate(spans):
        if end_us > begin_us:
            changes[begin_us][0].append(index)
            changes[end_us][1].append(index)
    running: dict[int, None] = {}
    cell: list[tuple[int, tuple[int, ...]]] = []
    start_us = before_us = 0
    for t_us in sorted(changes):
        begun, ended = changes[t_us]
        if running:
            cell.append((t_us - before_us, tuple(running)))
        for index in ended:
            running.pop(index, None)
        running.update(dict.fromkeys(begun))
        if cell and (not running or t_us - start_us >= CELL_US):
            yield _Cell(start_us, t_us, cell)
            cell = []
        if not cell:
            start_us = t_us
        before_us = t_us


class RequestEnergy:
    """The energy of a session's requests until a moment."""

    def __init__(self, session: Session, t_us: int) -> None:
        self.requests = [each for each in session.requests if each.t_us <= t_us]
        self.missing = self._why_none(session)
        self._headline = headline_of(session, meters_of(session)) if self.missing is None else self.missing
        self._feeds: list[ChannelFeed] = []
        if isinstance(self._headline, Headline):
            self._feeds = [ChannelFeed(session, meter) for meter in self._headline.meters]
            for feed in self._feeds:
                feed.advance(t_us)
        else:
            self.missing = self._headline
        self._cells: list[tuple[_Cell, Window]] = []
        self.unmeasured: dict[int, Unavailable] = {}
        """Requests by their places, with the reason."""
        if self.missing is None:
            self._measure()

    @staticmethod
    def _why_none(session: Session) -> Unavailable | None:
        said = [
            event.data.get("no_energy") for event in session.events if event.kind in {PROXY_EVENT, CONCURRENCY_EVENT}
        ]
        return Unavailable(str(said[-1])) if said and said[-1] else None

    def _measure(self) -> None:
        for cell in _cells([(each.t_us - each.took_us, each.t_us) for each in self.requests]):
            measured = self.between(cell.start_us, cell.end_us)
            if isinstance(measured, Unavailable):
                self.unmeasured.update((index, measured) for _, indices in cell.segments for index in indices)
            else:
                self._cells.append((cell, measured))

    def between(self, start_us: int, end_us: int) -> Window | Unavailable:
        """The energy of some time."""
        found: list[Window] = []
        for feed in self._feeds:
            measured = feed.measured(start_us, end_us, _NOT_SUBTRACTED)
            if isinstance(measured, Unavailable):
                return measured
            found.append(measured)
        return sum_over_meters(found) if found else Unavailable(ENERGY_MISSING)

    def of_all(self) -> ServedEnergy | Unavailable:
        """All requests together, those left out that were not measured."""
        if not isinstance(self._headline, Headline):
            return self._headline
        if not self._cells:
            return next(iter(self.unmeasured.values()), _STILL)
        estimators = [feed.estimator for feed in self._feeds]
        measured = [each for index, each in enumerate(self.requests) if index not in self.unmeasured]
        basis = EnergyBasis(
            scope=self._headline.scope,
            source=" + ".join(dict.fromkeys(meter.source for meter in self._headline.meters)),
            averaged=all(each.meter.kind == "energy" or each.curve.averaging for each in estimators),
            flags=(*self._headline.flags, *([] if all(each.counted for each in measured) else [UNCOUNTED])),
        )
        served = ServedTotals(
            generating=sum_over_turns([window for _, window in self._cells]),
            waiting=None,
            net=_NOT_SUBTRACTED,
            tokens=TokensServed(count=sum(each.generated_tokens or 0 for each in measured)),
        )
        found = served_energy(served, basis)
        if isinstance(found, Unavailable):
            return found
        return replace(found, missing={**found.missing, "waiting_j_per_token": _ONLY_REQUESTS})

    def of_reread(self, request: RequestServed) -> Interval | None:
        """What it took to process tokens again; `None` where that is not known."""
        begin_us, length_us = request.t_us - request.took_us, request.first_token_us or request.took_us
        again_us = _again_us(request)
        if again_us is None or not length_us or self.missing is not None:
            return None
        measured = self.between(begin_us, begin_us + length_us)
        if isinstance(measured, Unavailable):
            return None
        beside = [
            each for each in self.requests if each.t_us > begin_us and each.t_us - each.took_us < begin_us + length_us
        ]
        spans = [(max(begin_us, each.t_us - each.took_us), min(begin_us + length_us, each.t_us)) for each in beside]
        own = beside.index(request)
        part_us = shared_us = 0.0
        for cell in _cells(spans):
            for span_us, indices in cell.segments:
                if own in indices:
                    part_us += span_us / len(indices)
                    shared_us += span_us / len(indices) if len(indices) > 1 else 0.0
        scale = min(1.0, again_us / length_us) / length_us
        return _widened(figure(measured.gross.scaled(part_us * scale)), measured.gross.value * shared_us * scale)

    def of(self, group: Callable[[RequestServed], Hashable]) -> dict[Hashable, _Part]:
        """What each group of requests took, those left out that were not measured."""
        names = [None if index in self.unmeasured else group(each) for index, each in enumerate(self.requests)]
        parts: dict[Hashable, list[Quantity]] = defaultdict(list)
        unsure_j: dict[Hashable, float] = defaultdict(float)
        times: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for cell, measured in self._cells:
            energy, length_us = measured.gross, cell.end_us - cell.start_us
            weights: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
            for span_us, indices in cell.segments:
                counts: dict[Hashable, int] = defaultdict(int)
                for index in indices:
                    counts[names[index]] += 1
                for name, count in counts.items():
                    part_us = span_us * count / len(indices)
                    weights[name][0] += part_us
                    times[name][0] += span_us
                    if count < len(indices):
                        weights[name][1] += part_us
                        times[name][1] += span_us
            for name, (part_us, shared_us) in weights.items():
                parts[name].append(energy.scaled(part_us / length_us))
                unsure_j[name] += energy.value * shared_us / length_us
        return {
            name: _Part(_widened(figure(summed(parts[name])), unsure_j[name]), times[name][1] / times[name][0])
            for name in parts
            if name is not None
        }


def _widened(energy: Interval, unsure_j: float) -> Interval:
    """With what the sharing leaves open."""
    return replace(
        energy,
        low=max(0.0, energy.value - hypot(energy.value - energy.low, unsure_j)),
        high=energy.value + hypot(energy.high - energy.value, unsure_j),
        u_systematic=hypot(energy.u_systematic, unsure_j / 2),
    )


SETTLED_S: Final = 10
"""After so long no reading comes that belongs to the last request."""


class _Passed:
    """What all requests came to when it was last computed."""

    def __init__(self, _session: Session) -> None:
        self.at: tuple[int, bool] | None = None
        self.figures = WatchFigures()


_PASSED: Final = PerSession(_Passed)


def passed_figures(session: Session, t_us: int, *, exact: bool) -> WatchFigures:
    """What all requests that passed a proxy came to until `t_us`; unless `exact`, of many those of a while ago.

    All are gone through each time, which is done again once a share of them is new, or none has come for a while.
    """
    passed = _PASSED.of(session)
    ended_us = [each.t_us for each in session.requests if each.t_us <= t_us]
    at = len(ended_us) // (1 + len(ended_us) // 200), t_us >= max(ended_us, default=0) + SETTLED_S * US_PER_S
    if exact or passed.at != at:
        passed.at, passed.figures = at, _passed_figures(session, t_us)
    return passed.figures


def _passed_figures(session: Session, t_us: int) -> WatchFigures:
    energy = RequestEnergy(session, t_us)
    requests, found = energy.requests, energy.of_all()
    cells = list(_cells([(each.t_us - each.took_us, each.t_us) for each in requests]))
    decoded = [decode_of(each) for each in requests]
    processed = [each.prompt_tokens - (each.cached_tokens or 0) for each in requests if each.prompt_tokens is not None]
    return WatchFigures(
        watched_s=t_us / US_PER_S,
        generating_s=sum(cell.end_us - cell.start_us for cell in cells) / US_PER_S,
        generated_tokens=_total([each.generated_tokens for each in requests]),
        at_least=any(not each.counted for each in requests),
        prompt_tokens=max(0, sum(processed)) if processed else None,
        tokens_per_s=tokens_per_s(sum(part[0] for part in decoded), sum(part[1] for part in decoded)),
        energy=None if isinstance(found, Unavailable) else found,
        energy_missing=str(found) if isinstance(found, Unavailable) else "",
    )


def client_figures(session: Session, t_us: int) -> tuple[ClientFigures, ...]:
    """The figures of all clients and models until `t_us`, by client."""
    if not session.requests:
        return ()
    energy = RequestEnergy(session, t_us)
    shares = energy.of(lambda each: (each.client, each.model))
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, each in enumerate(energy.requests):
        groups[each.client, each.model].append(index)
    return tuple(
        _figures(name, [(index, energy.requests[index]) for index in indices], energy, shares.get(name))
        for name, indices in sorted(groups.items())
    )


def _figures(
    name: tuple[str, str], indexed: Sequence[tuple[int, RequestServed]], energy: RequestEnergy, part: _Part | None
) -> ClientFigures:
    requests = [each for _, each in indexed]
    decoded = [decode_of(each) for each in requests]
    tokens, span_us = sum(part[0] for part in decoded), sum(part[1] for part in decoded)
    measured = sum(each.generated_tokens or 0 for index, each in indexed if index not in energy.unmeasured)
    why = energy.missing or next((energy.unmeasured[index] for index, _ in indexed if index in energy.unmeasured), None)
    first_us = [each.first_token_us for each in requests if each.first_token_us is not None]
    return ClientFigures(
        client=name[0],
        model=name[1],
        requests=len(requests),
        failed=sum(_has_failed(each) for each in requests),
        prompt_tokens=_total([each.prompt_tokens for each in requests]),
        cached_tokens=_total([each.cached_tokens for each in requests]),
        generated_tokens=_total([each.generated_tokens for each in requests]),
        at_least=any(not each.counted for each in requests),
        first_token_s=_median([t_us / US_PER_S for t_us in first_us]),
        gap_p50_ms=_median([each.gap_p50_ms for each in requests if each.gap_p50_ms is not None]),
        gap_p95_ms=_median([each.gap_p95_ms for each in requests if each.gap_p95_ms is not None]),
        tokens_per_s=tokens_per_s(tokens, span_us),
        gross_j=None if part is None else part.energy,
        j_per_token=scaled(part.energy, 1 / measured) if part is not None and measured else None,
        shared=None if part is None else part.shared,
        energy_missing="" if part is not None else str(why or _STILL),
    )


def token_gaps_ms(stamps_us: Sequence[int], tokens: int | None) -> Iterator[float]:
    """Between one token and the next; nothing where a chunk is not a token's: it tells nothing of that."""
    if tokens is None or abs(tokens - len(stamps_us)) <= 2 + len(stamps_us) // 20:
        for earlier, later in pairwise(stamps_us):
            yield (later - earlier) / US_PER_MS


def level_figures(session: Session, t_us: int) -> tuple[LevelFigures, ...]:
    """The figures of each number of clients until `t_us`, ascending, with the knee where one was reached."""
    if not any(each.at_once for each in session.requests):
        return ()
    energy = RequestEnergy(session, t_us)
    shares = energy.of(lambda each: each.at_once)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, each in enumerate(energy.requests):
        if each.at_once:
            groups[each.at_once].append(index)
    levels = [_level(at_once, groups[at_once], energy, shares.get(at_once)) for at_once in sorted(groups)]
    rates = {level.at_once: level.tokens_per_s for level in levels if level.tokens_per_s is not None}
    most = max(rates.values(), default=0.0)
    knee = next((at_once for at_once, rate in rates.items() if rate >= (1 - KNEE_GAIN) * most), 0)
    # What more clients would bring is not known of the last one.
    return tuple(replace(each, is_knee=each.at_once == knee < max(rates)) for each in levels)


def _level(at_once: int, indices: Sequence[int], energy: RequestEnergy, part: _Part | None) -> LevelFigures:
    requests = [energy.requests[index] for index in indices]
    span_s = (max(each.t_us for each in requests) - min(each.t_us - each.took_us for each in requests)) / US_PER_S
    tokens = _total([each.generated_tokens for each in requests])
    decoded = [decode_of(each) for each in requests]
    first_s = sorted(each.first_token_us / US_PER_S for each in requests if each.first_token_us is not None)
    gaps_ms = sorted(
        gap for each in requests if each.counted for gap in token_gaps_ms(each.chunk_us, each.generated_tokens)
    )
    # Where some were not measured, their tokens are left out with their energy.
    measured = sum(energy.requests[index].generated_tokens or 0 for index in indices if index not in energy.unmeasured)
    why = energy.missing or next((energy.unmeasured[index] for index in indices if index in energy.unmeasured), None)
    return LevelFigures(
        at_once=at_once,
        requests=len(requests),
        failed=sum(_has_failed(each) for each in requests),
        prompt_tokens=_total([each.prompt_tokens for each in requests]),
        generated_tokens=tokens,
        at_least=any(not each.counted for each in requests),
        seconds=span_s,
        tokens_per_s=tokens / span_s if tokens and span_s > 0 else None,
        tokens_per_s_each=tokens_per_s(sum(part[0] for part in decoded), sum(part[1] for part in decoded)),
        first_token_p50_s=percentile(first_s, 50),
        first_token_p95_s=percentile(first_s, 95),
        first_token_p99_s=percentile(first_s, 99),
        gap_p50_ms=percentile(gaps_ms, 50),
        gap_p95_ms=percentile(gaps_ms, 95),
        gap_p99_ms=percentile(gaps_ms, 99),
        gross_j=None if part is None else part.energy,
        j_per_token=scaled(part.energy, 1 / measured) if part is not None and measured else None,
        energy_missing="" if part is not None else str(why or _STILL),
    )


def decode_of(request: RequestServed) -> tuple[int, int]:
    """Tokens that came after the first chunk, and how long they took in microseconds; 0 where that is not known."""
    if not request.counted or not request.generated_tokens or request.chunks < 2:
        return 0, 0
    first = max(1, round(request.generated_tokens / request.chunks))
    return request.generated_tokens - first, (request.last_token_us or 0) - (request.first_token_us or 0)


def _again_us(request: RequestServed) -> float | None:
    """How long the server processed tokens again: its time by tokens."""
    processed = (request.prompt_tokens or 0) - (request.cached_tokens or 0)
    if request.prefill_us is None or not request.reread_tokens or processed <= 0:
        return None
    return request.prefill_us * min(1.0, request.reread_tokens / processed)


def reread_figures(session: Session, t_us: int) -> tuple[RereadFigures, ...]:
    """What was processed again until `t_us`, by model and reason, the most first."""
    groups: dict[tuple[str, str], list[RequestServed]] = defaultdict(list)
    for each in session.requests:
        if each.t_us <= t_us and each.reread_tokens:
            groups[each.model, each.reread_why].append(each)
    if not groups:
        return ()
    energy = RequestEnergy(session, t_us)
    return tuple(
        RereadFigures(
            model=model,
            why=why,
            requests=len(requests),
            tokens=sum(each.reread_tokens or 0 for each in requests),
            prompt_tokens=sum(each.prompt_tokens or 0 for each in requests),
            seconds=None if None in (spans := [_again_us(each) for each in requests]) else _seconds(spans),
            energy_j=_sum([energy.of_reread(each) for each in requests]),
        )
        for (model, why), requests in sorted(
            groups.items(), key=lambda group: -sum(each.reread_tokens or 0 for each in group[1])
        )
    )


def _seconds(spans_us: Sequence[float | None]) -> float:
    return sum(span_us or 0.0 for span_us in spans_us) / US_PER_S


def _sum(parts: Sequence[Interval | None]) -> Interval | None:
    """Of parts whose errors may all be alike."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    names = Interval.__struct_fields__
    return Interval(**{name: sum(getattr(part, name) for part in known) for name in names})


REREAD_HEADINGS = ["READ AGAIN", "MODEL", "REQUESTS", "TOKENS", "OF", "SECONDS", "JOULES"]


def reread_rows(rows: Sequence[RereadFigures]) -> list[list[str]]:
    """The table of what was processed again, for people."""
    return [
        REREAD_HEADINGS,
        *(
            [
                row.why,
                row.model or NOT_AVAILABLE,
                str(row.requests),
                f"about {row.tokens}",
                str(row.prompt_tokens),
                NOT_AVAILABLE if row.seconds is None else f"{row.seconds:.2f}",
                with_interval(row.energy_j),
            ]
            for row in rows
        ),
    ]


def reread_line(rows: Sequence[RereadFigures]) -> str:
    """All of it in one line."""
    seconds, joules = [row.seconds for row in rows], _sum([row.energy_j for row in rows])
    took = NOT_AVAILABLE if None in seconds else f"{sum(each or 0.0 for each in seconds):.2f}"
    return (
        f"read again though seen before: about {sum(row.tokens for row in rows)} prompt tokens, {took} s, "
        f"{with_interval(joules)} J: {'; '.join(dict.fromkeys(row.why for row in rows))}"
    )


def _has_failed(request: RequestServed) -> bool:
    return request.outcome != "complete" or (request.status or 500) >= 400 or request.error != ""


def _median(values: Sequence[float]) -> float | None:
    return percentile(sorted(values), 50)


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


CLIENT_HEADINGS = [
    "CLIENT", "MODEL", "REQUESTS", "PROMPT", "CACHED", "TOKENS", "FIRST", "GAP", "SPEED", "J/TOKEN", "SHARED",
]  # fmt: skip


def client_cells(row: ClientFigures) -> list[str]:
    """A client below `CLIENT_HEADINGS`."""

    def count(value: int | None, before: str = "") -> str:
        return NOT_AVAILABLE if value is None else f"{before}{value}"

    energy = NOT_AVAILABLE if row.j_per_token is None else with_interval(row.j_per_token)
    return [
        row.client,
        row.model or NOT_AVAILABLE,
        f"{row.requests}" + (f", {row.failed} failed" if row.failed else ""),
        count(row.prompt_tokens),
        count(row.cached_tokens),
        count(row.generated_tokens, "at least " if row.at_least else ""),
        format_seconds(row.first_token_s),
        NOT_AVAILABLE if row.gap_p50_ms is None else f"{row.gap_p50_ms:.1f} ms",
        format_rate(row.tokens_per_s),
        energy,
        NOT_AVAILABLE if row.shared is None else f"{100 * row.shared:.0f} %",
    ]


def request_line(record: RequestServed, t_us: int) -> str:
    """A request that ended so long after the session began, in one line."""
    prompt, tokens = (
        NOT_AVAILABLE if count is None else str(count) for count in (record.prompt_tokens, record.generated_tokens)
    )
    first_s = None if record.first_token_us is None else record.first_token_us / US_PER_S
    parts = [
        format_clock(t_us / US_PER_S),
        record.client,
        f"{record.status or ''} {record.outcome if record.outcome != 'complete' else ''}".strip(),
        f"{prompt} + {'' if record.counted else 'at least '}{tokens} tokens",
        f"first {format_seconds(first_s)}",
        format_rate(tokens_per_s(*decode_of(record))),
        record.model or NOT_AVAILABLE,
        record.error,
    ]
    return "  ".join(filter(None, parts))


def client_rows(rows: Sequence[ClientFigures]) -> list[list[str]]:
    """The table of clients for people."""
    return [CLIENT_HEADINGS, *map(client_cells, rows)]


def _number(decimals: int, value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{value:.{decimals}f}"


LEVEL_COLUMNS: dict[str, Callable[[LevelFigures], str]] = {
    "CLIENTS": lambda level: f"{level.at_once}{' knee' if level.is_knee else ''}",
    "REQUESTS": lambda level: f"{level.requests}" + (f", {level.failed} failed" if level.failed else ""),
    "TOK/S": lambda level: ("at least " if level.at_least else "") + _number(2, level.tokens_per_s),
    "EACH TOK/S": lambda level: _number(2, level.tokens_per_s_each),
    "FIRST P50 s": lambda level: _number(3, level.first_token_p50_s),
    "P95": lambda level: _number(3, level.first_token_p95_s),
    "P99": lambda level: _number(3, level.first_token_p99_s),
    "GAP P50 ms": lambda level: _number(1, level.gap_p50_ms),
    "GAP P95": lambda level: _number(1, level.gap_p95_ms),
    "GAP P99": lambda level: _number(1, level.gap_p99_ms),
    "J/TOKEN": lambda level: NOT_AVAILABLE if level.j_per_token is None else with_interval(level.j_per_token),
}
"""The table of levels for people: headings, and the cells below them."""


def level_rows(levels: Sequence[LevelFigures]) -> list[list[str]]:
    """The table of levels."""
    return [[*LEVEL_COLUMNS], *([cell(level) for cell in LEVEL_COLUMNS.values()] for level in levels)]


def knee_line(levels: Sequence[LevelFigures]) -> str:
    """Where more clients stop to bring more, in one line; and where a token takes least energy."""
    rated = [level for level in levels if level.tokens_per_s is not None]
    if not rated:
        return "knee: no answer had tokens that could be counted"
    most = max(rated, key=lambda level: level.tokens_per_s or 0.0)
    knee = next((level for level in levels if level.is_knee), None)
    if knee is None:
        line = (
            f"knee: not reached with {rated[-1].at_once} at once" if len(rated) > 1 else "knee: one number of clients"
        )
    else:
        line = f"knee: {knee.at_once} at once, {_number(1, knee.tokens_per_s)} tok/s"
        if most is not knee:
            share = 100 * (knee.tokens_per_s or 0.0) / (most.tokens_per_s or 1.0)
            line += f", {share:.0f} % of the most ({_number(1, most.tokens_per_s)} with {most.at_once})"
        last = rated[-1]
        line += (
            f"; with {last.at_once} the first token takes {format_seconds(last.first_token_p50_s)} in the median, "
            f"with {knee.at_once} {format_seconds(knee.first_token_p50_s)}"
        )
    measured = [level for level in levels if level.j_per_token is not None]
    if len(measured) > 1:
        least = min(measured, key=lambda level: level.j_per_token.value if level.j_per_token else 0.0)
        line += f"; least energy per token with {least.at_once}"
    return line


def failures_line(requests: Sequence[RequestServed]) -> str:
    """Why requests failed, the most frequent reason; empty where none did."""
    why = Counter(each.error or each.outcome for each in requests if _has_failed(each))
    return "" if not why else f"{why.total()} requests failed: {why.most_common(1)[0][0]}"


def energy_note(rows: Sequence[ClientFigures | LevelFigures]) -> str:
    """Why energy is missing, or how it is shared, in one line."""
    missing = dict.fromkeys(row.energy_missing for row in rows if row.energy_missing)
    if missing:
        return f"energy: {'; '.join(missing)}"
    if any(row.shared for row in rows if isinstance(row, ClientFigures)):
        return (
            "energy: gross, of each moment in equal parts to the requests that ran in it; "
            "where several did, the interval reaches from none of their part to twice as much"
        )
    return "energy: gross, of the time in which the requests ran"
