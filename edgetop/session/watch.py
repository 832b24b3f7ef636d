"""Work and energy of watched servers.

Each poll reports how many tokens all servers together have generated. The time between two polls counts when both know
that, and is *generating* when tokens came or a request was running at either of them, else *waiting*. Consecutive polls
of one kind make a span; energies are measured per span, by the same estimator as those of turns, and added up. Idle
power is measured in the waiting spans. How the figures follow from the sums is in `edgetop.core.energy.tokens`.

`WatchEnergy` is a function of the session and the time, as everything that is shown. What cannot change any more is
stored in sums, so that reading it once a second costs little however long the session is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from math import isnan
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import sources
from edgetop.core.clock import US_PER_S, seconds
from edgetop.core.energy import windows
from edgetop.core.energy.baselines import IdlePower
from edgetop.core.energy.scopes import Headline
from edgetop.core.energy.tokens import (
    RUNNING_ONLY,
    UNCOUNTED,
    EnergyBasis,
    ServedEnergy,
    ServedTotals,
    TokensServed,
    grade_text,
    net_of,
    served_energy,
)
from edgetop.core.energy.windows import Window, sum_over_meters
from edgetop.core.figures import WatchFigures
from edgetop.core.format import NOT_AVAILABLE, format_duration, format_rate
from edgetop.core.quantity import Components, Quantity, summed, with_interval
from edgetop.core.sources import SourceInfo, Unavailable
from edgetop.session.meters import ChannelFeed, Moment, headline_of, headlines_of, meters_of, weakened_by
from edgetop.session.requests import passed_figures
from edgetop.session.session import PerSession, Series, Session
from edgetop.session.turn import tokens_per_s


class ServerPoll(Struct, frozen=True):
    """One poll of all servers."""

    t_us: int
    tokens: float | None
    running: float
    """Running requests; 0 where it is not known."""
    uncertainty: float
    """Of `tokens`."""


def growth_until(session: Session, channel: str, t_us: int) -> int | None:
    """By how much a count has grown."""
    found = session.find_channel(channel)
    if found is None:
        return None
    series, column = found
    extent = series.columns[column].extent(series.count_until(t_us))
    return None if extent.most is None or extent.least is None else round(extent.most - extent.least)


def poll_at(series: Series, column: int, index: int) -> ServerPoll:
    """The poll of an index; `column` is that of the count."""

    def value(name: str) -> float:
        other = next((each for each in series.columns if each.channel.name == name), None)
        read = float("nan") if other is None else other.values[index]
        return 0.0 if isnan(read) else read

    tokens = series.columns[column].values[index]
    return ServerPoll(
        series.t_us[index],
        None if isnan(tokens) else tokens,
        value(sources.SERVED_RUNNING),
        value(sources.SERVED_UNSURE),
    )


def reason_at(session: Session, t_us: int) -> str:
    """Why a poll has no count."""
    found = session.find_channel(sources.SERVED_TOKENS)
    if found is None:
        return ""
    series, number = found
    read = series.columns[number].at(series.count_until(t_us) - 1)
    return read.reason if isinstance(read, Unavailable) else ""


RECENT_US = 5 * US_PER_S
"""Long enough for several polls, so that one token more or less does not show."""

APART_US = 5 * US_PER_S
"""Between polls further apart the rate is not known."""


def recent_rate(session: Session, t_us: int) -> float | None:
    """Generated tokens per second over the last polls with a count; `None` without two of them."""
    stamps_us, counts = session.window(sources.SERVED_TOKENS, t_us - RECENT_US - APART_US, t_us)
    if not stamps_us or t_us - stamps_us[-1] > APART_US:
        return None
    first = last = len(stamps_us) - 1
    while first > 0 and not isnan(counts[first - 1]) and stamps_us[last] - stamps_us[first] < RECENT_US:
        first -= 1
    if isnan(counts[last]) or stamps_us[first] == stamps_us[last]:
        return None
    return (counts[last] - counts[first]) * US_PER_S / (stamps_us[last] - stamps_us[first])


def rate_history(session: Session, t_us: int, steps: int, step_us: int) -> list[float | None]:
    """Generated tokens per second in each of `steps` spans of `step_us`, oldest first; `None` where it is not known.

    The spans are aligned to multiples of `step_us`. Between two polls the rate is taken as constant.
    """
    begin_us = (t_us // step_us + 1 - steps) * step_us
    stamps_us, counts = session.window(sources.SERVED_TOKENS, begin_us - APART_US, t_us)
    tokens, spans_us = [0.0] * steps, [0] * steps
    for index in range(max(1, bisect_left(stamps_us, begin_us)), bisect_right(stamps_us, t_us)):
        low_us, high_us = stamps_us[index - 1], stamps_us[index]
        grown = counts[index] - counts[index - 1]
        if isnan(grown) or not 0 < high_us - low_us <= APART_US:
            continue
        for step in range(max(0, (low_us - begin_us) // step_us), min(steps, (high_us - begin_us) // step_us + 1)):
            edge_us = begin_us + step * step_us
            part_us = min(high_us, edge_us + step_us) - max(low_us, edge_us)
            tokens[step] += grown * part_us / (high_us - low_us)
            spans_us[step] += part_us
    pairs = zip(tokens, spans_us, strict=True)
    return [count * US_PER_S / span_us if span_us > 0 else None for count, span_us in pairs]


POLLS_APART_US = 15 * US_PER_S
"""The time between two polls further apart is left out."""

NOT_SUBTRACTED = Unavailable("it is subtracted from the sums")


class _Span(Struct):
    """Consecutive time of one kind."""

    start_us: int
    end_us: int
    generating: bool
    tokens: int


class _Sums(Struct, frozen=True):
    """Added up spans. Tokens of spans without energy are not included."""

    generating: Window | None = None
    waiting: Window | None = None
    nets: tuple[Quantity, ...] = ()
    """At most one: above idle, of that part of `generating` for which the idle power is final."""
    group: Window | None = None
    """The rest of `generating`."""
    tokens: int = 0
    flags: tuple[str, ...] = ()


class WatchEnergy:
    """The energy of one session, up to a time that only goes forward.

    Of the sources it is by that one which gives most of the tokens.
    """

    def __init__(self, session: Session, headlines: tuple[Headline, ...] | Unavailable | None = None) -> None:
        """`headlines` are those of the session, by default, the widest first."""
        self._session = session
        self._infos = _infos(session)
        self._meters = meters_of(session)
        if headlines is None:
            headlines = headlines_of(session, self._meters)
        self.headline = headlines if isinstance(headlines, Unavailable) else headlines[0]
        self._next = (
            None if isinstance(headlines, Unavailable) or len(headlines) < 2 else WatchEnergy(session, headlines[1:])
        )
        """By the sources that stand in where the widest gives nothing."""
        chosen = self.headline.meters if isinstance(self.headline, Headline) else ()
        self._feeds = [ChannelFeed(session, meter) for meter in chosen]
        self._begin_counting()

    def _begin_counting(self) -> None:
        self._polls = 0
        """How many polls have been added."""
        self._last: ServerPoll | None = None
        self._first_us: int | None = None
        self._begin = self._newest = 0.0
        self._generating_us = self._left_out_us = self._counted = 0
        self._left_out = ""
        self._edges = 0.0
        """Σ e² of the ends of stretches, except for the end of the current one."""
        self._spans: list[_Span] = []
        """Those that are not in the sums yet; the last one may still grow."""
        self._open = False
        self._sums = _Sums()
        self._revision = 0
        self._sleeps = 0

    def advance(self, t_us: int) -> bool:
        """Add the polls until `t_us`; false when everything has to be computed again."""
        found = self._session.find_channel(sources.SERVED_TOKENS)
        count = 0 if found is None else found[0].count_until(t_us)
        if count < self._polls or _infos(self._session) != self._infos:
            return False
        if self._next is not None and not self._next.advance(t_us):
            return False
        if isinstance(self.headline, Unavailable):
            self.headline = headline_of(self._session, self._meters)
        self._add_until(count)
        revision = sum(feed.estimator.curve.revision for feed in self._feeds)
        if self._sums != _Sums() and revision != self._revision:
            self._count_again(self._feeds)
        self._revision = revision
        self._settle()
        return True

    def _add_until(self, count: int) -> None:
        """Add polls until there are `count` of them, and the readings until then."""
        found = self._session.find_channel(sources.SERVED_TOKENS)
        if found is not None:
            for index in range(self._polls, count):
                self._add(poll_at(*found, index))
        self._polls = count
        if self._last is not None:
            self._note_sleeps(self._last.t_us)
            for feed in self._feeds:
                feed.advance(self._last.t_us)

    def _count_again(self, known: Sequence[ChannelFeed]) -> None:
        """Go through the polls again; `known` have taken in what was read and noted until then."""
        feeds, count = self._feeds, self._polls
        self._feeds = [feed for feed in feeds if feed not in known]
        self._begin_counting()
        self._add_until(count)
        self._feeds = feeds

    def with_present_sources(self) -> WatchEnergy:
        """The energy by the sources that there are now: what known meters have read is not gone through again."""
        made = WatchEnergy(self._session)
        fed = {feed.estimator.meter: feed for each in self._chain() for feed in each._feeds}  # noqa: SLF001 - ours
        for energy in made._chain():
            feeds = energy._feeds  # noqa: SLF001 - the same
            energy._feeds = [fed.pop(feed.estimator.meter, feed) for feed in feeds]  # noqa: SLF001 - the same
            known = [feed for feed in energy._feeds if feed not in feeds]  # noqa: SLF001 - the same
            if known:
                energy._polls = self._polls  # noqa: SLF001 - the same
                energy._count_again(known)  # noqa: SLF001 - the same
        return made

    def _chain(self) -> Iterator[WatchEnergy]:
        energy: WatchEnergy | None = self
        while energy is not None:
            yield energy
            energy = energy._next  # noqa: SLF001 - the same

    def figures(self, prompt_tokens: int | None) -> WatchFigures:
        """What the servers did until then."""
        if self._last is None or self._first_us is None:
            reason = Unavailable(
                "no server that counts its tokens has been found yet", "see the list of servers for why"
            )
            if any(service.served is not None for service in self._session.services.values()):
                reason = Unavailable("each host measures for itself", "`edgetop sessions totals --by host`")
            return WatchFigures(energy_missing=_words(reason))
        energy = self._energy_of_most()[1]
        return WatchFigures(
            watched_s=seconds(self._last.t_us - self._first_us),
            left_out_s=seconds(self._left_out_us),
            left_out=self._left_out,
            generating_s=seconds(self._generating_us),
            generated_tokens=round(self._newest - self._begin),
            at_least=any(service.counts == "running" for service in self._session.services.values()),
            prompt_tokens=prompt_tokens,
            tokens_per_s=tokens_per_s(self._counted, self._generating_us),
            energy=None if isinstance(energy, Unavailable) else energy,
            energy_missing=_words(energy) if isinstance(energy, Unavailable) else "",
        )

    def _energy_of_most(self) -> tuple[int, ServedEnergy | Unavailable]:
        """How many tokens have energy by the source that gives most of them, and their energy."""
        sums = self._sums
        for span in self._spans:
            sums = self._plus(sums, span)
        own = sums.tokens, self._energy(sums)
        if self._next is None:
            return own
        narrower = self._next._energy_of_most()  # noqa: SLF001 - another of this class
        return narrower if narrower[0] > own[0] else own

    def idle_w(self) -> float | None:
        """Power while the servers wait, as it was measured last; `None` before it was."""
        latest = [feed.estimator.baseline.latest() for feed in self._feeds]
        known = [baseline.power_w for baseline in latest if baseline is not None]
        return sum(known) if known and len(known) == len(latest) else None

    def _add(self, poll: ServerPoll) -> None:
        before, self._last = self._last, poll
        if poll.tokens is not None:
            if self._first_us is None:
                self._first_us, self._begin = poll.t_us, poll.tokens
            self._newest = poll.tokens
        if self._first_us is None or before is None:
            return
        if poll.tokens is None or before.tokens is None or poll.t_us - before.t_us > POLLS_APART_US:
            self._leave_out(before, poll)
            return
        generating = poll.tokens > before.tokens or poll.running > 0 or before.running > 0
        tokens = round(poll.tokens - before.tokens)
        if not self._open:
            self._edges += before.uncertainty**2
        if self._open and self._spans[-1].generating == generating:
            span = self._spans[-1]
            span.end_us, span.tokens = poll.t_us, span.tokens + tokens
        else:
            self._begin_span(_Span(before.t_us, poll.t_us, generating, tokens))
        if generating:
            self._generating_us += poll.t_us - before.t_us
            self._counted += tokens

    def _begin_span(self, span: _Span) -> None:
        self._end_span()
        self._spans.append(span)
        self._open = True
        if not span.generating:
            self._note(span.start_us, idle=True)

    def _end_span(self) -> None:
        if self._open and not self._spans[-1].generating:
            self._note(self._spans[-1].end_us, idle=False)
        self._open = False

    def _leave_out(self, before: ServerPoll, poll: ServerPoll) -> None:
        if self._open:
            self._edges += before.uncertainty**2
        self._end_span()
        self._left_out_us += poll.t_us - before.t_us
        if poll.tokens is None:
            self._left_out = reason_at(self._session, poll.t_us)
        elif before.tokens is not None:
            self._left_out = "the servers were not polled"

    def _note(self, t_us: int, *, idle: bool) -> None:
        for feed in self._feeds:
            feed.note(Moment(t_us, "idle" if idle else "busy"), None)

    def _note_sleeps(self, until_us: int) -> None:
        events = self._session.events
        slept_us = [event.t_us for event in events if event.kind == "suspended" and event.t_us <= until_us]
        for t_us in slept_us[self._sleeps :]:
            for feed in self._feeds:
                feed.note(Moment(t_us, "suspended"), None)
        self._sleeps = len(slept_us)

    def _settle(self) -> None:
        """Add to the sums what no later reading changes."""
        while len(self._spans) > 1 and self._is_final(self._spans[0]):
            self._sums = self._plus(self._with_known_idle(self._sums), self._spans.pop(0))

    def _is_final(self, span: _Span) -> bool:
        curves = [feed.estimator.curve for feed in self._feeds]
        return all(curve.is_complete(span.end_us + round(curve.tail_s * 1e6)) for curve in curves)

    def _with_known_idle(self, sums: _Sums) -> _Sums:
        """Close the group of generating spans whose idle power no later idle time changes."""
        group = sums.group
        if group is None or not all(feed.estimator.baseline.is_complete(group.end_us) for feed in self._feeds):
            return sums
        net = self._net(group)
        # Without it there is no net energy in all: the group stays, and gives the reason.
        return sums if isinstance(net, Unavailable) else replace(sums, nets=(summed((*sums.nets, net)),), group=None)

    def _plus(self, sums: _Sums, span: _Span) -> _Sums:
        """With one more span; one without energy is left out with its tokens."""
        measured = self._measured(span)
        if isinstance(measured, Unavailable):
            return sums
        sums = replace(sums, tokens=sums.tokens + span.tokens)
        if not span.generating:
            return replace(sums, waiting=_joined(sums.waiting, measured))
        flags = weakened_by(self._session, span.start_us, span.end_us)
        return replace(
            sums,
            generating=_joined(sums.generating, measured),
            group=_joined(sums.group, measured),
            flags=tuple(dict.fromkeys((*sums.flags, *flags))),
        )

    def _measured(self, span: _Span) -> Window | Unavailable:
        windows: list[Window] = []
        for feed in self._feeds:
            measured = feed.measured(span.start_us, span.end_us, NOT_SUBTRACTED)
            if isinstance(measured, Unavailable):
                return measured
            windows.append(measured)
        return sum_over_meters(windows) if windows else Unavailable("no meter")

    def _energy(self, sums: _Sums) -> ServedEnergy | Unavailable:
        if isinstance(self.headline, Unavailable):
            return self.headline
        estimators = [feed.estimator for feed in self._feeds]
        unfinished = 0.0 if self._last is None or not self._open else self._last.uncertainty**2
        basis = EnergyBasis(
            scope=self.headline.scope,
            source=" + ".join(dict.fromkeys(meter.source for meter in self.headline.meters)),
            averaged=all(each.meter.kind == "energy" or each.curve.averaging for each in estimators),
            flags=tuple(dict.fromkeys((*self.headline.flags, *sums.flags, *_flags_of_services(self._session)))),
        )
        served = ServedTotals(
            generating=sums.generating,
            waiting=sums.waiting,
            net=self._net_of(sums),
            tokens=TokensServed(count=sums.tokens, edges=self._edges + unfinished),
        )
        return served_energy(served, basis)

    def _net_of(self, sums: _Sums) -> Quantity | Unavailable:
        if sums.group is None:
            return sums.nets[0] if sums.nets else Unavailable("no request was running")
        net = self._net(sums.group)
        return net if isinstance(net, Unavailable) else summed((*sums.nets, net))

    def _net(self, group: Window) -> Quantity | Unavailable:
        power_w = u_w = 0.0
        for feed in self._feeds:
            idle = feed.estimator.baseline.idle(group.start_us, group.end_us)
            if not isinstance(idle, IdlePower):
                return Unavailable(idle.reason, "let the servers wait without a request for half a minute")
            power_w, u_w = power_w + idle.power_w, u_w + idle.u_w
        return net_of(group, Quantity(value=power_w, u=Components(baseline=u_w)))


_ENERGY: Final = PerSession(WatchEnergy)


def watch_energy_of(session: Session, t_us: int) -> WatchEnergy:
    """The session's `WatchEnergy` at `t_us`."""
    energy = _ENERGY.of(session)
    if not energy.advance(t_us):
        energy = energy.with_present_sources()
        if not energy.advance(t_us):
            energy = WatchEnergy(session)
            energy.advance(t_us)
        _ENERGY.replace(session, energy)
    return energy


