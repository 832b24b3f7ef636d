"""What each layer keeps; bytes of KV cache and state.

For one sequence, after llama-kv-cache.cpp, llama-kv-cache-iswa.cpp and llama-memory-recurrent.cpp of llama.cpp
0c1e57098.
"""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.engine_choices import KvType
from edgetop.core.gguf import TENSOR_TYPES, GgufArray, GgufHeader, Value, layer_of
from edgetop.core.sources import Unavailable
from edgetop.fit.model_facts import ModelFacts

_OWN_CACHES = frozenset(
    {"minimax-01", "minimax-m3", "glm-dsa", "deepseek32", "deepseek4", "glm5-next", "hy_v4", "dots3note", "dflash",
     "qwen4exp", "gemma4-assistant"}
)  # fmt: skip
"""Architectures with caches of their own beside keys and values, such as the indexes of sparse attention."""

_DIFFUSION = frozenset({"dream", "llada", "llada-moe", "rnd1"})
_RECURRENT_TENSORS = ("ssm_", "shortconv.", "time_mix_")
_KEY_TENSORS = ("attn_k.", "attn_qkv.", "attn_kv_a_mqa.", "attn_kv_b.")


class SlidingWindow(Struct, frozen=True):
    """Which layers see only the last tokens where the file does not list them."""

    period: int = 0
    """One layer of so many sees everything; 0 where the file has to list the layers."""
    dense_first: bool = False
    """Whether it is the first one of them, not the last."""
    window: int | None = None
    """Tokens, where the file does not say; `None` for no window then."""
    n_layer: int | None = None
    """Only models with so many layers have it."""


SLIDING_WINDOWS: dict[str, SlidingWindow] = {
    "afmoe": SlidingWindow(4),
    "cohere2": SlidingWindow(4),
    "cohere2moe": SlidingWindow(4, dense_first=True),
    "exaone-moe": SlidingWindow(4, window=128),
    "exaone4": SlidingWindow(4, window=4096, n_layer=64),
    "gemma2": SlidingWindow(2, window=4096),
    "gemma3": SlidingWindow(6),
    "gemma3n": SlidingWindow(5),
    "gemma4": SlidingWindow(),
    "gpt-oss": SlidingWindow(2),
    "granite_swa": SlidingWindow(),
    "laguna": SlidingWindow(4, dense_first=True),
    "lfm2": SlidingWindow(),
    "lfm2moe": SlidingWindow(),
    "llama4": SlidingWindow(4, window=8192),
    "maple": SlidingWindow(),
    "mellum": SlidingWindow(4),
    "mimo2": SlidingWindow(),
    "muse-glimmer": SlidingWindow(4),
    "olmo2": SlidingWindow(4),
    "plamo3": SlidingWindow(8),
    "smallthinker": SlidingWindow(4, dense_first=True),
    "spark2_5": SlidingWindow(),
    "step35": SlidingWindow(),
}
"""By architecture, from `load_arch_hparams` in src/models of llama.cpp 0c1e57098. It ignores the window of others."""

_BUILT_IN = {"llama4": 8192, "smallthinker": 4096}
"""Windows that the library sets whatever number the file has."""


class Layer(Struct, frozen=True, kw_only=True):
    """One layer."""

    n_head: int
    n_head_kv: int
    key_length: int
    """Numbers per head and token."""
    value_length: int
    """0 where the values are computed from the keys (MLA)."""
    window: int
    """How many tokens back it sees; 0 for all of them."""
    keeps_kv: bool
    recurrent: bool
    """Keeps a state of fixed size."""

    @property
    def key_width(self) -> int:
        """Numbers in the cache per token."""
        return self.n_head_kv * self.key_length if self.keeps_kv else 0

    @property
    def value_width(self) -> int:
        """Numbers in the cache per token."""
        return self.n_head_kv * self.value_length if self.keeps_kv else 0


def layers_of(facts: ModelFacts) -> tuple[Layer, ...] | Unavailable:
    """The layers that take part in decoding, or why no formula is known for them."""
    return facts.derived(_layers_of)


