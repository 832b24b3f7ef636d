"""Alerts: limits on the figures of a running session and on what its sensors read.

A limit is crossed when a value is beyond it with all of its interval, and, with `for 60s`, has been at every look since
so long ago. The alert is over once the value has not been beyond the limit for as long, and for `BACK_S` at least. What
cannot be read crosses nothing: it begins both times anew, and ends no alert. In a watch of several hosts a limit
without the name of one is that of each of them.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import sources
from edgetop.core.clock import US_PER_S
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.figures import BY_NAME, FIGURES, Subject, reason_of, text_of, value_of
from edgetop.core.format import format_duration, format_significant
from edgetop.core.quantity import OPERATORS, Interval, Operator, exact
from edgetop.core.records import Event, SessionKind
from edgetop.core.sources import Unavailable
from edgetop.session.session import Series, Session
from edgetop.session.snapshot import snapshot
from edgetop.session.watch import watch_figures
from edgetop.settings.option import ALERT_SHAPE

SUBJECTS: Final[dict[SessionKind, Subject]] = {"chat": "session", "watch": "watch"}
"""Whose figures an alert is about."""

LATER: Final = (sources.SERVED_TOKENS, sources.SERVED_PROMPT_TOKENS, sources.SERVED_RUNNING, sources.SERVED_WAITING)
LATER_PREFIXES: Final = ("server.", sources.HOST_PREFIX, "engine.", sources.HOST_STREAM)
"""Channels that come with servers, hosts and the engine."""

BACK_S: Final = 10.0
"""A value that goes to and fro across its limit raises one alert (judgement: shorter than anything that is acted on,
longer than what a temperature or a rate swings in)."""

STALE_PERIODS, STALE_S = 3, 5.0
"""A reading older than both is none."""

_SUFFIXES = {"Cel": "_c", "W": "_w", "J": "_j", "B": "_bytes", "Hz": "_hz", "%": "_percent", "s": "_s"}
_SECONDS = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class AlertRaisedError(EdgetopError):
    """An alert has ended what it watched over."""

    exit_code = 6


class Alert(Struct, frozen=True, kw_only=True):
    """One limit."""

    name: str
    """Of a figure or a channel."""
    operator: Operator
    number: float
    for_s: float = 0.0
    host: str = ""
    """Of several hosts, the one whose limit it is."""
    text: str
    """As the person wrote it, behind the host."""

    def is_crossed_by(self, value: Interval) -> bool:
        """Whether all of the interval is beyond the limit."""
        nearest = value.high if self.operator in {"<", "<="} else value.low
        return all(OPERATORS[self.operator](each, self.number) for each in (value.value, nearest))


class AlertChange(Struct, frozen=True, kw_only=True):
    """An alert that was raised, or is over, or cannot be judged."""

    alert: Alert
    state: str
    """`raised`, `over` or `not known`."""
    value: float | None
    text: str
    """One line for a person."""


def parse_alert(text: str) -> Alert:
    """Read one such as `temperature.cpu > 80` or `energy.j_per_token > 1.5 for 60s`; its shape has been checked."""
    found = re.fullmatch(ALERT_SHAPE, text)
    assert found is not None  # noqa: S101 - the option's parser has read it
    operator: Operator = found["operator"]  # type: ignore[assignment]
    return Alert(
        name=found["name"],
        operator=operator,
        number=float(found["number"]),
        for_s=float(found["time"] or 0) * _SECONDS[found["unit"] or None],
        text=text.strip(),
    )


def figure_names(kind: SessionKind) -> list[str]:
    """The figures that can have a limit."""
    return [f.name for f in FIGURES if SUBJECTS[kind] in f.of and f.kind not in {"text", "reason"}]


def channel_names(session: Session) -> dict[str, str]:
    """The channels by the names that alerts have for them: `temperature.cpu`, and `temperature_cpu_c` with its unit."""
    names = {}
    for name in session.channels():
        found = session.find_channel(name)
        unit = "" if found is None else found[0].columns[found[1]].channel.unit
        names[name.replace(".", "_") + _SUFFIXES.get(unit, "")] = name
    return names | {name: name for name in (*session.channels(), *LATER)}


def value_at(session: Session, name: str, t_us: int) -> Interval | Unavailable:
    """What a figure or a channel is at a moment, or why that is not known."""
    figure = BY_NAME.get(name)
    if figure is not None:
        is_watch = session.header is not None and session.header.kind == "watch"
        figures = watch_figures(session, t_us) if is_watch else snapshot(session, t_us).summary
        value = value_of(figures, name)
        if value is None:
            return Unavailable(reason_of(figures, figure))
        return value if isinstance(value, Interval) else exact(float(value))
    found = session.find_channel(name) or session.find_channel(channel_names(session).get(name, name))
    if found is None:
        return Unavailable("nothing reads it")
    series, column = found
    index = series.count_until(t_us) - 1
    if index < 0:
        return Unavailable("it was not read yet")
    age_s = (t_us - series.t_us[index]) / US_PER_S
    if age_s > max(STALE_S, STALE_PERIODS * series.info.period_s):
        return Unavailable(f"it was last read {format_duration(age_s)} ago")
    read = series.columns[column].at(index)
    return read if isinstance(read, Unavailable) else _with_ends(read, series, name, index)


def _with_ends(value: float, series: Series, name: str, index: int) -> Interval:
    """A reading, with its interval where the source tells one."""
    ends = [each.values[index] for each in series.columns if each.channel.name in {f"{name}_low", f"{name}_high"}]
    return replace(exact(value), low=min(ends), high=max(ends)) if ends else exact(value)


def _host_channels(session: Session, host: str) -> dict[str, str]:
    """The channels of one of several hosts by all names that stand for them: those of figures and of sensors."""
    names: dict[str, str] = {}
    for each in session.series[f"{sources.HOST_STREAM}{host}"].info.channels:
        own = each.name.removeprefix(f"{sources.HOST_STREAM}{host}.")
        forms = (own, own.replace("_", "."), own + _SUFFIXES.get(each.unit, ""))
        names |= dict.fromkeys((*forms, *(f.name for f in FIGURES if f.name.rpartition(".")[2] == own)), each.name)
    return names


def hosts_of(session: Session) -> list[str]:
    """The hosts of a watch of several."""
    return [
        name.removeprefix(sources.HOST_STREAM) for name, series in session.series.items() if series.info.driver == "ssh"
    ]


def _of_hosts(alert: Alert, session: Session) -> Iterator[Alert]:
    """An alert for each of several hosts; the alert itself where it is of one, or where there are none."""
    hosts = hosts_of(session)
    if not hosts or session.find_channel(channel_names(session).get(alert.name, alert.name)) is not None:
        yield alert
        return
    for host in hosts:
        names = _host_channels(session, host)
        if alert.name not in names:
            raise _unknown(alert.name, [*names])
        yield replace(alert, name=names[alert.name], host=host, text=f"{host}: {alert.text}")


class _State:
    __slots__ = ("alert", "back_us", "beyond_us", "known", "raised")

    def __init__(self, alert: Alert) -> None:
        self.alert = alert
        self.beyond_us: int | None = None
        """Since when the value has been beyond the limit."""
        self.back_us: int | None = None
        """Since when that of a raised alert has not."""
        self.raised = False
        self.known = True

    def judge(self, value: Interval | Unavailable, t_us: int) -> AlertChange | None:
        """What is new with the value of a moment that is not before the last one."""
        if isinstance(value, Unavailable) or not isfinite(value.value):
            self.beyond_us = self.back_us = None
            if not self.known:
                return None
            self.known = False
            reason = str(value) if isinstance(value, Unavailable) else "it is not a number"
            return self._change("not known", None, f"not known: {reason}")
        self.known = True
        shown = _shown(self.alert, value)
        if not self.alert.is_crossed_by(value):
            self.beyond_us = None
            if self.back_us is None:
                self.back_us = t_us
            if not self.raised or t_us - self.back_us < max(BACK_S, self.alert.for_s) * US_PER_S:
                return None
            self.raised = False
            return self._change("over", value.value, f"is over, {shown}")
        self.back_us = None
        if self.beyond_us is None:
            self.beyond_us = t_us
        lasted_s = (t_us - self.beyond_us) / US_PER_S
        if self.raised or lasted_s < self.alert.for_s:
            return None
        self.raised = True
        lasted = f" for {format_duration(lasted_s)}" if self.alert.for_s else ""
        return self._change("raised", value.value, f"{shown}{lasted}")

    def _change(self, state: str, value: float | None, what: str) -> AlertChange:
        return AlertChange(alert=self.alert, state=state, value=value, text=f"{self.alert.text}: {what}")


def _shown(alert: Alert, value: Interval) -> str:
    figure = BY_NAME.get(alert.name)
    if figure is None:
        return format_significant(value.value, 4)
    return text_of(figure, value.value if value.low == value.high else value)


def _ring() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\a")
        sys.stderr.flush()


class Alerts:
    """Judges all limits about once a second, and does what was asked for when one is crossed."""

    def __init__(
        self, texts: Sequence[str], kind: SessionKind, *, command: str | None = None, ends: bool = False
    ) -> None:
        """`command` is run by the shell at each change, and `ends` lets the first alert end the program.

        Raises UsageError for the name of a figure that such a session does not have.
        """
        self._kind: SessionKind = kind
        self._states = [_State(parse_alert(text)) for text in texts]
        self._command = command
        self._ends = ends
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._checked = False
        self.ended_by: AlertChange | None = None
        """What was raised, where that is to end the program."""
        self.ring: Callable[[], None] = _ring
        known = figure_names(kind)
        for state in self._states:
            if state.alert.name in BY_NAME and state.alert.name not in known:
                raise _unknown(state.alert.name, known)

    def raise_if_ended(self) -> None:
        """Raise AlertRaisedError where an alert has ended the program."""
        if self.ended_by is not None:
            raise AlertRaisedError(f"ended by an alert: {self.ended_by.text}")

    def check(self, session: Session, t_us: int, say: Callable[[str], None]) -> Iterator[Event]:
        """Judge all alerts at a moment that is not before the last one, and say, run and record what has changed.

        Raises UsageError at the first look for a name that is neither of a figure nor of anything that is read here.
        """
        if not self._checked:
            self._states = [_State(alert) for state in self._states for alert in _of_hosts(state.alert, session)]
            self._require_known(session)
            self._checked = True
        self._reap(say)
        for state in self._states:
            change = state.judge(value_at(session, state.alert.name, t_us), t_us)
            if change is None:
                continue
            say(change.text)
            if change.state != "not known":
                self._run(change, say)
            if change.state == "raised":
                self.ring()
                if self._ends:
                    self.ended_by = self.ended_by or change
            yield Event(
                t_us=session.start_us + t_us,
                kind=f"alert_{change.state.replace(' ', '_')}",
                text=f"Alert: {change.text}.",
                data={"alert": state.alert.text} | ({} if change.value is None else {"value": change.value}),
            )

    def _require_known(self, session: Session) -> None:
        channels = channel_names(session)
        known = [*figure_names(self._kind), *channels]
        for state in self._states:
            name = state.alert.name
            dotted = name.replace("_", ".")
            comes_later = any(each.startswith(LATER_PREFIXES) for each in (name, dotted)) and not hosts_of(session)
            if name not in known and not comes_later:
                raise _unknown(name, known)

    def _run(self, change: AlertChange, say: Callable[[str], None]) -> None:
        """Start the command; what it is about stands in its environment, never in the command."""
        if self._command is None:
            return
        if change.alert.text in self._running:
            say("--alert-run: the command of the last time still runs")
            return
        environment = {
            **os.environ,
            "EDGETOP_ALERT_LIMIT": change.alert.text,
            "EDGETOP_ALERT_HOST": change.alert.host,
            "EDGETOP_ALERT_STATE": change.state,
            "EDGETOP_ALERT_VALUE": "" if change.value is None else repr(change.value),
            "EDGETOP_ALERT_TEXT": change.text,
        }
        try:
            self._running[change.alert.text] = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            say(f"--alert-run: {error}")

    def _reap(self, say: Callable[[str], None]) -> None:
        """Take leave of commands that have ended, and say which failed."""
        for text, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[text]
                if code:
                    say(f"--alert-run: the command ended with {code}")


def _unknown(name: str, known: Sequence[str]) -> UsageError:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    shown = ", ".join(each for each in known if each in BY_NAME or "." not in each)
    return UsageError(f"--alert: nothing here is called {name!r}", f"{hint}there are {shown}")
