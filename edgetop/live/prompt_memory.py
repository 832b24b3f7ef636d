"""Prompts that a server has seen, to tell which of their tokens it processed again, and why.

Texts are held in memory alone, some of each model's last ones. How many tokens a text has is not known here: the server
counts those of a whole prompt, and a part has its share of them by characters.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

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
