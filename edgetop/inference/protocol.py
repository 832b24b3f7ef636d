"""Commands, reports, and how they are sent.

The two share a socket pair. A message is a four-byte big-endian length and that many bytes of msgpack: one of the
structs below, identified by its tag. Commands go to the worker, reports come back; the records of a turn are sent as
they will be recorded.

Stopping does not go through the socket, since the worker does not read it while it computes: both sides map one
shared page, in which each command has a flag of its own (`edgetop.inference.engine`).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from edgetop.core.engine_settings import EngineInfo, EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Prefill, Tokens, TurnFinished

Role = Literal["system", "user", "assistant"]


class ChatMessage(Struct, frozen=True):
    """One entry of the conversation as the chat template sees it."""

    role: Role
    content: str


class Load(Struct, frozen=True, kw_only=True, tag="load"):
    """Load a model, in place of the one loaded before. Answered by LoadProgress*, then ModelLoaded or LoadFailed."""

    path: str
    """For people and records; without `raw` it is the file as well."""
    settings: EngineSettings
    raw: bytes = b""
    """The file's name where it is not UTF-8."""

    @property
    def file(self) -> Path:
        """The file to load."""
        return Path(os.fsdecode(self.raw) if self.raw else self.path)


def load_of(path: Path, settings: EngineSettings) -> Load:
    """The command that loads a file, whatever bytes its name has."""
    raw = os.fsencode(path)
    shown = raw.decode("utf-8", "replace")
    return Load(path=shown, settings=settings, raw=b"" if shown == str(path) else raw)


class Generate(Struct, frozen=True, kw_only=True, tag="generate"):
    """Answer a conversation. Answered by Prefill*, Tokens*, then TurnFinished."""

    turn: int
    messages: tuple[ChatMessage, ...]
    sampling: SamplingSettings
    continue_reply: bool = False
    """The last message is an assistant's, to be continued."""


class Measure(Struct, frozen=True, kw_only=True, tag="measure"):
    """Evaluate random tokens, in the manner of llama-bench. Answered by Prefill*, Tokens*, then TurnFinished.

    The cache is brought to the `depth` tokens that all tests of a depth begin with; what of them is not cached
    yet is evaluated untimed, and reported as cached. Then `n_prompt` are evaluated as a prompt and `n_gen` one
    after the other. Nothing is drawn, and the tokens have no text.
    """

    turn: int
    n_prompt: int = 0
    n_gen: int = 0
    depth: int = 0
    seed: int = 0
    """Of the random tokens after those of the depth."""


class Perplexity(Struct, frozen=True, kw_only=True, tag="perplexity"):
    """Score a text. Answered by ScoreProgress*, then TextScored or ScoreFailed.

    The text is cut into chunks of as many tokens as fit the context; the second half of each is scored.
    """

    text: str
    chunks: int | None = None
    """At most so many; `None` for all that the text has."""
    reference: str = ""
    """A file of log-probabilities: written if `write_reference`, else compared with."""
    write_reference: bool = False


class MultipleChoiceQuestion(Struct, frozen=True):
    """A prompt and its possible continuations, one of them right."""

    prompt: str
    choices: tuple[str, ...]


class Choose(Struct, frozen=True, kw_only=True, tag="choose"):
    """Score how likely each choice of each question is.

    Answered by ScoreProgress*, then ChoicesScored or ScoreFailed.
    """

    questions: tuple[MultipleChoiceQuestion, ...]
    template: bool = False
    """Each prompt is a user's message in the model's chat template, and a choice the beginning of the reply."""


class Quit(Struct, frozen=True, tag="quit"):
    """Free the model and leave."""


Command = Load | Generate | Measure | Perplexity | Choose | Quit


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    """The first report of a worker: it runs, and this is its engine."""

    pid: int
    engine: EngineInfo


class LoadProgress(Struct, frozen=True, tag="load_progress"):
    """Share of the weights loaded, 0 to 1."""

    fraction: float


class LoadFailed(Struct, frozen=True, kw_only=True, tag="load_failed"):
    """No model is loaded now."""

    reason: Literal["missing", "not_a_model", "unsupported", "no_memory", "cancelled", "failed"]
    message: str
    """One line: what."""
    hint: str
    """One line: how to fix it."""


class ScoreProgress(Struct, frozen=True, tag="score_progress"):
    """Share of a text or of questions scored, 0 to 1."""

    fraction: float


class Divergence(Struct, frozen=True, kw_only=True):
    """How far the predictions are from those of a reference, over all scored positions."""

    kl_mean: float
    """Mean Kullback-Leibler divergence from the reference, in nats."""
    kl_error: float
    """Its standard error."""
    kl_p99: float
    top_agreement: float
    """Share of positions where both have the same likeliest token."""


class TextScored(Struct, frozen=True, kw_only=True, tag="text_scored"):
    """The score of a text."""

    perplexity: float
    """exp of the mean negative log-likelihood."""
    perplexity_error: float
    """Standard error, by the delta method."""
    tokens: int
    """Positions that were scored."""
    chunks: int
    divergence: Divergence | None = None