def _layers_of(facts: ModelFacts) -> tuple[Layer, ...] | Unavailable:
    if facts.architecture in _OWN_CACHES:
        return Unavailable(
            f"{facts.architecture} models keep more than keys and values, and no formula is known for it"
        )
    if facts.architecture in _DIFFUSION:
        return Unavailable("This model does not generate text token by token", "choose a model made for chat")
    header = facts.header
    n_all = header.n_layer
    heads, heads_kv = header.n_head, header.n_head_kv
    if not n_all or not 0 < n_all <= 512 or heads is None or heads_kv is None or not facts.n_embd:
        return Unavailable("the file does not report the shape of its layers", "download the model again")
    n_layer = n_all - min(n_all - 1, _count(header, "nextn_predict_layers"))
    shared = 20 - n_all if facts.architecture == "gemma3n" else -_count(header, "attention.shared_kv_layers")
    windows = _windows(header, n_layer)
    names = _names_by_layer(facts)
    mla = _count(header, "attention.key_length_mla") > 0 and _count(header, "attention.value_length_mla") > 0
    layers = []
    for index in range(n_layer):
        n_head, n_head_kv = _at(heads, index), _at(heads_kv, index)
        suffix = "_swa" if windows[index] else ""
        default = facts.n_embd // heads[0] if heads[0] else 0
        key_length = _length(header, "key", suffix, default)
        value_length = _length(header, "value", suffix, default)
        recurrent = any(name.startswith(_RECURRENT_TENSORS) for name in names[index])
        has_keys = any(name.startswith(_KEY_TENSORS) for name in names[index])
        # Delta nets call their input matrix attn_qkv, too.
        only_state = recurrent and not any(name.startswith("attn_k.") for name in names[index])
        layers.append(
            Layer(
                n_head=n_head,
                n_head_kv=n_head_kv,
                key_length=key_length,
                value_length=0 if mla else value_length,
                window=windows[index],
                keeps_kv=has_keys and not only_state and index < n_all + min(0, shared),
                recurrent=recurrent,
            )
        )
    return tuple(layers)


