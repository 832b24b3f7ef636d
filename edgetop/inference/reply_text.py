"""From the bytes of tokens to the text of a reply.

Three things happen on the way, each of which may have to wait for the tokens that follow: characters split between
tokens are put together, stop strings end the reply, and the marks around a reasoning part are taken out. A token is
given on, with its stamp, once its text is settled.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from itertools import accumulate

from msgspec import Struct

from edgetop.core.records import Part


class ReasoningMarks(Struct, frozen=True):
    """How a family of models encloses its reasoning, at the very beginning of a reply."""

    begin: str
    end: str


REASONING_MARKS = (
    ReasoningMarks("<think>", "</think>"),
    ReasoningMarks("<thinking>", "</thinking>"),
    ReasoningMarks("<thought>", "</thought>"),
    ReasoningMarks("<reasoning>", "</reasoning>"),
    ReasoningMarks("[THINK]", "[/THINK]"),
    ReasoningMarks("<|START_THINKING|>", "<|END_THINKING|>"),
    ReasoningMarks("<seed:think>", "</seed:think>"),
    ReasoningMarks("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
)


def opened_reasoning(prompt: str) -> ReasoningMarks | None:
    """The marks whose begin ends the prompt: some templates open the reasoning part themselves."""
    end = prompt.rstrip()
    return next((marks for marks in REASONING_MARKS if end.endswith(marks.begin)), None)


class Piece(Struct, frozen=True):
    """A token whose text is settled."""

    t_us: int
    text: str
    part: Part


@dataclass
class _Pending:
    t_us: int
    text: str
    part: Part


class ReplyText:
    """The text of one reply, token by token."""

    def __init__(self, *, stop: tuple[str, ...] = (), opened: ReasoningMarks | None = None) -> None:
        self._stop = tuple(text for text in stop if text)
        self._reasoning = opened
        self._at_beginning = opened is None
        """Only white space so far: a reasoning part may still begin."""
        self._skip_space = False
        self._split = False
        """A character has begun and waits for its remaining bytes."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[_Pending] = []
        self.stopped = False
        """A stop string was met. Nothing after it is given out."""

    def push(self, t_us: int, data: bytes) -> list[Piece]:
        """Take a token in; returns the tokens that are settled now, in order."""
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
        self._take_out_marks()
        if self.stopped:
            return self._release(None)
        return self._release(self._open_end())

    def finish(self) -> list[Piece]:
        """The tokens that were still waiting. A character that the end of the reply cut off is left out."""
        return self._release(None)

    def _decode(self, data: bytes) -> str:
        # Most tokens are whole characters, and what is done here for each token is missing from the decoding.
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
    def _part(self) -> Part:
        return "reasoning" if self._reasoning is not None else "answer"

    def _take_out_marks(self) -> None:
        self._drop_space()
        if self._at_beginning and (stripped := self._text.lstrip()):
            opened = next((marks for marks in REASONING_MARKS if stripped.startswith(marks.begin)), None)
            if opened is not None:
                self._cut(0, len(self._text) - len(stripped) + len(opened.begin))
                self._enter(opened, self._pending)
            else:
                self._at_beginning = any(marks.begin.startswith(stripped) for marks in REASONING_MARKS)
        if self._reasoning is not None and (begin := self._text.find(self._reasoning.end)) >= 0:
            end = begin + len(self._reasoning.end)
            ends = accumulate(len(token.text) for token in self._pending)
            after = [token for token, token_end in zip(self._pending, ends, strict=True) if token_end > end]
            self._cut(begin, end)
            self._enter(None, after)

    def _enter(self, reasoning: ReasoningMarks | None, tokens: list[_Pending]) -> None:
        """Begin another part with those of the pending tokens that belong to it."""
        self._reasoning = reasoning
        self._at_beginning = False
        self._skip_space = True
        for token in tokens:
            token.part = self._part
        self._drop_space()

    def _drop_space(self) -> None:
        """White space that follows a mark belongs to the mark."""
        if not self._skip_space:
            return
        for token in self._pending:
            if token.part == self._part:
                token.text = token.text.lstrip()
                if token.text:
                    self._skip_space = False
                    return

    def _cut(self, begin: int, end: int) -> None:
        """Take the characters from `begin` to `end` out of the pending text."""
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
        marks = (*self._stop, self._reasoning.end) if self._reasoning is not None else self._stop
        longest = max((len(mark) for mark in marks), default=1)
        for begin in range(max(0, len(text) - longest + 1), len(text)):
            if any(mark.startswith(text[begin:]) for mark in marks):
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
