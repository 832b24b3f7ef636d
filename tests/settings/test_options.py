"""Settings of the engine that become fields of EngineSettings."""

from __future__ import annotations

import pytest

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import UsageError
from edgetop.settings.option import cpu_mask, engine_choice, tensor_override
from edgetop.settings.resolve import engine_settings, left_open, resolve


def settings_of(**given: str) -> dict[str, object]:
    found = engine_settings(resolve(dict(given), environment={}))
    return {
        name: getattr(found, name) for name in ("type_k", "type_v", "flash_attention", "cpu_mask", "of_server_only")
    }


def test_what_was_chosen_is_told_by_flag_and_files_by_name() -> None:
    chosen = EngineSettings(lora=("/home/me/a.gguf", "b.gguf"), flash_attention="off", prio=0, draft_model="/x/d.gguf")
    assert chosen.flags == {
        "--flash-attn": "off", "--prio": "0", "--lora": "a.gguf,b.gguf", "--model-draft": "d.gguf",
    }  # fmt: skip
    assert EngineSettings().flags == {}


def test_one_type_of_the_cache_is_that_of_both_unless_one_is_chosen() -> None:
    assert (settings_of()["type_k"], settings_of()["type_v"]) == ("f16", "f16")
    both = settings_of(kv_type="q8_0")
    assert (both["type_k"], both["type_v"]) == ("q8_0", "q8_0")
    mixed = settings_of(kv_type="q8_0", cache_type_v="q4_0")
    assert (mixed["type_k"], mixed["type_v"]) == ("q8_0", "q4_0")
    assert {"type_k", "type_v"} <= left_open(resolve({}, environment={}))
    assert not {"type_k", "type_v"} & left_open(resolve({"cache_type_k": "q8_0"}, environment={}))


def test_what_only_llama_server_does_is_known_as_such() -> None:
    assert settings_of()["of_server_only"] == ()
    chosen = settings_of(n_cpu_moe="4", override_tensor="exps=CPU", lora="a.gguf", model_draft="d.gguf", prio="0")
    assert chosen["of_server_only"] == ("--model-draft",)
    for given, layers in (({"cpu_moe": "true", "n_cpu_moe": "4"}, 512), ({"cpu_moe": "false", "n_cpu_moe": "4"}, 4)):
        assert engine_settings(resolve(dict(given), environment={})).n_cpu_moe == layers
    assert settings_of(flash_attn="on", cpu_mask="0xF0") | {"of_server_only": ()} == {
        "type_k": "f16", "type_v": "f16", "flash_attention": "on", "cpu_mask": "f0", "of_server_only": (),
    }  # fmt: skip


@pytest.mark.parametrize("mask", ["", "0", "0x", "g", "-1"])
def test_a_mask_without_processors_is_none(mask: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        cpu_mask(mask)


def test_rules_for_tensors_name_a_buffer() -> None:
    assert tensor_override("a=CPU,b=c=CUDA0") == ("a=CPU", "b=c=CUDA0")
    for rule in ("CPU", "=CPU", "a=", "a=CPU,"):
        with pytest.raises(ValueError, match="PATTERN=BUFFER"):
            tensor_override(rule)


def test_an_engine_is_one_of_a_few() -> None:
    for name in ("auto", "installed", "portable", "llama-server", "llama-server=/x", "scripted:/a.json"):
        assert engine_choice(name) == name
    assert engine_choice("llama") == "auto"
    for name in ("", "cuda", "llama-server=", "llama-serverx"):
        with pytest.raises(ValueError, match="auto, installed, portable, llama-server"):
            engine_choice(name)
    with pytest.raises(UsageError, match="engine"):
        resolve({"engine": "cuda"}, environment={})
