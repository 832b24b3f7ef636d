"""Broken GGUF headers without end, from good ones, and what must hold for each."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufIncompleteError, read_header
from edgetop.fit.model_facts import facts_of
from tests.support.gguf_architectures import ARCHITECTURES
from tests.support.gguf_files import model_bytes

DATA_BYTES = 2**40
"""So that a header whose tensors grow is not refused for that alone."""
_NUMBERS = (0, 1, 2, 3, 8, 9, 13, 31, 255, 256, 512, 513, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**61, 2**62)
_LARGER = (2**63 - 1, 2**63, 2**64 - 9, 2**64 - 8, 2**64 - 1)


def good_headers() -> list[bytes]:
    """The headers of tiny models of all architectures, without their weights."""
    headers = []
    for kind in ARCHITECTURES:
        data = model_bytes(kind)
        headers.append(data[: read_header(data).data_offset])
    return headers


def mutated(chance: random.Random, headers: Sequence[bytes]) -> bytes:
    """One of the headers with one to four things wrong in it."""
    data = bytearray(chance.choice(headers))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        place = chance.randrange(len(data))
        match chance.randrange(8):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place : place + 4] = struct.pack("<I", chance.choice(_NUMBERS) & 0xFFFFFFFF)
            case 2:
                data[place : place + 8] = struct.pack("<Q", chance.choice(_NUMBERS + _LARGER))
            case 3:
                del data[place:]
            case 4:
                del data[place : place + chance.randrange(1, 64)]
            case 5:
                data[place:place] = data[place : place + chance.randrange(1, 64)]
            case 6:
                data[place : place + 8] = chance.randbytes(8)
            case _:  # the counts at the front
                place = 8 * chance.randrange(1, 3)
                data[place : place + 8] = struct.pack("<Q", chance.choice(_NUMBERS))
    return bytes(data)


def examine(data: bytes, size_bytes: int | None = None) -> str:
    """Read a header and draw the facts from it; `read`, or `refused` with a place and a reason that are right.

    `size_bytes` is that of the whole file. Anything else that is raised is a defect.
    """
    whole = len(data) if size_bytes is None else size_bytes
    refused = _refusal(data, whole)
    if isinstance(refused, GgufIncompleteError):
        assert 0 <= refused.offset < refused.needed_bytes <= whole
        assert len(data) < refused.needed_bytes
        return "incomplete"
    if isinstance(refused, GgufError):
        assert 0 <= refused.offset <= len(data), (refused.offset, len(data))
        assert 0 < len(refused.reason) < 70_000
    elif refused is not None:
        assert refused.what
        assert refused.hint
    return "read" if refused is None else "refused"


def _refusal(data: bytes, whole: int) -> GgufError | ModelError | None:
    try:
        facts = facts_of([read_header(data, size_bytes=whole)], source="m.gguf", sizes_bytes=[whole])
    except (GgufError, ModelError) as error:
        return error
    assert 0 <= facts.weight_bytes_per_token <= facts.tensor_bytes <= whole
    assert 0 <= facts.compute_parameters <= facts.parameters
    assert facts.n_layer is None or 0 < facts.n_layer <= 512
    return None
