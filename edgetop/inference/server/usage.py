"""A server used by others, observed; reads Prometheus text.

Only figures are asked for, and only they are decoded: `/slots` of an older llama-server also holds what its users
wrote, which is passed over unread. Nothing is ever generated, loaded or changed by a look.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http import HTTPStatus
from math import isfinite
from typing import Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, Clock, monotonic_us
from edgetop.core.records import TokensCounted
from edgetop.core.sources import Unavailable
from edgetop.core.token_counts import NOT_RUNNING, ReportedCount
from edgetop.inference.server.address import Address
from edgetop.inference.server.connection import HttpClient
from edgetop.io.http import RequestError

SILENCE_S = 2.0
"""A server that answers nothing for so long is left alone for a while."""

LOOK_S = 4.0
"""No look takes longer, but for a connection that nobody takes."""

HEALTH_S = 1.0

TEXT_BYTES_MAX = 4 * 2**20

_SWITCHED_OFF = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.METHOD_NOT_ALLOWED})

State = Literal["answers", "loading", "busy", "silent", "down", "refuses"]
"""`busy`: it says that it is well, but has no time for more; `down`: nobody listens."""


class Slot(Struct, frozen=True, kw_only=True):
    """A place for one request at a time."""

    number: int
    doing: Literal["idle", "prefill", "decode"]
    generated: int | None = None
    """Tokens of the request under way."""
    context_used: int | None = None
    """Tokens in its part of the KV cache."""
    n_ctx: int | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """What an answering server tells of itself. `None` is not told."""

    kind: str
    version: str = ""
    models: tuple[str, ...] = ()
    tokens: ReportedCount
    """Generated since it was started."""
    prompt_tokens: int | None = None
    """Evaluated since it was started."""
    running: int | None = None
    """Requests under way."""
    waiting: int | None = None
    slots: tuple[Slot, ...] = ()
    context_share: float | None = None
    """Of the KV cache, 0 to 1."""
    counts: TokensCounted = "all"
    no_count: Unavailable | None = None
    """Why it does not count all tokens at once, and what would make it."""
    unsure: float = 0.0
    """Tokens by which `tokens` may be off, besides what came while it was asked."""


class PollResult(Struct, frozen=True, kw_only=True):
    """One look at a server."""

    t_us: int
    """The middle of the time it took."""
    answer_s: float
    state: State
    trouble: Unavailable | None = None
    """Why it does not answer."""
    usage: Usage | None = None

    @property
    def told(self) -> ReportedCount:
        """Its count, or why there is none."""
        if self.usage is not None:
            return self.usage.tokens
        return NOT_RUNNING if self.state == "down" else self.trouble or Unavailable("it does not answer")


class UsageReader(Protocol):
    """Asks one kind of server; keeps what its counts need from one look to the next."""

    health: str
    """A path that is answered however busy the server is; empty where there is none."""

    def read(self, exchange: HttpClient) -> Usage:
        """Raises ServerFailure."""


class ServerPoller:
    """Looks at one server again and again, from one thread. `look` never raises."""

    def __init__(
        self,
        address: Address,
        recognise: Callable[[HttpClient], UsageReader],
        *,
        key: str = "",
        clock: Clock = monotonic_us,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`recognise` asks a server of which kind it is; `stopped` ends a look that is under way."""
        self.address = address
        self._recognise = recognise
        self._clock = clock
        self._stopped = stopped
        self._deadline_s = 0.0
        self._exchange = HttpClient(address, key=key, silence_s=SILENCE_S, stopped=self._is_over)
        self._reader: UsageReader | None = None
        self._before: tuple[int, int] | None = None
        """Stamp and count of the look before."""

    def look(self) -> PollResult:
        """Ask the server how it is and what it has generated."""
        begin_us = self._clock()
        self._deadline_s = time.monotonic() + LOOK_S
        usage: Usage | None = None
        state: State = "answers"
        trouble: Unavailable | None = None
        try:
            if self._reader is None:
                self._reader = self._recognise(self._exchange)
            usage = self._reader.read(self._exchange)
        except RequestError as failure:
            state = self._state_after(failure)
            trouble = Unavailable(_without_stop(failure.what), _without_stop(failure.hint))
            if state == "down":
                self._reader = None
        end_us = self._clock()
        look = PollResult(
            t_us=(begin_us + end_us) // 2,
            answer_s=(end_us - begin_us) / US_PER_S,
            state=state,
            trouble=trouble,
            usage=usage,
        )
        return look if usage is None else replace(look, usage=replace(usage, unsure=self._unsure(look, usage)))

    def _unsure(self, look: PollResult, usage: Usage) -> float:
        """How far the count may be off at the stamp: it was taken at some moment while the server was asked."""
        before, self._before = self._before, None
        if not isinstance(usage.tokens, int):
            return 0.0
        self._before = (look.t_us, usage.tokens)
        if before is None or before[0] >= look.t_us or (usage.tokens <= before[1] and not usage.running):
            return usage.unsure
        rate = max(0, usage.tokens - before[1]) * US_PER_S / (look.t_us - before[0])
        return usage.unsure + 1 + rate * look.answer_s / 2

    def _state_after(self, failure: RequestError) -> State:
        if isinstance(failure.__cause__, ConnectionRefusedError):
            return "down"
        match failure.cause:
            case "loading":
                return "loading"
            case "silent" | "stopped":
                return "busy" if self._is_well() else "silent"
            case "unreachable":
                return "silent"
        return "refuses"

    def _is_well(self) -> bool:
        if self._reader is None or not self._reader.health or self._stopped():
            return False
        self._deadline_s = time.monotonic() + HEALTH_S
        try:
            with self._exchange.ask("GET", self._reader.health, silence_s=HEALTH_S) as answer:
                return answer.status == 200
        except RequestError:
            return False

    def _is_over(self) -> bool:
        return self._stopped() or time.monotonic() > self._deadline_s


def _without_stop(sentence: str) -> str:
    """As reasons are told: without a full stop and a capital."""
    return (sentence[:1].lower() + sentence[1:]).rstrip(".")


def text_at(exchange: HttpClient, path: str) -> str | None:
    """The text at a path; `None` where the server does not have it, or has it switched off. Raises ServerFailure."""
    with exchange.ask("GET", path) as answer:
        if answer.status in _SWITCHED_OFF:
            return None
        exchange.require_success(answer)
        return answer.document(TEXT_BYTES_MAX).decode("utf-8", "replace")


def shown_names(name: str) -> tuple[str, ...]:
    """A name without the folders of a file, if it is one."""
    shown = name.rpartition("/")[2] if name.startswith("/") or name.endswith(".gguf") else name
    return (shown,) if shown else ()


_SAMPLE = re.compile(
    r'([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*'
)


def count_in(metrics: dict[str, float], name: str) -> int | None:
    """A sample that counts something; `None` where it is not there, or no number that may be believed."""
    value = metrics.get(name)
    return None if value is None or not 0 <= value < 2**53 else round(value)


def parse_metrics(text: str) -> dict[str, float]:
    """The samples by name, those of one name and several sets of labels added up.

    A line that is no sample is passed over, and so is a value that is no finite number.
    """
    values: dict[str, float] = {}
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
    return values
