"""What llama-server tells of its use, as far as its `/metrics` and its `/slots` are switched on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from edgetop.core.records import Missing, TokensCounted
from edgetop.core.token_counts import TOO_FAST, RequestCount, RunningCount, Told
from edgetop.inference.server.dialect import Count
from edgetop.inference.server.exchange import Exchange, decode
from edgetop.inference.server.prometheus import count_in, parse_metrics
from edgetop.inference.server.usage import Slot, Usage, shown_names, text_at

TRIES = 3
"""How often llama-server is asked before a count of ended requests and one of running ones belong together."""
METRICS_OFF = Missing("llama-server does not count its tokens", "start it with --metrics")
ENDED_ONLY = Missing("llama-server counts the tokens of a request when it has ended", "start it with --slots")
RUNNING_ONLY = Missing("only tokens of running requests are seen", "start llama-server with --metrics")


class _NextToken(Struct):
    n_decoded: Count = 0


class _Slot(Struct):
    id: Count
    is_processing: bool = False
    id_task: int | None = None
    n_ctx: Count | None = None
    n_prompt_tokens: Count | None = None
    """All tokens of the slot's context, generated ones among them."""
    next_token: list[_NextToken] | _NextToken | None = None
    """A list since 2025."""


class _Props(Struct):
    build_info: str = ""
    model_path: str = ""
    model_alias: str | None = None


class _Counted(NamedTuple):
    tokens: Told
    counts: TokensCounted
    no_count: Missing | None = None
    unsure: float = 0.0
    """Of ended requests alone, each that is under way may have generated as much as came of one at most so far."""


class LlamaServerReader:
    """llama-server: `/metrics` and `/slots`, as far as they are switched on.

    Its gauges of tokens per second are means since the look before by whoever, so that they are not used. Its counters
    are not touched by looking at them.
    """

    health = "/health"

    def __init__(self) -> None:
        self._props: _Props | None = None
        self._has_metrics = self._has_slots = True
        self._requests = RequestCount()
        self._running = RunningCount()
        self._ended: int | None = None
        self._largest_step = 0

    def read(self, exchange: Exchange) -> Usage:
        """See UsageReader."""
        if self._props is None:
            self._props = exchange.get("/props", _Props)
        metrics, slots, is_one = self._ask(exchange)
        counted = self._counted(metrics, slots, is_one=is_one)
        told = metrics or {}
        running = None if slots is None else sum(slot.is_processing for slot in slots)
        return Usage(
            kind="llama-server",
            version=self._props.build_info,
            models=shown_names(self._props.model_alias or self._props.model_path),
            tokens=counted.tokens,
            counts=counted.counts,
            no_count=counted.no_count,
            unsure=counted.unsure,
            prompt_tokens=count_in(told, "llamacpp:prompt_tokens_total"),
            running=count_in(told, "llamacpp:requests_processing") if running is None else running,
            waiting=count_in(told, "llamacpp:requests_deferred"),
            slots=tuple(_slot(slot) for slot in slots or ()),
            context_share=_context_share(slots or ()),
        )

    def _ask(self, exchange: Exchange) -> tuple[dict[str, float] | None, list[_Slot] | None, bool]:
        """Metrics and slots, and whether no request ended in between, so that they belong together.

        A request that ends is counted by the one and leaves the other at the same moment, between two answers.
        """
        metrics = self._metrics(exchange)
        slots = self._slots(exchange)
        for _ in range(TRIES):
            if metrics is None or slots is None:
                return metrics, slots, True
            again = self._metrics(exchange)
            if again is not None and _ended(again) == _ended(metrics):
                return again, slots, True
            metrics, slots = again, self._slots(exchange)
        return metrics, slots, False

    def _counted(self, metrics: dict[str, float] | None, slots: list[_Slot] | None, *, is_one: bool) -> _Counted:
        running = {_request(slot): _generated(slot) for slot in slots or () if slot.is_processing}
        ended = None if metrics is None else _ended(metrics)
        if ended is not None and slots is not None:
            return _Counted(self._requests.look(ended, running) if is_one else TOO_FAST, "all")
        if ended is not None and metrics is not None:
            step = 0 if self._ended is None else max(0, ended - self._ended)
            self._ended, self._largest_step = ended, max(self._largest_step, step)
            under_way = metrics.get("llamacpp:requests_processing", 0.0)
            return _Counted(ended, "ended", ENDED_ONLY, max(1, self._largest_step) * under_way)
        if slots is not None:
            return _Counted(self._running.look(running), "running", RUNNING_ONLY, self._running.unseen)
        return _Counted(METRICS_OFF, "nothing", METRICS_OFF)

    def _metrics(self, exchange: Exchange) -> dict[str, float] | None:
        if not self._has_metrics:
            return None
        text = text_at(exchange, "/metrics")
        self._has_metrics = text is not None
        return None if text is None else parse_metrics(text)

    def _slots(self, exchange: Exchange) -> list[_Slot] | None:
        if not self._has_slots:
            return None
        text = text_at(exchange, "/slots")
        self._has_slots = text is not None
        return None if text is None else decode(text.encode(), list[_Slot])


def _context_share(slots: Sequence[_Slot]) -> float | None:
    """Share of the KV cache that requests under way use; `None` where it is not told."""
    used = [slot.n_prompt_tokens for slot in slots if slot.is_processing]
    n_ctx = sum(slot.n_ctx or 0 for slot in slots)
    known = [tokens for tokens in used if tokens is not None]
    return sum(known) / n_ctx if n_ctx and len(known) == len(used) else None


def _slot(slot: _Slot) -> Slot:
    generated = _generated(slot)
    return Slot(
        number=slot.id,
        doing=("decode" if generated else "prefill") if slot.is_processing else "idle",
        generated=generated if slot.is_processing else None,
        context_used=slot.n_prompt_tokens,
        n_ctx=slot.n_ctx,
    )


def _request(slot: _Slot) -> int:
    return -1 - slot.id if slot.id_task is None else slot.id_task


def _generated(slot: _Slot) -> int:
    told = slot.next_token
    if isinstance(told, list):
        return max((each.n_decoded for each in told), default=0)
    return 0 if told is None else told.n_decoded


def _ended(metrics: dict[str, float]) -> int | None:
    """Tokens of requests that have ended."""
    return count_in(metrics, "llamacpp:tokens_predicted_total")
