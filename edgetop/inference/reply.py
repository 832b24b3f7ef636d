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
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.records import ReplyPart, Tokens
from edgetop.inference.chat_template import REPLY_FORMATS, ControlPiece, Effect, ReplyFormat
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
    control: bool
    before_mark: bool = False
    """It stands before a mark, so that its white space does not belong to one."""


_When = Literal["always", "at the beginning", "control", "line"]
"""Where a mark counts: anywhere; before any text; as a control token; as that or at the beginning of a line."""


class _Mark(NamedTuple):
    text: str
    effect: Effect
    form: ReplyFormat
    when: _When


def _unopened() -> Iterator[_Mark]:
    for form in REPLY_FORMATS:
        for text, effect in form.marks.items():
            begins = effect == "reasoning" or form.structured
            if begins:
                yield _Mark(text, effect, form, "at the beginning")
            # A model may leave out the mark that begins its reasoning, or the template of its file does.
            yield _Mark(
                text, effect, form, "line" if effect == "answer" and text.startswith(("</", "[/")) else "control"
            )


_UNOPENED = tuple(_unopened())
_LATER = tuple(mark for mark in _UNOPENED if mark.when != "at the beginning" and not mark.text[0].isalpha())
"""No control token begins with a letter."""
_FIRST_CHARACTERS = frozenset(mark.text[0] for mark in _LATER)


SPACE_BEFORE_REASONING = 256
"""Characters of white space; a reply that begins with more does not begin with reasoning."""

WAITING_MOST = 1024
"""Tokens that wait for those that follow. All of them are looked at for each that comes, and those without text, of
which a server may count as many as it likes, make no mark and no stop string whole."""

MARKS_MOST = 64
"""Marks of one reply; behind so many they are text. A reply has some ten."""


