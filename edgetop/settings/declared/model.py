"""Which model, and where models lie."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgetop.settings.option import Option, joined, one_path, text

MODEL: Final = Option[str | None](
    "model",
    "model",
    "-m",
    "--model",
    default=None,
    metavar="MODEL",
    parse=text,
    help="a GGUF file, a name from `edgetop models`, or hf:owner/repo[:quant]; the last one used by default",
    about="A name alone is looked for in the working folder, the folders of --model-dir, the Hugging Face "
    "cache, llama.cpp's and LM Studio's folders and Ollama's store. hf:owner/repo[:quant] is downloaded "
    "with huggingface_hub, which the extra `hub` brings. With --server it is the name of one of the "
    "server's models.",
    example="phi3-q4.gguf",
)

MODEL_DIR: Final = Option[tuple[Path, ...]](
    "model_dir",
    "search",
    "--model-dir",
    default=(),
    metavar="DIR",
    parse=one_path,
    join=joined,
    help="look for models in this folder too; may be given several times",
    about="In the environment several folders are separated by colons, in the configuration file they are a list.",
    example="~/models",
)