def _windows(header: GgufHeader, n_layer: int) -> list[int]:
    rule = SLIDING_WINDOWS.get(header.architecture)
    declared = header.whole(f"{header.architecture}.attention.sliding_window")
    if rule is None or (rule.n_layer is not None and rule.n_layer != n_layer):
        return [0] * n_layer
    window = declared if declared is not None else rule.window
    if not window or window < 0:
        return [0] * n_layer
    window = _BUILT_IN.get(header.architecture, window)
    pattern = header.metadata.get(f"{header.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, GgufArray):
        listed = pattern.values or ()
        return [window if index < len(listed) and listed[index] else 0 for index in range(n_layer)]
    if header.architecture in {"lfm2", "lfm2moe"}:
        return [window] * n_layer
    return [window * _sees_window(index, _period(pattern, rule), rule) for index in range(n_layer)]


def _period(declared: Value | None, rule: SlidingWindow) -> int:
    return declared if isinstance(declared, int) and not isinstance(declared, bool) and declared >= 0 else rule.period


def _sees_window(index: int, period: int, rule: SlidingWindow) -> bool:
    if period == 0:
        return True
    return index % period != 0 if rule.dense_first else index % period < period - 1


def _names_by_layer(facts: ModelFacts) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {index: [] for index in range(facts.n_layer or 0)}
    for tensor in facts.tensors:
        layer, short = layer_of(tensor.name)
        if layer is not None and layer in names:
            names[layer].append(short)
    return names


def _length(header: GgufHeader, what: str, suffix: str, default: int) -> int:
    full = header.whole(f"{header.architecture}.attention.{what}_length")
    short = header.whole(f"{header.architecture}.attention.{what}_length{suffix}")
    return max(0, next((length for length in (short, full) if length is not None), default))


def _count(header: GgufHeader, key: str) -> int:
    return max(0, header.whole(f"{header.architecture}.{key}") or 0)


def _at(numbers: tuple[int, ...], index: int) -> int:
    """The number of a layer, where one may stand for all."""
    return max(0, numbers[index] if index < len(numbers) else numbers[-1])


CELLS_STEP = 256
"""The context length, and the cache of a sliding window, are rounded up to a multiple of it."""

N_BATCH_DEFAULT, N_UBATCH_DEFAULT = 2048, 512
"""As llama_context_default_params has them."""

_STATE_BYTES = 4
"""Recurrent state is kept as f32."""

_TYPES = {each.name: each for each in TENSOR_TYPES.values()}


def kv_bytes(
    facts: ModelFacts,
    *,
    n_ctx: int,
    type_k: KvType = "f16",
    type_v: KvType = "f16",
    swa_full: bool = False,
    n_ubatch: int = N_UBATCH_DEFAULT,
) -> int | Unavailable:
    """Bytes of keys, values and recurrent state for a context of `n_ctx` tokens, or why no formula is known.

    A layer with a sliding window keeps the window and one micro-batch, unless `swa_full`.
    """
    layers = layers_of(facts)
    if isinstance(layers, Unavailable):
        return layers
    total = 0
    for layer in layers:
        cells = cells_of(layer, n_ctx=n_ctx, n_ubatch=n_ubatch, swa_full=swa_full)
        total += cells * (row_bytes(layer.key_width, type_k) + row_bytes(layer.value_width, type_v))
    state = state_bytes(facts, layers)
    return state if isinstance(state, Unavailable) else total + state


def cells_of(layer: Layer, *, n_ctx: int, n_ubatch: int, swa_full: bool) -> int:
    """For how many tokens a layer keeps keys and values."""
    n_ctx = padded(n_ctx)
    if not layer.window or swa_full:
        return n_ctx
    return padded(min(n_ctx, layer.window + n_ubatch))


def padded(cells: int) -> int:
    """Rounded up to a multiple of 256."""
    return -(-cells // CELLS_STEP) * CELLS_STEP


def row_bytes(width: int, type_name: KvType) -> int:
    """Bytes of `width` numbers of a type; blocks that are not full count whole."""
    packing = _TYPES[type_name]
    return -(-width // packing.block_elements) * packing.block_bytes


def is_quantized(type_name: KvType) -> bool:
    """Whether numbers of this type are packed in blocks."""
    return block_elements(type_name) > 1


def block_elements(type_name: KvType) -> int:
    """Numbers that are packed together; the length of a head has to be a multiple of it."""
    return _TYPES[type_name].block_elements


def state_bytes(facts: ModelFacts, layers: tuple[Layer, ...]) -> int | Unavailable:
    """Bytes of the state of all recurrent layers."""
    count = sum(layer.recurrent for layer in layers)
    if not count:
        return 0
    numbers = _state_numbers(facts, layers)
    if numbers is None:
        return Unavailable(f"no formula is known for the state that {facts.architecture} models keep")
    return count * numbers * _STATE_BYTES


def _state_numbers(facts: ModelFacts, layers: tuple[Layer, ...]) -> int | None:
    """Numbers that one recurrent layer keeps: of its convolution or token shift, and its state proper.

    After llama_hparams::n_embd_r and n_embd_s.
    """
    n_embd, n_head = facts.n_embd or 0, layers[0].n_head
    if (head := _state_count(facts, "wkv.head_size")) > 0:
        shifts = facts.header.whole(f"{facts.architecture}.token_shift_count")
        return (2 if shifts is None else max(0, shifts)) * n_embd + n_embd * head
    if (kept := _state_count(facts, "shortconv.l_cache")) > 0:
        return n_embd * (kept - 1)
    convolution = max(0, _state_count(facts, "ssm.conv_kernel") - 1)
    if (head := _state_count(facts, "kda.head_dim")) > 0:
        return 3 * (convolution or 3) * n_head * head + head * head * n_head
    inner, state = _state_count(facts, "ssm.inner_size"), _state_count(facts, "ssm.state_size")
    if not inner or not state:
        return None
    return convolution * (inner + 2 * _state_count(facts, "ssm.group_count") * state) + state * inner


def _state_count(facts: ModelFacts, key: str) -> int:
    return max(0, facts.header.whole(f"{facts.architecture}.{key}") or 0)
