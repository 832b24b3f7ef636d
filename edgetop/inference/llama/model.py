"""Load parameters, model, vocabulary, KV cache; layers on other machines.

The library aborts the process for an RPC server that is not there or that breaks off, and waits for ever for one that
is busy, since it serves one program at a time. So each server is greeted from here first, with patience, and looked
after while the library computes.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_choices import LAYERS_MAX, THREADS_MAX
from edgetop.core.engine_settings import KV_TYPE, EngineSettings, LayerShare, MemoryBreakdown, ModelInfo, default_n_ctx
from edgetop.core.text import one_line
from edgetop.inference.chat_template import ControlPiece
from edgetop.inference.engine import Stop
from edgetop.inference.llama.library import FLASH_ATTENTION, LOAD_MODES, Handle, Library, kv_type
from edgetop.inference.llama.log import (
    LibraryLog,
    Line,
    LoadFailure,
    errors,
    explain_load_failure,
    layer_devices,
    lock_refused,
    memory_breakdown,
    offloaded_layers,
    to_reports,
)
from edgetop.inference.protocol import Load, LoadFailed, Log, Report, Waiting
from edgetop.io.cpus import decode_threads

PATIENCE_S = 5.0
"""Time limit of a server's answer to a greeting."""

_HELLO = bytes([14]) + (24).to_bytes(8, "little") + bytes(24)
"""The command RPC_CMD_HELLO, the size of what follows, and no capabilities beyond TCP (ggml/src/ggml-rpc of 0.3.36)."""

_VERSION_BYTES = 3
_ANSWER_BYTES = 4 + 24
_ADD_SERVER = b"ggml_backend_rpc_add_server"
BUILD_ARGS = "-DGGML_RPC=ON"


class RpcError(Exception):
    """An RPC server cannot be used; the text says which and why, in one line, `hint` what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


def supports_rpc(library: Library) -> bool:
    """Whether the library was built with it."""
    return bool(library.llama_supports_rpc())


class RpcServers:
    """The servers whose devices the library knows. It cannot forget one."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: set[str] = set()

    def connect(self, servers: Sequence[str]) -> None:
        """Make the devices of servers, each `host:port`, known to the library. Raises RpcError."""
        if not servers:
            return
        if not supports_rpc(self._library):
            raise RpcError(
                "This llama.cpp was built without RPC, so that no layers can be given to other machines.",
                f"Build it with {BUILD_ARGS} (see `edgetop doctor`), or leave --rpc out.",
            )
        for server in servers:
            protocol_version(server)
        for server in servers:
            if server not in self._known:
                self._add(server)
                self._known.add(server)

    def _add(self, server: str) -> None:
        shared = self._library._lib  # noqa: SLF001 - the bindings leave ggml's device functions out
        by_name, address_of = shared.ggml_backend_reg_by_name, shared.ggml_backend_reg_get_proc_address
        by_name.argtypes, by_name.restype = [ctypes.c_char_p], ctypes.c_void_p
        address_of.argtypes, address_of.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p
        shared.ggml_backend_register.argtypes = [ctypes.c_void_p]
        shared.ggml_backend_register.restype = None
        address = address_of(by_name(b"RPC"), _ADD_SERVER)
        registered = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(address)(server.encode()) if address else None
        if not registered:
            raise RpcError(f"The RPC server at {server} offers no device.", "Look at what it printed when it began.")
        shared.ggml_backend_register(registered)


SILENT_S = 8.0
"""A server that is waited for and from which nothing comes for so long is named; one whose machine does not even
acknowledge what it was sent is given up, which ends the library and with it the engine."""

WATCH_S = 1.0
_PROBE_S = 2
_TCP_INFO_BYTES = 60
_LAST_SENT, _LAST_RECEIVED = 44, 52
"""Where milliseconds since then stand in struct tcp_info of linux/tcp.h."""


