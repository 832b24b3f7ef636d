"""The text of a reply as it arrives from a server, on its way to the screen.

The stamp of a token is when the text that holds it arrived. Of a chunk that holds several tokens the first one has the
text and all have the same stamp; where the server does not say how many a chunk holds, the chunk stands for itself.
"""

from __future__ import annotations

from itertools import groupby

from edgetop.core.records import Part, Tokens
from edgetop.inference.engine import Reporter
from edgetop.inference.reply_text import Piece, ReplyText

TOKENS_IN_CHUNK_MAX = 4096
"""More tokens than this in one chunk can only be a mistake of the server."""

_NOTHING: tuple[str, Part, int] = ("", "answer", 0)


class ArrivingReply:
    """Collects the chunks of one turn and reports them as `Tokens`."""

    def __init__(self, turn: int, report: Reporter, *, goes_on: bool = False) -> None:
        """`goes_on` says that it is the continuation of an answer, in which no reasoning part begins."""
        self._turn = turn
        self._report = report
        self._text = None if goes_on else ReplyText()
        """Takes out the marks of a reasoning part that the server left in the answer."""
        self._pieces: list[Piece] = []
        self._waiting = _NOTHING
        self.chunks = 0
        """Chunks with text that have come."""
        self.tokens = 0
        """Tokens that they held, as far as the server said so."""
        self.counted = True
        """The server has said of each chunk how many tokens it holds."""

    def add(self, t_us: int, text: str, part: Part, *, generated: int | None) -> None:
        """Take a chunk in. `generated` is how many tokens the server has generated in all, if it says so."""
        self.chunks += 1
        if generated is None:
            self.counted = False
        held = 1 if generated is None else min(max(generated - self.tokens, 0), TOKENS_IN_CHUNK_MAX)
        self.tokens += held
        if self._waiting[1] != part:
            self._give_waiting()
        # A token's text may come in two chunks: what comes without a token of its own goes with the next one.
        text = self._waiting[0] + text
        self._waiting = (text, part, t_us) if held == 0 else _NOTHING
        for number in range(held):
            self._give(t_us, text if number == 0 else "", part)

    def finish(self) -> None:
        """Report everything: the reply has ended."""
        self._give_waiting()
        self._settle()
        self.flush()

    def _give_waiting(self) -> None:
        (text, part, t_us), self._waiting = self._waiting, _NOTHING
        if text:
            self._give(t_us, text, part)

    def _give(self, t_us: int, text: str, part: Part) -> None:
        encoded = text.encode("utf-8", "replace")
        if part == "answer" and self._text is not None:
            self._pieces += self._text.push(t_us, encoded)
        else:
            self._settle()
            self._pieces.append(Piece(t_us, encoded.decode(), part))

    def _settle(self) -> None:
        """Let go of text that may yet have become the beginning of a mark."""
        if self._text is not None:
            self._pieces += self._text.finish()

    def flush(self) -> None:
        """Report what is settled now."""
        pieces, self._pieces = self._pieces, []
        for part, group in groupby(pieces, key=lambda piece: piece.part):
            run = list(group)
            stamps = tuple(piece.t_us for piece in run)
            self._report(
                Tokens(
                    turn=self._turn,
                    t_us=stamps,
                    pieces=tuple(piece.text for piece in run),
                    part=part,
                    counted=self.counted,
                )
            )