def is_watch(session: Session) -> bool:
    """Whether servers were watched, and no model of our own ran."""
    return session.header is not None and session.header.kind == "watch"


def watch_figures(session: Session, t_us: int, *, exact: bool = False) -> WatchFigures:
    """What the servers did until `t_us`; see `passed_figures`."""
    figures = watch_energy_of(session, t_us).figures(growth_until(session, sources.SERVED_PROMPT_TOKENS, t_us))
    if not session.requests or not (figures.generated_tokens is None or figures.at_least):
        return figures
    # What passed a proxy is counted there, if the server does not.
    passed = passed_figures(session, t_us, exact=exact)
    return passed if (passed.generated_tokens or 0) >= (figures.generated_tokens or 0) else figures


def _flags_of_services(session: Session) -> tuple[str, ...]:
    """What weakens figures over all users: servers whose tokens are not counted, or not all of them."""
    counts = {service.counts for service in session.services.values()}
    flags = {"nothing": UNCOUNTED, "running": RUNNING_ONLY}
    return tuple(flag for word, flag in flags.items() if word in counts)


def _joined(sum_so_far: Window | None, measured: Window) -> Window:
    return measured if sum_so_far is None else windows.sum_over_turns((sum_so_far, measured))


def _infos(session: Session) -> tuple[SourceInfo, ...]:
    """The sources of the meters: those whose readings cover some of the device's power."""
    infos = [series.info for series in session.series.values()]
    return tuple(info for info in infos if any(channel.scope is not None for channel in info.channels))


