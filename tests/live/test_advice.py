"""What to change at a llama-server: from what it counted, with an effect that was computed."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EnginePerf, EngineSettings
from edgetop.core.records import Record, SourceAdded, TurnFinished
from edgetop.core.sources import Channel, SourceInfo
from edgetop.fit.assessment import RunTarget
from edgetop.fit.devices import load_devices, machine_of
from edgetop.fit.model_facts import read_facts
from edgetop.inference.server.address import Address
from edgetop.live.advice import Observed, advise, observe, observe_session, words_of
from edgetop.live.server_monitor import ServerLocation
from edgetop.telemetry.host import Host
from tests.support.loopback_server import document, loopback_server
from tests.support.recorded_sessions import HEAD, LOADED, MS, S, fold, sample, turn
from tests.support.server_usage import PROPS


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


def test_a_context_of_several_slots_is_enough_for_each(observed: Observed, place: RunTarget) -> None:
    used = replace(observed, settings=replace(observed.settings, n_ctx=32768), longest_context=300, slots=4)
    assert names(used, place)["context"] == "-c 4096"
    assert "context" not in names(replace(used, settings=replace(used.settings, n_ctx=6000)), place)


def test_a_batch_that_is_too_small_for_the_prompts_it_reads(observed: Observed, place: RunTarget) -> None:
    small = replace(observed.settings, n_ubatch=4)
    reads = replace(observed, settings=small, longest_context=900, prompt_tokens=5000, prompt_s=5000.0)
    (finding,) = [
        each for each in advise(reads, place, "edgetop bench --server u -p 128 -n 64") if each.name == "batch"
    ]
    assert finding.speed is not None
    assert finding.speed.low > 1
    assert (finding.change, finding.prove) == ("-b 2048 -ub 512", "edgetop bench --server u -p 512 -n 64")
    assert "prompt tok/s x" in words_of(finding)[1]
    assert "prompt J/token x" in words_of(finding)[1]
    assert "batch" not in names(replace(reads, longest_context=7), place), "no prompt fills two such batches"
    assert "batch" not in names(replace(reads, settings=replace(small, n_ubatch=None)), place)
    assert "batch" not in names(replace(reads, prompt_s=0.001), place), "it is as fast as can be"


def test_a_server_that_keeps_no_prompt(observed: Observed, place: RunTarget) -> None:
    forgets = replace(observed, keeps_prompts=False, prompt_tokens=5000, prompt_s=30.0, decode_s=10.0, others_load=15.0)
    (finding,) = [each for each in advise(forgets, place, "") if each.name == "prompt cache"]
    assert finding.speed is not None
    assert finding.speed.low == pytest.approx(1), "prompts may have nothing in common"
    assert finding.speed.high == pytest.approx(40 / 10), "or all"
    assert "75% of the time" in finding.what
    assert "prompt cache" not in names(replace(forgets, keeps_prompts=True), place)
    assert "prompt cache" not in names(replace(forgets, prompt_s=0.5), place)


@pytest.mark.parametrize(
    ("arguments", "environment", "n_ctx", "keeps"),
    [
        ((), "", 8192, True),
        (("-np", "4"), "", 4 * 8192, True),
        (("-np", "4", "-kvu"), "", 8192, True),
        (("-no-kvu", "--no-cache-prompt"), "", 4 * 8192, False),
        (("--parallel=4",), "LLAMA_ARG_KV_UNIFIED=1\0LLAMA_ARG_CACHE_PROMPT=off", 8192, False),
    ],
    ids=["default", "slots", "slots that share", "apart", "environment"],
)
def test_a_server_is_seen_as_it_was_started(
    arguments: tuple[str, ...], environment: str, n_ctx: int, *, keeps: bool, tmp_path: Path, small_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    proc = tmp_path / "proc/7"
    proc.mkdir(parents=True)
    words = ("llama-server", "-m", small_model.name, "-b", "256", *arguments)
    (proc / "cmdline").write_text("".join(f"{word}\0" for word in words))
    (proc / "environ").write_text(environment)
    (proc / "cwd").symlink_to(small_model.parent)
    monkeypatch.setattr(ServerLocation, "pid", lambda _: 7)
    with loopback_server() as wire:
        props = {
            **PROPS,
            "model_path": small_model.name,
            "total_slots": 4,
            "default_generation_settings": {"n_ctx": 8192},
        }
        wire.answers["GET /props"] = document(props)
        wire.answers["GET /metrics"] = document(
            b"llamacpp:prompt_tokens_total 700\nllamacpp:prompt_seconds_total 7.5\nllamacpp:n_past_max 321\n"
            b"llamacpp:tokens_predicted_total 100\nllamacpp:tokens_predicted_seconds_total 10\n",
            media="text/plain",
        )
        seen = observe(Address.parse(wire.url), "", Host(sysroot=tmp_path))
    assert isinstance(seen, Observed), "its model is in the folder where it was started"
    assert (seen.settings.n_ctx, seen.settings.n_batch, seen.slots, seen.keeps_prompts) == (n_ctx, 256, 4, keeps)
    assert (seen.prompt_tokens, seen.prompt_s, seen.decode_s, seen.decode_tokens_per_s) == (700, 7.5, 10.0, 10.0)
    assert seen.longest_context == 321


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
    assert {"contention", "context", "KV type"} <= set(found)
    kv = next(each for each in advise(crowded, place, "") if each.name == "KV type")
    assert (kv.speed, kv.joules) == (None, None)
    assert kv.saves_bytes, "memory is freed however busy the machine is"


def test_what_throttling_costs_was_measured(observed: Observed, place: RunTarget) -> None:
    hot = replace(observed, decode_tokens_per_s=10.0, throttled_tokens_per_s=6.0)
    (finding,) = [each for each in advise(hot, place, "bench") if each.name == "throttling"]
    assert finding.speed is not None
    assert finding.speed.value == pytest.approx(10 / 6)
    assert finding.joules is None, "a cooler device draws another power"
    assert "throttling" not in names(replace(hot, throttled_tokens_per_s=9.9), place)


def test_weights_that_are_read_from_the_disk_again(observed: Observed, place: RunTarget) -> None:
    size = observed.facts.size_bytes
    paging = replace(observed, decode_tokens_per_s=0.5, reread_bytes=2 * size)
    (finding,) = [each for each in advise(paging, place, "bench") if each.name == "disk"]
    assert finding.speed is not None
    assert finding.speed.low > 1
    (untimed,) = [each for each in advise(replace(paging, decode_tokens_per_s=None), place, "") if each.name == "disk"]
    assert untimed.speed is None, "without a measured rate nothing is promised"
    assert "disk" not in names(replace(paging, reread_bytes=size // 10), place)


def _with_drafts(records: list[Record]) -> list[Record]:
    perf = EnginePerf(
        prefill_ms=200.0, prefill_tokens=50, decode_ms=400.0, decode_tokens=80, draft_tokens=90, draft_accepted=30
    )
    return [replace(each, perf=perf) if isinstance(each, TurnFinished) else each for each in records]


def test_a_session_of_one_s_own_engine_shows_what_it_did(observed: Observed, tmp_path: Path) -> None:
    many = (100 * MS,) * 79
    session = fold([*HEAD, *turn(1, at_us=S, gaps_us=many), *_with_drafts(turn(2, at_us=20 * S, gaps_us=many))])
    proc = tmp_path / "proc/7"
    proc.mkdir(parents=True)
    (proc / "status").write_text("Name:\tx\nVmSwap:\t  65536 kB\n")
    (proc / "io").write_text(f"rchar: 5\nread_bytes: {observed.facts.size_bytes + 3_000_000}\nwrite_bytes: 0\n")
    (tmp_path / "proc/loadavg").write_text("9.50 1 1 7/99 77\n")
    for thread, state in ((7, "R"), (8, "R"), (9, "S")):
        (proc / f"task/{thread}").mkdir(parents=True)
        (proc / f"task/{thread}/stat").write_text(f"{thread} (a ) b) {state} 1 2 3\n")
    found = observe_session(session, observed.facts, session.end_us, Host(sysroot=tmp_path), 7)
    assert found.decode_tokens_per_s == pytest.approx(10.0)
    assert found.throttled_tokens_per_s is None
    assert found.longest_context == 60 + 80
    assert (found.drafted, found.accepted, found.steps) == (90, 30, 50)
    assert (found.prompt_tokens, found.prompt_s, found.decode_s) == (100, 0.4, 0.8)
    assert (found.swapped_bytes, found.reread_bytes) == (65536 * 1024, 3_000_000)
    assert found.others_load == 7 - 1 - 2, "but for this very thread, and what the engine runs"
    (tmp_path / "proc/loadavg").write_text("0.20 1 1 7/99 77\n")
    again = observe_session(session, observed.facts, session.end_us, Host(sysroot=tmp_path), 7)
    assert again.others_load == 0.2, "a moment's crowd is none"
    assert found.settings == LOADED.settings
    unseen = observe_session(session, observed.facts, session.end_us, Host(sysroot=tmp_path), None)
    assert (unseen.swapped_bytes, unseen.reread_bytes) == (0, 0)


def test_a_session_that_was_throttled_shows_what_cooling_brings(observed: Observed, place: RunTarget) -> None:
    heat = SourceInfo(
        name="thermal", driver="sysfs", period_s=1.0, channels=(Channel(name="throttle.passive_cooling", unit="1"),)
    )
    hot = [sample(heat, seconds * S, float(20 <= seconds <= 40)) for seconds in range(45)]
    cool, slow = turn(1, at_us=S, gaps_us=(100 * MS,) * 79), turn(2, at_us=22 * S, gaps_us=(200 * MS,) * 79)
    session = fold([*HEAD, SourceAdded(source=heat), *cool, *hot[:22], *slow, *hot[22:]])
    seen = observe_session(session, observed.facts, session.end_us, Host(), None)
    assert seen.decode_tokens_per_s == pytest.approx(10.0)
    assert seen.throttled_tokens_per_s == pytest.approx(5.0)
    (finding,) = [each for each in advise(replace(seen, others_load=0.0), place, "bench") if each.name == "throttling"]
    assert finding.speed is not None
    assert finding.speed.value == pytest.approx(2.0)


def test_a_server_in_swap_on_a_slow_disk_is_told_so(
    observed: Observed, place: RunTarget, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files of /proc as a Raspberry Pi of 1 GB has them while it reads a model again and again."""
    proc = tmp_path / "proc/7"
    proc.mkdir(parents=True)
    (proc / "cmdline").write_text(f"llama-server\0-m\0{small_model}\0-t\0{place.threads}\0")
    (proc / "status").write_text("Name:\tllama-server\nVmRSS:\t  401520 kB\nVmSwap:\t  204800 kB\nThreads:\t9\n")
    read = 5 * observed.facts.size_bytes
    (proc / "io").write_text(f"rchar: 9\nwchar: 2\nsyscr: 1\nsyscw: 1\nread_bytes: {read}\nwrite_bytes: 0\n")
    (tmp_path / "proc/loadavg").write_text("0.40 0.30 0.10 1/99 77\n")
    monkeypatch.setattr(ServerLocation, "pid", lambda _: 7)
    with loopback_server() as wire:
        wire.answers["GET /props"] = document({**PROPS, "model_path": str(small_model), "total_slots": 1})
        counted = b"llamacpp:tokens_predicted_total 100\nllamacpp:tokens_predicted_seconds_total 1000\n"
        wire.answers["GET /metrics"] = document(counted, media="text/plain")
        seen = observe(Address.parse(wire.url), "", Host(sysroot=tmp_path))
    assert isinstance(seen, Observed)
    found = {each.name: each for each in advise(seen, place, "bench")}
    assert found["swap"].saves_bytes == 200 * 2**20
    assert found["disk"].speed is not None
    assert found["disk"].joules is not None
    assert found["disk"].speed.low > 1 > found["disk"].joules.high
    assert seen.reread_bytes == 4 * observed.facts.size_bytes
    assert "contention" not in found


def test_a_few_tokens_of_a_session_are_no_rate(observed: Observed) -> None:
    session = fold([*HEAD, *turn(1, at_us=S)])
    assert observe_session(session, observed.facts, session.end_us, Host(), None).decode_tokens_per_s is None


def test_advice_in_words_names_change_effect_and_proof(observed: Observed, place: RunTarget) -> None:
    crowded = replace(observed, settings=replace(observed.settings, n_threads=16), decode_tokens_per_s=1.0)
    what, change, prove = words_of(advise(crowded, place, "edgetop bench -m x")[0])
    assert what.startswith("It decodes with 16 threads")
    assert change.startswith("-> -t 4: tok/s x")
    assert "J/token x0." in change
    assert prove == "proved by: edgetop bench -m x, before and after"
