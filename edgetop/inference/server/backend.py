"""Base of a kind of server: its programs, models, chat, tests, usage; and which of the kinds a server is.

A server draws the first token from the prompt itself, so that a reply of `n` decode calls has `n + 1` tokens, of which
the first is no part of a test.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import ClassVar, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.engine_settings import EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.records import Prefill, StopReason, Tokens, TurnFinished
from edgetop.core.text import one_line
from edgetop.inference.engine import Reporter
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.reply import FLUSH_PERIOD_US
from edgetop.inference.server import KINDS
from edgetop.inference.server.address import KEY_VARIABLE, ServerChoice, key_of
from edgetop.inference.server.connection import (
    NOTES_MAX,
    Note,
    ServerClient,
    StreamReader,
    UnreadableError,
    is_context_error,
)
from edgetop.inference.server.usage import Usage
from edgetop.io import extensions
from edgetop.io.http import Cause, HttpResponse, RequestError, quoted

NAMES_SHOWN = 5

ANSWER_BYTES_MAX = 2**30
"""A chunk has some hundred bytes for each token; more than this is no answer any more."""

UNREADABLE_MAX: Final = 100
"""Documents one after the other that cannot be read: what goes on like this is no answer."""

NONSENSE_BYTES_MAX: Final = 8 * 2**20
"""Without a document that says something; comments that keep a connection open are far from it."""

NONSENSE_US: Final = 6 * 3600 * US_PER_S
"""So long a connection is kept open by nothing else than that; the longest prompts of slow devices take less."""

_MEDIA = frozenset(
    {
        "", "text/event-stream", "application/json", "application/x-ndjson", "application/stream+json", "text/plain",
        "application/octet-stream",
    }
)  # fmt: skip


class Program(NamedTuple):
    """A program that is a server of this kind, or works for one."""

    pattern: str
    """Regular expression for the beginning of its executable's name and arguments, separated by blanks."""
    name: str
    port: int | None = None
    """Its default port; `None` for one that is not contacted."""
    other_port: int | None = None
    """That of other versions."""


class Offer(Struct, frozen=True, kw_only=True):
    """A model that a server offers."""

    name: str
    """As requests name it."""
    aliases: tuple[str, ...] = ()
    size_bytes: int | None = None
    quantization: str = ""
    parameters: int | None = None
    n_ctx_train: int | None = None
    loaded: bool | None = None
    """`None` where the server does not report it."""


class LoadedModel(Struct, frozen=True, kw_only=True):
    """A model that is ready for requests."""

    name: str
    """As requests name it."""
    info: ModelInfo
    settings: EngineSettings
    """What was asked for and what the server reports of it."""
    memory: MemoryBreakdown = MemoryBreakdown()
    version: str = ""
    """Of the server."""


class PromptProgress(Struct, frozen=True):
    """How far the prompt has been evaluated, in tokens."""

    total: int
    cached: int
    processed: int
    """Cached ones included."""
    time_ms: float | None = None
    """Since the server began with it."""


class Delta(Struct, frozen=True, kw_only=True):
    """Content of one chunk of an answer."""

    text: str = ""
    reasoning: str = ""
    generated: int | None = None
    """Tokens generated so far, up to the end of this chunk, where the server counts them with each."""
    progress: PromptProgress | None = None
    stop_reason: StopReason | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    total_tokens: int | None = None
    """All tokens of the reply as the server counts them, the one that ended it included."""
    is_end: bool = False
    """The stop reason tells the end of the reply from a stop string."""
    hidden_tokens: int | None = None
    """Of `total_tokens`, those of reasoning that the server does not show."""
    model: str = ""
    """The model that answers, as the server names it with a chunk."""
    perf: EnginePerf | None = None
    load_ms: float | None = None
    """How long the server loaded the model for this answer."""
    done: bool = False
    """Nothing follows."""


_SAYS_NOTHING = Delta()


class ChatRequest(Struct, frozen=True, kw_only=True):
    """A request that is answered by a stream."""

    path: str
    body: dict[str, object]


class TestTimings(Struct, frozen=True, kw_only=True):
    """Timings of a test."""

    prefill_us: int
    """When the prompt was begun."""
    prefilled_us: int
    """When all of it had been evaluated."""
    stamps: tuple[int, ...]
    """When each token arrived, the first one included."""
    perf: EnginePerf | None = None


