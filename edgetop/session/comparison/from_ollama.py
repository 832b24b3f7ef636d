"""What `ollama run --verbose` prints below each answer, as a result to compare.

Several blocks in one file are repetitions. The durations are Go's: `4.07ms`, `1m2.5s`.
"""

from __future__ import annotations

import re

from msgspec import Struct

from edgetop.session.codec import SessionFileError
from edgetop.session.comparison import figures
from edgetop.session.comparison.result import Made, Measured, Result

_LINE = re.compile(
    r"^\s*(?P<name>total duration|load duration|prompt eval count|prompt eval duration|prompt eval rate|eval count"
    r"|eval duration|eval rate):\s*(?P<value>[^\r\n]{1,60}?)\s*$"
)
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(h|ms|µs|μs|us|ns|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ns": 1e-9}
_MODEL = re.compile(r"\bollama run\s+(?:--?\S+\s+)*(?P<model>[\w./:-]{1,200})")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
BLOCKS_MOST = 10_000


class Block(Struct, frozen=True, kw_only=True):
    """The figures below one answer; what was not printed is `None`."""

    load_s: float | None = None
    prompt_tokens: int | None = None
    prompt_s: float | None = None
    generated_tokens: int | None = None
    decode_s: float | None = None


def looks_like_ollama(text: str) -> bool:
    """Whether the text has such a block."""
    return re.search(r"^\s*eval (?:rate|count|duration):", text, re.MULTILINE) is not None


def result_of(text: str, name: str, origin: str) -> Result:
    """The blocks of a text as one result. Raises SessionFileError, which names the line."""
    blocks = _blocks(_ESCAPES.sub("", text))
    model = _MODEL.search(text)
    # A first load takes seconds; while the model stays resident, later blocks tell only milliseconds.
    loads = [block.load_s for block in blocks if block.load_s]
    found = {
        figures.DECODE: _rate([(block.generated_tokens, block.decode_s) for block in blocks]),
        figures.PREFILL: _rate([(block.prompt_tokens, block.prompt_s) for block in blocks]),
        figures.LOAD: Measured(value=max(loads), made="single") if loads else None,
    }
    measured = {figure: each for figure, each in found.items() if each is not None}
    if not measured:
        raise SessionFileError("its durations and counts are all 0 or missing")
    lengths = [str(block.prompt_tokens) for block in blocks if block.prompt_tokens]
    return Result(
        name=name,
        origin=origin,
        kind="ollama",
        model="" if model is None else model["model"],
        engine="ollama",
        prompts=" ".join(["tokens", *dict.fromkeys(lengths)])[:100] if lengths else "",
        turns=len(blocks),
        generated_tokens=sum(block.generated_tokens or 0 for block in blocks),
        absent={each: "ollama run --verbose does not print it" for each in figures.BY_NAME if each not in measured},
        figures=measured,
    )


def _rate(parts: list[tuple[int | None, float | None]]) -> Measured | None:
    """Tokens per second over all blocks, and of each."""
    known = [(tokens, span_s) for tokens, span_s in parts if tokens and span_s]
    if not known:
        return None
    made: Made = "ratio" if len(known) > 1 else "single"
    return Measured(
        value=sum(tokens for tokens, _ in known) / sum(span_s for _, span_s in known),
        made=made,
        repetitions=tuple(tokens / span_s for tokens, span_s in known),
        weights=tuple(span_s for _, span_s in known),
    )


def _blocks(text: str) -> list[Block]:
    """Blocks in order: one ends where a name comes again."""
    blocks: list[Block] = []
    seen: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.match(line)
        if found is None:
            continue
        if found["name"] in seen:
            blocks.append(_block(seen))
            seen = {}
            if len(blocks) >= BLOCKS_MOST:
                raise SessionFileError(f"line {number}: it has more than {BLOCKS_MOST} blocks of figures")
        try:
            _check(found["name"], found["value"])
        except ValueError as error:
            raise SessionFileError(f"line {number}: {found['name']}: {error}") from None
        seen[found["name"]] = found["value"]
    return [*blocks, _block(seen)] if seen else blocks


def _check(name: str, value: str) -> None:
    if name.endswith("duration"):
        _seconds(value)
    elif name.endswith("count"):
        _count(value)


def _block(seen: dict[str, str]) -> Block:
    def span_s(name: str) -> float | None:
        return _seconds(seen[name]) if name in seen else None

    def count(name: str) -> int | None:
        return _count(seen[name]) if name in seen else None

    return Block(
        load_s=span_s("load duration"),
        prompt_tokens=count("prompt eval count"),
        prompt_s=span_s("prompt eval duration"),
        generated_tokens=count("eval count"),
        decode_s=span_s("eval duration"),
    )


def _count(text: str) -> int:
    found = re.fullmatch(r"(\d{1,12})(?: token\(s\))?", text, re.ASCII)
    if found is None:
        raise ValueError("this is not a number of tokens")
    return int(found[1])


def _seconds(text: str) -> float:
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError("this is not a duration such as 1.5s or 20ms")
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)
