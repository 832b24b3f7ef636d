"""A plan as a person writes it: a TOML file, with the names of the command line's flags."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from edgetop.bench.plan import Order
from edgetop.core.engine import KvType
from edgetop.core.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST_BYTES = 2**20
SECONDS_MOST = 86400


class Wishes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be measured, before models are looked for. Lists are varied against each other."""

    name: str = "bench"
    models: tuple[str, ...] = ()
    """As after `-m`; the last model used if there are none."""
    quant: tuple[str, ...] = ()
    """Levels to make of each model; none takes the models as they are."""
    threads: tuple[int, ...] = ()
    threads_batch: tuple[int, ...] = ()
    kv_type: tuple[KvType, ...] = ("f16",)
    gpu_layers: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    ubatch: tuple[int, ...] = ()
    n_prompt: tuple[int, ...] = (512,)
    n_gen: tuple[int, ...] = (128,)
    pairs: tuple[tuple[int, int], ...] = ()
    """Prompt and reply in one test, as with `-pg`."""
    n_depth: tuple[int, ...] = (0,)
    prompts: bool = False
    """The built-in prompts, too."""
    max_tokens: int | None = None
    """Shortens the answers to the prompts."""
    repetitions: int = 5
    order: Order = "interleaved"
    warmup: bool = True
    idle_s: float | None = None
    cool_down_limit_s: float | None = None
    quality: bool | str = False
    """True for the built-in text, or the file of another one."""
    seed: int = 0


def read_wishes(path: Path) -> Wishes:
    """The wishes in a file. Raises UsageError, naming the file and the place."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
        if len(data) > LARGEST_BYTES:
            raise UsageError(f"{path}: it is too large for a plan", "a plan has a few lines of TOML")
        return msgspec.convert(tomllib.loads(data.decode("utf-8")), Wishes)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: {error}", "a plan is written in TOML") from None
    except msgspec.ValidationError as error:
        names = ", ".join(Wishes.__struct_fields__)
        raise UsageError(f"{path}: {error}", f"a plan may say {names}") from None


def check_wishes(wishes: Wishes) -> None:
    """Refuse numbers that mean nothing. Raises UsageError."""
    positive = {
        "repetitions": (wishes.repetitions,),
        "threads": wishes.threads,
        "threads_batch": wishes.threads_batch,
        "batch": wishes.batch,
        "ubatch": wishes.ubatch,
        "max_tokens": () if wishes.max_tokens is None else (wishes.max_tokens,),
    }
    for name, values in positive.items():
        if any(value < 1 for value in values):
            raise UsageError(f"{name} must be at least 1", "see `edgetop bench --help`")
    for name, value in (("idle_s", wishes.idle_s), ("cool_down_limit_s", wishes.cool_down_limit_s)):
        if value is not None and not 0 <= value <= SECONDS_MOST:
            raise UsageError(f"{name} cannot be {value:g}", "it is a number of seconds, at most a day's")
    for name, numbers in (("gpu_layers", wishes.gpu_layers), ("seed", (wishes.seed,))):
        if any(not 0 <= number < 2**32 for number in numbers):
            raise UsageError(f"{name} must be a whole number from 0 up", "see `edgetop bench --help`")
    counts = (*wishes.n_prompt, *wishes.n_gen, *wishes.n_depth, *(count for pair in wishes.pairs for count in pair))
    if any(not 0 <= count < 2**24 for count in counts):
        raise UsageError("a number of tokens cannot be used", "it is from 0 to 16 million")
    if not (any(wishes.n_prompt) or any(wishes.n_gen) or wishes.pairs or wishes.prompts or wishes.quality):
        raise UsageError("there is nothing to measure", "give -p, -n, --pg, --prompts or --quality")
