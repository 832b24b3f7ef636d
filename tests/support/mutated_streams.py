"""Recorded streams, broken by chance, and what the readers make of them."""

from __future__ import annotations

import random
from typing import Literal

from edgetop.core.text import one_line
from edgetop.inference.server import ollama
from edgetop.inference.server.backend import AnswerStream
from edgetop.inference.server.llama_server import completion_stream
from edgetop.inference.server.openai import chat_stream
from edgetop.io.http import RequestError
from tests.support import server_replies

Outcome = Literal["read", "refused"]

WORDS_MAX = 1000
_SSE = [
    b"".join(server_replies.LLAMA_CHAT), b"".join(server_replies.VLLM_COUNTED), server_replies.VLLM_WITHOUT_REASON,
    server_replies.STUDIO_REASONING, server_replies.LLAMA_SPECULATIVE, b"".join(server_replies.LLAMA_COMPLETION),
]  # fmt: skip
STREAMS = [*_SSE, server_replies.OLLAMA_CHAT]
_PARTS = (
    b"data: ", b"\n", b"\n\n", b"\r\n", b"\r", b"[DONE]", b"null", b"{", b"}", b"[", b"]", b'"', b"\\", b"\\ud83d",
    b"\\u0000", b"-1", b"1e999", b"99999999999999999999", b"NaN", b"\xff", b"\xf0\x9f", b"\0", b"\xef\xbb\xbf",
    b'"error":{"message":"x"},', b'"choices":[],', b'"delta":null,', b'"timings":{},',
    b'"usage":null,', b": ping\n\n", b"event: error\n", b'"timings":{"predicted_n":4097},', b"x" + b"<think>" * 20_000,
    b"<|channel|>final<|message|>" + b"<|end|>" * 2000, b"\\n</think>" * 2000, b"a\xcc\x81" * 2000,
)  # fmt: skip


def readers() -> list[AnswerStream]:
    """A new one of each kind."""
    return [chat_stream("timings"), chat_stream("usage"), chat_stream(), ollama.chat_stream(), completion_stream()]


def mutated(chance: random.Random) -> bytes:
    """A recorded stream with one to six places changed."""
    data = bytearray(chance.choice(STREAMS))
    for _ in range(chance.randint(1, 6)):
        begin = chance.randrange(len(data) + 1)
        end = min(len(data), begin + chance.choice((0, 1, 1, 2, 8, 40)))
        match chance.randrange(5):
            case 0:
                data[begin:end] = chance.choice(_PARTS)
            case 1:
                data[begin:end] = chance.randbytes(chance.randint(1, 4))
            case 2:
                del data[begin:end]
            case 3:
                data[begin:begin] = data[begin:end] * chance.choice((1, 2, 50))
            case _:
                del data[begin:]
    return bytes(data)


def examine(data: bytes, chance: random.Random) -> list[Outcome]:
    """Let each reader read `data` in pieces; anything but what was said, or a refusal in words, raises."""
    return [_examine(reader, data, chance) for reader in readers()]


def _examine(reader: AnswerStream, data: bytes, chance: random.Random) -> Outcome:
    begin = 0
    try:
        while begin < len(data):
            end = begin + chance.choice((1, 7, 64, 4096))
            deltas = list(reader.feed(data[begin:end]))
            begin = end
            assert all(delta.generated is None or delta.generated >= 0 for delta in deltas)
        list(reader.finish())
    except RequestError as failure:
        words = failure.sentence
        assert one_line(words) == words, "it would act on a terminal, or break the line"
        assert 0 < len(words) < WORDS_MAX, words
        return "refused"
    return "read"