class ReplyText:
    """The text of one reply, token by token."""

    def __init__(
        self,
        *,
        stop: tuple[str, ...] = (),
        opened: tuple[ReplyFormat, ReplyPart] | None = None,
        continued: bool = False,
    ) -> None:
        """`opened`: the prompt ends within this part of a reply; `continued`: it ends within an answer."""
        self._stop = tuple(text for text in stop if text)
        self._form: ReplyFormat | None
        self._part: ReplyPart
        self._form, self._part = opened or (None, "answer")
        self._at_beginning = opened is None and not continued
        """Only white space so far: a reasoning part may still begin."""
        self._skip_space = False
        self._in_answer_tag = False
        self._line_begins = True
        """What was released last ended with a line break."""
        self._split = False
        """A character has begun and waits for its remaining bytes."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[_Pending] = []
        self._marks_left = MARKS_MOST
        self.reasoned_before = False
        """A mark that ends a reasoning came without the one that begins it: what was given on before was reasoning."""
        self.stopped = False
        """A stop string was met. Nothing after it is returned."""

    def push(self, t_us: int, data: bytes) -> list[Piece]:
        """Add a token; returns the tokens that are settled now, in order."""
        if self.stopped:
            return []
        text = self._decode(data)
        control = isinstance(data, ControlPiece)
        waits = self._pending or self._stop or self._at_beginning or self._skip_space or control
        if not waits and self._part == "answer" and _FIRST_CHARACTERS.isdisjoint(text):
            if text:
                self._line_begins = text.endswith("\n")
            return [Piece(t_us, text, "answer")]
        self._pending.append(_Pending(t_us, text, self._part, control))
        text = self._text
        matches = [(at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
        if matches:
            self.stopped = True
            self._cut(min(matches)[0], len(text))
        self._remove_marks()
        if self.stopped or len(self._pending) > WAITING_MOST:
            self._at_beginning = False
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

    def _marks(self) -> Iterator[_Mark]:
        """The marks that may come now."""
        form = self._form
        if form is None:
            yield from _UNOPENED if self._at_beginning else _LATER
            return
        for text, effect in form.marks.items():
            always = form.structured or self._part == "reasoning"
            if effect == "removed" and not form.structured:
                always = self._in_answer_tag if text.startswith("</") else self._skip_space
            yield _Mark(text, effect, form, "always" if always else "control")

    def _remove_marks(self) -> None:
        self._drop_space()
        while self._marks_left and (found := self._next_mark()) is not None:
            self._marks_left -= 1
            at, mark = found
            end = at + len(mark.text)
            if self._at_beginning:
                at = 0  # the white space before it goes as well
            ends = accumulate(len(token.text) for token in self._pending)
            after = [token for token, token_end in zip(self._pending, ends, strict=True) if token_end > end]
            for token in self._pending:
                token.before_mark = token.before_mark or not any(token is other for other in after)
                if self._at_beginning and mark.effect != "removed":
                    token.part = mark.effect
            if mark.effect == "answer" and self._form is None and not mark.form.structured:
                self.reasoned_before = True
                for token in self._pending:
                    token.part = "reasoning"
            self._cut(at, end)
            self._form = mark.form
            self._at_beginning = False
            if mark.effect == "removed":
                self._in_answer_tag = not mark.text.startswith("</")
            else:
                self._part = mark.effect
                for token in after:
                    token.part = self._part
            self._skip_space = True
            self._drop_space()
        if self._at_beginning:
            text = self._text
            beginning = text.lstrip()
            self._at_beginning = len(text) - len(beginning) <= SPACE_BEFORE_REASONING and any(
                mark.text.startswith(beginning) for mark in _UNOPENED
            )

    def _next_mark(self) -> tuple[int, _Mark] | None:
        """The first of the marks that may come, of several that begin together the longest."""
        text = self._text
        if not text:
            return None
        ends = accumulate(len(token.text) for token in self._pending)
        controls = {
            end - len(token.text)
            for token, end in zip(self._pending, ends, strict=True)
            if token.control and token.text
        }
        found = [
            (at, -len(mark.text), mark)
            for mark in self._marks()
            if (at := self._place_of(mark, text, controls)) is not None
        ]
        if not found:
            return None
        at, _, mark = min(found, key=lambda each: each[:2])
        return at, mark

    def _place_of(self, mark: _Mark, text: str, controls: set[int]) -> int | None:
        """Where a mark stands and counts for the first time, given where control tokens begin."""
        if mark.when == "at the beginning":
            at = len(text) - len(text.lstrip())
            return at if text.startswith(mark.text, at) else None
        at = text.find(mark.text)
        while at >= 0:
            begins = self._line_begins if at == 0 else text[at - 1] == "\n"
            if mark.when == "always" or at in controls or (mark.when == "line" and begins):
                return at
            at = text.find(mark.text, at + 1)
        return None

    def _drop_space(self) -> None:
        """White space that follows a mark belongs to the mark."""
        if not self._skip_space:
            return
        for token in self._pending:
            if not token.before_mark:
                token.text = token.text.lstrip()
                if token.text:
                    self._skip_space = self._is_part_of_mark(self._text)
                    return

    def _is_part_of_mark(self, text: str) -> bool:
        """Whether a text begins with a mark that counts only behind another one, or with its beginning."""
        form = self._form
        removed = () if form is None else (mark for mark, effect in form.marks.items() if effect == "removed")
        return any(mark.startswith(text) or text.startswith(mark) for mark in removed)

    def _cut(self, begin: int, end: int) -> None:
        """Remove the characters from `begin` to `end` of the pending text."""
        at = 0
        for token in self._pending:
            size = len(token.text)
            token.text = token.text[: max(0, begin - at)] + token.text[max(0, end - at) :]
            at += size

    def _open_end(self) -> int:
        """Where in the pending text something begins that may yet become a stop string or a mark."""
        if self._at_beginning:
            return 0
        text = self._text
        ends = (*self._stop, *(mark.text for mark in self._marks()))
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
        if text := "".join(piece.text for piece in pieces):
            self._line_begins = text.endswith("\n")
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
        opened: tuple[ReplyFormat, ReplyPart] | None = None,
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
            turns, self._text.reasoned_before = self._text.reasoned_before, False
            self._report(
                Tokens(
                    turn=self._turn, t_us=stamps, pieces=texts, part=part, counted=self.counted, reasoned_before=turns
                )
            )
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
            self._push(t_us, data)
        self._tokens = []

    def _push(self, t_us: int, data: bytes) -> None:
        before = self._text.reasoned_before
        pieces = self._text.push(t_us, data)
        if self._text.reasoned_before and not before:
            self._settled = [replace(piece, part="reasoning") for piece in self._settled]
        self._settled += pieces

    def _add_waiting(self) -> None:
        (text, part, t_us), self._waiting = self._waiting, _NOTHING
        if text:
            self._add_text(t_us, text, part)

    def _add_text(self, t_us: int, text: str, part: ReplyPart) -> None:
        data = text.encode("utf-8", "replace")
        if part == "answer":
            self._push(t_us, data)
        else:
            # Text that might have become the beginning of a tag does not any more.
            self._settled += [*self._text.finish(), Piece(t_us, data.decode(), part)]
