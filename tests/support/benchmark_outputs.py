"""What other programs print of a benchmark: llama-bench as JSON, ollama as text."""

from __future__ import annotations

from typing import Any

# As llama-bench writes it, some fields left out.
TEST: dict[str, Any] = {
    "build_commit": "3469684", "build_number": 8146, "cpu_info": "Cortex-A76", "gpu_info": "", "backends": "CPU",
    "model_filename": "models/SmolLM2-135M-Instruct.Q4_K_M.gguf", "model_type": "llama ?B Q4_K - Medium",
    "model_size": 105454144, "model_n_params": 134515008, "n_batch": 2048, "n_ubatch": 512, "n_threads": 4,
    "cpu_mask": "0x0", "cpu_strict": False, "poll": 50, "type_k": "f16", "type_v": "f16", "n_gpu_layers": 99,
    "flash_attn": False, "n_depth": 0, "test_time": "2026-10-12T14:03:22Z",
}  # fmt: skip

PP: dict[str, Any] = {
    **TEST, "n_prompt": 512, "n_gen": 0, "avg_ns": 212365953, "stddev_ns": 985423, "avg_ts": 2410.97,
    "stddev_ts": 11.16, "samples_ns": [213837238], "samples_ts": [2394.34, 2419.25, 2411.36, 2422.76, 2407.16],
}  # fmt: skip

TG: dict[str, Any] = {
    **TEST, "n_prompt": 0, "n_gen": 128, "avg_ts": 119.844681, "stddev_ts": 0.699739,
    "samples_ts": [121.0, 119.4, 119.3, 120.1, 119.4],
}  # fmt: skip

OLLAMA = """\
$ ollama run llama3.2:1b --verbose
>>> hi
Hello! How can I help?

total duration:       4.648158584s
load duration:        1.504071084s
prompt eval count:    26 token(s)
prompt eval duration: 130ms
prompt eval rate:     200.00 tokens/s
eval count:           259 token(s)
eval duration:        1m4.75s
eval rate:            4.00 tokens/s
"""