class AnswerStream:
    """Parses the bytes of an answer. What cannot be read is left out and noted."""

    def __init__(self, parse: Callable[[bytes, Note], Delta]) -> None:
        self._reader = StreamReader()
        self._parse = parse
        self._unreadable = 0
        self.notes: dict[str, str] = {}
        """What was left out, in a sentence each, by the sentence's beginning."""

    def note(self, text: str) -> None:
        """Remember what was left out, once for each kind."""
        if len(self.notes) < NOTES_MAX:
            self.notes.setdefault(text.partition(":")[0], text)

    def feed(self, data: bytes) -> Iterator[Delta]:
        """What `data` completes. Raises RequestError for an error in the stream, and for one that is all nonsense."""
        return self._parsed(self._reader.feed(data))

    def finish(self) -> Iterator[Delta]:
        """What the end of the stream completes. Raises RequestError."""
        return self._parsed(self._reader.finish())

    def _parsed(self, events: list[bytes]) -> Iterator[Delta]:
        for event in events:
            try:
                delta = self._parse(event, self.note)
            except UnreadableError as error:
                self.note(error.what)
                self._unreadable += 1
                if self._unreadable >= UNREADABLE_MAX:
                    raise
            else:
                self._unreadable = 0
                yield delta

    def deltas(self, answer: HttpResponse) -> Iterator[tuple[int, Delta]]:
        """The chunks of an answer, each with the stamp of its arrival in microseconds. Raises RequestError."""
        self._check_headers(answer)
        size = understood = read_tokens = 0
        understood_us = answer.received_us
        for piece in answer.pieces(FLUSH_PERIOD_US):
            size += len(piece)
            for delta in self.feed(piece):
                progress = delta.progress
                goes_on = progress is None or progress.processed > read_tokens
                read_tokens = read_tokens if progress is None else max(read_tokens, progress.processed)
                if delta != (_SAYS_NOTHING if goes_on else Delta(progress=progress)):
                    understood, understood_us = size, answer.received_us
                yield answer.received_us, delta
            nonsense_us = answer.received_us - understood_us
            if size > ANSWER_BYTES_MAX or size - understood > NONSENSE_BYTES_MAX or nonsense_us > NONSENSE_US:
                raise RequestError("The server's answer does not end, and says nothing.", "Check its log.")
        for delta in self.finish():
            yield answer.received_us, delta

    def _check_headers(self, answer: HttpResponse) -> None:
        coding = answer.header("Content-Encoding").strip().lower()
        if coding not in {"", "identity"}:
            raise RequestError(
                f"The server compressed its answer ({quoted(coding)}), unasked.",
                "Check what stands between it and edgetop.",
            )
        media = answer.header("Content-Type").partition(";")[0].strip().lower()
        if media not in _MEDIA:
            raise RequestError(
                f"The server answered with {quoted(media)}, not with a stream of text.",
                "Check the address after --server.",
            )


class ServerBackend:
    """A kind of server, spoken to through a client; one object per server."""

    kind: ClassVar[str]
    """In files and JSON."""
    name: ClassVar[str]
    """For a person."""
    programs: ClassVar[tuple[Program, ...]] = ()
    process_names: ClassVar[tuple[str, ...]] = ()
    """Names of its processes (`/proc/<pid>/comm`), by which another user's server is found."""
    has_token_tests: ClassVar[bool] = False
    """It takes a prompt of a set number of tokens and answers with a set number."""
    has_depth_tests: ClassVar[bool] = False
    """It also reports what of a prompt was cached."""
    load_request: ClassVar[dict[str, object]] = {}
    """What in a request for an answer makes it as long as was asked for, and leaves nothing to a cache."""
    request_settings: ClassVar[tuple[str, ...]] = ()
    """Engine settings that a request may contain; the server decides all others."""
    cuts: ClassVar[bool] = False
    """It may end an answer at a length that nobody asked for, and does not tell that from a context that is full."""
    interrupts: ClassVar[bool] = False
    """A request ends the answer that it is giving to somebody else."""
    health_path: ClassVar[str] = ""
    """Answered however busy the server is; empty where there is none."""
    sleepless = False
    """It is known that the server never sleeps, so that it may be asked for everything."""

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """Whether a server is of this kind. Raises RequestError."""
        raise NotImplementedError

    def version(self, client: ServerClient) -> str:  # noqa: ARG002 - most kinds ask for it
        """Of the server; empty where it does not report it. Raises RequestError."""
        return ""

    def wait_until_ready(self, client: ServerClient, loading_s: float) -> None:
        """Wait until the server answers requests, at most `loading_s` seconds. Raises RequestError."""

    def offers(self, client: ServerClient) -> list[Offer]:
        """The models it has. Raises RequestError."""
        raise NotImplementedError

    def load(self, client: ServerClient, offer: Offer, settings: EngineSettings, loading_s: float) -> LoadedModel:
        """Make a model ready and describe it; it may take `loading_s` seconds. Raises RequestError."""
        raise NotImplementedError

    def chat_request(self, command: Generate, model: LoadedModel, settings: EngineSettings) -> ChatRequest:
        """The request for an answer. Raises RequestError for what this kind of server cannot do."""
        raise NotImplementedError

    def chat_stream(self) -> AnswerStream:
        """Parses one answer."""
        raise NotImplementedError

    def is_same_model(self, loaded: str, answering: str) -> bool:
        """Whether a model that a chunk names is the one that was loaded; servers add folders, suffixes and tags."""
        return _short_name(loaded) == _short_name(answering)

    def run_test(self, client: ServerClient, command: Measure, model: LoadedModel) -> TestTimings:  # noqa: ARG002
        """Run a test with a prompt and a reply of set lengths. Raises RequestError."""
        raise RequestError(
            "This kind of server takes conversations only, not a set number of tokens.",
            "Measure it with --prompts.",
            cause="missing",
        )

    def read_usage(self, client: ServerClient) -> Usage:
        """Read its counters, which cover the requests of all users. Raises RequestError."""
        raise NotImplementedError


