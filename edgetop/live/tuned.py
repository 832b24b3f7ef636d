"""Tuned defaults per model and machine.

They stand where a person has left a setting open: whatever a flag, the environment or the configuration file says wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from edgetop.core.engine_choices import FlashAttention, KvType
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import EdgetopError, ModelError
from edgetop.io.json import load_kept, save_kept
from edgetop.io.model_file import content_key

FILE_NAME = "tuned.json"
TUNED_MAX = 500
"""Models of one user's machines; the newest stay."""

Goal = Literal["speed", "energy"]
Count = Annotated[int, Meta(ge=1, le=2**20)]
Words = Annotated[str, Meta(max_length=1000)]


class TunedError(EdgetopError):
    """The file of defaults cannot be read or written."""


class TunedModel(Struct, frozen=True, kw_only=True):
    """The defaults of one model on one machine in one power mode."""

    model: Words
    """`inference.quantization.content_key` of the file."""
    machine: Words
    """`fit.machine_profile.machine_key`."""
    label: Words
    size_bytes: int
    """Of the file: one of another size need not be read to know that it is another model."""
    goal: Goal
    tuned_at: Words
    """Wall clock, ISO 8601 in UTC."""
    n_threads: Count
    n_threads_batch: Count
    n_ubatch: Count | None = None
    """`None` where nothing was to be chosen from."""
    kv_type: KvType = "f16"
    flash_attn: FlashAttention = "auto"
    cpu_mask: Words | None = None
    """The cores that compute, where others would be in the way."""

    @property
    def words(self) -> str:
        """The settings, for a person."""
        threads = f"{self.n_threads} thread{'' if self.n_threads == 1 else 's'}"
        if self.n_threads_batch != self.n_threads:
            threads += f" ({self.n_threads_batch} for prefill)"
        ubatch = "" if self.n_ubatch is None else f", ubatch {self.n_ubatch}"
        mask = "" if self.cpu_mask is None else f" on cores {self.cpu_mask}"
        attention = "" if self.flash_attn == "auto" else f", flash attention {self.flash_attn}"
        return f"{threads}{mask}{ubatch}, KV cache {self.kv_type}{attention}; tuned for {self.goal}"


class _TunedFile(Struct, frozen=True, kw_only=True):
    format: Literal["edgetop-tuned"] = "edgetop-tuned"
    version: Literal[1] = 1
    models: tuple[TunedModel, ...] = ()


def tuned_file(sessions: Path) -> Path:
    """Where the defaults of this user's models are kept: beside the folder of the sessions."""
    return sessions.parent / FILE_NAME


def load_tuned(file: Path) -> tuple[TunedModel, ...]:
    """All defaults in a file, none where there is no file. Raises TunedError."""
    kept = load_kept(file, _TunedFile, TunedError, f"remove {file}, and tune again")
    return () if kept is None else kept.models


def save_tuned(file: Path, tuned: TunedModel) -> None:
    """Put defaults in the place of those of the same model and machine, all of it or nothing. Raises TunedError."""
    others = (each for each in load_tuned(file) if (each.model, each.machine) != (tuned.model, tuned.machine))
    newest = sorted([*others, tuned], key=lambda each: each.tuned_at)[-TUNED_MAX:]
    save_kept(file, _TunedFile(models=tuple(newest)), TunedError)


def remove_tuned(file: Path, model: str, machine: str) -> bool:
    """Forget the defaults of a model on a machine; false if there are none. Raises TunedError."""
    known = load_tuned(file)
    left = [each for each in known if (each.model, each.machine) != (model, machine)]
    if len(left) == len(known):
        return False
    save_kept(file, _TunedFile(models=tuple(left)), TunedError)
    return True


def tuned_for(path: Path, machine: str, file: Path) -> TunedModel | None:
    """The defaults of the model at `path`, a GGUF file; `None` if it was not tuned here. Raises TunedError."""
    here = [each for each in load_tuned(file) if each.machine == machine]
    try:
        size_bytes = path.stat().st_size if here else -1
        if all(each.size_bytes != size_bytes for each in here):
            return None
        key = content_key(path)
    except (OSError, ModelError):
        return None
    return next((each for each in here if each.model == key), None)


def with_tuned(engine: EngineSettings, left_open: Iterable[str], tuned: TunedModel) -> EngineSettings:
    """Settings with the defaults of a model for those that were left open (`settings.engine.left_open`).

    What was found together goes together: the threads of prefill only with those of decoding, and the size of the
    pieces that prefill is done in only where no other limit on them was given.
    """
    is_open = frozenset(left_open)
    if "n_threads" in is_open:
        engine = replace(engine, n_threads=tuned.n_threads)
        if "cpu_mask" in is_open:
            engine = replace(engine, cpu_mask=tuned.cpu_mask)
        if "n_threads_batch" in is_open:
            engine = replace(engine, n_threads_batch=tuned.n_threads_batch)
    if {"n_batch", "n_ubatch"} <= is_open:
        engine = replace(engine, n_ubatch=tuned.n_ubatch)
    if {"type_k", "type_v"} <= is_open:
        engine = replace(engine, type_k=tuned.kv_type, type_v=tuned.kv_type)
        if "flash_attention" in is_open:
            engine = replace(engine, flash_attention=tuned.flash_attn)
    return engine
