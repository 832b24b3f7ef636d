"""A watch of one server whose requests come through a relay: what each was is read from the bytes that went by.

They are read in the thread that records, some time after they were passed on; their stamps are those of the passing.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.records import Event, RequestServed
from edgetop.core.text import one_line
from edgetop.inference.child_process import raise_file_limit
from edgetop.inference.server import ollama, openai
from edgetop.inference.server.address import UNIX, Address
from edgetop.inference.server.backend import AnswerStream, Delta
from edgetop.io.http import RequestError
from edgetop.io.relay import Exchange, Relay, Seen, Upstream
from edgetop.live.live_session import WatchOptions, WatchSession
from edgetop.live.server_monitor import ServerLocation
from edgetop.live.server_request import NAME_MAX, AnswerReader
from edgetop.session.requests import PROXY_EVENT
from edgetop.session.store import Store

PROMPTS_MAX: Final = 64
"""Of each model."""
MODELS_MAX: Final = 16
CHARACTERS_MAX: Final = 2**18
"""Of one prompt; a longer one is not remembered."""
TOKENS_LEAST: Final = 16
"""Fewer are within what shares by characters leave open, and within what a server always processes again."""

TOOLS = "the tools changed"
SYSTEM = "the system prompt changed"
EARLIER = "an earlier message changed"
OTHER_SLOT = "others ran at the same time: another slot"
OTHERS_SINCE = "others came between: the cache was full"
KEPT_NOTHING = "the server kept nothing"


class Prompt(NamedTuple):
    """The messages of a prompt in order, tools first: who says each, and what."""

    parts: tuple[tuple[str, str], ...]

    @property
    def length(self) -> int:
        """In characters, with some for what the template puts around each message."""
        return sum(len(text) + AROUND for _, text in self.parts)


AROUND: Final = 12


class Counts(NamedTuple):
    """What the server says of a request."""

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int


class ReadAgain(NamedTuple):
    """Tokens that were processed though they had been seen."""

    tokens: int
    why: str


class _Remembered(NamedTuple):
    prompt: Prompt
    reply: str
    counts: Counts


def prompt_of(messages: object, text: object, tools: object, system: object = None) -> Prompt | None:
    """The prompt of a request as its JSON has it; `None` where there is none, or a very long one."""
    try:
        prompt = Prompt(tuple(_parts(messages, text, tools, system)))
    except RecursionError:
        return None
    return prompt if prompt.parts and prompt.length <= CHARACTERS_MAX else None


def _parts(messages: object, text: object, tools: object, system: object) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    if tools:
        parts.append(("tools", repr(tools)))
    if isinstance(system, str) and system:
        parts.append(("system", system))
    if isinstance(messages, list):
        for each in messages:
            if isinstance(each, dict):
                content = each.get("content")
                said = content if isinstance(content, str) else repr(content)
                parts.append((str(each.get("role")), said))
    elif isinstance(text, str):
        parts.append(("user", text))
    return parts


class PromptMemory:
    """What each model has seen."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[_Remembered]] = {}

    def read_again(self, model: str, prompt: Prompt, counts: Counts, *, beside: bool) -> ReadAgain | None:
        """What of a prompt was processed again; `beside` says that others ran when it began."""
        best: tuple[float, int, str] | None = None
        seen = self._seen.get(model, ())
        for age, earlier in enumerate(reversed(seen)):
            tokens, why = _seen_tokens(earlier, prompt)
            if best is None or tokens >= best[0] + TOKENS_LEAST:
                best = (tokens, age, why)
        if best is None:
            return None
        tokens, age, why = best
        again = min(round(tokens), counts.prompt_tokens) - counts.cached_tokens
        if again < TOKENS_LEAST:
            return None
        return ReadAgain(again, why or (OTHER_SLOT if beside else OTHERS_SINCE if age else KEPT_NOTHING))

    def remember(self, model: str, prompt: Prompt, reply: str, counts: Counts) -> None:
        """A prompt and its answer have been processed."""
        if model not in self._seen and len(self._seen) >= MODELS_MAX:
            return
        seen = self._seen.setdefault(model, deque(maxlen=PROMPTS_MAX))
        seen.append(_Remembered(prompt, reply[:CHARACTERS_MAX], counts))


