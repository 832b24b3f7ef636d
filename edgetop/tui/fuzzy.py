"""How well a few typed letters fit a text: all of them must be in it, in order."""

from __future__ import annotations

RUN, WORD_BEGIN, GAP = 3.0, 2.0, 0.1


def score(query: str, text: str) -> float | None:
    """How well every word of `query` fits `text`, the greater the better; `None` where one does not.

    A letter counts more right behind the one before it and at the beginning of a word, and each one that is skipped
    between two of them costs a little. Capitals do not matter.
    """
    total = 0.0
    lowered = text.lower()
    for word in query.lower().split():
        found = [_from(word, lowered, start) for start, letter in enumerate(lowered) if letter == word[0]]
        best = max((each for each in found if each is not None), default=None)
        if best is None:
            return None
        total += best
    return total


def _from(word: str, text: str, start: int) -> float | None:
    """The score of `word` with its first letter at `start`, each further one at the next place there is."""
    total = 0.0
    before = start - 1
    for letter in word:
        at = text.find(letter, before + 1)
        if at < 0:
            return None
        if at == before + 1 and at > start:
            total += RUN
        elif at == 0 or not text[at - 1].isalnum():
            total += WORD_BEGIN
        total -= GAP * (at - before - 1)
        before = at
    return total
