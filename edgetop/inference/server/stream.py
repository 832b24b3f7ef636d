"""An answer as it arrives: bytes in, what they say out, each with its stamp."""

from __future__ import annotations

from collections.abc import Iterator

from edgetop.inference.server.dialect import AnswerStream, Delta
from edgetop.inference.server.exchange import Answer
from edgetop.inference.server.failure import ServerFailure, quoted

ANSWER_BYTES_MAX = 2**30
"""A chunk says some hundred bytes for each token; more than this is no answer any more."""
_STREAMS = frozenset({"text/event-stream", "application/x-ndjson", "application/stream+json", ""})
_DOCUMENT = "application/json"


def deltas_of(answer: Answer, stream: AnswerStream) -> Iterator[tuple[int, Delta]]:
    """What an answer says, each with the stamp of its arrival in microseconds. Raises ServerFailure."""
    coding = answer.header("Content-Encoding").strip().lower()
    if coding not in {"", "identity"}:
        raise ServerFailure(
            f"The server packed its answer ({quoted(coding)}), which nobody asked for.",
            "Look what stands between it and edgetop.",
        )
    media = answer.header("Content-Type").partition(";")[0].strip().lower()
    if media == _DOCUMENT:
        stream.as_document()
    elif media not in _STREAMS:
        raise ServerFailure(
            f"The server answered with {quoted(media)}, not with a stream of text.", "Check the address after --server."
        )
    size = 0
    for piece in answer.stream():
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise ServerFailure("The server's answer does not end.")
        for delta in stream.feed(piece):
            yield answer.received_us, delta
    for delta in stream.finish():
        yield answer.received_us, delta
