from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.records import ReplyPart, Tokens, TurnStarted
from edgetop.inference.chat_template import REPLY_FORMATS, ControlPiece, ReplyFormat, opened_part
from edgetop.inference.protocol import Report
from edgetop.inference.reply import MARKS_MOST, SPACE_BEFORE_REASONING, WAITING_MOST, Piece, ReplyBatcher, ReplyText
from edgetop.session.turn import Turn


def push_all(reply: ReplyText, tokens: list[bytes]) -> list[Piece]:
    pieces = [piece for number, token in enumerate(tokens) for piece in reply.push(number, token)]
    return pieces + reply.finish()


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(places)]


def part_text(pieces: list[Piece], part: ReplyPart) -> str:
    return "".join(piece.text for piece in pieces if piece.part == part)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.integers(0, 10_000), max_size=30))
def test_text_survives_any_cut_into_tokens_with_one_stamp_each(text: str, cuts: list[int]) -> None:
    tokens = cut(text.encode(), cuts)
    pieces = push_all(ReplyText(), tokens)
    whole = "".join(piece.text for piece in pieces)
    if not any(mark in text for form in REPLY_FORMATS for mark in form.marks):
        assert whole == text
    assert [piece.t_us for piece in pieces] == list(range(len(tokens)))


@given(st.text("ab", max_size=12), st.text("abc", max_size=12), st.lists(st.integers(0, 100), max_size=20))
def test_nothing_from_a_stop_string_on_is_given_out(before: str, after: str, cuts: list[int]) -> None:
    text = before + "STOP" + after
    tokens = cut(text.encode(), cuts)
    reply = ReplyText(stop=("STOP", "never"))
    assert "".join(piece.text for piece in push_all(reply, tokens)) == before
    assert reply.stopped


def test_text_that_only_began_like_a_stop_string_is_given_out_when_it_went_another_way() -> None:
    reply = ReplyText(stop=("\nUser:",))
    assert [piece.text for piece in reply.push(0, b"one")] == ["one"]
    assert reply.push(1, b"\n") == []
    assert reply.push(2, b"Us") == []
    assert [piece.text for piece in reply.push(3, b"ually")] == ["\n", "Us", "ually"]
    assert reply.finish() == []


def mark_of(form: ReplyFormat, effect: str) -> str:
    return next(mark for mark, meant in form.marks.items() if meant == effect)


BEGINNING = [form for form in REPLY_FORMATS if "reasoning" in form.marks.values()]


@given(st.sampled_from(BEGINNING), st.lists(st.integers(0, 300), max_size=40))
def test_a_reasoning_part_is_told_apart_however_its_marks_are_cut(form: ReplyFormat, cuts: list[int]) -> None:
    begin, end = mark_of(form, "reasoning"), mark_of(form, "answer")
    text = f"\n{begin}\nlet me see: 2 < 3\n{end}\n\nIt is 3."
    # A cut around each mark keeps reasoning and answer in tokens of their own, as tokenizers do.
    edges = [text.index(begin), text.index(end), text.index(end) + len(end)]
    pieces = push_all(ReplyText(), cut(text.encode(), [*cuts, *edges]))
    assert part_text(pieces, "reasoning").strip() == "let me see: 2 < 3"
    assert part_text(pieces, "answer") == "It is 3."


def tokens_of(text: str) -> list[bytes]:
    """Tokens of a reply in which control tokens stand in ⟨⟩."""
    tokens: list[bytes] = []
    for part in re.split(r"(⟨[^⟩]*⟩)", text):
        if part.startswith("⟨"):
            tokens.append(ControlPiece(part[1:-1].encode()))
        else:
            tokens += [word.encode() for word in re.findall(r"\s*\S{1,3}|\s+", part)]
    return tokens


