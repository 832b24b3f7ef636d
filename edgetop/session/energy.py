"""Energy of turns and session at any moment; checkpoints.

The estimator of `edgetop.core.energy` is fed with what the session has recorded, in order of time, whether the session
is growing or was read from a file: the same records give the same figures, to the digit. While a session grows, the
account stays a moment behind, since readings and stamps reach the session in portions.

What cannot change any more is kept, so that asking once a second costs little however long the session is.

To feed all readings of an hour takes seconds, so on the way through the session marks are left behind, each an account
as it stood. An account of any moment goes on from the mark before it, and is the one that would have come of all
readings from the beginning.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from math import isnan
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.scopes import Headline, host_name, other_views
from edgetop.core.energy.tokens import Energy, EnergyBasis, TurnSum, net_of, session_energy, sum_of, turn_energy
from edgetop.core.energy.uncertainty import UNSEEN, certain_after_s, graded
from edgetop.core.energy.windows import (
    LOOK_AHEAD_S,
    HostWindow,
    TurnSpan,
    TurnWindows,
    Window,
    power_of,
    turn_over_meters,
)
from edgetop.core.figures import UNLOADED_UNKNOWN
from edgetop.core.quantity import Interval, Quantity, figure, summed
from edgetop.core.records import LARGEST, ModelLoaded
from edgetop.core.sources import Meter, Scope, SourceInfo, Unavailable
from edgetop.session.meters import (
    HELD_BY_SERVER,
    ActivityLog,
    ChannelFeed,
    Moment,
    headlines_of,
    load_start_us,
    meters_of,
    runs_on,
    stored_idle,
    unloaded_spans,
    weakened_by,
)
from edgetop.session.session import PerSession, Session
from edgetop.session.turn import Turn

NO_TURN = Unavailable("there is no turn yet")
NO_REPLY = Unavailable("the answer has fewer than two tokens")

NO_LOAD = Unavailable("no model was loaded")
NO_TOKENS_YET = Unavailable("waiting for the first tokens")


class MeasuredTurn(Struct, frozen=True, kw_only=True):
    """A turn's energy, and what it is to be judged by."""

    windows: TurnWindows | Unavailable
    span: TurnSpan
    flags: tuple[str, ...] = ()
    other_j: float | None = None
    """By the other view of the same meter; `None` without one."""


def by_host(turns: Sequence[TurnWindows | Unavailable], meters: Sequence[Meter]) -> TurnWindows | Unavailable:
    """One turn by all of its meters together, and where they are of several machines, with the part of each.

    Of several meters of this machine, a reason why there is none names the one that it is about.
    """
    if len(meters) > 1:
        turns = [
            Unavailable(f"{meter.source}: {turn.reason}", turn.hint)
            if isinstance(turn, Unavailable) and not meter.host
            else turn
            for turn, meter in zip(turns, meters, strict=True)
        ]
    whole = turn_over_meters(turns)
    hosts = list(dict.fromkeys(host_name(meter) for meter in meters))
    if isinstance(whole, Unavailable) or len(hosts) < 2:
        return whole
    parts = []
    for host in hosts:
        own = turn_over_meters([turn for turn, meter in zip(turns, meters, strict=True) if host_name(meter) == host])
        if isinstance(own, TurnWindows):
            sources = dict.fromkeys(meter.source for meter in meters if host_name(meter) == host)
            parts.append(HostWindow(host=host, source=" + ".join(sources), whole=own.turn))
    return replace(whole, hosts=tuple(parts))


class EnergySum(Struct, frozen=True, kw_only=True):
    """Turns together, from the first one on."""

    count: int = 0
    measured: int = 0
    """How many of them have energy."""
    turns: TurnSum | None = None
    missing: Unavailable = NO_TURN
    """Why there is no energy, if there is none."""
    flags: tuple[str, ...] = ()
    other_j: float | None = None

    def plus(self, figures: MeasuredTurn) -> EnergySum:
        """With one more turn. One without energy is left out with its tokens.

        So is a benchmark's prompt without a reply: what it took is no part of the energy of a token generated.
        """
        windows, span = figures.windows, figures.span
        if isinstance(windows, Unavailable) or not span.generated_tokens:
            reason = windows if isinstance(windows, Unavailable) else NO_REPLY
            missing = reason if self.missing is NO_TURN else self.missing
            return replace(self, count=self.count + 1, missing=missing)
        if self.turns is None:
            turns, other_j = sum_of(windows, span), figures.other_j
        else:
            turns = self.turns.plus(windows, span)
            other_j = None if self.other_j is None or figures.other_j is None else self.other_j + figures.other_j
        flags = tuple(dict.fromkeys([*self.flags, *figures.flags]))
        return replace(
            self, count=self.count + 1, measured=self.measured + 1, turns=turns, flags=flags, other_j=other_j
        )


