"""Own runs of the example model on the example machine."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from edgetop.core.records import PastRun
from edgetop.fit.model_facts import ModelFacts

KEY = "this machine"


def run_of_model(facts: ModelFacts, **changes: Any) -> PastRun:
    run = PastRun(
        session="2026-05-01 morning",
        measured_at="2026-05-01T08:00:00+00:00",
        machine_key=KEY,
        model_name=facts.name,
        architecture=facts.architecture,
        parameters=facts.parameters,
        size_bytes=facts.tensor_bytes,
        file_type=facts.file_type,
        weight_bytes_per_token=facts.weight_bytes_per_token,
        threads=4,
        depth_tokens=100,
        decode_tokens=200,
        decode_tokens_per_s=2.0,
        prefill_tokens=100,
        prefill_tokens_per_s=20.0,
    )
    return replace(run, **changes)
