"""Polls a server that others use; reads Prometheus text.

Only figures are requested, and only they are decoded: `/slots` of an older llama-server also has what its users
wrote, which is skipped unread. Polling never generates, loads or changes anything.

A server's count of tokens begins at 0 when it is started, and may be unknown at a poll. The count made here goes on
over all of that; where what was generated between two polls is not known, the later one of them gives no count.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from http import HTTPStatus
from math import isfinite
from typing import ClassVar, Final, Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, Clock, monotonic_us
from edgetop.core.records import TokensCounted
from edgetop.core.sources import Unavailable
from edgetop.inference.server.address import Address
from edgetop.inference.server.connection import ServerClient, with_short_names
from edgetop.io import extensions
from edgetop.io.http import RequestError

NOT_RUNNING: Final = "not running"
"""In place of a count: nobody listens at the server's address, so that it generates nothing."""

ReportedCount = int | Literal["not running"] | Unavailable
"""What one poll at a server gave: the tokens it has generated since it was started, or why that is not known."""

STARTED_ANEW = Unavailable("the server was started anew: what it had generated before that is not known")
ENDED = Unavailable("the server ended: what it had generated last is not known")
TOO_FAST = Unavailable("requests end faster than the server can be asked")


class _Server(Struct):
    last: int | None = None
    """Its latest count."""
    state: Literal["new", "counted", "unknown", "down"] = "new"


class TokenSum:
    """The tokens of several servers together, from the first poll of each of them on."""

    def __init__(self) -> None:
        self.total = 0
        self._servers: dict[Hashable, _Server] = {}

    def update(self, reported: Mapping[Hashable, ReportedCount]) -> int | Unavailable:
        """Take in a poll of all servers; the sum, or why it is not known what was generated since the poll before.

        A server that is left out is not watched any more. One that comes new counts from now on.
        """
        self._servers = {name: self._servers.get(name, _Server()) for name in reported}
        reasons = [self._add(self._servers[name], count) for name, count in reported.items()]
        return next((reason for reason in reasons if reason is not None), self.total)

    def _add(self, server: _Server, count: ReportedCount) -> Unavailable | None:
        """Add what a server has generated since the poll before, or say why that is not known."""
        last, state = server.last, server.state
        if isinstance(count, Unavailable):
            server.state = "unknown"
            return count
        if count == NOT_RUNNING:
            server.state = "down"
            return ENDED if state == "counted" else None
        server.last, server.state = count, "counted"
        if last is None:
            return None
        if state == "down" and count < last:
            # It began at 0 since the poll before.
            self.total += count
            return None
        if count < last or (state == "down" and count > 0):
            return STARTED_ANEW
        self.total += count - last
        return None


class RequestCount:
    """The tokens that llama-server has generated, from what it tells of ended requests and of running ones.

    `/metrics` counts a request when it has ended, and one that was cancelled never; `/slots` tells how far each
    running one is. Both together count every token, but for those of a cancelled request after the last poll at it.
    """

    def __init__(self) -> None:
        self._ended: int | None = None
        self._cancelled = 0
        self._running: dict[int, int] = {}

    def update(self, ended: int, running: Mapping[int, int]) -> int:
        """Tokens of all requests: `ended` ones as the server counts them, `running` ones by their numbers."""
        before, self._ended = self._ended, ended
        gone = sum(count for request, count in self._running.items() if request not in running)
        self._running = dict(running)
        if before is not None and ended < before:
            self._cancelled = 0
        elif before is not None:
            self._cancelled += max(0, gone - (ended - before))
        return ended + sum(running.values()) + self._cancelled


class RunningCount:
    """The tokens that were seen to be generated in running requests, where a server does not count the ended ones.

    What a request generates after the last poll at it is not seen; `unseen` is how much that may be in all.
    """

    def __init__(self) -> None:
        self._seen = 0
        self.unseen = 0
        self._running: dict[int, int] = {}
        self._grown: dict[int, int] = {}
        """Tokens of each running request between the last two polls."""

    def update(self, running: Mapping[int, int]) -> int:
        """Tokens seen so far; `running` has those of each request under way."""
        for request, count in self._grown.items():
            if request not in running:
                self.unseen += max(1, count)
        self._grown = {request: max(0, count - self._running.get(request, 0)) for request, count in running.items()}
        self._seen += sum(self._grown.values())
        self._running = dict(running)
        return self._seen


class EndedCount:
    """How far a count of ended requests may be off: each running one may have as many tokens as ever ended at once."""

    def __init__(self) -> None:
        self._ended: int | None = None
        self._largest_step = 1

    def uncertainty(self, ended: int, running: float) -> float:
        """In tokens, with `ended` tokens counted and so many requests running."""
        if self._ended is not None:
            self._largest_step = max(self._largest_step, ended - self._ended)
        self._ended = ended
        return self._largest_step * running


