"""What a GGUF file is for, decided from its header, and the words for one that cannot be used.

Names of architectures and keys are llama.cpp's (llama-arch.cpp, gguf-py/gguf/constants.py of llama.cpp 0c1e57098);
those of image models are what stable-diffusion.cpp and ComfyUI-GGUF write.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufHeader
from edgetop.core.text import one_line

PurposeName = Literal[
    "text", "embedding", "reranker", "encoder", "rewriting", "diffusion", "image", "speech", "draft", "projector",
    "adapter", "control vector", "imatrix", "vocabulary", "unknown",
]  # fmt: skip


class Purpose(NamedTuple):
    """What a file is for."""

    name: PurposeName
    words: str
    """With an article, to follow "it is"."""
    hint: str
    """What to do with it."""


_OTHER = "choose a model made for text generation or chat"

PURPOSES: Final[dict[PurposeName, Purpose]] = {
    each.name: each
    for each in (
        Purpose("text", "a model that generates text", ""),
        Purpose("embedding", "an embedding model: it turns text into vectors for searching", _OTHER),
        Purpose("reranker", "a reranker: it scores how well texts answer a question", _OTHER),
        Purpose("encoder", "a text encoder, of use to image generators", _OTHER),
        Purpose("rewriting", "an encoder-decoder model (T5): it rewrites a whole text and does not chat", _OTHER),
        Purpose(
            "diffusion", "a diffusion language model: it does not write token by token",
            "llama.cpp's llama-diffusion-cli runs it",
        ),
        Purpose("image", "a model that makes pictures or video", "stable-diffusion.cpp or ComfyUI run it"),
        Purpose("speech", "a speech model: it makes sound, not text", "llama.cpp's llama-tts runs some of them"),
        Purpose(
            "draft", "a draft model: it proposes tokens to the model it was made for",
            "name that model with -m, and this file with --model-draft and --engine llama-server",
        ),
        Purpose(
            "projector", "the vision or audio part of another model (mmproj)",
            "name the model that it belongs to, which generates text without it as well",
        ),
        Purpose(
            "adapter", "a LoRA adapter: it changes the model that it was made for",
            "name that model with -m, and this file with --lora and --engine llama-server",
        ),
        Purpose("control vector", "a control vector: it steers the model that it was made for", "name that model"),
        Purpose("imatrix", "an importance matrix, for making quantizations", "name the model that it was made from"),
        Purpose("unknown", "a file that does not say which model it is", _OTHER),
        Purpose("vocabulary", "a vocabulary without weights", "name a file that has the weights as well"),
    )
}  # fmt: skip

_NAMES: Final[dict[PurposeName, str]] = {
    "embedding": """bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 modern-bert neo-bert eurobert
        gemma-embedding llama-embed""",
    "encoder": "t5encoder",
    "rewriting": "t5",
    "diffusion": "dream llada llada-moe rnd1",
    "image": "flux sd1 sd2 sdxl sd3 aura hidream cosmos ltxv hyvid wan lumina2 qwen_image chroma",
    "speech": "wavtokenizer-dec pockettts whisper",
    "draft": "eagle3 dflash gemma4-assistant",
    "projector": "clip",
    "control vector": "controlvector",
    "imatrix": "imatrix",
}
_OF_ARCHITECTURE: Final = {name: purpose for purpose, names in _NAMES.items() for name in names.split()}

_OF_TYPE: Final[dict[str, PurposeName]] = {"adapter": "adapter", "mmproj": "projector", "imatrix": "imatrix"}
"""By `general.type`."""

_OF_PICTURES = (
    "model.diffusion_model.",
    "first_stage_model.",
    "double_blocks.",
    "joint_blocks.",
    "transformer_blocks.",
)
"""How tensors are named in files of stable-diffusion.cpp, which need not say an architecture."""

_RANK = 4
"""LLAMA_POOLING_TYPE_RANK."""


def purpose_of(header: GgufHeader) -> Purpose:
    """What a file is for; of a split model by its first file, or by the headers of all files as one."""
    name = header.architecture
    decided = _OF_TYPE.get(header.text("general.type")) or _OF_ARCHITECTURE.get(name)
    if decided is None or decided == "embedding":
        pooling = header.whole(f"{name}.pooling_type") or 0
        ranks = pooling == _RANK or any(tensor.name in {"cls.output.weight", "cls.weight"} for tensor in header.tensors)
        if ranks:
            decided = "reranker"
        elif pooling > 0 or header.metadata.get(f"{name}.attention.causal") is False:
            decided = "embedding"
    if decided is None and header.split_count == 1:
        if not name:
            drawn = any(tensor.name.startswith(_OF_PICTURES) for tensor in header.tensors)
            decided = "image" if drawn else "unknown"
        elif not header.tensors:
            decided = "vocabulary"
    return PURPOSES[decided or "text"]


def require_text(shown: str, purpose: Purpose) -> None:
    """Raise ModelError for a file that is not for generating text; `shown` is its name."""
    if purpose.name != "text":
        what = f"{one_line(shown)} does not generate text; it is {purpose.words}"
        raise ModelError(what, purpose.hint, reason="unsupported")


_HINTS = (
    ("Git LFS", "run `git lfs pull` in its folder"),
    ("web page", "check the address, and download it again"),
    ("truncated", "the file is cut off; download it again"),
    ("empty", "download it again"),
    ("does not know the architecture", "look for a newer edgetop, or choose another model"),
    ("is not supported", "look for a newer edgetop, or download the model again"),
    ("big endian", "convert it with llama.cpp's gguf_convert_endian.py"),
    ("before GGUF", "download a GGUF of the model"),
    ("not a GGUF file", "name a file in GGUF format"),
)

_WHAT_MAX = 200
"""A key of the file may be in it, and as long as 65,535 bytes."""

_HINT = "download it again, or choose another model"


def refused(shown: str, error: GgufError) -> ModelError:
    """The error for a person, of a file that is `shown` as they named it."""
    hint = next((hint for word, hint in _HINTS if word in error.reason), _HINT)
    what = one_line(error.reason.partition("; ")[0][:_WHAT_MAX])
    return ModelError(f"{one_line(shown)} cannot be read: {what} (at byte {error.offset})", hint, reason="not_a_model")


def check_part(shown: str, header: GgufHeader, part: int, count: int) -> None:
    """Raise ModelError unless a header says that its file is the wanted part, from 1, of a split model."""
    number = (header.whole("split.no") or 0) + 1
    if (number, header.split_count) != (part, count):
        raise ModelError(
            f"{one_line(shown)} says that it is part {number} of {header.split_count}, not {part} of {count}",
            "the parts have been mixed up; download the model again",
        )