class RpcWatch:
    """Looks after the connections that the library has to RPC servers, of which it waits for one for ever."""

    def __init__(self, servers: Sequence[str], report: Callable[[Report], None]) -> None:
        """`report` is called from another thread."""
        self._addresses = {address: server for server in servers for address in _addresses_of(server)}
        self._report = report
        self._named = ""
        self._busy = threading.Event()
        self._ended = False
        if sys.platform == "linux" and servers:
            threading.Thread(target=self._run, name="edgetop-rpc", daemon=True).start()

    @contextmanager
    def working(self) -> Iterator[None]:
        """While the library computes."""
        self._busy.set()
        try:
            yield
        finally:
            self._busy.clear()

    def end(self) -> None:
        """The model is unloaded."""
        self._ended = True
        self._busy.set()

    def _run(self) -> None:
        while self._busy.wait() and not self._ended:
            waited_for = min(self._waiting(), default=None)
            if waited_for is None or waited_for[0] < SILENT_S:
                self._named = ""
            elif waited_for[1] != self._named:
                self._named = waited_for[1]
                self._report(
                    Waiting(
                        text=f"Nothing has come from the RPC server at {self._named} for {waited_for[0]:.0f} s: "
                        "it still computes, it hangs, or its machine is off."
                    )
                )
            time.sleep(WATCH_S)

    def _waiting(self) -> Iterator[tuple[float, str]]:
        """Servers that were sent something since they said something, with the seconds since then.

        What the library waits for is the one that it has sent the last.
        """
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                if not str(descriptor.readlink()).startswith("socket:"):
                    continue
                with socket.socket(fileno=os.dup(int(descriptor.name))) as connection:
                    server = self._addresses.get(connection.getpeername()[:2])
                    if server is None:
                        continue
                    _give_up_when_silent(connection)
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            except OSError:
                # No connection, or one that was closed while we looked.
                continue
            sent_ms, received_ms = (
                int.from_bytes(info[at : at + 4], sys.byteorder) for at in (_LAST_SENT, _LAST_RECEIVED)
            )
            if sent_ms < received_ms:
                yield sent_ms / 1000, server


def _give_up_when_silent(connection: socket.socket) -> None:
    """Have the kernel end a connection to a machine that acknowledges nothing (tcp(7))."""
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_S),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(SILENT_S * 1000)),
    ):
        connection.setsockopt(level, option, value)


def _addresses_of(server: str) -> list[tuple[str, int]]:
    host, _, port = server.rpartition(":")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [(str(entry[4][0]), int(entry[4][1])) for entry in found]


def protocol_version(server: str) -> str:
    """The version of the protocol that an RPC server speaks, such as `7.0.0`. Raises RpcError where none answers."""
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
            connection.settimeout(PATIENCE_S)
            connection.sendall(_HELLO)
            answer = b""
            while len(answer) < 8 + _ANSWER_BYTES and (piece := connection.recv(64)):
                answer += piece
    except TimeoutError:
        raise RpcError(
            f"The RPC server at {server} does not answer within {PATIENCE_S:g} s.",
            "It serves one program at a time: end the other one, or check whether the machine is on.",
        ) from None
    except OSError as error:
        why = "nobody listens there" if isinstance(error, ConnectionRefusedError) else error.strerror or str(error)
        raise RpcError(
            f"The RPC server at {server} cannot be reached: {why}.",
            "Start llama.cpp's ggml-rpc-server there, or check the address after --rpc.",
        ) from None
    if len(answer) < 8 + _ANSWER_BYTES or int.from_bytes(answer[:8], "little") != _ANSWER_BYTES:
        raise RpcError(
            f"What listens at {server} does not speak this llama.cpp's RPC.",
            "Run a ggml-rpc-server of the same llama.cpp there, or check the address after --rpc.",
        )
    return ".".join(str(number) for number in answer[8 : 8 + _VERSION_BYTES])


def layer_shares(library: Library, lines: Sequence[Line]) -> tuple[LayerShare, ...]:
    """Which layers a load has put on which device, from its log; empty where all are on one."""
    by_device = layer_devices(lines)
    if len(by_device) < 2:
        return ()
    servers = _servers_of_devices(library)
    return tuple(
        LayerShare(device=device, server=servers.get(device, ""), first=min(layers), last=max(layers))
        for device, layers in by_device.items()
    )


