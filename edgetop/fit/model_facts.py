"""What is known of a model from the headers of its files alone."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufHeader, Tensor, Value
from edgetop.core.text import one_line
from edgetop.fit.loadable import check_loadable
from edgetop.fit.weight_use import shape_of, uses_of

_TEXT_MAX = 200
"""Of a name or a license, in characters; a file may hold any number."""


class ModelFacts(Struct, frozen=True, kw_only=True):
    """A model of one or several GGUF files. Counts are of weights, sizes in bytes."""

    name: str
    source: str
    """As it was given: a path, https://..., hf:..."""
    files: tuple[str, ...]
    """Paths or addresses of all files, the first one first."""
    size_bytes: int
    """All files together."""
    architecture: str
    file_type: str
    """llama.cpp's label of the quantization, such as `Q4_K_M`; it hides mixes."""
    bits_per_weight: float | None
    """Bits really used per weight; `None` for a file without weights."""
    bytes_by_type: dict[str, int]
    """Bytes of weights by tensor type (`q4_K`, `f32`, ...), most bytes first."""
    parameters: int
    active_parameters: int
    """Without the experts, the layers of multi-token prediction and the per-layer embeddings that a token passes by."""
    tensor_bytes: int
    not_loaded_bytes: int
    """Of these, layers of multi-token prediction, which llama.cpp leaves in the file unless asked for them."""
    n_layer: int | None
    n_embd: int | None
    n_vocab: int | None
    n_ctx_train: int | None
    n_expert: int
    """Experts per layer; 0 for a dense model."""
    n_expert_used: int
    has_template: bool
    """Whether the file brings a chat template."""
    template_bytes: int
    license: str
    """As the file states it; empty if it does not."""
    is_projector: bool
    """The vision or audio part of another model, of no use by itself."""
    weight_bytes_per_token: int
    """Bytes of weights read to decode one token, at batch 1: each weight once, of the experts the used share, of a
    table that is only looked up one row."""
    compute_parameters: int
    """Weights that one token is multiplied with, which is half the floating-point operations per token."""
    metadata: dict[str, Value]
    """Of all files, the first one first."""
    tensors: tuple[Tensor, ...]
    """Of all files."""

    @property
    def header(self) -> GgufHeader:
        """Metadata and tensors of all files as one header, for the questions that it answers by name."""
        return GgufHeader(3, self.metadata, self.tensors, 0)


def facts_of(
    headers: Sequence[GgufHeader], *, source: str, sizes_bytes: Sequence[int], files: Sequence[str] = ()
) -> ModelFacts:
    """Put the facts of a model together from the headers of its files, the first one first.

    `sizes_bytes` are the sizes of the files and `files` their paths or addresses, `source` if they are not given.
    Raises ModelError where the files contradict each other, and GgufError for what llama.cpp cannot load.
    """
    whole = _joined(headers)
    check_loadable(whole)
    shape = shape_of(whole)
    uses = list(zip(whole.tensors, uses_of(whole.tensors, shape), strict=True))
    by_type = whole.bytes_by_type
    template = whole.chat_template
    name = whole.name or source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    return ModelFacts(
        name=one_line(name[:_TEXT_MAX]),
        source=source,
        files=tuple(files) or (source,),
        size_bytes=sum(sizes_bytes),
        architecture=whole.architecture,
        file_type=whole.file_type,
        bits_per_weight=whole.bits_per_weight,
        bytes_by_type={kind: by_type[kind] for kind in sorted(by_type, key=lambda kind: -by_type[kind])},
        parameters=whole.parameters,
        active_parameters=sum(
            tensor.elements if use.use == "looked up" else round(tensor.elements * use.share)
            for tensor, use in uses
            if tensor.name != "per_layer_token_embd.weight"
        ),
        tensor_bytes=whole.tensor_bytes,
        not_loaded_bytes=sum(tensor.size_bytes for tensor, use in uses if use.use == "not loaded"),
        n_layer=whole.n_layer,
        n_embd=whole.n_embd,
        n_vocab=_vocabulary(whole),
        n_ctx_train=whole.n_ctx_train or None,
        n_expert=shape.n_expert,
        n_expert_used=max(shape.n_expert_used, default=0),
        has_template=bool(template),
        template_bytes=len(template.encode("utf-8", "replace")),
        license=one_line(whole.license[:_TEXT_MAX]),
        is_projector=whole.is_projector,
        weight_bytes_per_token=sum(round(tensor.size_bytes * use.share) for tensor, use in uses),
        compute_parameters=sum(round(tensor.elements * use.share) for tensor, use in uses if use.use == "multiplied"),
        metadata=whole.metadata,
        tensors=whole.tensors,
    )


def _joined(headers: Sequence[GgufHeader]) -> GgufHeader:
    """The headers of all files as one; the first one's metadata win."""
    if not headers:
        raise ModelError("no file of the model was read", "name its GGUF file")
    first, *others = headers
    metadata = dict(first.metadata)
    names = {tensor.name for tensor in first.tensors}
    for header in others:
        metadata = header.metadata | metadata
        twice = names.intersection(tensor.name for tensor in header.tensors)
        if twice:
            raise ModelError(
                f"two files of the split model have the tensor {one_line(min(twice))}", "download the model again"
            )
        names.update(tensor.name for tensor in header.tensors)
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    return GgufHeader(first.version, metadata, tensors, first.data_offset, first.key_offsets)


def _vocabulary(header: GgufHeader) -> int | None:
    """Tokens in the vocabulary, or rows of the token embedding where the file has no vocabulary of its own."""
    n_vocab = header.n_vocab
    if n_vocab is not None and n_vocab > 0:
        return n_vocab
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
            return tensor.shape[1]
    return None