IDLE_S = 2.0
"""How long one that has answered sooner is waited for; any other has as long as a poll may take."""

POLL_S = 4.0
"""No poll takes longer, except for a connection that nobody accepts."""

HEALTH_S = 1.0

TEXT_BYTES_MAX = 4 * 2**20
_SWITCHED_OFF = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.METHOD_NOT_ALLOWED})

State = Literal["answers", "asleep", "loading", "busy", "silent", "down", "needs_key", "refuses"]
"""`asleep`: its model is unloaded until somebody asks; `busy`: it is healthy, but too busy for more; `down`: nobody
listens."""


class Slot(Struct, frozen=True, kw_only=True):
    """Serves one request at a time."""

    number: int
    doing: Literal["idle", "prefill", "decode"]
    generated: int | None = None
    """Tokens of the running request."""
    context_used: int | None = None
    """Tokens in its part of the KV cache."""
    n_ctx: int | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """What a server reports of itself. `None` is not reported."""

    kind: str
    version: str = ""
    models: tuple[str, ...] = ()
    tokens: ReportedCount
    """Generated since it was started."""
    prompt_tokens: int | None = None
    """Evaluated since it was started."""
    running: int | None = None
    """Running requests."""
    waiting: int | None = None
    slots: tuple[Slot, ...] = ()
    asleep: bool = False
    context_share: float | None = None
    """Of the KV cache, 0 to 1."""
    counts: TokensCounted = "all"
    no_count: Unavailable | None = None
    """Why it does not count all tokens at once, and how to make it."""
    uncertainty: float = 0.0
    """Tokens by which `tokens` may be off, in addition to what came during the poll."""


_WEAKEST: tuple[TokensCounted, ...] = ("nothing", "running", "ended", "all")


def combined(parts: Mapping[Hashable, Usage], whole: Usage, tokens: TokenSum) -> Usage:
    """The usage of a server whose models are served one by one: that of `whole`, with the sums over the parts."""
    each = list(parts.values())
    counting = {name: usage.tokens for name, usage in parts.items() if usage.counts != "nothing"}
    weakest = min(each, key=lambda usage: _WEAKEST.index(usage.counts))
    return replace(
        whole,
        tokens=tokens.update(counting) if counting else weakest.tokens,
        counts=weakest.counts,
        no_count=weakest.no_count,
        uncertainty=sum(usage.uncertainty for usage in each),
        prompt_tokens=_sum([usage.prompt_tokens for usage in each]),
        running=_sum([usage.running for usage in each]),
        waiting=_sum([usage.waiting for usage in each]),
        slots=tuple(slot for usage in each for slot in usage.slots),
        asleep=all(usage.asleep for usage in each),
        context_share=each[0].context_share if len(each) == 1 else None,
    )


