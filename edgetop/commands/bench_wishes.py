"""What the command line asks of a benchmark, over what a plan's file says."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.answers import Ownership
from edgetop.bench.plan_file import Wishes, check_wishes, read_wishes
from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.option import integer, real, token_count

STUDY_LEVELS = ("F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0", "Q2_K")
T = TypeVar("T")


class Presentation(Struct, frozen=True, kw_only=True):
    """How the results are to be shown."""

    form: str
    """One of `edgetop.bench.output.FORMATS`."""
    ownership: Ownership | None
    report: Path | None


def presentation_of(arguments: argparse.Namespace) -> Presentation:
    """How the results are to be shown; read before hours are spent on them. Raises UsageError."""
    price = parsed_one("--device-price", arguments.device_price, real(0, 1e9))
    years = parsed_one("--device-years", arguments.device_years, real(0.01, 100))
    if years is not None and price is None:
        raise UsageError("--device-years says nothing without --device-price", "give both, or none")
    ownership = None
    if price is not None:
        ownership = Ownership(device_price=price) if years is None else Ownership(device_price=price, life_years=years)
    report = None if arguments.report is None else Path(arguments.report).expanduser()
    if report is not None and not report.absolute().parent.is_dir():
        raise UsageError(f"{report}: there is no such folder", "name a file in a folder that exists with --report")
    return Presentation(form=arguments.output_format, ownership=ownership, report=report)


def wishes_of(arguments: argparse.Namespace) -> Wishes:
    """What is to be measured. Raises UsageError."""
    wishes = Wishes() if arguments.plan is None else read_wishes(Path(arguments.plan).expanduser())
    if arguments.study:
        wishes = _study(wishes)
    threads = integer(1, options.THREADS_MAX)
    given: dict[str, object] = {
        "models": tuple(arguments.models) or None,
        "quant": _several("--quant", arguments.quant, str.upper),
        "threads": _several("--threads", arguments.threads, threads),
        "threads_batch": _several("--threads-batch", arguments.threads_batch, threads),
        "kv_type": _several("--kv-type", arguments.kv_type, _kv_type),
        "gpu_layers": _several("--gpu-layers", arguments.gpu_layers, integer(0, 10_000)),
        "batch": _several("--batch", arguments.batch, token_count),
        "ubatch": _several("--ubatch", arguments.ubatch, token_count),
        "n_prompt": _several("-p", arguments.n_prompt, _count),
        "n_gen": _several("-n", arguments.n_gen, _count),
        "n_depth": _several("-d", arguments.n_depth, _count),
        "pairs": tuple(_pair(text) for text in arguments.pairs) or None,
        "repetitions": parsed_one("-r", arguments.repetitions, integer(1, 10_000)),
        "max_tokens": parsed_one("--max-tokens", arguments.max_tokens, integer(1, 2**20)),
        "idle_s": parsed_one("--idle", arguments.idle, real(0, 3600)),
        "cool_down_limit_s": parsed_one("--cool-down-limit", arguments.cool_down_limit, real(0, 86400)),
        "seed": parsed_one("--seed", arguments.seed, integer(0, 2**32 - 1)),
        "prompts": True if arguments.prompts else None,
        "quality": arguments.quality,
        "order": arguments.order,
        "warmup": False if arguments.no_warmup else None,
    }
    wishes = replace(wishes, **{name: value for name, value in given.items() if value is not None})
    check_wishes(wishes)
    return wishes


def parsed_one(flag: str, given: str | None, parse: Callable[[str], T]) -> T | None:
    """The value after a flag; `None` if it was not given. Raises UsageError."""
    return None if given is None else _parsed(flag, given, parse)


def _study(wishes: Wishes) -> Wishes:
    """The whole study: six levels, one thread and all, the usual tests, real prompts and quality."""
    from edgetop.inference.threads import decode_threads  # noqa: PLC0415 - reads the machine

    threads = decode_threads()
    return replace(
        wishes,
        name="study" if wishes.name == "bench" else wishes.name,
        quant=wishes.quant or STUDY_LEVELS,
        threads=wishes.threads or tuple(sorted({1, max(1, threads // 2), threads})),
        prompts=True,
        quality=wishes.quality or True,
    )


def _several(flag: str, given: Sequence[str], parse: Callable[[str], T]) -> tuple[T, ...] | None:
    """Values after a flag that may be given several times, each with commas; `None` if it was not given."""
    values = [_parsed(flag, word, parse) for text in given for word in text.split(",")]
    return tuple(dict.fromkeys(values)) or None


def _parsed(flag: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text.strip())
    except ValueError as error:
        raise UsageError(f"{flag}: {text!r} cannot be used", f"expected is {error}") from None


def _count(text: str) -> int:
    """A number of tokens, 0 for none."""
    return 0 if text == "0" else token_count(text)


def _kv_type(text: str) -> str:
    if text not in options.KV_TYPES:
        raise ValueError(f"one of {', '.join(options.KV_TYPES)}")
    return text


def _pair(text: str) -> tuple[int, int]:
    n_prompt, comma, n_gen = text.partition(",")
    if not comma:
        raise UsageError(f"--pg: {text!r} cannot be used", "expected are two numbers, such as 512,128")
    return _parsed("--pg", n_prompt, token_count), _parsed("--pg", n_gen, token_count)