def _seen_tokens(earlier: _Remembered, prompt: Prompt) -> tuple[float, str]:
    """How many tokens of a prompt were in an earlier one or its answer, and what changed before the last of them."""
    old = earlier.prompt.parts
    characters, index = 0, 0
    while index < min(len(old), len(prompt.parts)) and old[index] == prompt.parts[index]:
        characters += len(old[index][1]) + AROUND
        index += 1
    per_character = earlier.counts.prompt_tokens / earlier.prompt.length
    if index == len(old):
        reply = 0
        if index < len(prompt.parts) and earlier.reply and prompt.parts[index] == ("assistant", earlier.reply):
            reply = earlier.counts.generated_tokens
        return earlier.counts.prompt_tokens + reply, ""
    rest = prompt.parts[index:]
    begun = 0
    if rest and rest[0][0] == old[index][0]:
        begun = _common(rest[0][1], old[index][1])
    # What stands behind a change was seen all the same, if it is as it was.
    known = set(old[index:])
    behind = sum(len(text) + AROUND for role, text in rest[1:] if (role, text) in known)
    if not behind:
        return (characters + begun) * per_character, ""
    changed = {old[index][0], rest[0][0]}
    why = TOOLS if "tools" in changed else SYSTEM if "system" in changed else EARLIER
    return (characters + begun + behind) * per_character, why


