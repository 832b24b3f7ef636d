from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgetop.core.clock import STOPPED_US, monotonic_us
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import Event, ModelLoaded, Prefill
from edgetop.inference.protocol import ChatMessage, LoadFailed
from edgetop.inference.scripted import InjectedFault, Reply, Script
from edgetop.live.conversation import STUCK_AFTER_S, UNRESPONSIVE_AFTER_S
from tests.live.conftest import MODEL, Talk
from tests.support.eventually import eventually

Begin = Callable[[Script], Talk]
LONG = " ".join(f"word{number}" for number in range(2000))


def slow(*replies: Reply) -> Script:
    return Script(replies=replies, tokens_per_s=100.0)


def test_answers_in_turn_and_keeps_what_was_said(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text="First."), Reply(text="Second."))))
    chat.load()
    assert chat.ask("One?") == "First."
    assert chat.ask("Two?") == "Second."
    assert chat.said == [("user", "One?"), ("assistant", "First."), ("user", "Two?"), ("assistant", "Second.")]
    assert [turn.prompt for turn in chat.begun] == ["One?", "Two?"]
    assert [turn.stop_reason for turn in chat.ended] == ["end_of_generation"] * 2
    assert [chat.tokens_of(turn.turn) for turn in chat.ended] == [turn.generated_tokens for turn in chat.ended]


def test_a_stopped_answer_stays_and_can_be_gone_on_with(talk: Begin) -> None:
    chat = talk(slow(Reply(text=LONG), Reply(text=" and so on.")))
    chat.load()
    chat.conversation.submit("Count.")
    chat.answer_grows()
    chat.conversation.stop()
    assert chat.conversation.phase == "stopping"
    chat.reach("ready")
    (stopped,) = chat.ended
    assert stopped.stop_reason == "cancelled"
    so_far = chat.said[-1][1]
    assert so_far
    assert LONG.startswith(so_far)

    assert chat.conversation.continue_answer()
    chat.reach("ready")
    assert chat.said == [("user", "Count."), ("assistant", f"{so_far} and so on.")]


def test_a_retry_answers_the_last_prompt_in_place_of_its_answer(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text="Bad."), Reply(text="Better."))))
    chat.load()
    chat.ask("How?")
    assert chat.conversation.retry()
    chat.reach("ready")
    assert chat.said == [("user", "How?"), ("assistant", "Better.")]
    assert [(turn.prompt, turn.retry_of) for turn in chat.begun] == [("How?", None), ("How?", 1)]


def test_a_prompt_asked_instead_takes_the_place_of_the_last_turn(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text="One."), Reply(text="Two."), Reply(text="Three."))))
    chat.load()
    chat.ask("First?")
    chat.ask("Second?")
    assert chat.conversation.replace_prompt("Second, changed?")
    chat.reach("ready")
    assert chat.said[2:] == [("user", "Second, changed?"), ("assistant", "Three.")]
    assert [(turn.prompt, turn.retry_of) for turn in chat.begun[1:]] == [("Second?", None), ("Second, changed?", 2)]


def test_a_turn_that_was_taken_back_is_not_sent_again_and_the_one_before_can_be_retried(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text="One."), Reply(text="Two."), Reply(text="Once more."))))
    chat.load()
    chat.ask("First?")
    chat.ask("Second?")
    assert chat.conversation.history.counted_tokens == chat.ended[-1].context_used
    assert chat.conversation.undo()
    assert chat.said == [("user", "First?"), ("assistant", "One.")]
    assert chat.events.count("turn_taken_back") == 1
    assert not chat.conversation.history.counted_tokens
    assert chat.conversation.history.last_prompt == "First?"
    assert chat.conversation.retry()
    chat.reach("ready")
    assert chat.said == [("user", "First?"), ("assistant", "Once more.")]
    assert chat.begun[-1].retry_of == 1
    assert chat.conversation.undo()
    assert not chat.conversation.undo()
    assert not chat.conversation.replace_prompt("Anything?")
    assert not chat.conversation.history.last_prompt