def _servers_of_devices(library: Library) -> dict[str, str]:
    """The address of the server that a device is on, by the device's name; only of devices on one."""
    shared = library._lib  # noqa: SLF001 - the bindings leave ggml's device functions out
    found = {}
    for index in range(shared.ggml_backend_dev_count()):
        device = shared.ggml_backend_dev_get(index)
        name = shared.ggml_backend_dev_name(device).decode("utf-8", "replace")
        if name.startswith("RPC"):
            found[name] = shared.ggml_backend_dev_description(device).decode("utf-8", "replace")
    return found


_SEQUENCE = 0
_ABORTED = 2
"""Returned by llama_decode after its abort callback returned true (llama.h)."""

_NO_SLOT = 1


class Counters(Struct, frozen=True):
    """What the library counted."""

    evaluation_ms: float
    tokens: int


class DecodeError(Exception):
    """llama_decode failed; the text says how."""


class Context:
    """One sequence of tokens and its KV cache."""

    def __init__(self, library: Library, handle: Handle, *, n_swa: int) -> None:
        self._library = library
        self._n_swa = n_swa
        """Window of the sliding-window layers whose cache has no more than that; 0 if there are none."""
        self.handle = handle
        self._memory = library.llama_get_memory(handle)
        self.n_ctx: int = library.llama_n_ctx(handle)
        self.n_ubatch: int = library.llama_n_ubatch(handle)
        self.tokens: list[int] = []
        """Tokens in the KV cache."""
        self._chunk = (library.llama_token * self.n_ubatch)()
        self._single = (library.llama_token * 1)()
        self._single_batch = library.llama_batch_get_one(self._single, 1)
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
        self._abort_callback = library.ggml_abort_callback(strlen)

    def watch(self, stop: Stop) -> None:
        """From now on an evaluation ends early when `stop` asks for it, where the device can (CPU and Metal)."""
        self._library.llama_set_abort_callback(self.handle, self._abort_callback, stop.address)

    def evaluate(self, tokens: list[int]) -> bool:
        """Evaluate up to `n_ubatch` tokens after those in the cache and wait until it is done.

        False when it was stopped; the cache then has none or a part of them. Raises DecodeError.
        """
        if len(tokens) == 1:  # once per token of a reply, so it has to be cheap
            self._single[0] = tokens[0]
            batch = self._single_batch
        else:
            self._chunk[: len(tokens)] = tokens
            batch = self._library.llama_batch_get_one(self._chunk, len(tokens))
        code = self._library.llama_decode(self.handle, batch)
        self._library.llama_synchronize(self.handle)
        if code == 0:
            self.tokens += tokens
            return True
        if self._memory:
            cached = self._library.llama_memory_seq_pos_max(self._memory, _SEQUENCE) + 1
            self.tokens = (self.tokens + tokens)[:cached]
        if code == _ABORTED:
            return False
        reason = "the KV cache is full" if code == _NO_SLOT else f"code {code}"
        raise DecodeError(f"llama_decode failed: {reason}")

    def reuse(self, prompt: list[int]) -> int:
        """Keep of the cache what begins `prompt`; returns how many tokens that is, at most all but the last one.

        Where the cache cannot go back (recurrent layers, a sliding window that has moved on) it is emptied.
        """
        common = 0
        for cached, wanted in zip(self.tokens, prompt[:-1], strict=False):
            if cached != wanted:
                break
            common += 1
        if common < len(self.tokens) and not self._go_back(common):
            self.clear()
        return len(self.tokens)

    def clear(self) -> None:
        """Forget everything."""
        if self._memory:
            self._library.llama_memory_clear(self._memory, True)
        self.tokens = []

    def shift(self, keep: int) -> bool:
        """Drop the older half of what follows the first `keep` tokens; False where the cache cannot be shifted."""
        dropped = (len(self.tokens) - keep) // 2
        if dropped <= 0 or not self._memory or not self._library.llama_memory_can_shift(self._memory):
            return False
        if not self._library.llama_memory_seq_rm(self._memory, _SEQUENCE, keep, keep + dropped):
            return False
        self._library.llama_memory_seq_add(self._memory, _SEQUENCE, keep + dropped, len(self.tokens), -dropped)
        del self.tokens[keep : keep + dropped]
        return True

    def read_and_reset_counters(self) -> Counters:
        """The library's own counters since the last call. It counts a lone token as decoding, wherever it stands."""
        data = self._library.llama_perf_context(self.handle)
        self._library.llama_perf_context_reset(self.handle)
        # It never reports less than one token, so that it can divide.
        prefilled = data.n_p_eval if data.t_p_eval_ms > 0 else 0
        decoded = data.n_eval if data.t_eval_ms > 0 else 0
        return Counters(data.t_p_eval_ms + data.t_eval_ms, prefilled + decoded)

    def free(self) -> None:
        """Give the memory back; the context must not be used any more."""
        self._library.llama_free(self.handle)

    def _go_back(self, length: int) -> bool:
        if not self._memory or length == 0:
            return False
        if self._n_swa:
            oldest = self._library.llama_memory_seq_pos_min(self._memory, _SEQUENCE)
            if oldest > max(0, length - self._n_swa):
                return False
        if not self._library.llama_memory_seq_rm(self._memory, _SEQUENCE, length, -1):
            return False
        del self.tokens[length:]
        return True