def _common(one: str, other: str) -> int:
    """Length of the beginning that two texts have in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


TEXT_MAX: Final = 2**20
"""Characters of a prompt or a reply that are kept where texts are."""
READ_BYTES_MAX: Final = 64 * 2**20
"""Of one answer; more is passed on and not read."""
UNPACKED_BYTES: Final = 2**18
"""At once: a few bytes may unpack to thousands as many."""
CLIENTS_MAX: Final = 200
MANY: Final = "other clients"
"""Those that came after so many."""

_STREAMS: Final[Sequence[tuple[tuple[str, ...], Callable[[], AnswerStream]]]] = (
    (("/api/chat", "/api/generate"), ollama.chat_stream),
    (("/chat/completions", "/completions", "/completion", "/infill"), partial(openai.chat_stream, "timings")),
    (("/responses", "/messages"), openai.event_stream),
    (("/embeddings", "/embedding", "/api/embed", "/rerank", "/reranking"), openai.chat_stream),
)
"""How requests that make a model work are answered, by the ends of their paths; all others cost next to nothing."""


class _Asked(Struct):
    """What is read of a request."""

    model: object = None
    messages: object = None
    prompt: object = None
    input: object = None
    tools: object = None
    system: object = None
    instructions: object = None


class ExchangeReader:
    """Makes a record of what went by in one exchange."""

    def __init__(self, exchange: Exchange, *, keeps_text: bool) -> None:
        self.exchange = exchange
        path = exchange.head.first[1].partition("?")[0].rstrip("/")
        self.path = one_line(path[:NAME_MAX])
        made = next((made for ends, made in _STREAMS if path.endswith(ends)), None)
        self._stream = made() if made is not None and exchange.head.first[0] == "POST" else None
        self._unzip: Callable[[bytes], Iterator[bytes]] | None = None
        self._size = 0
        self._keeps_text = keeps_text
        self._reply: list[tuple[str, str]] = []
        self._reply_length = 0
        self.beside = False
        """Others ran when it began."""
        self.prompt: Prompt | None = None
        self.reply = ""
        self._answer = AnswerReader()
        self._error = ""

    @property
    def is_work(self) -> bool:
        """Whether the exchange makes a model work."""
        return self._stream is not None

    def add(self, seen: Seen) -> None:
        """Read a piece of the answer."""
        answer = self.exchange.answer
        if self._stream is None or answer is None or self._error or self._size > READ_BYTES_MAX:
            return
        try:
            if self._unzip is None:
                self._unzip = _decoder(answer.get("content-encoding").lower())
            for data in self._unzip(seen.data):
                self._size += len(data)
                if self._size > READ_BYTES_MAX:
                    self.exchange.is_read = False
                    return
                self._read(self._stream.feed(data), seen.t_us)
        except RequestError as error:
            self._error = error.what
        except (zlib.error, ValueError):
            self._error = "what it is packed with cannot be read"

    def _read(self, deltas: Iterator[Delta], t_us: int) -> None:
        for delta in deltas:
            if (delta.text or delta.reasoning) and self._reply_length < TEXT_MAX:
                self._reply_length += len(delta.reasoning) + len(delta.text)
                self._reply.append((delta.reasoning, delta.text))
            self._answer.add(t_us, delta)

    def record(self) -> RequestServed:
        """The record of an exchange that is over."""
        exchange, answer = self.exchange, self.exchange.answer
        if self._stream is not None and not self._error:
            try:
                self._read(self._stream.finish(), exchange.end_us)
            except RequestError as error:
                self._error = error.what
        asked = self._asked()
        self.prompt = prompt_of(
            asked.messages or asked.input, asked.prompt or asked.input, asked.tools, asked.system or asked.instructions
        )
        self.reply = "".join(text for _, text in self._reply)
        fields = self._answer.fields(exchange.begin_us, streamed=answer is None or not answer.get("content-length"))
        fields["counted"] = fields["counted"] and exchange.is_read
        model = self._answer.model or (asked.model if isinstance(asked.model, str) else "")
        return RequestServed(
            t_us=exchange.end_us,
            took_us=max(0, exchange.end_us - exchange.begin_us),
            client=_client(exchange),
            model=one_line(model.rpartition("/")[2] if model.endswith(".gguf") else model)[:NAME_MAX],
            path=self.path,
            status=None if answer is None else int(answer.first[1]),
            outcome=exchange.outcome or "server left",
            error=one_line(exchange.error or self._error)[:300],
            prompt=_text(asked)[:TEXT_MAX] if self._keeps_text else None,
            reply="".join(map("".join, self._reply))[:TEXT_MAX] if self._keeps_text else None,
            **fields,
        )

    def _asked(self) -> _Asked:
        body, self.exchange.body = bytes(self.exchange.body), bytearray()
        try:
            return msgspec.json.decode(body, type=_Asked)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return _Asked()


def _decoder(packing: str) -> Callable[[bytes], Iterator[bytes]]:
    """Raises ValueError where it is not known."""
    if packing in {"", "identity"}:
        return lambda data: iter((data,))
    if packing not in {"gzip", "deflate"}:
        raise ValueError(packing)
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 32 if packing == "gzip" else zlib.MAX_WBITS)

    def unpacked(data: bytes) -> Iterator[bytes]:
        while data:
            yield unzip.decompress(data, UNPACKED_BYTES)
            data = unzip.unconsumed_tail

    return unpacked


def _client(exchange: Exchange) -> str:
    """Address and program of a client."""
    program = exchange.head.get("user-agent").partition(" ")[0].partition("/")
    return one_line(f"{exchange.client} {program[0]}".strip())[:NAME_MAX]


def _text(asked: _Asked) -> str:
    """The prompt in words."""
    messages = asked.messages or asked.input
    try:
        if isinstance(messages, list):
            said = [each for each in messages if isinstance(each, dict)]
            return "\n".join(f"{each.get('role', '')}: {_words(each.get('content'))}" for each in said)
        return _words(asked.prompt or asked.input)
    except RecursionError:
        return ""


def _words(content: object) -> str:
    if isinstance(content, list):
        return " ".join(_words(part.get("text") if isinstance(part, dict) else part) for part in content)
    return content if isinstance(content, str) else ""


OPEN_TO_ALL = ("whoever reaches this address can use the server", "--listen 127.0.0.1:PORT is for here")
"""What is said of an address that others reach, and what to do."""


class ProxySession(WatchSession):
    """Passes requests on, and records them beside what a watch of the server records."""

    def __init__(
        self,
        options: WatchOptions,
        store: Store,
        on_trouble: Callable[[str], None],
        *,
        listen: tuple[str, int],
        on_request: Callable[[RequestServed], None] = lambda _record: None,
    ) -> None:
        """Listen, and start the watch of the one server of `options`. Raises EdgetopError where it cannot listen."""
        (address,) = options.servers
        self.relay = Relay(upstream_of(address), *listen)
        raise_file_limit()
        # Before the watch gives way to the model: what is in the way of requests must not wait.
        self.relay.start()
        self._readers: dict[Exchange, ExchangeReader] = {}
        self._clients: set[str] = set()
        self._memory = PromptMemory()
        self._keeps_text = options.text_recorded
        self._on_request = on_request
        self.server = str(address)
        """Where requests are passed on to."""
        self.is_for_here = self.relay.is_for_here
        try:
            super().__init__(options, store, on_trouble)
        except BaseException:
            self.relay.stop()
            raise
        location = ServerLocation(address)
        elsewhere = "" if location.is_here or options.power.streams else str(location.no_power)
        self.url = f"http://{f'[{listen[0]}]' if ':' in listen[0] else listen[0]}:{self.relay.port}"
        self.recorder.record(
            Event(
                t_us=monotonic_us(),
                kind=PROXY_EVENT,
                text=f"Requests to {self.url} are passed on to {address}.",
                data={"listen": self.url, "server": self.server, "no_energy": elsewhere},
            )
        )

    @property
    def running(self) -> int:
        """How many requests that make a model work run."""
        return sum(reader.is_work for reader in self._readers.values())

    def pump(self) -> None:
        """Read what went by, and what a watch reads."""
        seen = self.relay.seen
        while seen:
            each = seen.popleft()
            self.relay.taken_bytes += len(each.data)
            reader = self._readers.get(each.exchange)
            if reader is None:
                reader = ExchangeReader(each.exchange, keeps_text=self._keeps_text)
                reader.beside = self.running > 0
                self._readers[each.exchange] = reader
            elif each.data:
                reader.add(each)
            else:
                self.relay.taken_body_bytes += len(each.exchange.body)
                self._record(self._readers.pop(each.exchange))
        super().pump()

    def _record(self, reader: ExchangeReader) -> None:
        record = reader.record()
        if not reader.is_work:
            return
        if record.client not in self._clients and len(self._clients) >= CLIENTS_MAX:
            record = msgspec.structs.replace(record, client=MANY)
        self._clients.add(record.client)
        record = self._with_reread(reader, record)
        self.recorder.record(record)
        self._on_request(record)

    def _with_reread(self, reader: ExchangeReader, record: RequestServed) -> RequestServed:
        """With what of its prompt was processed again, as far as the server says what it kept."""
        if reader.prompt is None or record.prompt_tokens is None or record.cached_tokens is None:
            return record
        counts = Counts(record.prompt_tokens, record.cached_tokens, record.generated_tokens or 0)
        again = self._memory.read_again(record.model, reader.prompt, counts, beside=reader.beside)
        self._memory.remember(record.model, reader.prompt, reader.reply, counts)
        tokens, why = (0, "") if again is None else again
        return msgspec.structs.replace(record, reread_tokens=tokens, reread_why=why)

    def close(self) -> Path | None:
        """Hang up, and end as a watch does. Raises StoreError."""
        self.relay.stop()
        return super().close()


def upstream_of(address: Address) -> Upstream:
    """Where a relay connects to."""
    if address.scheme == UNIX:
        return Upstream("", 0, unix=address.host, authority="localhost")
    usual = {"http": 80, "https": 443}[address.scheme] == address.port
    host = f"[{address.host}]" if ":" in address.host else address.host
    authority = host if usual else f"{host}:{address.port}"
    return Upstream(address.host, address.port, address.prefix, authority, tls=address.scheme == "https")
