"""Answers that break rules, as servers and what stands before them have been seen to give: twenty words, one odd thing.

`odd_answer(NAME)` is what a `LoopbackServer` plays; the names are the keys of `ODD`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.loopback_server import Step, chunk, document, head, stream

WORDS = [f"w{number} " for number in range(20)]
TEXT = "".join(WORDS)
DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """A server-sent event; NaN and infinities are written as JavaScript has them."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def said(delta: object, finish: object = None, **fields: object) -> bytes:
    return event({"model": "tiny", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields})


def usage(prompt: object, completion: object, **fields: object) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **fields}})


def whole(*before_end: bytes, words: list[str] | None = None, **fields: object) -> list[bytes]:
    """A whole reply, `before_end` between its reason and its mark of the end."""
    pieces = [said({"content": word}, **fields) for word in (WORDS if words is None else words)]
    return [*pieces, said({}, "stop"), *before_end, DONE]


def _cut(*instead: bytes) -> list[bytes]:
    return [*whole()[:8], *instead]


_GOOD = whole(usage(10, 21))
_CALL = {"index": 0, "id": "c1", "function": {"name": "get_weather", "arguments": ""}}

ODD: dict[str, list[bytes] | tuple[str, list[bytes]]] = {
    "badusage": whole(usage(10.0, 21.0)),
    "negusage": whole(usage(-1, -1)),
    "nan usage": whole(usage(float("nan"), float("inf"))),
    "huge usage": whole(usage(2**40, 2**40)),
    "text usage": whole(usage("10", [21])),
    "zerousage": whole(usage(0, 0)),
    "timings": whole(
        usage(10, 21), timings={"predicted_n": float("nan"), "prompt_ms": float("inf"), "predicted_ms": 1e308}
    ),
    "progress": [event({"choices": [], "prompt_progress": {"total": 9, "processed": -9, "time_ms": -1e9}}), *_GOOD],
    "progress goes back": [
        *(event({"choices": [], "prompt_progress": {"total": 9, "processed": done}}) for done in (3, 9, 6)), *_GOOD,
    ],
    "listcontent": [said({"content": [{"type": "text", "text": "w0 "}]}), *_GOOD[1:]],
    "number for content": [said({"content": 7}), *_GOOD],
    "textplain": ("text/plain; charset=utf-8", _GOOD),
    "octet": ("application/octet-stream", _GOOD),
    "ssejson": ("application/json", _GOOD),
    "jsonl": ("application/x-ndjson", [line.removeprefix(b"data: ").strip() + b"\n" for line in _GOOD]),
    "doubledata": [b"data: " + line for line in _GOOD],
    "badjson": [*_GOOD[:7], b"data: {broken\n\n", *_GOOD[7:]],
    "choices null": [event({"choices": None, "usage": None}), *_GOOD],
    "legacytext": [
        *(event({"choices": [{"text": word, "finish_reason": None}]}) for word in WORDS),
        event({"choices": [{"text": "", "finish_reason": "stop"}]}), usage(10, 21), DONE,
    ],
    "errevent": _cut(b'event: error\ndata: {"message":"worker died"}\n\n'),
    "errline": _cut(b'error: {"code":500,"message":"worker died"}\n\n'),
    "errdetail": _cut(event({"detail": "worker died"})),
    "toolcalls": [
        said({"role": "assistant", "content": None, "tool_calls": [_CALL]}),
        *(said({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}) for part in ('{"city": ', '"Rome"}')),
        said({}, "tool_calls"), usage(10, 15), DONE,
    ],
    "reasontokens": whole(usage(10, 121, completion_tokens_details={"reasoning_tokens": 100})),
    "endless": [said({"content": "x" * 2**20})] * 20,
}  # fmt: skip


def odd_answer(name: str) -> list[Step]:
    odd = ODD[name]
    media, pieces = odd if isinstance(odd, tuple) else ("text/event-stream", odd)
    return stream(*pieces, media=media)


MODELS: dict[str, Callable[[], Any]] = {
    "null": lambda: document({"object": "list", "data": None}),
    "missing": lambda: document({"detail": "Not Found"}, "404 Not Found"),
    "bare": lambda: document([{"id": "tiny"}]),
    "dict": lambda: document({"models": [{"name": "tiny"}]}),
    "odd entry": lambda: document({"data": [{"id": 7}, None, {"id": "tiny", "max_model_len": -1}]}),
}
"""Lists of models at `/v1/models`."""

__all__ = ["MODELS", "ODD", "TEXT", "chunk", "head", "odd_answer", "said", "usage", "whole"]