def model_parameters(library: Library, requested: EngineSettings) -> Any:  # noqa: ANN401 - a ctypes structure
    """A `llama_model_params`."""
    params = library.llama_model_default_params()
    params.n_gpu_layers = -1 if requested.n_gpu_layers is None else requested.n_gpu_layers
    params.load_mode = getattr(library, LOAD_MODES[requested.load_mode or "auto"])
    params.use_extra_bufts = requested.use_extra_bufts
    overrides = _tensor_overrides(library, requested)
    if overrides is not None:
        params.tensor_buft_overrides = ctypes.addressof(overrides)
        _kept.append(overrides)
    return params


_kept: list[object] = []
"""What the library was given the address of; some bytes a load."""

_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""LLM_FFN_EXPS_REGEX of llama.cpp's common.h."""


class TensorOverride(ctypes.Structure):
    """`llama_model_tensor_buft_override`."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer", ctypes.c_void_p))


def _tensor_overrides(library: Library, requested: EngineSettings) -> ctypes.Array[TensorOverride] | None:
    """Which memory the tensors go to whose names match a pattern, with an empty one at the end. Raises LoadError."""
    wanted = [each.rpartition("=")[::2] for each in requested.override_tensor]
    if requested.n_cpu_moe:
        layers = "|".join(map(str, range(requested.n_cpu_moe)))
        every = requested.n_cpu_moe >= LAYERS_MAX
        wanted.append((_EXPERTS if every else rf"blk\.({layers}){_EXPERTS}", "CPU"))
    if not wanted:
        return None
    there = buffers(library)
    unknown = [name for _, name in wanted if name not in there]
    if unknown:
        what = f"--override-tensor: there is no buffer {one_line(unknown[0])}; there are {', '.join(there)}."
        raise LoadError(_failed("unsupported", what, "Name one of them behind the equals sign."))
    given = [TensorOverride(pattern.encode(), there[name]) for pattern, name in wanted]
    return (TensorOverride * (len(given) + 1))(*given)


def buffers(library: Library) -> dict[str, int]:
    """The types of buffers of all devices, by name."""
    shared = library._lib  # noqa: SLF001 - the bindings leave ggml's device functions out
    of_device, name_of = shared.ggml_backend_dev_buffer_type, shared.ggml_backend_buft_name
    of_device.argtypes, of_device.restype = [ctypes.c_void_p], ctypes.c_void_p
    name_of.argtypes, name_of.restype = [ctypes.c_void_p], ctypes.c_char_p
    found = [of_device(shared.ggml_backend_dev_get(index)) for index in range(shared.ggml_backend_dev_count())]
    return {name_of(each).decode("utf-8", "replace"): each for each in found if each}


def _adapters(library: Library, handle: Handle, files: Sequence[str]) -> list[Handle]:
    """Adapters of a model, which frees them with itself. Raises LoadError."""
    found = []
    for file in files:
        adapter = library.llama_adapter_lora_init(handle, os.fsencode(file))
        if not adapter:
            what = f"{one_line(file)} is no adapter of this model, or cannot be read."
            raise LoadError(_failed("failed", what, "Name the model that it was made for; -v prints llama.cpp's log."))
        found.append(adapter)
    return found


_NICENESS = {-1: 5, 0: 0, 1: -5, 2: -10, 3: -20}
"""Of llama.cpp's priorities (set_process_priority of common.cpp)."""