# By the models' templates and by reports of users.
THINK, END_THINK = "⟨<think>⟩", "⟨</think>⟩"
ANALYSIS = "⟨<|channel|>⟩analysis⟨<|message|>⟩"
COMMENTARY, FINAL = ANALYSIS.replace("analysis", "commentary"), ANALYSIS.replace("analysis", "final")
NEXT = "⟨<|end|>⟩⟨<|start|>⟩assistant"
PLAIN_HARMONY = "<|channel|>analysis<|message|>Hm...<|start|>assistant<|channel|>final<|message|>It is 42.<|end|>"
COMMAND_R = "⟨<|START_THINKING|>⟩I'm\nthinking⟨<|END_THINKING|>⟩⟨<|START_RESPONSE|>⟩Hello!\nSo?⟨<|END_RESPONSE|>⟩"
GRANITE = "Here is my thought process: Hm. Here is my response: It is 4."
TAG_AS_TEXT = "Use the tag <think> like this </think> in HTML."
REPLIES = {
    "harmony": (f"{ANALYSIS}We think.{NEXT}{FINAL}It is 4.", "We think.", "It is 4."),
    "harmony without an end of the analysis": (PLAIN_HARMONY, "Hm...", "It is 42."),
    "harmony that begins in the final channel": (f"{FINAL}It is 4.", "", "It is 4."),
    "harmony with a commentary": (f"{ANALYSIS}Hm.{NEXT}{COMMENTARY}I do.{NEXT}{FINAL}It is 4.", "Hm.", "I do.It is 4."),
    "harmony with two analyses": (f"{ANALYSIS}One.{NEXT}{ANALYSIS}Two.{NEXT}{FINAL}It is 4.", "One.Two.", "It is 4."),
    "gemma 4": ("⟨<|channel>⟩thought\nLet me think.\n⟨<channel|>⟩It is 4.", "Let me think.\n", "It is 4."),
    "gemma 4 without a thought": ("⟨<|channel>⟩thought\n⟨<channel|>⟩It is 4.", "", "It is 4."),
    "hunyuan": ("<think>\nLet me think.\n</think>\n<answer>\nIt is 4.\n</answer>", "Let me think.\n", "It is 4.\n"),
    "granite": (GRANITE, "Hm. ", "It is 4."),
    "granite, quantized": (GRANITE.replace("Here is", "Here's"), "Hm. ", "It is 4."),
    "command r": (COMMAND_R, "I'm\nthinking", "Hello!\nSo?"),
    "mistral": ("⟨[THINK]⟩Let me think.⟨[/THINK]⟩It is 4.", "Let me think.", "It is 4."),
    "minimax": ("⟨<mm:think>⟩Let me think.⟨</mm:think>⟩It is 4.", "Let me think.", "It is 4."),
    "kimi": ("⟨◁think▷⟩Let me think.⟨◁/think▷⟩It is 4.", "Let me think.", "It is 4."),
    "a reasoning that is empty": (f"{THINK}\n\n{END_THINK}\n\nIt is 4.", "", "It is 4."),
    "a reasoning that does not end": (f"{THINK}\nI must think", "I must think", ""),
    "two reasonings": (f"{THINK}\nOne.{END_THINK}\nA.{THINK}\nTwo.{END_THINK}\nB.", "One.Two.", "A.B."),
    "a tag that is text": (TAG_AS_TEXT, "", TAG_AS_TEXT),
    "answer tags that are text": ("<answer>4</answer>", "", "<answer>4</answer>"),
    "a control token that structures nothing": ("It is ⟨<|im_start|>⟩ 4.", "", "It is <|im_start|> 4."),
}