def test_messages_are_not_changed_while_they_are_answered(talk: Begin) -> None:
    chat = talk(slow(Reply(text=LONG)))
    chat.load()
    chat.conversation.submit("Count.")
    assert not chat.conversation.undo()
    assert not chat.conversation.replace_prompt("Stop.")
    assert not chat.conversation.resume([], system=None, session_id="a")
    assert chat.said == [("user", "Count.")]


def test_an_earlier_conversation_is_gone_on_with(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text="Of course."), Reply(text="Differently."))))
    chat.load()
    earlier = [ChatMessage("user", "Remember me?"), ChatMessage("assistant", "Yes.")]
    assert chat.conversation.resume(earlier, system="Be kind.", session_id="abc")
    chat.ask("Still?")
    assert chat.said == [
        *[(each.role, each.content) for each in earlier],
        ("user", "Still?"),
        ("assistant", "Of course."),
    ]
    assert chat.begun[-1].system == "Be kind."
    # A turn of the earlier session has no number here, so that an event says that it was taken back.
    assert chat.conversation.undo()
    assert chat.conversation.retry()
    chat.reach("ready")
    assert chat.begun[-1].retry_of is None
    assert chat.said == [("user", "Remember me?"), ("assistant", "Differently.")]
    assert chat.events.count("turn_taken_back") == 2


def test_there_is_nothing_to_retry_or_to_go_on_with_at_first_and_while_busy(talk: Begin) -> None:
    chat = talk(slow(Reply(text=LONG)))
    chat.load()
    assert not chat.conversation.retry()
    assert not chat.conversation.continue_answer()
    chat.conversation.submit("Count.")
    assert not chat.conversation.retry()
    assert not chat.conversation.continue_answer()


def test_what_was_cleared_is_not_sent_again(talk: Begin) -> None:
    chat = talk(Script())
    chat.load()
    chat.ask("A question.")
    chat.ask("A question.")
    chat.conversation.clear()
    chat.ask("A question.")
    first, second, after = (turn.prompt_tokens for turn in chat.ended)
    assert second > first == after  # type: ignore[operator]
    assert [message for _, message in chat.said] == ["A question.", "A scripted reply."]


def test_a_load_stops_the_answer_under_way(talk: Begin) -> None:
    chat = talk(slow(Reply(text=LONG), Reply(text="From the other one.")))
    chat.load()
    chat.conversation.submit("Count.")
    chat.answer_grows()
    other = Path("other.gguf")
    chat.conversation.load(other, EngineSettings(n_ctx=256))
    chat.until(lambda: len(loads(chat)) == 2, "the other model is loaded")
    assert [turn.stop_reason for turn in chat.ended] == ["cancelled"]
    assert loads(chat)[1].settings.n_ctx == 256
    assert Path(loads(chat)[1].model.path).name == other.name
    assert chat.ask("And now?") == "From the other one."


def test_a_death_in_the_middle_keeps_what_was_said_and_a_reload_goes_on(talk: Begin) -> None:
    chat = talk(
        Script(replies=(Reply(text=LONG, fault=InjectedFault(kind="segfault", at_token=20)),), tokens_per_s=500)
    )
    chat.load()
    chat.conversation.submit("Count.")
    chat.reach("dead")
    (died,) = chat.ended
    assert died.stop_reason == "engine_died"
    assert died.generated_tokens == chat.tokens_of(1) == 20
    assert died.error
    said = chat.said
    assert said[-1] == ("assistant", LONG[:80])
    (notice,) = chat.notices
    assert "SIGSEGV" in notice.text
    assert notice.hint
    assert notice.severity == "error"
    assert "engine_died" in chat.events

    chat.conversation.reload()
    chat.reach("ready")
    assert chat.said == said


