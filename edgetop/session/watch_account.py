"""What watched servers did, and at what energy, from the looks at them that a session has recorded.

Each look tells how many tokens all servers together have generated. The time between two looks counts when both know
that, and is *generating* when tokens came or a request was under way at either of them, else *waiting*. Looks of one
kind in a row make a span; energies are taken of spans, by the same estimator as those of turns, and added up. The idle
power is measured in the waiting spans. How the figures follow from the sums is in `edgetop.core.energy.served`.

The account is a function of the session and the moment, as everything that is shown. What cannot change any more is
kept in sums, so that asking once a second costs little however long the session is.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, seconds
from edgetop.core.energy import window
from edgetop.core.energy.baseline import IdlePower
from edgetop.core.energy.per_token import Basis
from edgetop.core.energy.scope import Headline
from edgetop.core.energy.served import (
    RUNNING_ONLY,
    UNCOUNTED,
    Served,
    ServedEnergy,
    TokensServed,
    net_of,
    served_energy,
)
from edgetop.core.energy.uncertainty import Components, Quantity, summed
from edgetop.core.energy.window import Window
from edgetop.core.figures import tokens_per_s
from edgetop.core.records import Missing, SourceInfo
from edgetop.core.watch_figures import WatchFigures
from edgetop.session import channels
from edgetop.session.channel_feed import ChannelFeed
from edgetop.session.limits import limit_between
from edgetop.session.meters import headline_of, meters_of
from edgetop.session.quiet import Moment
from edgetop.session.server_looks import Look, grown_until, look_at, reason_at
from edgetop.session.session import PerSession, Session

APART_US = 15 * US_PER_S
"""Two looks further apart tell nothing of the time between them."""
NOT_SUBTRACTED = Missing("it is taken off where the sums are made")
FLAG_OF_LIMIT = {"throttled": "throttled", "contention": "other-load"}


class _Span(Struct):
    """Time in a row of one kind."""

    start_us: int
    end_us: int
    generating: bool
    tokens: int


class _Sums(Struct, frozen=True):
    """Spans put together. Tokens of spans without energy are not among them."""

    generating: Window | None = None
    waiting: Window | None = None
    nets: tuple[Quantity, ...] = ()
    """At most one: above idle, of that part of `generating` for which the idle power is final."""
    group: Window | None = None
    """The rest of `generating`."""
    tokens: int = 0
    flags: tuple[str, ...] = ()


class WatchAccount:
    """The account of one session, up to a moment that only goes forward."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._infos = _infos(session)
        self._meters = meters_of(session)
        self.headline = headline_of(session, self._meters)
        chosen = self.headline.meters if isinstance(self.headline, Headline) else ()
        self._feeds = [ChannelFeed(session, meter) for meter in chosen]
        self._taken = 0
        """How many looks have been taken in."""
        self._last: Look | None = None
        self._first_us: int | None = None
        self._begin = self._newest = 0.0
        self._generating_us = self._left_out_us = self._counted = 0
        self._left_out = ""
        self._edges = 0.0
        """Σ e² of the ends of stretches, the end of the one that goes on not among them."""
        self._spans: list[_Span] = []
        """Those that are not in the sums yet; the last one may go on."""
        self._open = False
        self._sums = _Sums()
        self._revision = 0
        self._sleeps = 0

    def advance(self, t_us: int) -> bool:
        """Take in the looks until `t_us`; false when the account is to be made anew for that."""
        found = self._session.find_channel(channels.SERVED_TOKENS)
        count = 0 if found is None else found[0].count_until(t_us)
        if count < self._taken or _infos(self._session) != self._infos:
            return False
        if isinstance(self.headline, Missing):
            self.headline = headline_of(self._session, self._meters)
        if found is not None:
            for index in range(self._taken, count):
                self._take(look_at(*found, index))
        self._taken = count
        if self._last is not None:
            self._note_sleeps(self._last.t_us)
            for feed in self._feeds:
                feed.advance(self._last.t_us)
        revision = sum(feed.estimator.curve.revision for feed in self._feeds)
        if self._sums != _Sums() and revision != self._revision:
            return False
        self._revision = revision
        self._settle()
        return True

    def figures(self, prompt_tokens: int | None) -> WatchFigures:
        """What the servers did, as far as it was taken in."""
        if self._last is None or self._first_us is None:
            reason = Missing("no server that counts its tokens has been found yet", "see the list of servers for why")
            return WatchFigures(energy_missing=_words(reason))
        sums = self._sums
        for span in self._spans:
            sums = self._plus(sums, span)
        energy = self._energy(sums)
        return WatchFigures(
            watched_s=seconds(self._last.t_us - self._first_us),
            left_out_s=seconds(self._left_out_us),
            left_out=self._left_out,
            generating_s=seconds(self._generating_us),
            generated_tokens=round(self._newest - self._begin),
            prompt_tokens=prompt_tokens,
            tokens_per_s=tokens_per_s(self._counted, self._generating_us),
            energy=None if isinstance(energy, Missing) else energy,
            energy_missing=_words(energy) if isinstance(energy, Missing) else "",
        )

    def idle_w(self) -> float | None:
        """Power while the servers wait, as it was measured last; `None` before it was."""
        latest = [feed.estimator.baseline.latest() for feed in self._feeds]
        known = [baseline.power_w for baseline in latest if baseline is not None]
        return sum(known) if known and len(known) == len(latest) else None

    def _take(self, look: Look) -> None:
        before, self._last = self._last, look
        if look.tokens is not None:
            if self._first_us is None:
                self._first_us, self._begin = look.t_us, look.tokens
            self._newest = look.tokens
        if self._first_us is None or before is None:
            return
        if look.tokens is None or before.tokens is None or look.t_us - before.t_us > APART_US:
            self._leave_out(before, look)
            return
        generating = look.tokens > before.tokens or look.running > 0 or before.running > 0
        tokens = round(look.tokens - before.tokens)
        if not self._open:
            self._edges += before.unsure**2
        if self._open and self._spans[-1].generating == generating:
            span = self._spans[-1]
            span.end_us, span.tokens = look.t_us, span.tokens + tokens
        else:
            self._begin_span(_Span(before.t_us, look.t_us, generating, tokens))
        if generating:
            self._generating_us += look.t_us - before.t_us
            self._counted += tokens

    def _begin_span(self, span: _Span) -> None:
        self._end_span()
        self._spans.append(span)
        self._open = True
        if not span.generating:
            self._note(span.start_us, quiet=True)

    def _end_span(self) -> None:
        if self._open and not self._spans[-1].generating:
            self._note(self._spans[-1].end_us, quiet=False)
        self._open = False

    def _leave_out(self, before: Look, look: Look) -> None:
        if self._open:
            self._edges += before.unsure**2
        self._end_span()
        self._left_out_us += look.t_us - before.t_us
        if look.tokens is None:
            self._left_out = reason_at(self._session, look.t_us)
        elif before.tokens is not None:
            self._left_out = "the servers were not looked at"

    def _note(self, t_us: int, *, quiet: bool) -> None:
        for feed in self._feeds:
            feed.note(Moment(t_us, "quiet" if quiet else "busy"), None)

    def _note_sleeps(self, until_us: int) -> None:
        events = self._session.events
        slept_us = [event.t_us for event in events if event.kind == "suspended" and event.t_us <= until_us]
        for t_us in slept_us[self._sleeps :]:
            for feed in self._feeds:
                feed.note(Moment(t_us, "suspended"), None)
        self._sleeps = len(slept_us)

    def _settle(self) -> None:
        """Put into the sums what no later reading changes."""
        while len(self._spans) > 1 and self._is_final(self._spans[0]):
            self._sums = self._plus(self._with_known_idle(self._sums), self._spans.pop(0))

    def _is_final(self, span: _Span) -> bool:
        curves = [feed.estimator.curve for feed in self._feeds]
        return all(curve.is_settled(span.end_us + round(curve.tail_s * 1e6)) for curve in curves)

    def _with_known_idle(self, sums: _Sums) -> _Sums:
        """Close the group of generating spans whose idle power no later quiet changes."""
        group = sums.group
        if group is None or not all(feed.estimator.baseline.is_settled(group.end_us) for feed in self._feeds):
            return sums
        net = self._net(group)
        # Without it there is no net energy of the whole any more: the group is kept, and says why.
        return sums if isinstance(net, Missing) else replace(sums, nets=(summed((*sums.nets, net)),), group=None)

    def _plus(self, sums: _Sums, span: _Span) -> _Sums:
        """With one more span; one without energy is left out with its tokens."""
        measured = self._measured(span)
        if isinstance(measured, Missing):
            return sums
        sums = replace(sums, tokens=sums.tokens + span.tokens)
        if not span.generating:
            return replace(sums, waiting=_joined(sums.waiting, measured))
        flag = FLAG_OF_LIMIT.get(limit_between(self._session, span.start_us, span.end_us).name)
        return replace(
            sums,
            generating=_joined(sums.generating, measured),
            group=_joined(sums.group, measured),
            flags=sums.flags if flag is None else tuple(dict.fromkeys((*sums.flags, flag))),
        )

    def _measured(self, span: _Span) -> Window | Missing:
        windows: list[Window] = []
        for feed in self._feeds:
            measured = feed.measured(span.start_us, span.end_us, NOT_SUBTRACTED)
            if isinstance(measured, Missing):
                return measured
            windows.append(measured)
        return window.together(windows) if windows else Missing("no meter")

    def _energy(self, sums: _Sums) -> ServedEnergy | Missing:
        if isinstance(self.headline, Missing):
            return self.headline
        estimators = [feed.estimator for feed in self._feeds]
        unfinished = 0.0 if self._last is None or not self._open else self._last.unsure**2
        basis = Basis(
            scope=self.headline.scope,
            source=" + ".join(dict.fromkeys(meter.source for meter in self.headline.meters)),
            averaged=all(each.meter.kind == "energy" or each.curve.averaging for each in estimators),
            flags=tuple(dict.fromkeys((*self.headline.flags, *sums.flags, *_flags_of_services(self._session)))),
        )
        served = Served(
            generating=sums.generating,
            waiting=sums.waiting,
            net=self._net_of(sums),
            tokens=TokensServed(count=sums.tokens, edges=self._edges + unfinished),
        )
        return served_energy(served, basis)

    def _net_of(self, sums: _Sums) -> Quantity | Missing:
        if sums.group is None:
            return sums.nets[0] if sums.nets else Missing("no request was under way")
        net = self._net(sums.group)
        return net if isinstance(net, Missing) else summed((*sums.nets, net))

    def _net(self, group: Window) -> Quantity | Missing:
        power_w = u_w = 0.0
        for feed in self._feeds:
            idle = feed.estimator.baseline.idle(group.start_us, group.end_us)
            if not isinstance(idle, IdlePower):
                return Missing(idle.reason, "let the servers wait without a request for half a minute")
            power_w, u_w = power_w + idle.power_w, u_w + idle.u_w
        return net_of(group, Quantity(value=power_w, u=Components(baseline=u_w)))


