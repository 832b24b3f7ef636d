"""What to change at a llama-server: from what it counted, with an effect that was computed."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.fit.assessment import RunTarget
from edgetop.fit.devices import load_devices, machine_of
from edgetop.fit.model_facts import read_facts
from edgetop.live.advice import Observed, advise


@pytest.fixture(scope="module")
def place() -> RunTarget:
    machine = machine_of(next(iter(load_devices().values())), strict=False)
    return RunTarget(machine=machine, threads=4, room=None)


@pytest.fixture
def observed(small_model: Path) -> Observed:
    return Observed(facts=read_facts(small_model), settings=EngineSettings(n_ctx=8192, n_threads=4))


def names(observed: Observed, place: RunTarget) -> dict[str, str]:
    return {finding.name: finding.change for finding in advise(observed, place, "bench")}


def test_nothing_is_advised_without_a_measurement(observed: Observed, place: RunTarget) -> None:
    assert "threads" not in names(observed, place)
    assert "context" not in names(observed, place)
    assert "draft model" not in names(observed, place)


def test_more_threads_than_help_are_told_with_what_fewer_bring(observed: Observed, place: RunTarget) -> None:
    crowded = replace(observed, settings=replace(observed.settings, n_threads=16), decode_tokens_per_s=1.0)
    (finding,) = [each for each in advise(crowded, place, "bench") if each.name == "threads"]
    assert finding.speed is not None
    assert finding.joules is not None
    assert finding.speed.low > 1 > finding.joules.value
    assert finding.change.startswith("-t ")
    assert finding.prove == "bench"


@pytest.mark.parametrize("chosen", [1, 2, 3, 4, 5, 16])
def test_no_more_threads_than_cores_are_advised(chosen: int, observed: Observed, place: RunTarget) -> None:
    slow = replace(observed, settings=replace(observed.settings, n_threads=chosen), decode_tokens_per_s=0.1)
    advised = names(slow, place).get("threads")
    assert (advised is None) == (chosen == place.threads), "all cores are the best here, and there are no more"
    assert advised is None or int(advised.removeprefix("-t ")) <= place.threads


def test_a_context_that_nobody_uses_frees_memory(observed: Observed, place: RunTarget) -> None:
    used = replace(observed, longest_context=300)
    assert names(used, place)["context"] == "-c 1024"
    (finding,) = [each for each in advise(used, place, "") if each.name == "context"]
    assert finding.speed is None
    # Keys and values of 7168 tokens: 30 layers, 2 x 192 numbers of 2 bytes.
    assert finding.saves_bytes is not None
    assert finding.saves_bytes >= 7168 * 30 * 2 * 192 * 2
    assert "context" not in names(replace(observed, longest_context=5000), place)


def test_a_draft_model_that_costs_more_than_it_brings(observed: Observed, place: RunTarget) -> None:
    poor = replace(
        observed, steps=100, drafted=1600, accepted=50, draft_bytes=observed.facts.weight_bytes_per_token // 2
    )
    assert names(poor, place)["draft model"] == "leave -md out"
    good = replace(poor, accepted=1500, draft_bytes=poor.draft_bytes // 20)
    assert "draft model" not in names(good, place)


def test_swap_is_told(observed: Observed, place: RunTarget) -> None:
    assert "swap" in names(replace(observed, swapped_bytes=100 * 2**20), place)
    assert "swap" not in names(observed, place)


def test_on_a_machine_that_others_keep_busy_no_rate_is_promised(observed: Observed, place: RunTarget) -> None:
    """Seen on two cores under a load of 15: eight threads got 9 tok/s and two threads 1, since each has its share."""
    crowded = replace(
        observed, settings=replace(observed.settings, n_threads=16), decode_tokens_per_s=1.0, longest_context=300,
        others_load=15.0,
    )  # fmt: skip
    found = names(crowded, place)
    assert "threads" not in found
    assert {"contention", "context"} <= set(found)
