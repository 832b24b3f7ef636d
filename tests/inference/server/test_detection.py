"""The kinds of servers, and which of them is found at an address."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgetop.inference.server import KIND_VALUES, KINDS
from edgetop.inference.server.address import Address, ServerChoice
from edgetop.inference.server.backend import backends, detect, probe, server_programs
from edgetop.inference.server.connection import ServerClient
from edgetop.settings import options
from tests.support.loopback_server import LoopbackServer, document
from tests.support.server_replies import as_llama_server, as_lm_studio, as_ollama, as_vllm


def client_of(wire: LoopbackServer) -> ServerClient:
    return ServerClient(Address.parse(wire.url), idle_s=60, stopped=lambda: False)


@pytest.mark.parametrize(
    ("play", "kind"),
    [(as_llama_server, "llama-server"), (as_ollama, "ollama"), (as_vllm, "vllm"), (as_lm_studio, "lm-studio")],
)
def test_each_kind_is_recognized(play: Callable[[LoopbackServer], None], kind: str, wire: LoopbackServer) -> None:
    play(wire)
    assert detect(client_of(wire)).kind == kind


def test_sglang_is_told_from_vllm_by_the_owner_of_its_models(wire: LoopbackServer) -> None:
    wire.answers["GET /v1/models"] = document({"data": [{"id": "m", "owned_by": "sglang", "max_model_len": 8192}]})
    found = probe(ServerChoice(url=wire.url))
    assert (found.kind, found.problem, [offer.name for offer in found.offers]) == ("SGLang", "", ["m"])


def test_any_other_server_has_the_openai_api(wire: LoopbackServer) -> None:
    wire.answers["GET /v1/models"] = document({"data": [{"id": "m"}]})
    assert detect(client_of(wire)).kind == "openai"


def test_of_a_named_kind_the_kinds_that_build_on_it_are_considered(wire: LoopbackServer) -> None:
    as_vllm(wire)
    assert detect(client_of(wire), "openai").kind == "vllm"
    assert not {"GET /props", "GET /api/version"} & set(wire.asked)
    assert detect(client_of(wire), "vllm").kind == "vllm"
    assert detect(client_of(wire), "llama-server").kind == "llama-server", "as it was named, whatever answers"


def test_open_webui_is_no_ollama(wire: LoopbackServer) -> None:
    wire.answers["GET /api/version"] = document({"version": "0.6.36", "deployment_id": ""})
    wire.answers["GET /api/ps"] = document(b"<!doctype html><title>Open WebUI</title>", media="text/html")
    assert detect(client_of(wire)).kind == "openai"


def test_the_option_has_a_value_for_each_kind() -> None:
    assert KIND_VALUES == (
        "auto", "llama-server", "koboldcpp", "ollama", "vllm", "lm-studio", "tabby-api", "tgi", "localai", "litellm",
        "triton", "mlx-lm", "openai",
    )  # fmt: skip
    for name in KINDS:
        assert options.SERVER_KIND.parse(name.replace("_", "-"))
    kinds = [backend.kind for backend in backends()]
    assert len(set(kinds)) == len(kinds)
    assert kinds[-1] == "openai", "it matches everything"


def test_every_server_program_has_one_default_port() -> None:
    ports = {program.name: program.port for program in server_programs()}
    assert ports["llama-server"] == ports["llamafile"] == 8080
    assert ports["ollama"] == 11434
    assert ports["ollama runner"] is None, "it works for Ollama and is not contacted"


def test_what_a_kind_can_do_is_known_from_a_probe(wire: LoopbackServer) -> None:
    as_ollama(wire)
    ollama = probe(ServerChoice(url=wire.url)).backend
    assert (ollama.has_token_tests, ollama.has_depth_tests) == (True, False)
    assert ollama.request_settings == ("threads", "gpu_layers", "batch")
