"""Load parameters, model, vocabulary."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_choices import THREADS_MAX
from edgetop.core.engine_settings import KV_TYPE, EngineSettings, MemoryBreakdown, ModelInfo, default_n_ctx
from edgetop.inference.chat_template import ControlPiece
from edgetop.inference.engine import Stop
from edgetop.inference.llama.context import Context
from edgetop.inference.llama.library import FLASH_ATTENTION, LOAD_MODES, Handle, Library, kv_type
from edgetop.inference.llama.log import (
    LibraryLog,
    Line,
    LoadFailure,
    errors,
    explain_load_failure,
    lock_refused,
    memory_breakdown,
    offloaded_layers,
    to_reports,
)
from edgetop.inference.llama.rpc import RpcError, RpcServers, layer_shares
from edgetop.inference.protocol import Load, LoadFailed, Log
from edgetop.io.cpus import decode_threads


def model_parameters(library: Library, requested: EngineSettings) -> Any:  # noqa: ANN401 - a ctypes structure
    """A `llama_model_params`."""
    params = library.llama_model_default_params()
    params.n_gpu_layers = -1 if requested.n_gpu_layers is None else requested.n_gpu_layers
    params.load_mode = getattr(library, LOAD_MODES[requested.load_mode or "auto"])
    params.use_extra_bufts = requested.use_extra_bufts
    return params


def context_parameters(library: Library, model: Handle, requested: EngineSettings) -> tuple[Any, EngineSettings]:
    """A `llama_context_params`, and the settings with what was chosen where they leave it open."""
    n_ctx = requested.n_ctx or default_n_ctx(library.llama_model_n_ctx_train(model))
    n_threads = min(max(1, requested.n_threads or decode_threads()), THREADS_MAX)
    params = library.llama_context_default_params()
    n_batch = max(1, requested.n_batch or params.n_batch)
    chosen = replace(
        requested,
        n_ctx=n_ctx,
        n_threads=n_threads,
        n_threads_batch=min(max(1, requested.n_threads_batch or n_threads), THREADS_MAX),
        n_batch=n_batch,
        n_ubatch=min(max(1, requested.n_ubatch or params.n_ubatch), n_batch),
    )
    params.n_ctx = n_ctx
    params.n_threads = chosen.n_threads
    params.n_threads_batch = chosen.n_threads_batch
    params.n_batch = chosen.n_batch
    params.n_ubatch = chosen.n_ubatch
    params.n_outputs_max = max(1, requested.n_outputs_max)
    params.flash_attn_type = getattr(library, FLASH_ATTENTION[requested.flash_attention or "auto"])
    params.type_k = kv_type(library, requested.type_k or KV_TYPE)
    params.type_v = kv_type(library, requested.type_v or KV_TYPE)
    params.offload_kqv = requested.offload_kqv
    params.swa_full = requested.swa_full
    params.no_perf = False
    return params, chosen


_PIECE_BYTES = 64


class Vocabulary:
    """The vocabulary of a loaded model; valid as long as the model."""

    def __init__(self, library: Library, model: object) -> None:
        self._library = library
        self._vocab = library.llama_model_get_vocab(model)
        self.size: int = library.llama_vocab_n_tokens(self._vocab)
        self.bos: int = library.llama_vocab_bos(self._vocab)
        self.begins_with_bos = bool(library.llama_vocab_get_add_bos(self._vocab)) and self.bos >= 0
        """The model wants the beginning-of-sequence token before every prompt."""
        self._known: dict[int, bytes | None] = {}

    def tokenize(self, text: str) -> list[int]:
        """Tokens of a whole prompt.

        The names of special tokens become those tokens wherever they stand, as in llama.cpp's own programs: in what the
        template writes, and in the text of users and documents as well. The beginning-of-sequence token is there once
        if the model wants it, whether or not the template writes it.
        """
        tokens = self._tokenize(text)
        if self.begins_with_bos and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        while self.begins_with_bos and tokens[:2] == [self.bos, self.bos]:
            del tokens[0]
        return tokens

    def tokenize_plain(self, text: str) -> list[int]:
        """Tokens of a text that is only read: the names of special tokens in it are letters like all others.

        The beginning-of-sequence token and its like are there as the model wants them.
        """
        return self._tokenize(text, add_special=True, parse_special=False)

    def piece(self, token: int) -> bytes | None:
        """The bytes of a token, which may be a part of a character; `None` for one that ends the reply.

        A control token is a ControlPiece of its name. A model may have several that end a reply.
        """
        if token not in self._known:
            ends = self._library.llama_vocab_is_eog(self._vocab, token)
            self._known[token] = None if ends else self._bytes_of(token)
        return self._known[token]

    def text_of(self, token: int) -> str:
        """The name of a token, such as `<s>`; empty if there is none."""
        name = self._library.llama_vocab_get_text(self._vocab, token) if token >= 0 else None
        return name.decode("utf-8", "replace") if name else ""

    def is_special(self, text: str) -> bool:
        """Whether a text is one control token of this vocabulary."""
        tokens = self._tokenize(text)
        return len(tokens) == 1 and bool(self._library.llama_vocab_is_control(self._vocab, tokens[0]))

    @property
    def eos(self) -> int:
        """The end-of-sequence token; negative if there is none."""
        return int(self._library.llama_vocab_eos(self._vocab))

    def _bytes_of(self, token: int) -> bytes:
        special = bool(self._library.llama_vocab_is_control(self._vocab, token))
        size_bytes = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size_bytes)
            size = self._library.llama_token_to_piece(self._vocab, token, buffer, size_bytes, 0, special)
            if size >= 0:
                return ControlPiece(buffer.raw[:size]) if special else buffer.raw[:size]
            size_bytes = -size

    def _tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        while True:
            tokens = (self._library.llama_token * size)()
            count = self._library.llama_tokenize(self._vocab, data, len(data), tokens, size, add_special, parse_special)
            if count >= 0:
                return list(tokens[:count])
            size = -count


_VALUE_BYTES = 4096
_DIGEST = re.compile(r"sha256-[0-9a-f]{64}")
_QUANTIZATION = re.compile(r"[-._](?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP\d\w*|B?F16|F32|FP16|FP32)$", re.IGNORECASE)


class LoadError(Exception):
    """A load that ended without a model."""

    def __init__(self, failed: LoadFailed, logs: tuple[Log, ...] = ()) -> None:
        super().__init__(failed.message)
        self.failed = failed
        self.logs = logs
        """What the library logged meanwhile."""


class LoadedModel(Struct, frozen=True, kw_only=True):
    """What is resident now."""

    handle: Handle
    context: Context
    vocabulary: Vocabulary
    info: ModelInfo
    """Without the chat template's fields."""
    settings: EngineSettings
    """With what was chosen where the request left it open."""
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
    """Load a model and make its context. `progress` is called with the share of loaded weights. Raises LoadError."""
    log.drain()
    try:
        rpc.connect(command.settings.rpc_servers)
    except RpcError as error:
        raise LoadError(_failed("failed", str(error), error.hint)) from None
    handle = _load_weights(library, command, stop, progress)
    lines = log.drain()
    if not handle:
        raise LoadError(cancelled()) if stop.requested else _refused(lines, command)
    try:
        require_text_generation(library, handle)
        context_handle, chosen = _make_context(library, handle, command.settings, stop)
    except LoadError:
        library.llama_model_free(handle)
        raise
    n_gpu_layers = offloaded_layers(lines)
    layers = layer_shares(library, lines) if command.settings.rpc_servers else ()
    lines += log.drain()
    if not context_handle:
        library.llama_model_free(handle)
        raise _refused(lines, command)
    n_swa = 0 if chosen.swa_full else library.llama_model_n_swa(handle)
    context = Context(library, context_handle, n_swa=n_swa)
    load_mode = "mmap" if lock_refused(lines) else chosen.load_mode
    return LoadedModel(
        handle=handle,
        context=context,
        vocabulary=Vocabulary(library, handle),
        info=_model_info(library, handle, command.path),
        settings=replace(
            chosen,
            n_ctx=context.n_ctx,
            n_ubatch=context.n_ubatch,
            n_gpu_layers=n_gpu_layers,
            load_mode=load_mode,
        ),
        memory=replace(memory_breakdown(lines), layers=layers),
        logs=tuple(to_reports(lines)),
    )


