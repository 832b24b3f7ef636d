"""What real servers tell of their use.

llama-server: the one of the wheel xllamacpp 2026.10 with SmolLM2-135M, while one of two slots answered; parameters of
the request cut out. vLLM: names, labels and help as in its documentation of metrics (docs.vllm.ai, "Production
Metrics") and in the exposition of prometheus_client, with counters in the exponents that it writes from a million on.
"""

from __future__ import annotations

from tests.support.loopback_server import LoopbackServer, document

PROPS = {
    "default_generation_settings": {"params": {"seed": 4294967295}, "n_ctx": 512},
    "total_slots": 2,
    "model_alias": "/models/SmolLM2-135M-Instruct.Q4_1.gguf",
    "model_path": "/models/SmolLM2-135M-Instruct.Q4_1.gguf",
    "endpoint_slots": True,
    "endpoint_metrics": True,
    "build_info": "b6123-deadbeef",
}


def llama_metrics(ended: int, *, running: int = 0, prompts: int = 33) -> bytes:
    return f"""# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total {prompts}
# HELP llamacpp:prompt_seconds_total Total time spent processing prompts
# TYPE llamacpp:prompt_seconds_total counter
llamacpp:prompt_seconds_total 0.188881
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total {ended}
# HELP llamacpp:n_decode_total Total number of llama_decode() calls
# TYPE llamacpp:n_decode_total counter
llamacpp:n_decode_total 120
# HELP llamacpp:predicted_tokens_seconds Average generation throughput in tokens/s
# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds 105.97
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing {running}
# HELP llamacpp:requests_deferred Number of requests deferred
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 0
""".encode()


def llama_slots(generated: int | None, *, task: int = 1) -> list[dict[str, object]]:
    """Two slots, the second one busy with so many tokens; `None` for idle. The prompt is that of somebody else."""
    busy: dict[str, object] = {
        "id": 1,
        "n_ctx": 512,
        "speculative": False,
        "is_processing": generated is not None,
        "id_task": task,
        "n_prompt_tokens": 33 + (generated or 0),
        "n_prompt_tokens_processed": 33,
        "prompt": "my secret question",
        "next_token": [{"has_next_token": True, "n_remain": 27, "n_decoded": generated or 120}],
    }
    return [{"id": 0, "n_ctx": 512, "speculative": False, "is_processing": False}, busy]


VLLM_METRICS = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="unsloth/Llama-3.2-1B-Instruct"} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="unsloth/Llama-3.2-1B-Instruct"} 2.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="unsloth/Llama-3.2-1B-Instruct"} 0.25
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="unsloth/Llama-3.2-1B-Instruct"} 12345.0
# HELP vllm:prompt_tokens_created Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{engine="0",model_name="unsloth/Llama-3.2-1B-Instruct"} 1.7597400254e+09
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="unsloth/Llama-3.2-1B-Instruct"} 7.307144e+06
vllm:generation_tokens_total{engine="1",model_name="odd \\"name} 9\\""} 100.0
# HELP vllm:iteration_tokens_total Histogram of number of tokens per engine_step.
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{le="1.0",model_name="unsloth/Llama-3.2-1B-Instruct"} 3.0
vllm:iteration_tokens_total_bucket{le="+Inf",model_name="unsloth/Llama-3.2-1B-Instruct"} 3.0
"""


NOT_SUPPORTED = {"error": {"code": 501, "message": "This server does not support it.", "type": "not_supported_error"}}


def serve_usage(wire: LoopbackServer, *, metrics: bytes | None, slots: list[dict[str, object]] | None) -> None:
    off = document(NOT_SUPPORTED, "501 Not Implemented")
    wire.answers["GET /props"] = document(PROPS)
    wire.answers["GET /health"] = document({"status": "ok"})
    wire.answers["GET /metrics"] = off if metrics is None else document(metrics, media="text/plain")
    wire.answers["GET /slots"] = off if slots is None else document(slots)