SAID = "Hello, world!\nWhat's up?"
HARMONY_PROMPT, CONSTRAINED = "<|start|>assistant", '{"amount": 123.45}'
K3_ANSWER = "⟨<|open|>⟩response⟨<|sep|>⟩", "⟨<|close|>⟩response⟨<|sep|>⟩⟨<|close|>⟩message⟨<|sep|>⟩"
TO_ASSISTANT = "⟨<|channel|>⟩commentary to=assistant"
AS_LLAMA_CPP_TESTS = {
    # The end of the prompt as the model's template renders it, the reply, its reasoning and its answer, of
    # llama.cpp's tests/test-chat.cpp; white space around a reasoning is left to each program.
    "qwen 3.5, minimax m2": ("<think>\n", f"I'm\nthinking\n{END_THINK}\n\n{SAID}", "I'm\nthinking", SAID),
    "minimax m2, empty": ("<think>\n", f"\n{END_THINK}\n\n{SAID}", "", SAID),
    "qwq": ("<think>\n", f"{END_THINK}Hello, world!", "", "Hello, world!"),
    "nemotron": ("<think>\n", f"I'm\nthinking\n{END_THINK}\n{SAID}", "I'm\nthinking", SAID),
    "deepseek v3.1": ("<think>", "REASONING</think>\nCONTENT", "REASONING", "CONTENT"),
    "ministral": ("", f"⟨[THINK]⟩I'm\nthinking⟨[/THINK]⟩{SAID}", "I'm\nthinking", SAID),
    "seed oss": ("", "⟨<seed:think>⟩I'm thinking⟨</seed:think>⟩\nHello, world!", "I'm thinking", "Hello, world!"),
    "granite 3.3": ("", f"<think>I'm\nthinking</think>{SAID}", "I'm\nthinking", SAID),
    "granite 3.3 with a response": ("", f"<think>Hm.</think><response>{SAID}</response>", "Hm.", SAID),
    "minimax m3": ("", f"⟨<mm:think>⟩I'm\nthinking⟨</mm:think>⟩{SAID}", "I'm\nthinking", SAID),
    "minimax m3, closed by the prompt": ("</mm:think>", SAID, "", SAID),
    "cohere 2": (
        "⟨<|START_THINKING|>⟩", f"I'm\nthinking⟨<|END_THINKING|>⟩⟨<|START_TEXT|>⟩{SAID}⟨<|END_TEXT|>⟩",
        "I'm\nthinking", SAID,
    ),
    "cohere 2, empty": ("⟨<|START_THINKING|>⟩", f"⟨<|END_THINKING|>⟩⟨<|START_TEXT|>⟩{SAID}⟨<|END_TEXT|>⟩", "", SAID),
    "gemma 4": ("", f"⟨<|channel>⟩thought\nI'm\nthinking⟨<channel|>⟩{SAID}", "I'm\nthinking", SAID),
    "gemma 4, no line": ("", f"⟨<|channel>⟩thought⟨<channel|>⟩{SAID}", "", SAID),
    "gemma 4, closed twice": ("", f"⟨<|channel>⟩thought\n⟨<channel|>⟩{SAID}⟨<channel|>⟩", "", SAID),
    "gemma 4, two thoughts": (
        "", f"⟨<|channel>⟩thought\n⟨<channel|>⟩{SAID}⟨<|channel>⟩thought\n⟨<channel|>⟩⟨<channel|>⟩", "", SAID,
    ),
    "gemma 4, opened twice": ("", f"⟨<|channel>⟩⟨<|channel>⟩thought\n⟨<channel|>⟩{SAID}", "", SAID),
    "kimi k3": (
        "⟨<|open|>⟩think⟨<|sep|>⟩", f"Hm.⟨<|close|>⟩think⟨<|sep|>⟩{K3_ANSWER[0]}{SAID}{K3_ANSWER[1]}", "Hm.", SAID,
    ),
    "kimi k3 without a thought": ("", f"{K3_ANSWER[0]}{SAID}{K3_ANSWER[1]}", "", SAID),
    "kimi k3, an answer opened by the prompt": (K3_ANSWER[0], f"{SAID}{K3_ANSWER[1]}", "", SAID),
    "solar": (
        "<|begin|>assistant", f"⟨<|think|>⟩Hm.⟨<|end|>⟩⟨<|begin|>⟩assistant⟨<|content|>⟩{SAID}⟨<|end|>⟩", "Hm.", SAID,
    ),
    "apriel": (
        "Here are my reasoning steps:\n", f"I'm\nthinking\n[BEGIN FINAL RESPONSE]\n{SAID}", "I'm\nthinking", SAID,
    ),
    "glimmer": ("<|start|>assistant", f" to=user⟨<|message|>⟩{SAID}⟨<|eot|>⟩", "", SAID),
    "glimmer with a thought": (
        "<|start|>assistant",
        f" to=self⟨<|message|>⟩Hm.⟨<|eom|>⟩⟨<|start|>⟩assistant to=user⟨<|message|>⟩{SAID}⟨<|eot|>⟩", "Hm.", SAID,
    ),
    "harmony": (HARMONY_PROMPT, f"{ANALYSIS}I'm\nthinking{NEXT}{FINAL}{SAID}", "I'm\nthinking", SAID),
    "harmony, commentary": (HARMONY_PROMPT, f"{COMMENTARY}{SAID}", "", SAID),
    "harmony, cut off": (HARMONY_PROMPT, f"{ANALYSIS}I'm\nthinking", "I'm\nthinking", ""),
    "harmony, a constrained answer": (
        HARMONY_PROMPT, f"{ANALYSIS}Hm.{NEXT}⟨<|channel|>⟩final ⟨<|constrain|>⟩json⟨<|message|>⟩{CONSTRAINED}", "Hm.",
        CONSTRAINED,
    ),
    "harmony, to itself first": (HARMONY_PROMPT, f"{TO_ASSISTANT}{ANALYSIS}Hm.{NEXT}{FINAL}{SAID}", "Hm.", SAID),
    "harmony, to itself then": (HARMONY_PROMPT, f"{ANALYSIS}Hm.{NEXT}{TO_ASSISTANT}{FINAL}{SAID}", "Hm.", SAID),
}  # fmt: skip