def _load_weights(library: Library, command: Load, stop: Stop, progress: Callable[[float], None]) -> Handle:
    def on_progress(fraction: float, _: object) -> bool:
        progress(fraction)
        return not stop.requested

    params = model_parameters(library, command.settings)
    params.progress_callback = library.llama_progress_callback(on_progress)
    return library.llama_model_load_from_file(os.fsencode(command.file), params)


def require_text_generation(library: Library, handle: Handle) -> None:
    """Raise LoadError for a model that does not generate text."""
    diffusion = library.llama_model_is_diffusion(handle)
    if diffusion or library.llama_model_has_encoder(handle) or not library.llama_model_has_decoder(handle):
        what = "This model does not generate text token by token."
        raise LoadError(_failed("unsupported", what, "Choose a model made for text generation or chat."))


def _make_context(
    library: Library, handle: Handle, requested: EngineSettings, stop: Stop
) -> tuple[Handle, EngineSettings]:
    if stop.requested:
        raise LoadError(cancelled())
    params, chosen = context_parameters(library, handle, requested)
    return library.llama_init_from_model(handle, params), chosen


def _model_info(library: Library, handle: Handle, path: str) -> ModelInfo:
    size_bytes, parameters = library.llama_model_size(handle), library.llama_model_n_params(handle)
    label = library.llama_ftype_name(library.llama_model_ftype(handle))
    return ModelInfo(
        path=path,
        name=model_name(Path(path), _metadata(library, handle, "general.name")),
        architecture=_metadata(library, handle, "general.architecture"),
        quantization=label.decode("utf-8", "replace") if label else "",
        bits_per_weight=round(size_bytes * 8 / parameters, 3) if parameters else None,
        size_bytes=size_bytes,
        parameters=parameters,
        n_ctx_train=library.llama_model_n_ctx_train(handle),
        n_layer=library.llama_model_n_layer(handle),
        n_vocab=library.llama_vocab_n_tokens(library.llama_model_get_vocab(handle)),
    )


def model_name(path: Path, stored: str) -> str:
    """The file's name without its quantization, which is how people know the model.

    The name in the file is often the name of a training run; it serves where the file is named by its digest,
    as in Ollama's store.
    """
    if _DIGEST.fullmatch(path.stem):
        return stored or path.stem
    return _QUANTIZATION.sub("", path.stem) or path.stem


def _metadata(library: Library, handle: Handle, key: str) -> str:
    buffer = ctypes.create_string_buffer(_VALUE_BYTES)
    size = library.llama_model_meta_val_str(handle, key.encode(), buffer, _VALUE_BYTES)
    return buffer.value.decode("utf-8", "replace") if size >= 0 else ""


def _refused(lines: list[Line], command: Load) -> LoadError:
    return LoadError(explain_load_failure(errors(lines), Path(command.path).name), tuple(to_reports(lines)))


def cancelled() -> LoadFailed:
    """The report of a load that was stopped."""
    return _failed("cancelled", "Loading was cancelled.", "Load the model again, or choose another one.")


def _failed(reason: LoadFailure, message: str, hint: str) -> LoadFailed:
    return LoadFailed(reason=reason, message=message, hint=hint)