def test_a_crash_in_the_first_decode_is_tried_once_more_without_extra_buffers(talk: Begin) -> None:
    fault = InjectedFault(kind="segfault", at_token=1, unless_extra_bufts_off=True)
    chat = talk(Script(replies=(Reply(text="An answer.", fault=fault),)))
    chat.load()
    chat.conversation.submit("Well?")
    chat.until(lambda: len(chat.ended) == 2, "the question is answered")
    assert chat.said == [("user", "Well?"), ("assistant", "An answer.")]
    assert [turn.stop_reason for turn in chat.ended] == ["engine_died", "end_of_generation"]
    assert [(turn.prompt, turn.retry_of) for turn in chat.begun] == [("Well?", None), ("Well?", 1)]
    assert [load.settings.use_extra_bufts for load in loads(chat)] == [True, False]
    assert "engine_restarted" in chat.events
    assert [notice.severity for notice in chat.notices] == ["warning"]


def test_a_crash_that_comes_back_is_left_at_that(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text="An answer.", fault=InjectedFault(kind="abort")),)))
    chat.load()
    chat.conversation.submit("Well?")
    chat.until(lambda: len(chat.ended) == 2, "it was tried twice")
    assert chat.conversation.phase == "dead"
    assert [turn.stop_reason for turn in chat.ended] == ["engine_died"] * 2
    assert chat.events.count("engine_restarted") == 1


def test_who_stops_the_second_try_is_not_answered_later_on(talk: Begin) -> None:
    fault = InjectedFault(kind="segfault", unless_extra_bufts_off=True)
    chat = talk(Script(replies=(Reply(text="An answer.", fault=fault),), load_s=0.5))
    chat.load()
    chat.conversation.submit("Well?")
    chat.until(lambda: "engine_restarted" in chat.events, "it is tried once more")
    chat.conversation.stop()
    chat.reach("no_model")
    chat.load()
    assert len(chat.begun) == 1


def test_a_load_that_waits_for_an_engine_that_dies_is_carried_out(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text=LONG, fault=InjectedFault(kind="hang", at_token=5)),)))
    chat.load()
    chat.conversation.submit("Count.")
    chat.answer_grows()
    chat.conversation.load(Path("other.gguf"), EngineSettings())
    chat.conversation.kill()
    chat.reach("ready")
    assert [Path(load.model.path).name for load in loads(chat)] == [MODEL.name, "other.gguf"]


def test_an_engine_that_does_not_stop_is_told_of_and_can_be_killed(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text=LONG, fault=InjectedFault(kind="hang", at_token=10)),)))
    chat.load()
    chat.conversation.submit("Count.")
    chat.answer_grows(10)
    chat.conversation.stop()
    chat.conversation.check()
    assert not chat.notices
    chat.clock.skip(UNRESPONSIVE_AFTER_S + 1)
    chat.conversation.check()
    chat.conversation.check()
    assert len(chat.notices) == 1, "once is enough"

    chat.conversation.kill()
    chat.reach("dead")
    assert chat.said[-1] == ("assistant", LONG[:40])
    assert chat.ended[-1].stop_reason == "engine_died"
    chat.conversation.reload()
    chat.reach("ready")


def test_an_engine_that_computes_nothing_for_long_is_ended(talk: Begin) -> None:
    chat = talk(Script(replies=(Reply(text=LONG, fault=InjectedFault(kind="hang", at_token=10)),)))
    chat.load()
    chat.conversation.submit("Count.")
    chat.answer_grows(10)
    for _ in range(2):
        chat.clock.skip(STUCK_AFTER_S + 1)
        chat.conversation.check()
    chat.reach("dead")
    assert "engine_stuck" in chat.events
    assert chat.ended[-1].stop_reason == "engine_died"


def test_an_engine_that_dies_while_it_loads_says_so_as_a_failed_load(talk: Begin) -> None:
    chat = talk(Script(load_accident=InjectedFault(kind="abort", last_words="GGML_ASSERT(tensor) failed")))
    chat.conversation.load(MODEL, EngineSettings())
    chat.reach("dead")
    (failed,) = [each for each in chat.heard if isinstance(each, LoadFailed)]
    assert "GGML_ASSERT" in failed.message
    assert failed.hint