def set_priority(prio: int | None) -> None:
    """Give threads that are started from now on a priority. Raises LoadError."""
    if prio is None:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS[prio])
    except OSError as error:
        what = f"--prio {prio} is not allowed: {error.strerror}."
        hint = "Leave it out, or let the user do so (RLIMIT_NICE in limits.conf)."
        raise LoadError(_failed("unsupported", what, hint)) from error


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

_TEXT_PIECE = 8192
"""Characters of a long text that are made tokens at once, at least."""

_CONTROL_NAME = 64
"""Characters of a control token's name before which a text is cut; the longest known has 28."""


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

    def tokenize(self, text: str, proceed: Callable[[int, float], bool] = lambda _count, _share: True) -> list[int]:
        """Tokens of a whole prompt, or of its beginning.

        `proceed` is told how many tokens there are and what share of the text they are, and whether it goes on is what
        it says.

        The names of special tokens become those tokens wherever they stand, as in llama.cpp's own programs: in what the
        template writes, and in the text of users and documents as well. The beginning-of-sequence token is there once
        if the model wants it, whether or not the template writes it.
        """
        tokens: list[int] = []
        done = 0
        for piece in self._pieces(text):
            tokens += self._tokenize(piece)
            done += len(piece)
            if not proceed(len(tokens), done / max(1, len(text))):
                break
        if self.begins_with_bos and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        while self.begins_with_bos and tokens[:2] == [self.bos, self.bos]:
            del tokens[0]
        return tokens

    def _pieces(self, text: str) -> Iterator[str]:
        """A long text, cut before control tokens, where llama.cpp cuts it as well; its own way takes quadratic time.

        An empty piece says only how far it has been looked for them: a text may be nothing but their beginnings.
        """
        begin = looked = 0
        again = _TEXT_PIECE
        if len(text) > 2 * _TEXT_PIECE:
            names = {self.text_of(token) for token in range(self.size) if self._is_control(token)}
            names = {name for name in names if 0 < len(name) <= _CONTROL_NAME}
            lengths = sorted({len(name) for name in names})

            def ends_at(at: int) -> int:
                """Where the longest name that begins there ends."""
                return max((at + size for size in lengths if text[at : at + size] in names), default=at)

            first = "".join(sorted({name[0] for name in names}))
            for found in re.finditer(f"[{re.escape(first)}]" if first else r"\Z", text):
                at = found.start()
                if at - looked >= _TEXT_PIECE:
                    looked = at
                    yield ""
                # A token may take the white space before it along.
                if at < again or text[at - 1].isspace() or ends_at(at) == at:
                    continue
                again = at + _CONTROL_NAME
                if not any(ends_at(before) > at for before in range(max(begin, at - _CONTROL_NAME), at)):
                    yield text[begin:at]
                    begin, again = at, at + _TEXT_PIECE
        yield text[begin:]

    def _is_control(self, token: int) -> bool:
        return bool(self._library.llama_vocab_is_control(self._vocab, token))

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
        return len(tokens) == 1 and self._is_control(tokens[0])

    @property
    def eos(self) -> int:
        """The end-of-sequence token; negative if there is none."""
        return int(self._library.llama_vocab_eos(self._vocab))

    def _bytes_of(self, token: int) -> bytes:
        special = self._is_control(token)
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
    set_priority(command.settings.prio)
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
        adapters = _adapters(library, handle, command.settings.lora)
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
    if adapters:
        of_pointers = (library.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
        library.llama_set_adapters_lora(
            context_handle, of_pointers, len(adapters), (ctypes.c_float * len(adapters))(*[1.0] * len(adapters))
        )
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