BEHIND_US = 800_000
"""How far the account of a growing session stays behind: longer than stamps and readings take to reach it."""

SETTLED_US = 5_000_000
"""This long after a turn all that weakens its figures has been read too: sources hand over their readings sooner."""

TEMPERATURE = "temperature.cpu"
TEMPERATURE_AGE_US = 10_000_000
LAST_EVENTS = frozenset({"session_ended", "recovered"})
NOT_COUNTED = Unavailable("the server has not said how many tokens it generated")


class HostPower(Struct, frozen=True):
    """What one of several machines draws."""

    host: str
    """Its name, `local` for this one."""
    power_w: float


class PowerNow(Struct, frozen=True, kw_only=True):
    """The latest power of the headline meters together."""

    power_w: float
    age_us: int
    scope: Scope
    channels: tuple[str, ...]
    """The headline's channels."""
    idle_w: float | None
    """Idle power with the model loaded, once it was measured."""
    hosts: tuple[HostPower, ...] = ()
    """The parts of several machines, which add up to the power; none where there is one machine."""


class _Kept(Struct, frozen=True, kw_only=True):
    """A turn whose readings are all in."""

    figures: MeasuredTurn
    baselines: tuple[int, ...] | None
    """The state of the baselines that its idle power is from; `None` when no later one can change it."""


_OF_METERS: Final = (
    "_feeds", "_others", "_all_moments", "_moments", "_moments_fed", "_until_us", "_revisions", "_kept", "_settled",
    "_steady", "_steady_under",
)  # fmt: skip
"""What an account knows by its meters alone."""