def test_a_failed_load_leaves_no_model_and_the_next_one_is_tried(talk: Begin) -> None:
    refusal = LoadFailed(reason="not_a_model", message="It is none.", hint="Choose another.")
    chat = talk(Script(load_fails=refusal))
    for _ in range(2):
        chat.conversation.load(MODEL, EngineSettings())
        chat.reach("no_model")
    assert [each for each in chat.heard if isinstance(each, LoadFailed)] == [refusal, refusal]
    assert chat.events.count("load_failed") == 2


@pytest.mark.parametrize("fault", [None, InjectedFault(kind="hang", at_token=10)], ids=["well", "stuck"])
def test_closing_ends_the_turn_and_the_worker(fault: InjectedFault | None, talk: Begin) -> None:
    chat = talk(slow(Reply(text=LONG, fault=fault)))
    chat.load()
    chat.conversation.submit("Count.")
    chat.answer_grows(10)
    worker = psutil.Process(chat.conversation.engine.pid)
    chat.conversation.close()
    eventually(lambda: not worker.is_running(), "the worker has ended")
    (ended,) = chat.ended
    assert ended.stop_reason == "cancelled"
    assert ended.generated_tokens == chat.tokens_of(1) >= 10


def loads(chat: Talk) -> list[ModelLoaded]:
    return [record for record in chat.records if isinstance(record, ModelLoaded)]


@pytest.mark.parametrize("during", ["prefill", "decode"])
def test_a_worker_that_was_stopped_did_not_compute(talk: Begin, during: str) -> None:
    chat = talk(
        Script(
            replies=(Reply(text=LONG),), tokens_per_s=100.0, prefill_tokens_per_s=4.0 if during == "prefill" else 2e4
        )
    )
    chat.load()
    chat.conversation.submit("Count.")
    if during == "prefill":
        chat.until(lambda: any(isinstance(each, Prefill) for each in chat.records), "the prompt is being evaluated")
    else:
        chat.answer_grows(3)
    worker = psutil.Process(chat.conversation.engine.pid)
    worker.suspend()
    begin_us = monotonic_us()
    # What is measured is the pause itself, so that there is nothing to wait for but the time.
    eventually(lambda: monotonic_us() - begin_us > STOPPED_US + 600_000, "the pause is long enough")
    worker.resume()
    chat.until(lambda: "paused" in chat.events, "the pause is told")
    (paused,) = [each for each in chat.records if isinstance(each, Event) and each.kind == "paused"]
    assert 0.9 * STOPPED_US / 1e6 < float(paused.data["paused_s"]) <= (monotonic_us() - begin_us) / 1e6
    assert "the model was stopped" in paused.text
    assert begin_us < paused.t_us <= monotonic_us()
    chat.answer_grows(12)
    chat.conversation.stop()
    chat.reach("ready")
    assert chat.events.count("paused") == 1


def test_between_slow_and_uneven_tokens_the_worker_itself_tells_that_it_stood_still(talk: Begin) -> None:
    """On a busy machine gaps differ so much that none stands out."""
    chat = talk(Script(replies=(Reply(text=LONG),), tokens_per_s=100.0))
    chat.load()
    chat.conversation.submit("Count.")
    chat.answer_grows(3)
    worker = psutil.Process(chat.conversation.engine.pid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgetop.live.conversation.pause_of", lambda _gap_us, _others_us: 0)
        worker.suspend()
        begin_us = monotonic_us()
        eventually(lambda: monotonic_us() - begin_us > STOPPED_US + 600_000, "the pause is long enough")
        worker.resume()
        chat.until(lambda: "paused" in chat.events, "the pause is told")
        chat.answer_grows(12)
    chat.conversation.stop()
    chat.reach("ready")
    (paused,) = [each for each in chat.records if isinstance(each, Event) and each.kind == "paused"]
    assert float(paused.data["paused_s"]) > 0.7 * STOPPED_US / 1e6
