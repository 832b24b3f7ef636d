"""Built-in prompts, text and questions.

They tell a damaged model from a sound one, not a good one from a better one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from edgetop.bench.plan import PromptTest, QuestionItem
from edgetop.core.errors import UsageError


def prompt_of(item: QuestionItem) -> str:
    """What stands before a choice; the choices begin with a space."""
    return item.question if item.raw else f"Question: {item.question}\nAnswer:"


COLUMNS: dict[str, tuple[str, ...]] = {
    "question": ("question", "query"),
    "prompt": ("prompt", "ctx", "input"),
    "choices": ("choices", "options", "endings"),
    "answer": ("answer", "answerKey", "label", "gold", "target"),
}
"""What a line of a file of questions may call its fields: MMLU, ARC, HellaSwag and their like."""

QUESTIONS_BYTES_MAX = 64 * 2**20


def read_questions(path: Path, columns: str = "") -> tuple[QuestionItem, ...]:
    """The questions of a file of JSON Lines; `columns` names its fields, such as `prompt=ctx,choices=endings`.

    `choices` is a list of texts, or `{"text": [...], "label": [...]}`; `answer` is the right one's label, index, letter
    or text. Without choices, the answer is to be matched exactly. Raises UsageError with file and line.
    """
    names = dict(COLUMNS)
    for word in filter(None, columns.split(",")):
        ours, equals, theirs = word.partition("=")
        if not equals or not theirs or ours.strip() not in names:
            raise UsageError(f"--question-columns: {word!r} is not valid", f"such as prompt=ctx; {', '.join(names)}")
        names[ours.strip()] = (theirs.strip(),)
    try:
        with path.open("rb") as file:
            data = file.read(QUESTIONS_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "give a file of JSON Lines to --questions") from None
    if len(data) > QUESTIONS_BYTES_MAX:
        raise UsageError(f"{path}: it is larger than 64 MiB", "a few thousand questions are enough")
    items = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            items.append(_item(msgspec.json.decode(line, type=dict[str, Any]), names))
        except (ValueError, RecursionError) as error:
            hint = "a line is an object with question (or prompt), choices and answer; --question-columns maps others"
            raise UsageError(f"{path}, line {number}: {error}", hint) from None
    if not items:
        raise UsageError(f"{path}: it has no questions", "a line is an object with question, choices and answer")
    return tuple(items)


def _item(line: dict[str, Any], names: Mapping[str, tuple[str, ...]]) -> QuestionItem:
    """The question of a line. Raises ValueError."""
    found = {ours: next((line[name] for name in theirs if name in line), None) for ours, theirs in names.items()}
    raw = found["question"] is None
    question, answer = found["prompt" if raw else "question"], found["answer"]
    choices: Any = found["choices"]
    if not isinstance(question, str):
        raise ValueError("it has no question")  # noqa: TRY004 - told like all that is wrong with a line
    if answer is None or isinstance(answer, bool | dict | list):
        raise ValueError("it has no answer")
    if choices is None:
        return QuestionItem(question, (_continuation(str(answer)),), 0, raw)
    labels: Any = None
    if isinstance(choices, dict):
        labels, choices = choices.get("label"), choices.get("text")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(each, str) for each in choices):
        raise ValueError("its choices are not two or more texts")
    return QuestionItem(question, tuple(map(_continuation, choices)), _right(answer, choices, labels), raw)


def _continuation(text: str) -> str:
    """With the space that a choice begins with."""
    return text if text[:1].isspace() else f" {text}"


def _right(answer: Any, choices: list[str], labels: Any) -> int:  # noqa: ANN401 - what stands in the file
    if isinstance(labels, list) and answer in labels[: len(choices)]:
        return labels.index(answer)
    if answer in choices:
        return choices.index(answer)
    text = str(answer).strip()
    index = int(text) if text.isdecimal() else ord(text.upper()) - ord("A") if len(text) == 1 else -1
    if not 0 <= index < len(choices):
        raise ValueError(f"the answer {text[:40]!r} is none of its choices")
    return index


QUESTIONS: tuple[QuestionItem, ...] = tuple(
    QuestionItem(question, tuple(f" {choice}" for choice in choices), right)
    for question, choices, right in (
        ("Which planet is closest to the Sun?", ("Venus", "Mercury", "Mars", "Saturn"), 1),
        ("What is the capital of Italy?", ("Rome", "Madrid", "Athens", "Vienna"), 0),
        ("How many legs does a spider have?", ("six", "ten", "eight", "four"), 2),
        ("What do bees make?", ("milk", "honey", "bread", "silk"), 1),
        (
            "At what temperature does water freeze?",
            ("0 degrees Celsius", "50 degrees Celsius", "90 degrees Celsius"),
            0,
        ),
        ("Which animal says meow?", ("a dog", "a cow", "a cat", "a duck"), 2),
        ("What is the opposite of hot?", ("cold", "warm", "dry", "loud"), 0),
        ("Who wrote the play Hamlet?", ("Charles Dickens", "Isaac Newton", "William Shakespeare", "Mark Twain"), 2),
        ("What is two plus two?", ("three", "four", "seven", "nine"), 1),
        ("Which gas do plants take in from the air?", ("carbon dioxide", "helium", "neon", "argon"), 0),
        ("What is the largest ocean on Earth?", ("the Arctic Ocean", "the Pacific Ocean", "the Indian Ocean"), 1),
        ("Which month comes after June?", ("May", "July", "December", "March"), 1),
        ("What do you use to cut paper?", ("a spoon", "scissors", "a pillow", "a cup"), 1),
        ("Which of these is a fruit?", ("a carrot", "a potato", "an apple", "an onion"), 2),
        ("In which country are the pyramids of Giza?", ("Egypt", "Norway", "Japan", "Brazil"), 0),
        ("What is frozen water called?", ("steam", "ice", "sand", "smoke"), 1),
        ("Which part of the body pumps blood?", ("the liver", "the lungs", "the heart", "the stomach"), 2),
        ("What is the currency of Japan?", ("the yen", "the euro", "the peso", "the rupee"), 0),
        ("How many days are there in a week?", ("five", "six", "seven", "twelve"), 2),
        ("Which metal is liquid at room temperature?", ("iron", "mercury", "copper", "gold"), 1),
        ("What does a thermometer measure?", ("weight", "distance", "temperature", "speed"), 2),
        ("Which animal is known for its long neck?", ("the giraffe", "the pig", "the mouse", "the frog"), 0),
        ("In which direction does the Sun rise?", ("in the west", "in the north", "in the east", "in the south"), 2),
        ("What is the chemical symbol for gold?", ("Ag", "Fe", "Au", "Pb"), 2),
        ("What do people wear on their feet?", ("gloves", "shoes", "hats", "scarves"), 1),
        ("Which instrument has black and white keys?", ("the drum", "the flute", "the piano", "the violin"), 2),
        ("Which season is the coldest?", ("winter", "summer", "spring", "autumn"), 0),
        ("What is the main ingredient of bread?", ("flour", "sugar", "meat", "chocolate"), 0),
        ("Which language is spoken in Brazil?", ("Portuguese", "Chinese", "Arabic", "Finnish"), 0),
        ("What is the square root of nine?", ("two", "three", "five", "eight"), 1),
        ("Who developed the theory of relativity?", ("Albert Einstein", "Napoleon", "Mozart", "Columbus"), 0),
        ("Which vehicle flies?", ("a bus", "a train", "an airplane", "a bicycle"), 2),
        ("What is the tallest mountain on Earth?", ("Mount Fuji", "Mount Everest", "Mont Blanc", "Mount Etna"), 1),
        ("What happens to ice when it gets warm?", ("it melts", "it burns", "it grows", "it sings"), 0),
        ("Which of these is used to write?", ("a pencil", "a fork", "a brick", "a shoe"), 0),
        ("Which organ do we see with?", ("the ears", "the nose", "the eyes", "the tongue"), 2),
        ("What is the capital of Germany?", ("Munich", "Paris", "Berlin", "Zurich"), 2),
        ("Which number is even?", ("seven", "eleven", "fourteen", "nineteen"), 2),
        ("What falls from clouds?", ("rain", "stones", "leaves", "coins"), 0),
        ("Where do fish live?", ("in trees", "in water", "in the sky", "under a bed"), 1),
    )
)


@cache
def reading_text() -> str:
    """English prose of about 1,600 words, for perplexity and for a summary."""
    return files("edgetop.bench").joinpath("reading.txt").read_text("utf-8")


_SUMMARY_CHARACTERS = 4000
"""Of the text: about 900 tokens, which is a long prompt on a small device."""


def prompt_tests(max_tokens: int | None = None) -> tuple[PromptTest, ...]:
    """The built-in prompts. `max_tokens` shortens every answer."""

    def limited(tokens: int) -> int:
        return tokens if max_tokens is None else min(tokens, max_tokens)

    part = reading_text()[:_SUMMARY_CHARACTERS].rsplit("\n", 1)[0]
    return (
        PromptTest(title="short", prompts=("Name three things that float on water.",), max_tokens=limited(32)),
        PromptTest(
            title="long",
            prompts=("Explain in detail how a bicycle stays upright while it is ridden, and what a rider does.",),
            max_tokens=limited(256),
        ),
        PromptTest(
            title="summary",
            prompts=(f"Summarise the following text in three sentences.\n\n{part}",),
            max_tokens=limited(128),
        ),
        PromptTest(
            title="code",
            prompts=("Write a Python function that returns the n-th Fibonacci number, with a docstring and a test.",),
            max_tokens=limited(192),
        ),
        PromptTest(
            title="turns",
            prompts=(
                "I want to grow tomatoes on a balcony. What do I need?",
                "How often should I water them?",
                "And what if the leaves turn yellow?",
            ),
            max_tokens=limited(96),
        ),
    )