@pytest.mark.parametrize("name", AS_LLAMA_CPP_TESTS)
def test_reasoning_and_answer_are_those_of_llama_cpp(name: str) -> None:
    prompt, reply, reasoning, answer = AS_LLAMA_CPP_TESTS[name]
    opened = opened_part("<|im_start|>" + prompt.translate({ord("⟨"): "", ord("⟩"): ""}))
    pieces = push_all(ReplyText(opened=opened), tokens_of(reply))
    assert (part_text(pieces, "reasoning").strip(), part_text(pieces, "answer").strip()) == (reasoning, answer)


def test_an_answer_s_own_marks_may_be_in_tokens_with_their_line_breaks() -> None:
    tokens = [b"<think>", b"\n", b"Hm.", b"\n</think>\n", b"<answer>\n", b"It is 4.", b"\n</answer>"]
    pieces = push_all(ReplyText(), tokens)
    assert (part_text(pieces, "reasoning").strip(), part_text(pieces, "answer")) == ("Hm.", "It is 4.\n")


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_of_each_format_is_told_apart(name: str) -> None:
    text, reasoning, answer = REPLIES[name]
    pieces = push_all(ReplyText(), tokens_of(text))
    assert (part_text(pieces, "reasoning"), part_text(pieces, "answer")) == (reasoning, answer)


@pytest.mark.parametrize("text", ["I must think.\n⟨</think>⟩\n\nIt is 4.", "I must think.\n</think>\n\nIt is 4."])
@pytest.mark.parametrize("apart_us", [200_000, 30_000, 1000])
def test_an_end_of_reasoning_without_a_beginning_makes_reasoning_of_what_came_before(text: str, apart_us: int) -> None:
    reports: list[Report] = []
    stream = ReplyBatcher(1, reports.append)
    turn = Turn(TurnStarted(turn=1, t_us=0, prompt="Hi"))
    for number, token in enumerate(tokens_of(text)):
        stream.add(number * apart_us, token)
    stream.finish()
    for report in reports:
        assert isinstance(report, Tokens)
        turn.add_tokens(report, report.t_us)
    assert (turn.answer, turn.text) == ("It is 4.", "I must think.\nIt is 4.")


def test_a_reasoning_part_that_the_prompt_opened_ends_at_its_mark() -> None:
    opened = opened_part("<|im_start|>assistant\n<think>\n")
    pieces = push_all(ReplyText(opened=opened), [b"hm", b"</", b"think", b">", b"\n\n", b"Yes"])
    assert part_text(pieces, "reasoning") == "hm"
    assert part_text(pieces, "answer") == "Yes"


def test_a_prompt_whose_reasoning_part_is_closed_opens_none() -> None:
    assert opened_part("<|im_start|>assistant\n<think>\n\n</think>\n\n") is None


def test_marks_in_the_middle_of_an_answer_are_text() -> None:
    pieces = push_all(ReplyText(), [b"The tag ", b"<think>", b" opens, ", b"</think>", b" closes."])
    assert part_text(pieces, "answer") == "The tag <think> opens, </think> closes."