class ChoiceScore(Struct, frozen=True):
    """Log-likelihood of each choice, in nats, and how many tokens each has."""

    log_likelihood: tuple[float, ...]
    tokens: tuple[int, ...]
    greedy: tuple[bool, ...] = ()
    """Whether each token of a choice is the likeliest one, so that a greedy reply begins with it."""


class ChoicesScored(Struct, frozen=True, tag="choices_scored"):
    """The scores, question by question."""

    scores: tuple[ChoiceScore, ...]


class ScoreFailed(Struct, frozen=True, kw_only=True, tag="score_failed"):
    """Nothing was scored."""

    message: str
    """One line: what."""
    hint: str = ""
    wrong_reference: bool = False
    """The reference was made of other tokens than this model reads."""


class Waiting(Struct, frozen=True, kw_only=True, tag="waiting"):
    """A command takes longer than usual, or does another thing than asked, for a reason that the user should know."""

    text: str
    """One line: what is waited for, or done instead."""


class Noted(Struct, frozen=True, kw_only=True, tag="noted"):
    """Something about a turn or a model that readers of its figures must know, such as an odd answer of a server."""

    text: str
    """One line."""


class StoodStill(Struct, frozen=True, kw_only=True, tag="stood_still"):
    """The worker did not come to run."""

    t_us: int
    """When it did again."""
    for_us: int
    """Since when at least."""


class Log(Struct, frozen=True, kw_only=True, tag="log"):
    """A warning or an error from the engine library."""

    level: Literal["warning", "error"]
    text: str


Report = (
    Hello
    | LoadProgress
    | LoadFailed
    | Waiting
    | Noted
    | StoodStill
    | Log
    | ModelLoaded
    | Prefill
    | Tokens
    | TurnFinished
    | ScoreProgress
    | TextScored
    | ChoicesScored
    | ScoreFailed
)


HEADER_BYTES = 4
FRAME_BYTES_MAX = 64 * 2**20
"""A longer frame can only be a broken stream: a conversation is far below a megabyte."""

MessageT = TypeVar("MessageT")


class StreamError(Exception):
    """The bytes are no frame of ours; nothing after them can be read."""


def encode(message: msgspec.Struct) -> bytes:
    """One frame. Lone surrogates, which UTF-8 cannot carry, are sent as U+FFFD."""
    try:
        body = msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        body = msgspec.msgpack.encode(_without_surrogates(msgspec.to_builtins(message)))
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"a message of {len(body)} bytes is too long to send")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


class FrameReader(Generic[MessageT]):
    """Turns the bytes of a stream, in pieces of any size, into messages of one type."""

    def __init__(self, message_type: Any) -> None:  # noqa: ANN401 - a union is no type to the type checker
        self._decoder: msgspec.msgpack.Decoder[MessageT] = msgspec.msgpack.Decoder(message_type)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[MessageT]:
        """The messages that `data` completes, in order.

        Raises StreamError when the bytes are no frame of ours.
        """
        self._buffer += data
        messages: list[MessageT] = []
        begin = 0
        while len(self._buffer) - begin >= HEADER_BYTES:
            size = int.from_bytes(self._buffer[begin : begin + HEADER_BYTES], "big")
            if size > FRAME_BYTES_MAX:
                raise StreamError(f"a frame of {size} bytes")
            end = begin + HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            try:
                messages.append(self._decoder.decode(bytes(self._buffer[begin + HEADER_BYTES : end])))
            except msgspec.DecodeError as error:
                raise StreamError(str(error)) from error
            begin = end
        del self._buffer[:begin]
        return messages


SEND_BUFFER_BYTES = 4 * 2**20
"""Asked of the kernel, which may give less; the rest waits here."""

SERVER_BACKLOG_BYTES = 2**18


class ParentGoneError(Exception):
    """Nobody is at the other end any more."""


class ReportSender:
    """Reports on their way through a non-blocking socket; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._socket = connection
        self._backlog = bytearray()
        self._backlog_bytes_max = sys.maxsize
        self._sending = threading.Lock()

    def send(self, report: Report) -> None:
        """Send as much as the socket takes and buffer the rest. Raises ParentGoneError."""
        with self._sending:
            self._backlog += encode(report)
            self._push()
        if len(self._backlog) > self._backlog_bytes_max:
            self.wait()

    def limit(self) -> None:
        """From now on wait for the parent where it is some 10,000 tokens behind.

        For what comes from a server: it may send faster than can be shown, without end.
        """
        self._backlog_bytes_max = SERVER_BACKLOG_BYTES
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SERVER_BACKLOG_BYTES)

    def wait(self) -> None:
        """Return when everything has left. Raises ParentGoneError."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while self._backlog:
            poll.poll()
            with self._sending:
                self._push()

    def _push(self) -> None:
        try:
            while self._backlog:
                sent = self._socket.send(self._backlog)
                del self._backlog[:sent]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionError) as error:
            raise ParentGoneError from error
