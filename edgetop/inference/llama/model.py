"""A loaded model with its context."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine import EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.inference.engine import Stop
from edgetop.inference.llama.context import Context
from edgetop.inference.llama.library import Handle, Library
from edgetop.inference.llama.library_log import (
    LibraryLog,
    Line,
    errors,
    memory_breakdown,
    offloaded_layers,
    to_reports,
)
from edgetop.inference.llama.load_errors import LoadFailure, explain
from edgetop.inference.llama.parameters import context_parameters, model_parameters
from edgetop.inference.llama.rpc import RpcError, RpcServers, layer_shares
from edgetop.inference.llama.vocabulary import Vocabulary
from edgetop.inference.protocol import Load, LoadFailed, Log

_VALUE_BYTES = 4096
_DIGEST = re.compile(r"sha256-[0-9a-f]{64}")
_QUANTIZATION = re.compile(r"[-._](?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP\d\w*|B?F16|F32|FP16|FP32)$", re.IGNORECASE)


class LoadError(Exception):
    """A load that ended without a model."""

    def __init__(self, failed: LoadFailed, logs: tuple[Log, ...] = ()) -> None:
        super().__init__(failed.message)
        self.failed = failed
        self.logs = logs
        """What the library said on the way."""


class LoadedModel(Struct, frozen=True, kw_only=True):
    """What is resident now."""

    handle: Handle
    context: Context
    vocabulary: Vocabulary
    info: ModelInfo
    """Without the chat template's fields."""
    settings: EngineSettings
    """With what was chosen where the wish left it open."""
    memory: MemoryBreakdown
    logs: tuple[Log, ...]

    def template(self, library: Library, name: str | None = None) -> str | None:
        """The text of the model's default chat template or of a named one."""
        text = library.llama_model_chat_template(self.handle, name.encode() if name is not None else None)
        return text.decode("utf-8", "replace") if text else None

    def free(self, library: Library) -> None:
        """Give the memory back; nothing of the model must be used any more."""
        self.context.free()
        library.llama_model_free(self.handle)


def load_model(
    library: Library,
    log: LibraryLog,
    command: Load,
    *,
    rpc: RpcServers,
    stop: Stop,
    progress: Callable[[float], None],
) -> LoadedModel:
    """Load a model and make its context. `progress` is told the share of the weights loaded. Raises LoadError."""
    log.take()
    try:
        rpc.connect(command.settings.rpc_servers)
    except RpcError as error:
        raise LoadError(_failed("failed", str(error), error.mend)) from None
    handle = _load_weights(library, command, stop, progress)
    lines = log.take()
    if not handle:
        raise LoadError(_cancelled()) if stop.requested else _refused(lines, command)
    try:
        check_kind(library, handle)
        context_handle, chosen = _make_context(library, handle, command.settings, stop)
    except LoadError:
        library.llama_model_free(handle)
        raise
    n_gpu_layers = offloaded_layers(lines)
    layers = layer_shares(library, lines) if command.settings.rpc_servers else ()
    lines += log.take()
    if not context_handle:
        library.llama_model_free(handle)
        raise _refused(lines, command)
    n_swa = 0 if chosen.swa_full else library.llama_model_n_swa(handle)
    context = Context(library, context_handle, n_swa=n_swa)
    return LoadedModel(
        handle=handle,
        context=context,
        vocabulary=Vocabulary(library, handle),
        info=_model_info(library, handle, command.path),
        settings=replace(chosen, n_ctx=context.n_ctx, n_ubatch=context.n_ubatch, n_gpu_layers=n_gpu_layers),
        memory=replace(memory_breakdown(lines), layers=layers),
        logs=tuple(to_reports(lines)),
    )


def _load_weights(library: Library, command: Load, stop: Stop, progress: Callable[[float], None]) -> Handle:
    def on_progress(fraction: float, _: object) -> bool:
        progress(fraction)
        return not stop.requested

    params = model_parameters(library, command.settings)
    params.progress_callback = library.llama_progress_callback(on_progress)
    return library.llama_model_load_from_file(command.path.encode("utf-8", "surrogateescape"), params)


def check_kind(library: Library, handle: Handle) -> None:
    """Raise LoadError for a model that does not generate text."""
    diffusion = library.llama_model_is_diffusion(handle)
    if diffusion or library.llama_model_has_encoder(handle) or not library.llama_model_has_decoder(handle):
        what = "This model does not generate text token by token."
        raise LoadError(_failed("unsupported", what, "Choose a model made for text generation or chat."))


def _make_context(library: Library, handle: Handle, wish: EngineSettings, stop: Stop) -> tuple[Handle, EngineSettings]:
    if stop.requested:
        raise LoadError(_cancelled())
    params, chosen = context_parameters(library, handle, wish)
    return library.llama_init_from_model(handle, params), chosen


def _model_info(library: Library, handle: Handle, path: str) -> ModelInfo:
    size_bytes, parameters = library.llama_model_size(handle), library.llama_model_n_params(handle)
    label = library.llama_ftype_name(library.llama_model_ftype(handle))
    return ModelInfo(
        path=path,
        name=_name(Path(path), _metadata(library, handle, "general.name")),
        architecture=_metadata(library, handle, "general.architecture"),
        quantization=label.decode("utf-8", "replace") if label else "",
        bits_per_weight=round(size_bytes * 8 / parameters, 3) if parameters else None,
        size_bytes=size_bytes,
        parameters=parameters,
        n_ctx_train=library.llama_model_n_ctx_train(handle),
        n_layer=library.llama_model_n_layer(handle),
        n_vocab=library.llama_vocab_n_tokens(library.llama_model_get_vocab(handle)),
    )


def _name(path: Path, told: str) -> str:
    """The file's name without its quantization, which is what a person knows the model by.

    What the file says of itself is often the name of a training run; it serves where the file is named by its digest,
    as in Ollama's store.
    """
    if _DIGEST.fullmatch(path.stem):
        return told or path.stem
    return _QUANTIZATION.sub("", path.stem) or path.stem


def _metadata(library: Library, handle: Handle, key: str) -> str:
    buffer = ctypes.create_string_buffer(_VALUE_BYTES)
    size = library.llama_model_meta_val_str(handle, key.encode(), buffer, _VALUE_BYTES)
    return buffer.value.decode("utf-8", "replace") if size >= 0 else ""


def _refused(lines: list[Line], command: Load) -> LoadError:
    return LoadError(explain(errors(lines), Path(command.path).name), tuple(to_reports(lines)))


def _cancelled() -> LoadFailed:
    return _failed("cancelled", "Loading was cancelled.", "Load the model again, or choose another one.")


def _failed(reason: LoadFailure, message: str, mend: str) -> LoadFailed:
    return LoadFailed(reason=reason, message=message, mend=mend)