def test_a_character_that_the_end_cut_off_is_left_out_and_its_token_is_not() -> None:
    pieces = push_all(ReplyText(), [b"ok ", "😀".encode()[:2]])
    assert [piece.text for piece in pieces] == ["ok ", ""]


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    pieces = push_all(ReplyText(), [b"a", b"\xff", b"b"])
    assert "".join(piece.text for piece in pieces) == "a\ufffdb"


def stream_of(stamps: list[int], tokens: list[bytes], stop: tuple[str, ...] = ()) -> list[Tokens]:
    reports: list[Report] = []
    stream = ReplyBatcher(3, reports.append, stop=stop)
    for stamp, token in zip(stamps, tokens, strict=True):
        stream.add(stamp, token)
    stream.finish()
    return [report for report in reports if isinstance(report, Tokens)]


def test_the_first_token_leaves_at_once_and_the_others_ten_times_a_second() -> None:
    stamps = [1_000_000 + 10_000 * number for number in range(25)]
    batches = stream_of(stamps, [b"x"] * 25)
    assert [len(batch.t_us) for batch in batches] == [1, 10, 10, 4]
    assert [stamp for batch in batches for stamp in batch.t_us] == stamps
    assert {batch.turn for batch in batches} == {3}


def test_slow_tokens_leave_one_by_one() -> None:
    batches = stream_of([0, 400_000, 800_000], [b"a", b"b", b"c"])
    assert [batch.pieces for batch in batches] == [("a",), ("b",), ("c",)]


def test_reasoning_and_answer_leave_in_records_of_their_own() -> None:
    batches = stream_of([0, 1, 2, 3], [b"<think>", b"why", b"</think>", b"so"])
    said = [
        (batch.part, stamp, text) for batch in batches for stamp, text in zip(batch.t_us, batch.pieces, strict=True)
    ]
    assert said == [("reasoning", 0, ""), ("reasoning", 1, "why"), ("reasoning", 2, ""), ("answer", 3, "so")]


def test_a_stop_string_is_noticed_at_its_last_token() -> None:
    reports: list[Report] = []
    stream = ReplyBatcher(0, reports.append, stop=("END",))
    stream.add(0, b"one ")
    stream.add(1, b"E")
    assert not stream.stopped
    stream.add(2, b"ND")
    assert stream.stopped


@pytest.mark.parametrize("token", [b"\n", b"\n" * 1000, b" ", "\u3000".encode()])
def test_a_reply_that_begins_with_nothing_but_space_is_shown_before_it_ends(token: bytes) -> None:
    reply = ReplyText()
    for number in range(SPACE_BEFORE_REASONING):
        reply.push(number, token)
    assert [piece.text for piece in reply.push(0, token)][-1] == token.decode()
    assert [piece.text for piece in reply.push(0, token)] == [token.decode()]


def test_reasoning_may_follow_some_empty_lines() -> None:
    form = next(form for form in REPLY_FORMATS if "<think>" in form.marks)
    assert form.marks["<think>"] == "reasoning"
    pieces = push_all(ReplyText(), [*[b"\n"] * 100, b"<think>", b"so", b"</think>", b"yes"])
    assert (part_text(pieces, "reasoning"), part_text(pieces, "answer")) == ("so", "yes")


@pytest.mark.parametrize("begin", ["\n", "a <", "<|channel|>final<|message|>a <"])
def test_tokens_without_text_wait_for_others_only_so_long(begin: str) -> None:
    reports: list[Report] = []
    stream = ReplyBatcher(1, reports.append)
    stream.add_chunk(0, begin, "answer", generated=1)
    for chunk in range(1, 9):
        stream.add_chunk(1000 * chunk, "", "answer", generated=1 + WAITING_MOST * chunk)
        assert len(stream._text._pending) <= WAITING_MOST
    stream.finish()
    assert sum(len(each.t_us) for each in reports if isinstance(each, Tokens)) == 1 + 8 * WAITING_MOST


def test_a_reply_of_nothing_but_marks_is_text_from_so_many_on() -> None:
    reply = ReplyText()
    begin = "<|channel|>final<|message|>"
    pieces = push_all(reply, [begin.encode(), b"<|end|>" * MARKS_MOST * 2, b"yes"])
    assert part_text(pieces, "answer") == "<|end|>" * (MARKS_MOST + 1) + "yes"