def _words(missing: Unavailable) -> str:
    return f"{missing.reason}: {missing.hint}" if missing.hint else missing.reason


def counted(figures: WatchFigures) -> str:
    """How many tokens were generated; a lower bound says that it is one."""
    if figures.generated_tokens is None:
        return NOT_AVAILABLE
    return f"{'at least ' if figures.at_least else ''}{figures.generated_tokens}"


def figure_rows(figures: WatchFigures) -> list[list[str]]:
    """The figures of a watch, each with its name."""
    no_energy = ["energy", f"{NOT_AVAILABLE}: {figures.energy_missing}"]
    if figures.generated_tokens is None:  # no server counts, from whose first count on it is watched
        return [["generated", NOT_AVAILABLE], no_energy]
    rows = [
        ["watched", format_duration(figures.watched_s)],
        ["generated", f"{counted(figures)} tokens"],
        ["prompts", NOT_AVAILABLE if figures.prompt_tokens is None else f"{figures.prompt_tokens} tokens"],
        ["generating", f"{format_duration(figures.generating_s)}, {format_rate(figures.tokens_per_s)} in it"],
    ]
    if figures.left_out_s:
        rows.append(["left out", f"{format_duration(figures.left_out_s)}: {figures.left_out}"])
    if figures.energy is None:
        return [*rows, no_energy]
    return rows + energy_rows(figures.energy)


def energy_rows(energy: ServedEnergy) -> list[list[str]]:
    """The energy over all users, each figure with its interval."""
    return [
        ["J/token", f"{with_interval(energy.j_per_token)} gross, over all users"],
        ["generating", f"{with_interval(energy.generating_j_per_token)} J/token while requests were running"],
        ["waiting", f"{with_interval(energy.waiting_j_per_token)} J/token for the time in which none was"],
        ["net", _net(energy)],
        ["in all", f"{with_interval(energy.gross_j)} J, {with_interval(energy.mean_w)} W in the mean"],
        ["measured", f"{energy.scope.replace('_', ' ')}, {energy.source}, grade {grade_text(energy)}"],
    ]


def _net(energy: ServedEnergy) -> str:
    if energy.net_j_per_token is None:
        missing = energy.missing["net_j_per_token"]
        return f"{NOT_AVAILABLE}: {missing.reason}" + (f": {missing.hint}" if missing.hint else "")
    return f"{with_interval(energy.net_j_per_token)} J/token above {with_interval(energy.idle_w)} W idle"
