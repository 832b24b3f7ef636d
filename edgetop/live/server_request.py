"""One request to a model server and what its answer says; the small one that tells how fast the server is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.engine_settings import EngineSettings, ModelInfo, SamplingSettings
from edgetop.core.format import format_rate, format_seconds
from edgetop.core.records import RequestServed
from edgetop.core.sources import Unavailable
from edgetop.core.statistics import percentile
from edgetop.core.text import one_line
from edgetop.inference.protocol import ChatMessage, Generate
from edgetop.inference.server.address import Address
from edgetop.inference.server.backend import UNKNOWN, Delta, LoadedModel, Offer, ServerBackend, detect
from edgetop.inference.server.connection import ServerClient
from edgetop.io.http import RequestError
from edgetop.session.requests import token_gaps_ms
from edgetop.session.turn import US_PER_MS

NAME_MAX: Final = 80


class AnswerReader:
    """Collects what the chunks of one answer say."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        """When each piece with text came."""
        self._last = Delta()

    def add(self, t_us: int, delta: Delta) -> None:
        """Take in a chunk."""
        if delta.text or delta.reasoning:
            self.stamps.append(t_us)
        known = {
            name: value
            for name in ("prompt_tokens", "cached_tokens", "total_tokens", "generated", "model", "perf")
            if (value := getattr(delta, name))
        }
        if delta.cached_tokens is not None:
            known["cached_tokens"] = delta.cached_tokens
        self._last = msgspec.structs.replace(self._last, **known)

    @property
    def model(self) -> str:
        """Which one answered, as the server says."""
        return self._last.model

    @property
    def decode_tokens_per_s(self) -> float | None:
        """As the server itself says; `None` where it does not."""
        return None if self._last.perf is None else self._last.perf.decode_tokens_per_s

    def fields(self, begin_us: int, *, streamed: bool = True) -> dict[str, Any]:
        """Those of a `RequestServed` that are about the answer; one that came as a whole tells no times."""
        last, stamps = self._last, self.stamps if streamed else []
        total = last.generated if last.total_tokens is None else last.total_tokens
        counted = total is not None or not self.stamps
        gaps_ms = sorted(token_gaps_ms(stamps, total))
        prompt, perf = last.prompt_tokens, last.perf
        if prompt is None and perf is not None and last.cached_tokens is not None:
            prompt = perf.prefill_tokens + last.cached_tokens
        return {
            "first_token_us": stamps[0] - begin_us if stamps else None,
            "last_token_us": stamps[-1] - begin_us if stamps else None,
            "chunks": len(stamps),
            "gap_p50_ms": percentile(gaps_ms, 50),
            "gap_p95_ms": percentile(gaps_ms, 95),
            "prompt_tokens": prompt,
            "cached_tokens": last.cached_tokens,
            "prefill_us": None if perf is None or perf.prefill_ms is None else round(perf.prefill_ms * US_PER_MS),
            "generated_tokens": total if counted else len(self.stamps),
            "counted": counted,
        }


def ask(
    client: ServerClient,
    backend: ServerBackend,
    model: LoadedModel,
    command: Generate,
    reader: AnswerReader,
    *,
    by: str,
    at_once: int = 1,
) -> RequestServed:
    """Ask once as client `by`, of which `at_once` ask together, and follow the answer to its end."""
    stream = backend.chat_stream()
    path, status, error, done = "", None, "", False
    begin_us = monotonic_us()
    try:
        request = backend.chat_request(command, model, EngineSettings())
        path, body = request.path, {**request.body, **backend.load_request}
        begin_us = monotonic_us()
        with client.request("POST", path, body, is_reply=True) as answer:
            status = answer.status
            client.raise_for_status(answer)
            for t_us, delta in stream.deltas(answer):
                reader.add(t_us, delta)
                done = done or delta.done or delta.stop_reason is not None
                if delta.done:
                    break
    except RequestError as failure:
        error = one_line(failure.what)
    return RequestServed(
        t_us=(end_us := monotonic_us()),
        took_us=end_us - begin_us,
        client=by,
        model=one_line(model.info.name)[:NAME_MAX],
        path=path,
        status=status,
        outcome="complete" if done and not error else "server left",
        error=error,
        at_once=at_once,
        chunk_us=tuple(stamp - begin_us for stamp in reader.stamps),
        **reader.fields(begin_us),
    )


PROBE_TOKENS: Final = 16
PROBE_S: Final = 120.0
"""No probe takes longer."""

_PROBE = Generate(
    turn=1,
    messages=(ChatMessage(role="user", content="Count from 1 to 20."),),
    sampling=SamplingSettings(temperature=0.0, seed=1, max_tokens=PROBE_TOKENS),
)

ASLEEP: Final = Unavailable("it sleeps, and a probe would wake it")
INTERRUPTS: Final = Unavailable("a probe would end the answer that it may be giving to somebody else")


class SpeedProbe(Struct, frozen=True, kw_only=True):
    """How fast a server answered one small request, by the arrival of its chunks."""

    model: str = ""
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    """As the server itself says, else from the first piece of the answer to the last."""
    tokens: int | None = None
    trouble: Unavailable | None = None
    """Why there is no figure."""

    @property
    def words(self) -> str:
        """For a person."""
        if self.trouble is not None:
            return f"not probed: {self.trouble.reason}"
        rate = f", {format_rate(self.tokens_per_s)}" if self.tokens_per_s is not None else ""
        return f"probe: first token after {format_seconds(self.first_token_s or 0.0)}{rate}, {self.tokens} tokens"


def probe_speed(address: Address, key: str, stopped: Callable[[], bool]) -> SpeedProbe:
    """Ask a server for PROBE_TOKENS tokens of the model that it has loaded; nothing is loaded for it. Never raises."""
    end_s = time.monotonic() + PROBE_S
    client = ServerClient(address, key=key, idle_s=PROBE_S, stopped=lambda: stopped() or time.monotonic() > end_s)
    try:
        backend = detect(client)
        if backend.interrupts:
            return SpeedProbe(trouble=INTERRUPTS)
        offer = _loaded(backend.offers(client))
    except RequestError as error:
        return SpeedProbe(trouble=Unavailable(*error.reason))
    model = LoadedModel(name=offer.name, info=ModelInfo(path=offer.name, name=offer.name), settings=UNKNOWN)
    reader = AnswerReader()
    found = ask(client, backend, model, _PROBE, reader, by="probe")
    if found.outcome != "complete" or found.first_token_us is None or found.last_token_us is None:
        late = f"it took longer than {PROBE_S:g} s" if time.monotonic() > end_s else ""
        cut = "it ended before it was complete" if found.first_token_us is not None else "it answered without any text"
        return SpeedProbe(trouble=Unavailable(late or found.error or cut))
    tokens, span_us = found.generated_tokens, found.last_token_us - found.first_token_us
    # The first piece is taken to hold as many tokens as the others.
    behind_first = (tokens or 0) * (found.chunks - 1) / found.chunks
    by_arrival = behind_first * US_PER_S / span_us if behind_first and span_us > 0 else None
    return SpeedProbe(
        model=found.model,
        first_token_s=found.first_token_us / US_PER_S,
        tokens_per_s=reader.decode_tokens_per_s or by_arrival,
        tokens=tokens,
    )


def _loaded(offers: list[Offer]) -> Offer:
    """The model that may be asked without loading one. Raises RequestError."""
    ready = [offer for offer in offers if offer.loaded] or [offer for offer in offers if offer.loaded is None]
    if len(ready) == 1 or any(offer.loaded for offer in ready):
        return ready[0]
    what = "has several models and does not say which is loaded" if ready else "has no model loaded"
    raise RequestError(f"The server {what}; a probe loads none.", "Ask it for an answer first.", cause="missing")
