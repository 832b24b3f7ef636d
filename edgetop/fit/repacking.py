"""Weights that are kept a second time, in the order in which a processor multiplies them fastest.

The library decides it by the type of a tensor and the instructions of the processor it was built for
(ggml_repack_get_optimal_repack_type in ggml-cpu/repack.cpp of llama.cpp 0c1e57098). The copy lies in ordinary memory
beside the mapped file, whose pages then are not read again.
"""

from __future__ import annotations

import platform
import re

from msgspec import Struct

from edgetop.core.gguf import Tensor
from edgetop.fit.model_facts import ModelFacts

Features = frozenset[str]
"""Instructions that the library was built for and the processor has, by ggml's names: AVX2, AVX512, NEON, DOTPROD,
MATMUL_INT8."""
_ALIGNMENT_BYTES = 32
_FEATURE = re.compile(r"\b([A-Z][A-Z0-9_]*) = 1\b")
_BLOCK = re.compile(r"blk\.(\d{1,6})\.(.+)")
_X86_64 = frozenset({"AVX2"})
_AARCH64 = frozenset({"NEON", "DOTPROD"})
_NOT_MULTIPLIED = ("conv1d", "shortconv.conv", "_norm", "rope", "altup", "ssm_a", "ssm_d")
_ROWS_X86 = {"q4_0": 8, "q4_K": 8, "iq4_nl": 8, "mxfp4": 8}
_ROWS_AVX512 = {"q2_K": 8}
_ROWS_ARM = {
    "q4_0": 4,
    "q4_K": 8,
    "q5_K": 8,
    "q6_K": 8,
    "iq4_nl": 4,
    "mxfp4": 4,
    "q8_0": 4,
    "q1_0": 4,
}
"""By type: the number of rows of a matrix has to be a multiple of this one."""


class Repacking(Struct, frozen=True):
    """What is kept twice, in bytes."""

    size_bytes: int
    """Size of all copies."""
    copied: frozenset[str]
    """Names of the tensors of which only the copy is read."""
    in_place: frozenset[str]
    """Names of the tensors that are used as they lie in the file."""


def features_of(system_info: str) -> Features:
    """The instructions in what the library says of itself: `CPU : SSE3 = 1 | AVX2 = 1 | REPACK = 1`."""
    return frozenset(_FEATURE.findall(system_info))


def usual_features(machine: str = "") -> Features:
    """What the published builds use on such a machine (`x86_64`, `aarch64`; this one's by default).

    They are built for any processor of the last ten years: AVX2 and no AVX-512 on a PC; on Arm since the Cortex-A76,
    that is, a Raspberry Pi 5 and any Jetson Orin, but not a Raspberry Pi 4.
    """
    machine = (machine or platform.machine()).lower()
    if machine in {"x86_64", "amd64"}:
        return _X86_64
    return _AARCH64 if machine in {"aarch64", "arm64"} else frozenset()


def repacking(facts: ModelFacts, features: Features, *, wanted: bool = True) -> Repacking:
    """What is repacked on a processor with these instructions; nothing unless `wanted` (`use_extra_bufts`)."""
    rows = _rows_by_type(features) if wanted else {}
    tied = not any(tensor.name == "output.weight" for tensor in facts.tensors)
    copies_bytes = 0
    copied, in_place = set(), set()
    ahead = max(0, facts.header.whole(f"{facts.architecture}.nextn_predict_layers") or 0)
    n_layer = (facts.n_layer or 0) - ahead
    for tensor in facts.tensors:
        block = _BLOCK.match(tensor.name)
        if ahead and block is not None and int(block[1]) >= n_layer:
            continue  # predicts further tokens; the library leaves it alone
        size_bytes = -(-tensor.size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        if tensor.name == "token_embd.weight":
            in_place.add(tensor.name)  # rows are looked up in it
            copies_bytes += size_bytes if tied and _fits(tensor, rows) else 0
        elif _is_multiplied(tensor) and _fits(tensor, rows):
            copies_bytes += size_bytes
            copied.add(tensor.name)
        else:
            in_place.add(tensor.name)
    return Repacking(copies_bytes, frozenset(copied), frozenset(in_place))


def in_place_bytes(facts: ModelFacts, repacked: Repacking) -> int:
    """Bytes of the weights that are used as they lie in the file, each aligned as in memory."""
    used = (tensor.size_bytes for tensor in facts.tensors if tensor.name in repacked.in_place)
    return sum(-(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for size in used)


def _rows_by_type(features: Features) -> dict[str, int]:
    rows: dict[str, int] = {}
    if "AVX2" in features:
        rows |= _ROWS_X86
    if "AVX512" in features:
        rows |= _ROWS_AVX512
    if "NEON" in features and features & {"DOTPROD", "MATMUL_INT8"}:
        rows |= _ROWS_ARM
    return rows


def _fits(tensor: Tensor, rows: dict[str, int]) -> bool:
    multiple = rows.get(tensor.type_name)
    return multiple is not None and len(tensor.shape) > 1 and tensor.shape[1] % multiple == 0


def _is_multiplied(tensor: Tensor) -> bool:
    """Whether the tensor is a matrix, or a stack of experts, that activations are multiplied with."""
    if tensor.name == "output.weight":
        return True
    block = _BLOCK.fullmatch(tensor.name)
    if block is None or not block[2].endswith(".weight") or any(word in block[2] for word in _NOT_MULTIPLIED):
        return False
    return len(tensor.shape) == 2 or (len(tensor.shape) == 3 and "_exps" in block[2])
