"""Engines in servers: one module per kind, loaded by `detection`.

A new kind is a module here, with its classes in `BACKENDS`, and its name in `KINDS`.
"""

from typing import Final

KINDS: Final = (
    "llama_server", "koboldcpp", "ollama", "vllm", "lm_studio", "tabby_api", "tgi", "localai", "litellm", "triton",
    "mlx_lm", "openai",
)  # fmt: skip
"""In the order in which a server is asked whether it is one of them; the last one stands for all others."""

KIND_VALUES: Final = ("auto", *(name.replace("_", "-") for name in KINDS))
"""Values of `--server-kind`."""
