"""Bytes or chunks to the text of a reply, reported in batches.

Three things may have to wait for the tokens that follow: characters split between tokens are put together, stop strings
end the reply, and the tags around a reasoning part are removed. A token is reported, with its stamp, once its text is
settled.

Waking the process with the screen costs decoding speed where both share the cores (threads spin at a barrier while one
of them waits for its core), so the first token of a reply is sent at once and the others ten times a second. Until then
their bytes are only stored: time spent between two decodes is lost to decoding.

The stamp of a token is when the text that holds it arrived. Of a chunk that holds several tokens the first one has the
text and all have the same stamp; where the server does not count the tokens of a chunk, it counts as one.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from itertools import accumulate, groupby

from msgspec import Struct

from edgetop.core.records import ReplyPart, Tokens
from edgetop.inference.chat_template import REASONING_TAGS, ReasoningTags
from edgetop.inference.engine import Reporter


class Piece(Struct, frozen=True):
    """A token whose text is settled."""

    t_us: int
    text: str
    part: ReplyPart


@dataclass
class _Pending:
    t_us: int
    text: str
    part: ReplyPart


class ReplyText:
    """The text of one reply, token by token."""

    def __init__(
        self, *, stop: tuple[str, ...] = (), opened: ReasoningTags | None = None, continued: bool = False
    ) -> None:
        """`opened`: the prompt ends within these tags; `continued`: it ends within an answer."""
        self._stop = tuple(text for text in stop if text)
        self._reasoning = opened
        self._at_beginning = opened is None and not continued
        """Only white space so far: a reasoning part may still begin."""
        self._skip_space = False
        self._split = False
        """A character has begun and waits for its remaining bytes."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[_Pending] = []
        self.stopped = False
        """A stop string was met. Nothing after it is returned."""

    def push(self, t_us: int, data: bytes) -> list[Piece]:
        """Add a token; returns the tokens that are settled now, in order."""
        if self.stopped:
            return []
        text = self._decode(data)
        if not (self._pending or self._stop or self._reasoning or self._at_beginning or self._skip_space):
            return [Piece(t_us, text, "answer")]
        self._pending.append(_Pending(t_us, text, self._part))
        text = self._text
        matches = [(at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
        if matches:
            self.stopped = True
            self._cut(min(matches)[0], len(text))
        self._remove_tags()
        if self.stopped:
            return self._release(None)
        return self._release(self._open_end())

    def finish(self) -> list[Piece]:
        """The tokens that were still waiting. A character that the end of the reply cut off is left out."""
        return self._release(None)

    def _decode(self, data: bytes) -> str:
        # Most tokens are whole characters, and this runs between two decodes.
        if not self._split:
            try:
                return data.decode()
            except UnicodeDecodeError:
                pass
        text = self._decoder.decode(data)
        self._split = bool(self._decoder.getstate()[0])
        return text

    @property
    def _text(self) -> str:
        return "".join(token.text for token in self._pending)

    @property
    def _part(self) -> ReplyPart:
        return "reasoning" if self._reasoning is not None else "answer"

    def _remove_tags(self) -> None:
        self._drop_space()
        if self._at_beginning and (stripped := self._text.lstrip()):
            opened = next((tags for tags in REASONING_TAGS if stripped.startswith(tags.begin)), None)
            if opened is not None:
                self._cut(0, len(self._text) - len(stripped) + len(opened.begin))
                self._enter(opened, self._pending)
            else:
                self._at_beginning = any(tags.begin.startswith(stripped) for tags in REASONING_TAGS)
        if self._reasoning is not None and (begin := self._text.find(self._reasoning.end)) >= 0:
            end = begin + len(self._reasoning.end)
            ends = accumulate(len(token.text) for token in self._pending)
            after = [token for token, token_end in zip(self._pending, ends, strict=True) if token_end > end]
            self._cut(begin, end)
            self._enter(None, after)

    def _enter(self, reasoning: ReasoningTags | None, tokens: list[_Pending]) -> None:
        """Begin another part with those of the pending tokens that belong to it."""
        self._reasoning = reasoning
        self._at_beginning = False
        self._skip_space = True
        for token in tokens:
            token.part = self._part
        self._drop_space()

    def _drop_space(self) -> None:
        """White space that follows a tag belongs to the tag."""
        if not self._skip_space:
            return
        for token in self._pending:
            if token.part == self._part:
                token.text = token.text.lstrip()
                if token.text:
                    self._skip_space = False
                    return

    def _cut(self, begin: int, end: int) -> None:
        """Remove the characters from `begin` to `end` of the pending text."""
        at = 0
        for token in self._pending:
            size = len(token.text)
            token.text = token.text[: max(0, begin - at)] + token.text[max(0, end - at) :]
            at += size

    def _open_end(self) -> int:
        """Where in the pending text something begins that may yet become a stop string or a tag."""
        if self._at_beginning:
            return 0
        text = self._text
        ends = (*self._stop, self._reasoning.end) if self._reasoning is not None else self._stop
        longest = max(map(len, ends), default=1)
        for begin in range(max(0, len(text) - longest + 1), len(text)):
            if any(each.startswith(text[begin:]) for each in ends):
                return begin
        return len(text)

    def _release(self, end: int | None) -> list[Piece]:
        at = 0
        settled = 0
        for token in self._pending:
            at += len(token.text)
            if end is not None and at > end:
                break
            settled += 1
        pieces = [Piece(token.t_us, token.text, token.part) for token in self._pending[:settled]]
        del self._pending[:settled]
        return pieces


FLUSH_PERIOD_US = 100_000

TOKENS_IN_CHUNK_MAX = 4096
"""More tokens than this in one chunk can only be a mistake of the server."""

TOGETHER_US = 500
"""Chunks that follow each other sooner than this left the server together."""

_NOTHING: tuple[str, ReplyPart, int] = ("", "answer", 0)


class ReplyBatcher:
    """Collects the tokens or chunks of one reply and reports them as `Tokens`."""

    def __init__(
        self,
        turn: int,
        report: Reporter,
        *,
        stop: tuple[str, ...] = (),
        opened: ReasoningTags | None = None,
        continued: bool = False,
    ) -> None:
        """See `ReplyText`."""
        self._turn = turn
        self._report = report
        self._text = ReplyText(stop=stop, opened=opened, continued=continued)
        self._has_stop_strings = any(stop)
        """Every token may be the last one, so none waits to be decoded."""
        self._tokens: list[tuple[int, bytes]] = []
        self._settled: list[Piece] = []
        self._due_us = 0
        self._waiting = _NOTHING
        """Text of a chunk without a token of its own."""
        self.chunks = 0
        """Chunks with text that have come."""
        self.tokens = 0
        """Tokens in them, as far as the server counted them."""
        self.counted = True
        """The server has counted the tokens of each chunk."""
        self.has_reasoning = False
        self.arrivals = 0
        """Chunks with text but for those that came right behind another one."""
        self._chunk_us = 0

    @property
    def stopped(self) -> bool:
        """A stop string was met."""
        return self._text.stopped

    def add(self, t_us: int, data: bytes) -> None:
        """Add a token: its stamp and its bytes."""
        self._tokens.append((t_us, data))
        if t_us >= self._due_us:
            self.flush()
        elif self._has_stop_strings:
            self._settle()

    def add_chunk(self, t_us: int, text: str, part: ReplyPart, *, generated: int | None) -> None:
        """Add a server's chunk. `generated` is how many tokens it has generated in all, if it counts them."""
        self.chunks += bool(text)
        self.has_reasoning |= part == "reasoning"
        self.arrivals += t_us - self._chunk_us > TOGETHER_US
        self._chunk_us = t_us
        if generated is None:
            self.counted = False
        size = 1 if generated is None else min(max(generated - self.tokens, 0), TOKENS_IN_CHUNK_MAX)
        self.tokens += size
        if self._waiting[1] != part:
            self._add_waiting()
        # A token's text may come in two chunks: text without a token of its own goes with the next one.
        text = self._waiting[0] + text
        self._waiting = (text, part, t_us) if size == 0 else _NOTHING
        for number in range(size):
            self._add_text(t_us, text if number == 0 else "", part)

    def flush(self) -> None:
        """Report what is settled now."""
        self._settle()
        for part, group in groupby(self._settled, key=lambda piece: piece.part):
            pieces = list(group)
            stamps = tuple(piece.t_us for piece in pieces)
            texts = tuple(piece.text for piece in pieces)
            self._report(Tokens(turn=self._turn, t_us=stamps, pieces=texts, part=part, counted=self.counted))
            self._due_us = stamps[-1] + FLUSH_PERIOD_US
        self._settled = []

    def finish(self) -> None:
        """Report everything: the reply has ended."""
        self._add_waiting()
        self._settle()
        self._settled += self._text.finish()
        self.flush()

    def _settle(self) -> None:
        for t_us, data in self._tokens:
            self._settled += self._text.push(t_us, data)
        self._tokens = []

    def _add_waiting(self) -> None:
        (text, part, t_us), self._waiting = self._waiting, _NOTHING
        if text:
            self._add_text(t_us, text, part)

    def _add_text(self, t_us: int, text: str, part: ReplyPart) -> None:
        data = text.encode("utf-8", "replace")
        if part == "answer":
            self._settled += self._text.push(t_us, data)
        else:
            # Text that might have become the beginning of a tag does not any more.
            self._settled += [*self._text.finish(), Piece(t_us, data.decode(), part)]
