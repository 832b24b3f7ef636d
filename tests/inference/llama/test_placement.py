"""Where tensors lie, adapters, the priority of threads: what llama.cpp can be told beyond its parameters."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import ModelLoaded
from edgetop.inference.llama.library import import_library
from edgetop.inference.llama.model import LoadError, TensorOverride, buffers, model_parameters, set_priority
from edgetop.inference.protocol import LoadFailed
from tests.support.engine_worker import EngineWorker

SETTINGS = EngineSettings(n_ctx=256, n_threads=1)


@pytest.mark.parametrize(
    ("override", "patterns"),
    [
        ({"override_tensor": (r"ffn_.*=CPU", "a=b=CPU")}, [b"ffn_.*", b"a=b"]),
        ({"n_cpu_moe": 2}, [rb"blk\.(0|1)\.ffn_(up|down|gate|gate_up)_(ch|)exps"]),
        ({"n_cpu_moe": 512}, [rb"\.ffn_(up|down|gate|gate_up)_(ch|)exps"]),
    ],
)
def test_tensors_go_where_a_pattern_says(
    override: dict[str, Any], patterns: list[bytes], small_model: Path, start: Callable[..., EngineWorker]
) -> None:
    library = import_library()
    library.llama_backend_init()
    address = model_parameters(library, replace(SETTINGS, **override)).tensor_buft_overrides
    given = (TensorOverride * (len(patterns) + 1)).from_address(address)
    assert [each.pattern for each in given] == [*patterns, None]
    assert {each.buffer for each in given} == {buffers(library)["CPU"], None}
    talk = start()
    loaded = talk.load(small_model, replace(SETTINGS, **override))
    assert isinstance(loaded, ModelLoaded)
    assert {name: getattr(loaded.settings, name) for name in override} == override
    assert talk.ask("Hi", temperature=0, max_tokens=3).generated_tokens == 3


def test_a_buffer_that_is_none_is_said_with_the_others(small_model: Path, start: Callable[..., EngineWorker]) -> None:
    failed = start().load(small_model, EngineSettings(override_tensor=("ffn=CUDA7",)))
    assert isinstance(failed, LoadFailed)
    assert failed.message.startswith("--override-tensor: there is no buffer CUDA7; there are CPU")


def adapter(path: Path, *, architecture: str = "llama") -> Path:
    """An adapter for the query weights of the small model's first layer."""
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 64.0)
    for name, shape in (("lora_a", (4, 576)), ("lora_b", (576, 4))):
        writer.add_tensor(f"blk.0.attn_q.weight.{name}", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_adapter_changes_what_the_model_says(
    small_model: Path, tmp_path: Path, start: Callable[..., EngineWorker]
) -> None:
    talk = start()
    said = []
    for lora in ((), (str(adapter(tmp_path / "a.gguf")),)):
        loaded = talk.load(small_model, replace(SETTINGS, lora=lora))
        assert isinstance(loaded, ModelLoaded), loaded
        assert loaded.settings.lora == lora
        talk.ask("What is a river?", temperature=0, max_tokens=12)
        said.append("".join(piece for tokens in talk.tokens for piece in tokens.pieces))
    assert said[0] != said[1]


@pytest.mark.parametrize("fault", ["missing", "of another model"])
def test_an_adapter_that_cannot_be_applied_is_said(
    fault: str, small_model: Path, tmp_path: Path, start: Callable[..., EngineWorker]
) -> None:
    file = tmp_path / "a.gguf"
    if fault != "missing":
        adapter(file, architecture="mamba")
    talk = start()
    failed = talk.load(small_model, replace(SETTINGS, lora=(str(file),)))
    assert isinstance(failed, LoadFailed)
    assert failed.message == f"{file} is no adapter of this model, or cannot be read."
    assert isinstance(talk.load(small_model, SETTINGS), ModelLoaded)


def test_priorities_are_llama_cpp_s(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(os, "setpriority", lambda which, who, niceness: given.append(niceness))
    for prio in (None, -1, 0, 1, 2, 3):
        set_priority(prio)
    assert given == [5, 0, -5, -10, -20]

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "setpriority", refuse)
    with pytest.raises(LoadError, match=r"--prio 2 is not allowed: Permission denied\."):
        set_priority(2)