class SessionEnergy:
    """Energy of the turns of one session, up to a moment that only goes forward.

    A turn that the widest source did not cover is measured by the next one; one figure never mixes two of them.
    """

    def __init__(self, session: Session, headlines: tuple[Headline, ...] | Unavailable | None = None) -> None:
        """`headlines` are those of the session, by default, the widest first."""
        self._session = session
        self._infos = _infos(session)
        self._runs_on = runs_on(session)
        self._chosen = _chosen(session)
        self._meters = meters_of(session)
        if headlines is None:
            headlines = headlines_of(session, self._meters)
        self._widest = headlines if isinstance(headlines, Unavailable) else headlines[0]
        chosen = self._widest.meters if isinstance(self._widest, Headline) else ()
        self._feeds = [ChannelFeed(session, meter) for meter in chosen]
        self._others = [
            None if other is None else ChannelFeed(session, other) for other in other_views(self._meters, chosen)
        ]
        self._next = (
            None if isinstance(headlines, Unavailable) or len(headlines) < 2 else SessionEnergy(session, headlines[1:])
        )
        """By the sources that stand in where the widest gives nothing."""
        self._all_moments = ActivityLog(session)
        self._moments = self._all_moments.all()
        self._moments_fed = 0
        self._until_us = -2 * LARGEST
        self._revisions: list[int] = []
        self._taken: tuple[int, ...] = ()
        self._latest: dict[Turn, MeasuredTurn] = {}
        """Of the other turns, with what has been taken in."""
        self._kept: dict[Turn, _Kept] = {}
        self._settled = EnergySum()
        """Of the turns, from the first one on, that nothing can change."""
        self._steady = EnergySum()
        """Of those, and of the ones after them that only another idle power can change."""
        self._steady_under: tuple[int, ...] = ()
        """The state of the baselines for `_steady`."""

    def advance(self, until_us: int) -> bool:
        """Take in what had been recorded by `until_us`.

        False when this account cannot: the moment lies before an earlier one, or the session has got another source, or
        a record that lies before what was taken in already. Then it is to be made anew.
        """
        if until_us < self._until_us or _infos(self._session) != self._infos or not self._take_moments():
            return False
        if runs_on(self._session) != self._runs_on or _chosen(self._session) != self._chosen:
            return False
        if isinstance(self._widest, Unavailable):
            again = headlines_of(self._session, self._meters)
            if not isinstance(again, Unavailable):
                return False
            self._widest = again
        if self._next is not None and not self._next.advance(until_us):
            return False
        fed_to = bisect_right(self._moments, until_us, key=lambda moment: moment.t_us)
        self._note_moments(self._all_feeds(), self._moments[self._moments_fed : fed_to])
        self._moments_fed = fed_to
        for feed in self._all_feeds():
            feed.advance(until_us)
        self._until_us = until_us
        tokens = len(self._session.turns[-1].token_t_us) if self._session.turns else 0
        taken = (until_us, tokens, fed_to, *(feed.readings_fed for feed in self._all_feeds()))
        if taken != self._taken:
            self._taken = taken
            self._latest.clear()
        revisions = [feed.estimator.curve.revision for feed in self._all_feeds()]
        if revisions != self._revisions:
            self._revisions = revisions
            self._kept.clear()
            self._settled = self._steady = EnergySum()
        return True

    def with_present_sources(self) -> SessionEnergy:
        """The account of the sources that there are now: what known meters have read is not gone through again."""
        made = SessionEnergy(self._session)
        if (made._runs_on, made._chosen) == (self._runs_on, self._chosen):
            known = list(self._chain())
            for account in made._chain():
                account._take_over(known)  # noqa: SLF001 - the same
        return made

    def _chain(self) -> Iterator[SessionEnergy]:
        account: SessionEnergy | None = self
        while account is not None:
            yield account
            account = account._next  # noqa: SLF001 - another of this class

    def _take_over(self, known: list[SessionEnergy]) -> None:
        """Go on where one of these was that has the same meters, or the feeds of these had come."""
        same = next((each for each in known if each._meters_read() == self._meters_read()), None)  # noqa: SLF001
        if same is not None:
            for name in _OF_METERS:
                setattr(self, name, getattr(same, name))
            known.remove(same)
            return
        first = next(iter(known), None)
        fed = {feed.estimator.meter: feed for each in known for feed in each._all_feeds()}  # noqa: SLF001
        if first is None or fed.keys().isdisjoint(feed.estimator.meter for feed in self._all_feeds()):
            return
        for name in ("_all_moments", "_moments", "_moments_fed", "_until_us"):
            setattr(self, name, getattr(first, name))

        def caught_up(feed: ChannelFeed) -> ChannelFeed:
            if feed.estimator.meter in fed:
                return fed.pop(feed.estimator.meter)
            self._note_moments([feed], self._moments[: self._moments_fed])
            feed.advance(self._until_us)
            return feed

        self._feeds = [caught_up(feed) for feed in self._feeds]
        self._others = [None if feed is None else caught_up(feed) for feed in self._others]

    def _meters_read(self) -> list[Meter | None]:
        return [None if feed is None else feed.estimator.meter for feed in (*self._feeds, None, *self._others)]

    def _note_moments(self, feeds: Sequence[ChannelFeed], moments: Sequence[Moment]) -> None:
        for moment in moments:
            temperature_c = _temperature(self._session, moment.t_us)
            for feed in feeds:
                feed.note(moment, temperature_c)

    @property
    def until_us(self) -> int:
        """How far it has come."""
        return self._until_us

    @property
    def revision(self) -> int:
        """Grows whenever all energies are computed anew."""
        own = sum(feed.estimator.curve.revision for feed in self._all_feeds())
        return own if self._next is None else own + self._next.revision

    def mark(self) -> SessionEnergy:
        """The account as it is now, only good for `resumed`. It shares what only grows, so that it costs little."""
        return self._with(ChannelFeed.mark)

    def resumed(self) -> SessionEnergy:
        """From a mark, an account that goes on from there."""
        return self._with(ChannelFeed.resumed)

    def separate(self, feed_of: Callable[[ChannelFeed], ChannelFeed]) -> None:
        """Share nothing that changes with the account that this is a copy of."""
        self._feeds = [feed_of(feed) for feed in self._feeds]
        self._others = [None if feed is None else feed_of(feed) for feed in self._others]
        self._next = None if self._next is None else self._next._with(feed_of)  # noqa: SLF001 - another of this class
        self._latest = self._latest.copy()
        # Those of the turns that stand in the sum already are not asked for again.
        later = self._session.turns[self._settled.count :]
        self._kept = {turn: kept for turn in later if (kept := self._kept.get(turn)) is not None}

    def _with(self, feed_of: Callable[[ChannelFeed], ChannelFeed]) -> SessionEnergy:
        other = copy(self)
        other.separate(feed_of)
        return other

    def turn(self, turn: Turn) -> Energy | Unavailable:
        """The energy of one turn, as far as it had come."""
        if isinstance(self._widest, Unavailable):
            return self._widest
        figures = self._figures(turn)
        own = turn_energy(figures.windows, figures.span, self._basis(self._widest, figures.flags, figures.other_j))
        if isinstance(own, Unavailable) and self._next is not None:
            narrower = self._next.turn(turn)
            return own if isinstance(narrower, Unavailable) else narrower
        return own

    def between(self, start_us: int, end_us: int, tokens: int = 0, *, is_load: bool = True) -> Energy | Unavailable:
        """The energy of any work between two moments, in which so many tokens were generated.

        What the work starts are other programs too, so that these do not weaken it.
        """
        if isinstance(self._widest, Unavailable):
            return self._widest
        span = TurnSpan(
            submitted_us=start_us,
            first_token_us=None,
            last_us=end_us,
            evaluated_tokens=0,
            generated_tokens=tokens,
            is_load=is_load,
        )
        figures = self._measured(span)
        flags = tuple(flag for flag in figures.flags if flag != "other-load")
        own = turn_energy(figures.windows, span, self._basis(self._widest, flags, figures.other_j))
        if isinstance(own, Unavailable) and self._next is not None:
            narrower = self._next.between(start_us, end_us, tokens, is_load=is_load)
            return own if isinstance(narrower, Unavailable) else narrower
        return own

    @property
    def _smear_s(self) -> float:
        return max((feed.estimator.curve.smear_s for feed in self._feeds), default=0.0)

    def certain_after_s(self, start_us: int) -> float:
        """About how long work that has begun at `start_us` must last until its energy is well enough known."""
        needed_s = 0.0
        for feed in self._in_use._feeds:  # noqa: SLF001 - another of this class
            curve, idle, latest = feed.estimator.curve, feed.estimator.baseline.latest(), feed.latest(self._until_us)
            share = 1.0
            if idle is not None and not isinstance(latest, Unavailable):
                power_w, read_us = latest
                # Until the load is seen, all of the power may be that of it.
                if read_us - start_us > curve.smear_s * US_PER_S and power_w > 0:
                    share = min(1.0, abs(power_w - idle.power_w) / power_w)
            reading_s = max(curve.update_s, curve.meter.poll_s)
            averaged = curve.averaging or curve.meter.kind == "energy"
            needed_s = max(needed_s, certain_after_s(curve.smear_s, reading_s, share, averaged=averaged))
        return needed_s

    def is_final(self, end_us: int, *, with_tail: bool) -> bool:
        """Whether no later reading changes the energy up to a moment, by any source."""
        curves = [feed.estimator.curve for feed in self._feeds]
        own = all(curve.is_final(end_us + round(curve.tail_s * 1e6) * with_tail) for curve in curves)
        return own and (self._next is None or self._next.is_final(end_us, with_tail=with_tail))

    def turns_together(self, count: int) -> Energy | Unavailable:
        """The energy of the first `count` turns together, without a benchmark's warm-ups.

        Of the sources it is that one which gives most of them.
        """
        return self.measured_turns(count)[1]

    def measured_turns(self, count: int) -> tuple[int, Energy | Unavailable]:
        """How many of them are in it, and their energy."""
        measured, own = self._own_turns(count)
        if self._next is not None and (measured < count or isinstance(own, Unavailable)):
            more, narrower = self._next.measured_turns(count)
            if not isinstance(narrower, Unavailable) and (more > measured or isinstance(own, Unavailable)):
                return more, narrower
        return measured, own

    def _own_turns(self, count: int) -> tuple[int, Energy | Unavailable]:
        """The same by the widest source alone."""
        if isinstance(self._widest, Unavailable):
            return 0, self._widest
        if self._steady_under != (baselines := self._baselines()):
            self._steady, self._steady_under = self._settled, baselines
        total = self._steady
        for index, turn in enumerate(self._session.turns[total.count : count], total.count):
            figures = self._figures(turn)
            total = replace(total, count=total.count + 1) if turn.started.warmup else total.plus(figures)
            kept = self._kept.get(turn)
            if kept is None:
                continue
            if self._steady.count == index:
                self._steady = total
            if self._settled.count == index and kept.baselines is None:
                self._settled = total
        if total.turns is None:
            return 0, total.missing
        return total.measured, session_energy(total.turns, self._basis(self._widest, total.flags, total.other_j))

    def duty_parts(
        self, source: str, load: ModelLoaded | None
    ) -> tuple[Quantity | Unavailable, Quantity | Unavailable]:
        """Idle power without a model in W, and the energy of a load in J, by the sources that a figure names."""
        account: SessionEnergy = self
        while account._next is not None and account._source != source:
            account = account._next
        if isinstance(account._widest, Unavailable):  # noqa: SLF001 - the same
            return account._widest, account._widest  # noqa: SLF001 - the same
        return account._unloaded_w(), account._load_j(account._widest, load)  # noqa: SLF001 - the same

    @property
    def _source(self) -> str:
        return "" if isinstance(self._widest, Unavailable) else self._basis(self._widest, (), None).source

    def _unloaded_w(self) -> Quantity | Unavailable:
        spans = unloaded_spans(self._session, self._until_us)
        if isinstance(spans, Unavailable):
            return spans
        known: list[Quantity] = []
        for feed in self._feeds:
            tracker = feed.estimator.tracker()
            for start_us, end_us in spans:
                tracker.idle_from(start_us)
                tracker.busy_from(end_us)
            latest = tracker.latest()
            if latest is None or not tracker.is_known:
                return UNLOADED_UNKNOWN
            known.append(power_of(feed.estimator.curve, latest.power_w, latest.u_w))
        return summed(known)

    def _load_j(self, headline: Headline, load: ModelLoaded | None) -> Quantity | Unavailable:
        if load is None or load.engine.server:
            return NO_LOAD if load is None else HELD_BY_SERVER
        windows = [feed.measured(load_start_us(load), load.t_us, UNLOADED_UNKNOWN) for feed in self._feeds]
        missing = next((each for each in windows if isinstance(each, Unavailable)), None)
        if missing is not None:
            return replace(missing, hint=UNLOADED_UNKNOWN.hint)
        whole = summed(each.gross for each in windows if isinstance(each, Window))
        grade = graded(whole, headline.scope, True, ())
        return grade if isinstance(grade, Unavailable) else whole

    def power_at(self, t_us: int) -> PowerNow | Unavailable:
        """The latest power of the headline, a mean over what its sensor can tell apart; its age is seen from `t_us`."""
        if isinstance(self._widest, Unavailable):
            return self._widest
        own = self._power_at(t_us, self._widest)
        if isinstance(own, Unavailable) and self._next is not None:
            narrower = self._next.power_at(t_us)
            return own if isinstance(narrower, Unavailable) else narrower
        return own

    @property
    def headline(self) -> Headline | Unavailable:
        """What the latest power is that of: the widest source that reads."""
        return self._in_use._widest  # noqa: SLF001 - another of this class

    @property
    def _in_use(self) -> SessionEnergy:
        """The account of the widest source that reads; this one while none does."""
        account: SessionEnergy | None = self
        while account is not None:
            if account._feeds and all(  # noqa: SLF001 - another of this class
                not isinstance(feed.latest(self._until_us), Unavailable)
                for feed in account._feeds  # noqa: SLF001 - the same
            ):
                return account
            account = account._next  # noqa: SLF001 - the same
        return self

    def _power_at(self, t_us: int, headline: Headline) -> PowerNow | Unavailable:
        total_w, oldest_us = 0.0, self._until_us
        parts_w: dict[str, float] = {}
        idle_w: float | None = 0.0
        for feed in self._feeds:
            latest = feed.latest(self._until_us)
            if isinstance(latest, Unavailable):
                return latest
            power_w, last_us = latest
            total_w += power_w
            host = host_name(feed.estimator.meter)
            parts_w[host] = parts_w.get(host, 0.0) + power_w
            oldest_us = min(oldest_us, last_us)
            baseline = feed.estimator.baseline.latest()
            idle_w = None if baseline is None or idle_w is None else idle_w + baseline.power_w
        return PowerNow(
            power_w=total_w,
            age_us=t_us - oldest_us,
            scope=headline.scope,
            channels=tuple(meter.name for meter in headline.meters),
            idle_w=idle_w,
            hosts=tuple(HostPower(*each) for each in parts_w.items()) if len(parts_w) > 1 else (),
        )

    def counted_j(self) -> list[tuple[Meter, Interval]]:
        """The energy of each meter in use since its first reading, in J; none of a meter that does not read now."""
        counted = []
        for feed in self._in_use._feeds:  # noqa: SLF001 - another of this class
            curve = feed.estimator.curve
            if isinstance(feed.latest(self._until_us), Unavailable) or curve.first_us is None or curve.last_us is None:
                continue
            window = feed.measured(curve.first_us, curve.last_us, NO_TURN)
            if isinstance(window, Window):
                counted.append((feed.estimator.meter, figure(window.gross)))
        return counted

    @property
    def knows_idle(self) -> bool:
        """Whether the idle power was measured long enough for net figures."""
        feeds = self._in_use._feeds  # noqa: SLF001 - another of this class
        return bool(feeds) and all(feed.estimator.baseline.is_known for feed in feeds)

    def power_history(self, steps: int, step_us: int) -> list[float | None]:
        """Mean power of the headline in `steps` spans of `step_us`, oldest first; `None` where it is not known."""
        end_us = self._until_us // step_us * step_us
        return [self.mean_power(end_us - step * step_us, end_us - (step - 1) * step_us) for step in range(steps, 0, -1)]

    def mean_power(self, begin_us: int, end_us: int) -> float | None:
        """Mean power of the headline from `begin_us` until `end_us`, which is later; `None` where it is not known."""
        own = self._own_mean_w(begin_us, end_us)
        return self._next.mean_power(begin_us, end_us) if own is None and self._next is not None else own

    def _own_mean_w(self, begin_us: int, end_us: int) -> float | None:
        total_w = 0.0
        for feed in self._feeds:
            curve = feed.estimator.curve
            known = curve.first_us is not None and curve.first_us <= begin_us and curve.reaches(end_us)
            if not known or curve.gap_share(begin_us, end_us).estimated_s > 0:
                return None
            total_w += curve.mean_w(begin_us, end_us)
        return total_w if self._feeds else None

    def _all_feeds(self) -> list[ChannelFeed]:
        return [*self._feeds, *(feed for feed in self._others if feed is not None)]

    def _take_moments(self) -> bool:
        """Look for new moments; false when one lies among those that the estimators know already."""
        moments = self._all_moments.all()
        if moments is self._moments:
            return True
        known, self._moments = self._moments[: self._moments_fed], moments
        return moments[: self._moments_fed] == known

    def _figures(self, turn: Turn) -> MeasuredTurn:
        kept = self._kept.get(turn)
        baselines = self._baselines()
        if kept is not None and kept.baselines in {None, baselines}:
            return kept.figures
        if turn in self._latest:
            return self._latest[turn]
        progress = turn.progress(self._until_us)
        finished = turn.finished_at(self._until_us) is not None
        # A benchmark of prefill alone ends with the prompt; any other turn without a token has only been begun.
        is_prompt = finished and bool(turn.started.task) and not progress.generated and progress.evaluated > 0
        end_us = progress.prefill_end_us if is_prompt else progress.last_us
        span = TurnSpan(
            submitted_us=progress.submitted_us,
            first_token_us=progress.first_us,
            last_us=self._until_us if end_us is None else end_us,
            evaluated_tokens=progress.evaluated,
            generated_tokens=progress.generated,
            over=finished or _has_ended(self._session, self._until_us),
            pauses=tuple(self._session.pauses(progress.submitted_us, self._until_us if end_us is None else end_us)),
        )
        enough = is_prompt or progress.generated > 1
        too_short = NO_REPLY if span.over else NO_TOKENS_YET
        figures = self._measured(span) if enough else MeasuredTurn(windows=too_short, span=span)
        if enough and not span.over and span.last_us - span.submitted_us < self._smear_s * US_PER_S:
            # What the sensor shows yet is idle power, with an interval that knows of no load.
            figures = MeasuredTurn(windows=UNSEEN, span=span)
        if not progress.counted:
            figures = MeasuredTurn(windows=NOT_COUNTED, span=span)
        self._latest[turn] = figures
        if finished and self._all_read(span.last_us):
            fixed = all(feed.estimator.baseline.is_complete(span.last_us) for feed in self._feeds)
            self._kept[turn] = _Kept(figures=figures, baselines=None if fixed else baselines)
        return figures

    def _baselines(self) -> tuple[int, ...]:
        """Another one whenever an idle power that was taken from the baselines may have changed."""
        return tuple(feed.estimator.baseline.changes for feed in self._feeds)

    def _measured(self, span: TurnSpan) -> MeasuredTurn:
        temperature_c = _temperature(self._session, span.submitted_us)
        turns = [feed.turn(span, temperature_c) for feed in self._feeds]
        windows = by_host(turns, [feed.estimator.meter for feed in self._feeds])
        flags = weakened_by(self._session, span.submitted_us, span.last_us)
        if isinstance(windows, TurnWindows) and windows.turn.net is None and isinstance(self._widest, Headline):
            stored = stored_idle(self._session, self._widest.scope, self._source)
            if stored is not None:
                net = net_of(windows.turn, stored.power)
                windows = replace(windows, turn=replace(windows.turn, net=net, idle=stored.power, no_idle=None))
                flags = (*flags, stored.flag)
        return MeasuredTurn(
            windows=windows,
            span=span,
            flags=flags,
            other_j=self._other_j(span, turns),
        )

    def _other_j(self, span: TurnSpan, turns: Sequence[TurnWindows | Unavailable]) -> float | None:
        """The turn's energy with every meter in place of which another measures the same; `None` without any."""
        other_j, seen = 0.0, False
        for turn, feed in zip(turns, self._others, strict=True):
            found = None if feed is None else feed.estimator.window(span.submitted_us, span.last_us)
            if isinstance(found, Window):
                seen = True
                other_j += found.gross.value
            elif isinstance(turn, TurnWindows):
                other_j += turn.turn.gross.value
            else:
                return None
        return other_j if seen else None

    def _all_read(self, end_us: int) -> bool:
        """Whether no reading to come belongs to a turn that ended at `end_us`, or to the extension of its window."""
        return end_us + SETTLED_US <= self._until_us and all(
            feed.estimator.curve.is_complete(end_us + round(max(feed.estimator.curve.tail_s, LOOK_AHEAD_S) * 1e6))
            for feed in self._all_feeds()
        )

    def _basis(self, headline: Headline, flags: tuple[str, ...], other_j: float | None) -> EnergyBasis:
        return EnergyBasis(
            scope=headline.scope,
            source=" + ".join(dict.fromkeys(meter.source for meter in headline.meters)),
            averaged=all(
                meter.kind == "energy" or feed.estimator.curve.averaging
                for meter, feed in zip(headline.meters, self._feeds, strict=True)
            ),
            flags=(*headline.flags, *flags),
            other_j=other_j,
        )