_ACCOUNT: Final = PerSession(WatchAccount)


def watch_account(session: Session, t_us: int) -> WatchAccount:
    """The session's account as it stands at `t_us`."""
    account = _ACCOUNT.of(session)
    if not account.advance(t_us):
        account = WatchAccount(session)
        account.advance(t_us)
        _ACCOUNT.replace(session, account)
    return account


def is_watch(session: Session) -> bool:
    """Whether servers of others were watched, and no model of our own answered."""
    return session.header is not None and session.header.kind == "watch"


def watch_figures(session: Session, t_us: int) -> WatchFigures:
    """What the servers did until `t_us`."""
    return watch_account(session, t_us).figures(grown_until(session, channels.SERVED_PROMPT_TOKENS, t_us))


def _flags_of_services(session: Session) -> tuple[str, ...]:
    """What weakens figures over all users: others at work whose tokens nobody counts, or not all of them."""
    counts = {service.counts for service in session.services.values()}
    flags = {"nothing": UNCOUNTED, "running": RUNNING_ONLY}
    return tuple(flag for word, flag in flags.items() if word in counts)


def _joined(sum_so_far: Window | None, measured: Window) -> Window:
    return measured if sum_so_far is None else window.in_sequence((sum_so_far, measured))


def _infos(session: Session) -> tuple[SourceInfo, ...]:
    """What the meters are made of: sources whose readings cover something of the device's power."""
    infos = [series.info for series in session.series.values()]
    return tuple(info for info in infos if any(channel.scope is not None for channel in info.channels))


def _words(missing: Missing) -> str:
    return f"{missing.reason}: {missing.mend}" if missing.mend else missing.reason
