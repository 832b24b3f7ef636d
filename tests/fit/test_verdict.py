from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgetop.fit.assessment import RunTarget, judge
from edgetop.fit.memory import MemoryNeed, MemoryRoom
from tests.support.example_machine import GIB, figure, place_of, room_of

MIB = 2**20


def at(room: MemoryRoom | None, gpu_room: MemoryRoom | None = None) -> RunTarget:
    return replace(place_of(), room=room, gpu_room=gpu_room)


def need(needed_mib: int, *, gpu_mib: int = 0, block_mib: int = 0, droppable_mib: int = 0) -> MemoryNeed:
    return MemoryNeed(
        weights_bytes=(needed_mib + droppable_mib) * MIB, repack_bytes=0, kv_bytes=0, compute_bytes=0, output_bytes=0,
        process_bytes=0, gpu_bytes=gpu_mib * MIB, gpu_block_bytes=block_mib * MIB,
        droppable_bytes=droppable_mib * MIB, basis="formula",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("available_mib", "total_gib", "fit", "left_mib"),
    [
        (1200, 2, "tight", 200),
        (1210, 2, "fits", 210),  # a tenth of 2 GiB is 205 MiB
        (1000, 2, "tight", 0),
        (999, 2, "does not fit", -1),
        (2025, 256, "fits", 1025),  # never more than 1 GiB has to stay free
        (2023, 256, "tight", 1023),
    ],
)
def test_the_fit_follows_from_what_stays_free(available_mib: int, total_gib: int, fit: str, left_mib: int) -> None:
    verdict = judge(need(1000), at(room_of(available_mib * MIB, total_gib * GIB)), None)
    assert (verdict.fit, verdict.left_bytes) == (fit, left_mib * MIB)
    assert verdict.pace is None


def test_pages_that_the_kernel_may_drop_need_no_room() -> None:
    verdict = judge(need(1000, droppable_mib=500), at(room_of(1300 * MIB, 2 * GIB)), None)
    assert verdict.fit == "fits"


def test_a_gpu_with_memory_of_its_own_is_judged_apart() -> None:
    gpu = MemoryRoom(available_bytes=700 * MIB, limit="gpu", total_bytes=1 * GIB)
    room = room_of(8 * GIB)
    on_gpu = judge(need(1000, gpu_mib=800), at(room, gpu), None)
    assert (on_gpu.fit, on_gpu.left_bytes) == ("does not fit", -100 * MIB)
    assert judge(need(1000), at(room, gpu), None).fit == "fits"


def test_a_block_that_the_gpu_cannot_give_in_one_piece_does_not_fit() -> None:
    room = replace(room_of(6 * GIB, 8 * GIB), largest_block_bytes=512 * MIB)
    assert judge(need(1000, gpu_mib=900, block_mib=600), at(room), None).fit == "does not fit"
    assert judge(need(1000, gpu_mib=900, block_mib=500), at(room), None).fit == "fits"


def test_what_is_not_known_is_not_judged() -> None:
    verdict = judge(None, at(room_of(GIB)), None)
    assert (verdict.fit, verdict.left_bytes, verdict.pace) == (None, None, None)
    assert verdict.words == "room not known, speed not known"


def test_the_ends_of_the_band_are_judged_too() -> None:
    verdict = judge(None, at(None), figure(5.0, off=0.5))
    assert (verdict.pace_at_worst, verdict.pace, verdict.pace_at_best) == (
        "too slow for reading",
        "usable",
        "comfortable",
    )