def choose(offers: list[Offer], wanted: str | None) -> Offer:
    """The model of a name, else the only one, else the only one that is loaded. Raises RequestError.

    Where a server lists none, the name is taken as it is.
    """
    if not offers and wanted is not None:
        return Offer(name=wanted)
    names = [offer.name for offer in offers]
    shown = ", ".join(quoted(name) for name in names[:NAMES_SHOWN]) + (" and more" if len(names) > NAMES_SHOWN else "")
    if not offers:
        raise RequestError(
            "The server offers no model.", "Give it one first, or name it with --model.", cause="missing"
        )
    if wanted is None:
        loaded = [offer for offer in offers if offer.loaded]
        if len(offers) == 1 or len(loaded) == 1:
            return (loaded or offers)[0]
        raise RequestError("The server offers several models.", f"Choose one with --model: {shown}.", cause="missing")
    for form in (lambda name: name, _short_name):
        for offer in offers:
            if form(wanted) in {form(name) for name in (offer.name, *offer.aliases)}:
                return offer
    raise RequestError(f"The server has no model {quoted(wanted)}.", f"It offers {shown}.", cause="missing")


def _short_name(name: str) -> str:
    """A name as people write it: without folders, suffix and Ollama's default tag."""
    return name.rpartition("/")[2].lower().removesuffix(".gguf").removesuffix(":latest")


UNKNOWN: Final = EngineSettings(
    type_k=None,
    type_v=None,
    flash_attention=None,
    load_mode=None,
    swa_full=None,
    use_extra_bufts=None,
    offload_kqv=None,
    full_context=None,
)
"""What is known of a server's settings before it tells any."""


def reported_settings(settings: EngineSettings, *, n_ctx: int | None) -> EngineSettings:
    """The settings of a server's model: of what a server decides, only what it reports."""
    return replace(UNKNOWN, n_ctx=n_ctx, template_args=settings.template_args)


def error_in_stream(words: str) -> RequestError:
    """An error in the middle of an answer."""
    if is_context_error(words):
        return RequestError(
            f"The conversation does not fit the server's context: {words}.",
            "Clear it, or start the server with a longer context.",
            cause="context",
        )
    return RequestError(f"The server aborted its answer: {words or 'it gives no reason'}.", "Check its log.")


def random_tokens(command: Measure, n_vocab: int) -> tuple[list[int], list[int]]:
    """The tokens of the depth, which are the same for all tests of it, and those of the prompt, at least one."""
    same, other = random.Random(command.depth), random.Random(command.seed)  # noqa: S311 - not for secrets
    depth = [same.randrange(n_vocab) for _ in range(command.depth)]
    return depth, [other.randrange(n_vocab) for _ in range(command.n_prompt or (1 if command.n_gen else 0))]


def report_test(command: Measure, timings: TestTimings, report: Reporter) -> None:
    """Report a test as our own engine does; the last report is TurnFinished."""
    turn, total, depth = command.turn, command.n_prompt, command.depth
    begin_us = timings.prefill_us if total else timings.prefilled_us
    report(Prefill(turn=turn, t_us=begin_us, done=0, total=total, cached=depth))
    if total:
        report(Prefill(turn=turn, t_us=timings.prefilled_us, done=total, total=total, cached=depth))
    stamps = timings.stamps[1 : command.n_gen + 1]
    if stamps:
        report(Tokens(turn=turn, t_us=stamps, pieces=("",) * len(stamps)))
    report(
        TurnFinished(
            turn=turn,
            t_us=monotonic_us(),
            stop_reason="max_tokens",
            prompt_tokens=depth + total,
            cached_tokens=depth,
            generated_tokens=len(stamps),
            context_used=depth + total + len(stamps),
            seed=command.seed,
            perf=timings.perf,
        )
    )


PROBE_TIMEOUT_S = 10.0

_SPEAKS_HTTP: frozenset[Cause] = frozenset({"missing", "broken", "refused"})
"""Failures after which the server may still be of another kind."""