def _sum(parts: Sequence[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


class PollResult(Struct, frozen=True, kw_only=True):
    """One poll of a server."""

    t_us: int
    """The middle of the time it took."""
    answer_s: float
    state: State
    trouble: Unavailable | None = None
    """Why it does not answer."""
    usage: Usage | None = None

    @property
    def count(self) -> ReportedCount:
        """Its count, or why there is none."""
        if self.usage is not None:
            return self.usage.tokens
        return NOT_RUNNING if self.state == "down" else self.trouble or Unavailable("it does not answer")


class UsageReader(Protocol):
    """The part of a `ServerBackend` that is polled; it may remember what its counts need from one poll to the next."""

    health_path: ClassVar[str]
    sleepless: bool

    def read_usage(self, client: ServerClient) -> Usage:
        """Raises RequestError."""


class ServerPoller:
    """Polls one server, from one thread. `poll` never raises."""

    def __init__(
        self,
        address: Address,
        detect: Callable[[ServerClient], UsageReader],
        *,
        key: str = "",
        clock: Clock = monotonic_us,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`detect` asks a server of which kind it is; `stopped` ends a poll that is under way."""
        self.address = address
        self.key = key
        self._detect = detect
        self._clock = clock
        self._stopped = stopped
        self._deadline_s = 0.0
        self._client = ServerClient(address, key=key, idle_s=IDLE_S, stopped=self._is_over)
        self._reader: UsageReader | None = None
        self.sleepless = False
        """It is known that the server never sleeps."""
        self.was_stopped = False
        """The last poll was cut short, and says nothing of the server."""
        self._is_quick = False
        """The last poll took less than `IDLE_S`."""
        self._last: tuple[int, int] | None = None
        """Stamp and count of the last poll."""

    def poll(self) -> PollResult:
        """Ask the server how it is and what it has generated."""
        begin_us = self._clock()
        self._deadline_s = time.monotonic() + POLL_S
        self._client.idle_s = IDLE_S if self._is_quick else POLL_S
        self._client.answered = False
        usage: Usage | None = None
        state: State = "answers"
        trouble: Unavailable | None = None
        try:
            if self._reader is None:
                self._reader = self._detect(self._client)
            self._reader.sleepless = self.sleepless
            usage = with_short_names(self._reader.read_usage(self._client))
            state = "asleep" if usage.asleep else "answers"
        except RequestError as error:
            state = self._state_after(error)
            trouble = Unavailable(*error.reason)
            if state == "down":
                self._reader = None
        except extensions.FAILURES as error:
            name = extensions.owner(extensions.SERVERS, type(self._reader))
            if name is None:
                raise
            trouble = Unavailable(extensions.switch_off(extensions.SERVERS, name, error))
            self._reader = None
        self.was_stopped = self._stopped()
        end_us = self._clock()
        self._is_quick = end_us - begin_us < IDLE_S * US_PER_S
        result = PollResult(
            t_us=(begin_us + end_us) // 2,
            answer_s=(end_us - begin_us) / US_PER_S,
            state=state,
            trouble=trouble,
            usage=usage,
        )
        if usage is None:
            return result
        return replace(result, usage=replace(usage, uncertainty=self._uncertainty(result, usage)))

    def _uncertainty(self, result: PollResult, usage: Usage) -> float:
        """How far the count may be off at the stamp: it was taken at some moment during the poll."""
        last, self._last = self._last, None
        if not isinstance(usage.tokens, int):
            return 0.0
        self._last = (result.t_us, usage.tokens)
        if last is None or last[0] >= result.t_us or (usage.tokens <= last[1] and not usage.running):
            return usage.uncertainty
        rate = max(0, usage.tokens - last[1]) * US_PER_S / (result.t_us - last[0])
        return usage.uncertainty + 1 + rate * result.answer_s / 2

    def _state_after(self, error: RequestError) -> State:
        if isinstance(error.__cause__, ConnectionRefusedError):
            return "down"
        match error.cause:
            case "loading":
                return "loading"
            case "key":
                return "needs_key"
            case "silent" | "stopped":
                # One that answers slowly is no dead one.
                return "busy" if self._client.answered or self._is_healthy() else "silent"
            case "unreachable":
                return "silent"
        return "refuses"

    def _is_healthy(self) -> bool:
        if self._reader is None or not self._reader.health_path or self._stopped():
            return False
        self._deadline_s = time.monotonic() + HEALTH_S
        try:
            with self._client.request("GET", self._reader.health_path, idle_s=HEALTH_S) as response:
                return response.status == HTTPStatus.OK
        except RequestError:
            return False

    def _is_over(self) -> bool:
        return self._stopped() or time.monotonic() > self._deadline_s


def text_at(client: ServerClient, path: str) -> str | None:
    """The text at a path; `None` where the server does not have it, or has it switched off. Raises RequestError."""
    with client.request("GET", path) as response:
        if response.status in _SWITCHED_OFF:
            return None
        client.raise_for_status(response)
        return response.read_all(TEXT_BYTES_MAX).decode("utf-8", "replace")


def names_without_folders(name: str) -> tuple[str, ...]:
    """A model's name, without the folders if it is a file; none if it is empty."""
    shown = name.rpartition("/")[2] if name.startswith("/") or name.endswith(".gguf") else name
    return (shown,) if shown else ()


_SAMPLE = re.compile(
    r'([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*'
)


class Metrics(dict[str, float]):
    """Samples by name, those of one name and several sets of labels added up."""

    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[str, int] = {}
        """How many were added up."""


def count_in(metrics: Metrics, name: str) -> int | None:
    """A sample that counts something; `None` where it is missing or not plausible."""
    value = metrics.get(name)
    return None if value is None or not 0 <= value < 2**53 else round(value)


def evaluated_in(metrics: Metrics, prompts: str, cached: str) -> int | None:
    """Tokens of prompts without those that came from a cache, which the server counts among them."""
    total = count_in(metrics, prompts)
    return None if total is None else max(0, total - (count_in(metrics, cached) or 0))


def share_in(metrics: Metrics, *names: str) -> float | None:
    """The first of these samples that is a share, from 0 to 1; of several engines, the mean."""
    means = (metrics[name] / metrics.sets[name] for name in names if name in metrics)
    return next((mean for mean in means if 0 <= mean <= 1), None)


def parse_metrics(text: str) -> Metrics:
    """The samples of a text. A line that is none is skipped, and so is a value that is no finite number."""
    values = Metrics()
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if match is None:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if isfinite(value):
            values[match[1]] = values.get(match[1], 0.0) + value
            values.sets[match[1]] = values.sets.get(match[1], 0) + 1
    return values
