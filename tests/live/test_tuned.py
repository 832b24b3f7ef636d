"""Defaults of tuned models: kept whole, found again by content and machine, and below what a person says."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.io.json import save_kept
from edgetop.io.model_file import content_key
from edgetop.live.this_machine import (
    TUNED_MAX,
    TunedError,
    TunedModel,
    _TunedFile,
    load_tuned,
    remove_tuned,
    save_tuned,
    tuned_for,
    with_tuned,
)

ALL_OPEN = frozenset({"n_threads", "n_threads_batch", "n_batch", "n_ubatch", "type_k", "type_v"})
TUNED = TunedModel(
    model="abc", machine="board", label="a", size_bytes=5, goal="speed", tuned_at="2026-10-12T14:03:22+00:00",
    n_threads=2, n_threads_batch=4, n_ubatch=256, kv_type="q8_0",
)  # fmt: skip


def test_what_was_saved_is_found_by_content_and_machine(tmp_path: Path) -> None:
    file, model = tmp_path / "tuned.json", tmp_path / "a.gguf"
    model.write_bytes(b"model")
    tuned = replace(TUNED, model=content_key(model))
    assert load_tuned(file) == ()
    assert tuned_for(model, "board", file) is None
    save_tuned(file, tuned)
    assert tuned_for(model, "board", file) == tuned
    assert tuned_for(model, "other board", file) is None
    moved = model.rename(tmp_path / "b.gguf")
    assert tuned_for(moved, "board", file) == tuned, "a model goes by what it is, not by its name"
    moved.write_bytes(b"mODEL")
    assert tuned_for(moved, "board", file) is None
    assert tuned_for(tmp_path / "nowhere", "board", file) is None


def test_tuning_again_takes_the_place_of_what_was(tmp_path: Path) -> None:
    file = tmp_path / "tuned.json"
    save_tuned(file, TUNED)
    save_tuned(file, replace(TUNED, machine="another"))
    save_tuned(file, replace(TUNED, n_threads=3))
    assert {(each.machine, each.n_threads) for each in load_tuned(file)} == {("board", 3), ("another", 2)}
    assert remove_tuned(file, "abc", "board")
    assert not remove_tuned(file, "abc", "board")
    assert [each.machine for each in load_tuned(file)] == ["another"]


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    file = tmp_path / "tuned.json"
    save_tuned(file, TUNED)
    many = tuple(replace(TUNED, model=str(number), tuned_at=f"2026-10-12T{number:06d}") for number in range(TUNED_MAX))
    save_kept(file, _TunedFile(models=many), TunedError)
    save_tuned(file, replace(TUNED, model="newest", tuned_at="2027"))
    kept = load_tuned(file)
    assert len(kept) == TUNED_MAX
    assert (kept[0].model, kept[-1].model) == ("1", "newest")


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"models": [{"n_threads": 0}]}', '{"format": "other"}', "[" * 10_000, "\x00", '{"version": 9}'],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line_and_left_alone(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tuned.json"
    file.write_text(content)
    with pytest.raises(TunedError) as caught:
        load_tuned(file)
    assert "\n" not in caught.value.what
    with pytest.raises(TunedError):
        save_tuned(file, TUNED)
    assert file.read_text() == content


def test_defaults_stand_only_where_a_setting_was_left_open() -> None:
    usual = EngineSettings()
    assert with_tuned(usual, ALL_OPEN, TUNED) == EngineSettings(
        n_threads=2, n_threads_batch=4, n_ubatch=256, type_k="q8_0", type_v="q8_0"
    )
    assert with_tuned(usual, (), TUNED) == usual
    chosen = EngineSettings(n_threads=1)
    found = with_tuned(chosen, ALL_OPEN - {"n_threads"}, TUNED)
    assert (found.n_threads, found.n_threads_batch) == (1, None), "the threads of prefill belong to those of decoding"
    batch = with_tuned(EngineSettings(n_batch=64), ALL_OPEN - {"n_batch"}, TUNED)
    assert (batch.n_batch, batch.n_ubatch) == (64, None)
    assert with_tuned(usual, ALL_OPEN - {"type_k", "type_v"}, TUNED).type_k == "f16"


def test_the_words_say_all_of_it() -> None:
    assert TUNED.words == "2 threads (4 for prefill), ubatch 256, KV cache q8_0; tuned for speed"
    assert replace(TUNED, n_threads=1, n_threads_batch=1, n_ubatch=None).words == (
        "1 thread, KV cache q8_0; tuned for speed"
    )