class ServerProbe(Struct, frozen=True, kw_only=True):
    """What was found at an address."""

    server: str
    """The address."""
    kind: str = ""
    """For a person."""
    version: str = ""
    offers: tuple[Offer, ...] = ()
    problem: str = ""
    """Why nothing or not all was found, in one line; empty where all was."""
    hint: str = ""

    @property
    def backend(self) -> type[ServerBackend]:
        """What this kind of server can do. Raises StopIteration where it is not known."""
        return next(backend for backend in backends() if backend.name == self.kind)


def _module_backends(name: str) -> tuple[type[ServerBackend], ...]:
    found: tuple[type[ServerBackend], ...] = import_module(f"edgetop.inference.server.{name}").BACKENDS
    return found


def backends() -> tuple[type[ServerBackend], ...]:
    """All kinds, in the order in which a server is asked whether it is one of them."""
    *own, rest = _own_backends()
    return (*own, *_extension_backends(), rest)


@cache
def _own_backends() -> tuple[type[ServerBackend], ...]:
    return tuple(backend for name in KINDS for backend in _module_backends(name))


def _extension_backends() -> Iterator[type[ServerBackend]]:
    """The kinds of other packages, which are asked for before the one that stands for all others."""
    for name, brought in extensions.loaded(extensions.SERVERS):
        if isinstance(brought, type) and issubclass(brought, ServerBackend):
            yield brought
        else:
            extensions.switch_off(extensions.SERVERS, name, TypeError("it is no class of ServerBackend"))


def server_programs() -> tuple[Program, ...]:
    """The programs of all kinds; the first one whose pattern matches counts."""
    return tuple(program for backend in backends() for program in backend.programs)


def server_process_names() -> tuple[str, ...]:
    """Names of the processes of all kinds."""
    return tuple(name for backend in backends() for name in backend.process_names)


def detect(client: ServerClient, kind: str = "auto") -> ServerBackend:
    """The backend for a server, of the kind it shows to be. Raises RequestError where none answers.

    Of a kind that was named, only it and the ones that build on it are considered: vLLM also speaks the OpenAI API.
    """
    candidates = backends()
    if kind != "auto":
        named = _named_backends(kind)
        candidates = tuple(backend for backend in candidates if issubclass(backend, named))
    for backend in candidates[:-1]:
        try:
            if backend.matches(client):
                return backend()
        except RequestError as error:
            if error.cause not in _SPEAKS_HTTP:
                raise
        except extensions.FAILURES as error:
            name = extensions.owner(extensions.SERVERS, backend)
            if name is None:
                raise
            extensions.switch_off(extensions.SERVERS, name, error)
    return candidates[-1]()


def _named_backends(kind: str) -> tuple[type[ServerBackend], ...]:
    """Those of a kind of ours, else of the extension of that name. Raises RequestError where that failed."""
    if kind.replace("-", "_") in KINDS:
        return _module_backends(kind.replace("-", "_"))
    found = tuple(backend for backend in _extension_backends() if extensions.owner(extensions.SERVERS, backend) == kind)
    if not found:
        why = extensions.why_off(extensions.SERVERS, kind) or f"the extension {one_line(kind)} brings no kind of server"
        raise RequestError(f"{why[:1].upper()}{why[1:]}.", OTHER_KIND)
    return found


OTHER_KIND = "Choose another --server-kind."


@contextmanager
def failures_named(backend: ServerBackend) -> Iterator[None]:
    """Whatever the backend of an extension raises is a RequestError that names it."""
    try:
        yield
    except RequestError:
        raise
    except extensions.FAILURES as error:
        name = extensions.owner(extensions.SERVERS, type(backend))
        if name is None:
            raise
        text = extensions.switch_off(extensions.SERVERS, name, error)
        raise RequestError(f"{text[:1].upper()}{text[1:]}.", OTHER_KIND) from error


def probe(choice: ServerChoice, timeout_s: float = PROBE_TIMEOUT_S) -> ServerProbe:
    """Ask a server for its kind, version and models; nothing is loaded. Never raises."""
    server = choice.url
    kind = version = ""
    deadline_s = time.monotonic() + timeout_s
    try:
        server = str(choice.address)
        client = ServerClient(
            choice.address,
            key=key_of(choice, os.environ.get(KEY_VARIABLE)),
            idle_s=timeout_s,
            stopped=lambda: time.monotonic() > deadline_s,
        )
        backend = detect(client, choice.kind)
        kind = backend.name
        with failures_named(backend):
            version = backend.version(client)
            offers = backend.offers(client)
    except RequestError as error:
        late = error.cause == "stopped"
        problem = f"No answer from the server within {timeout_s:g} s." if late else error.what
        return ServerProbe(server=server, kind=kind, version=version, problem=problem, hint=error.hint)
    except ValueError as error:
        return ServerProbe(server=server, problem=f"{error}.")
    return ServerProbe(server=server, kind=kind, version=version, offers=tuple(offers))