class EnergyAccounts:
    """The accounts of one session: this one keeps the latest, and makes another when the moment goes back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._account = SessionEnergy(session)

    def at(self, until_us: int) -> SessionEnergy:
        """An account of what had been recorded by then, until it is asked for another moment."""
        if not self._account.advance(until_us):
            self._account = self._account.with_present_sources()
            if not self._account.advance(until_us):
                self._account = SessionEnergy(self._session)
                self._account.advance(until_us)
        return self._account


ENERGY_ACCOUNTS: Final = PerSession(EnergyAccounts)


class PowerOverTime(Struct, frozen=True, array_like=True):
    """Mean power of the headline in equal steps from the session's beginning on; `None` where it is not known."""

    step_us: int
    values: tuple[float | None, ...]


STEPS_MOST: Final = 12_000
"""Of what is drawn of a session, twenty to a column of a picture."""

STEP_US_LEAST: Final = 50_000


def _power_over_time(session: Session) -> PowerOverTime | Unavailable:
    account = ENERGY_ACCOUNTS.of(session).at(session.end_us)
    headline = account.headline
    if not isinstance(headline, Headline):
        return headline
    period_us = round(max(meter.poll_s for meter in headline.meters) * US_PER_S)
    step_us = max(STEP_US_LEAST, period_us, -(-session.end_us // STEPS_MOST))
    return PowerOverTime(step_us, tuple(account.power_history(session.end_us // step_us, step_us)))


POWER_OVER_TIME: Final = PerSession(_power_over_time)
"""Of sessions that have ended."""


def energy_of(session: Session, t_us: int) -> SessionEnergy:
    """The session's account as it stands at `t_us`."""
    return ENERGY_ACCOUNTS.of(session).at(account_moment(session, t_us))


def account_moment(session: Session, t_us: int) -> int:
    """How far the account goes at `t_us`."""
    return t_us if _has_ended(session, t_us) else t_us - BEHIND_US


def _infos(session: Session) -> tuple[SourceInfo, ...]:
    """What the meters are made of."""
    return tuple(series.info for series in session.series.values())


def _chosen(session: Session) -> str | None:
    """The source of power that the person chose."""
    return None if session.header is None else session.header.power


def _has_ended(session: Session, t_us: int) -> bool:
    return t_us >= session.end_us and bool(session.events) and session.events[-1].kind in LAST_EVENTS


def _temperature(session: Session, t_us: int) -> float | None:
    stamps, values = session.window(TEMPERATURE, t_us - TEMPERATURE_AGE_US, t_us)
    return values[-1] if stamps and not isnan(values[-1]) else None


READINGS_BETWEEN = 512
"""Between two marks, of the meter that is read most often: some milliseconds of work."""

MARKS_AT_MOST = 512
"""A mark takes some kilobytes for each hundred turns."""

NOT_REACHED = Unavailable("the power readings are still being added up", "wait a moment")


class Checkpoints(EnergyAccounts):
    """The accounts of one session to which nothing is added any more."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.patient = True
        """Whether `at` goes through the readings as far as it must, or says that they are not added up yet."""
        self._moments_us = _moments_us(session)
        self._front = SessionEnergy(session)
        self._front.advance(-LARGEST)
        self._marks = [self._front.mark()]
        self._marks_us = [-LARGEST]
        self._next = 0
        self._pending = _Pending(session)

    @property
    def complete(self) -> bool:
        """Whether all readings were gone through."""
        return self._next == len(self._moments_us)

    def extend(self) -> bool:
        """Go through the readings up to the next mark; false when there are none left."""
        if self.complete:
            return False
        until_us, revision = self._moments_us[self._next], self._front.revision
        self._front.advance(until_us)
        if self._front.revision != revision and self._next:
            self._mark_revisions(until_us, revision)
        index = self._session.turn_at(until_us)
        if index is not None:
            # What it takes to add up the turns is kept with the mark.
            self._front.turns_together(index + 1)
        self._mark(self._front)
        self._next += 1
        return not self.complete

    def at(self, until_us: int) -> SessionEnergy:
        """See EnergyAccounts."""
        while not self.complete and until_us > self._moments_us[self._next]:
            if not self.patient:
                return self._pending
            self.extend()
        mark = bisect_right(self._marks_us, until_us) - 1
        if mark < 0:
            return self._pending
        if not self._marks_us[mark] <= self._account.until_us <= until_us:
            self._account = self._marks[mark].resumed()
        self._account.advance(until_us)
        return self._account

    def _mark_revisions(self, until_us: int, revision: int) -> None:
        """Mark the account at each reading before `until_us` that revises it, so that no seek computes all anew."""
        account = self._marks[-1].resumed()
        stamps_us = sorted(
            {
                t_us
                for series in self._session.series.values()
                for t_us in series.t_us[slice(*series.between(self._marks_us[-1], until_us))]
            }
        )
        for t_us in stamps_us:
            account.advance(t_us)
            if account.revision != revision:
                revision = account.revision
                self._mark(account)
            if revision == self._front.revision:
                break

    def _mark(self, account: SessionEnergy) -> None:
        self._marks.append(account.mark())
        self._marks_us.append(account.until_us)


class _Pending(SessionEnergy):
    """Stands where there is no account yet."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, NOT_REACHED)


def _moments_us(session: Session) -> array[int]:
    """Where marks are to be: readings of the meter that is read most often."""
    metered = [found[0].t_us for meter in meters_of(session) if (found := session.find_channel(meter.name))]
    if not metered:
        return array("q")
    stamps_us = max(metered, key=len)
    step = max(READINGS_BETWEEN, -(-len(stamps_us) // MARKS_AT_MOST))
    return stamps_us[step - 1 :: step]
