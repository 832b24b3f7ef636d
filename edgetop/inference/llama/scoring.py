"""Perplexity, KL divergence, multiple choice.

numpy comes with llama-cpp-python and is imported only here, when something is scored.

Half precision holds a logarithm of a probability to 0.05 %, which is far below what quantization changes. A header
names the text and the vocabulary, so that nothing else is compared.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgetop.inference.chat_template import ChatFormat, TemplateError, TemplateStoppedError
from edgetop.inference.engine import Reporter, Stop
from edgetop.inference.llama.library import Library
from edgetop.inference.llama.model import Context, DecodeError, LoadedModel
from edgetop.inference.protocol import (
    ChatMessage,
    ChoiceScore,
    ChoicesScored,
    Choose,
    Divergence,
    MultipleChoiceQuestion,
    Perplexity,
    ScoreFailed,
    ScoreProgress,
    TextScored,
)

Rows = npt.NDArray[np.float32]
"""Logits or natural logarithms of probabilities, one row of the whole vocabulary for each position."""


class LikelihoodReader:
    """Evaluates tokens and reads what the model thinks of each next one. Free it when done."""

    def __init__(self, library: Library, context: Context, *, n_vocab: int, rows_max: int) -> None:
        self._library = library
        self._context = context
        self._n_vocab = n_vocab
        self.rows_max = min(rows_max, context.n_ubatch)
        """At most so many rows at once; the context must be made with as many outputs."""
        self._batch = library.llama_batch_init(context.n_ubatch, 0, 1)

    def read(self, tokens: Sequence[int], *, skipped: int = 0) -> Rows | None:
        """Evaluate up to a ubatch of tokens after those in the cache; a row of logits after all but those `skipped`.

        There are at most `rows_max` rows, good until the next call. `None` when stopped. Raises DecodeError.
        """
        library, batch, cached = self._library, self._batch, len(self._context.tokens)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = cached + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = index >= skipped
        code = library.llama_decode(self._context.handle, batch)
        library.llama_synchronize(self._context.handle)
        if code == 2:
            return None
        if code != 0:
            raise DecodeError(f"llama_decode failed: code {code}")
        self._context.tokens += tokens
        if skipped >= len(tokens):
            return np.empty((0, self._n_vocab), dtype=np.float32)
        pointer = ctypes.cast(library.llama_get_logits(self._context.handle), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape=(len(tokens) - skipped, self._n_vocab))

    def free(self) -> None:
        """Give the batch back."""
        self._library.llama_batch_free(self._batch)


def log_softmax(logits: Rows) -> npt.NDArray[np.float64]:
    """Logarithms of the softmax of each row, with exponentials in single and sums in double precision."""
    shifted: Rows = logits - logits.max(axis=1, keepdims=True)
    logs: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64))
    return logs


_MAGIC = b"edgetop-logprobs-1\n"


class ReferenceMismatchError(Exception):
    """The file is not the reference of this text; the message is the reason."""


class ReferenceWriter:
    """Writes rows as they come."""

    def __init__(self, path: Path, tokens: list[int], n_vocab: int) -> None:
        self._file = path.open("wb")
        self._file.write(_header(tokens, n_vocab))

    def write(self, rows: npt.NDArray[np.float64]) -> None:
        """Append rows. Raises OSError."""
        self._file.write(rows.astype(np.float16).tobytes())

    def close(self) -> None:
        """Finish the file. Raises OSError."""
        self._file.close()


class ReferenceReader:
    """Reads rows in the order they were written."""

    def __init__(self, path: Path, tokens: list[int], n_vocab: int) -> None:
        self._n_vocab = n_vocab
        self._file = path.open("rb")
        header = _header(tokens, n_vocab)
        if self._file.read(len(header)) != header:
            self._file.close()
            raise ReferenceMismatchError("the reference was made from another text or with another vocabulary")

    def read(self, count: int) -> Rows:
        """The next `count` rows. Raises ReferenceMismatchError if there are fewer."""
        data = self._file.read(count * self._n_vocab * 2)
        if len(data) != count * self._n_vocab * 2:
            raise ReferenceMismatchError("the reference ends too early")
        return np.frombuffer(data, dtype=np.float16).reshape(count, self._n_vocab).astype(np.float32)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _header(tokens: list[int], n_vocab: int) -> bytes:
    digest = hashlib.sha256(np.asarray(tokens, dtype=np.int32).tobytes()).hexdigest()
    return _MAGIC + f"{n_vocab} {len(tokens)} {digest}\n".encode()


ROWS_AT_ONCE: Final = 64
"""Positions whose probabilities are computed together: 64 rows of 128,000 tokens are 66 MB."""


class _StoppedError(Exception):
    """Asked to stop."""


class Scorer:
    """One score under way."""

    def __init__(self, library: Library, model: LoadedModel, form: ChatFormat, *, stop: Stop, report: Reporter) -> None:
        self._form = form
        self._context: Context = model.context
        self._vocabulary = model.vocabulary
        self._stop = stop
        self._report = report
        self._reader = LikelihoodReader(
            library, model.context, n_vocab=model.vocabulary.size, rows_max=model.settings.n_outputs_max
        )

    def run(self, command: Perplexity | Choose) -> None:
        """Score; the last report is TextScored, ChoicesScored or ScoreFailed."""
        self._context.watch(self._stop)
        try:
            if isinstance(command, Perplexity):
                self._report(self._score_text(command))
            else:
                self._report(self._score_choices(self._asked(command)))
        except _StoppedError:
            self._report(ScoreFailed(message="Scoring was stopped."))
        except ReferenceMismatchError as error:
            self._report(ScoreFailed(message=f"{error}.", hint="Load the model again.", wrong_reference=True))
        except TemplateStoppedError:
            self._report(ScoreFailed(message="Scoring was stopped."))
        except TemplateError as error:
            self._report(ScoreFailed(message=f"The chat template: {error}.", hint="Leave --question-template out."))
        except DecodeError as error:
            self._report(ScoreFailed(message=f"{error}.", hint="Load the model again."))
        except OSError as error:
            message = f"The reference {command.reference if isinstance(command, Perplexity) else ''}: {error.strerror}."
            self._report(ScoreFailed(message=message, hint="Free some disk space, or score fewer chunks."))
        finally:
            self._context.clear()
            self._reader.free()

    def _score_text(self, command: Perplexity) -> TextScored | ScoreFailed:
        """Perplexity as llama.cpp's llama-perplexity has it.

        The text is cut into chunks of n_ctx tokens, each begun with the beginning-of-sequence token where the model
        wants one; the positions from the middle of a chunk on are scored, and the last token is evaluated for nothing
        (tools/perplexity/perplexity.cpp). With as many outputs as half a chunk has, a chunk is evaluated in the same
        batches as there, so that sums are rounded in the same order.
        """
        n_ctx = self._context.n_ctx
        tokens = self._vocabulary.tokenize_plain(command.text)
        chunks = len(tokens) // n_ctx
        if command.chunks is not None:
            chunks = min(chunks, command.chunks)
        if chunks < 1:
            return ScoreFailed(
                message=f"The text has {len(tokens)} tokens; a score takes at least {n_ctx}.",
                hint="Give a longer text.",
            )
        tokens = tokens[: chunks * n_ctx]
        losses: list[float] = []
        divergence = _DivergenceSum()
        with ExitStack() as open_files:
            compare = self._comparison(command, tokens, divergence, open_files)
            for chunk in range(chunks):
                self._score_chunk(tokens[chunk * n_ctx : (chunk + 1) * n_ctx], losses, compare)
                self._report(ScoreProgress((chunk + 1) / chunks))
        mean, error = _mean_and_error(np.asarray(losses))
        return TextScored(
            perplexity=math.exp(mean),
            perplexity_error=math.exp(mean) * error,
            tokens=len(losses),
            chunks=chunks,
            divergence=divergence.result() if command.reference and not command.write_reference else None,
        )

    def _comparison(
        self, command: Perplexity, tokens: list[int], divergence: _DivergenceSum, open_files: ExitStack
    ) -> Callable[[npt.NDArray[np.float64]], None]:
        if not command.reference:
            return lambda rows: None  # noqa: ARG005 - nothing to compare with
        path = Path(command.reference)
        if command.write_reference:
            writer = ReferenceWriter(path, tokens, self._vocabulary.size)
            open_files.callback(writer.close)
            return writer.write
        reader = ReferenceReader(path, tokens, self._vocabulary.size)
        open_files.callback(reader.close)
        return lambda rows: divergence.add(reader.read(len(rows)), rows)

    def _score_chunk(
        self, tokens: list[int], losses: list[float], compare: Callable[[npt.NDArray[np.float64]], None]
    ) -> None:
        context, first = self._context, len(tokens) // 2
        context.clear()
        given = [self._vocabulary.bos, *tokens[1:]] if self._vocabulary.begins_with_bos else tokens
        begin = 0
        while begin < len(tokens):
            scored = max(begin, first)
            end = min(len(tokens), begin + context.n_ubatch, scored + self._reader.rows_max)
            logits = self._read(given[begin:end], skipped=scored - begin)
            for at in range(scored, min(end, len(tokens) - 1), ROWS_AT_ONCE):
                until = min(end, len(tokens) - 1, at + ROWS_AT_ONCE)
                rows = log_softmax(logits[at - scored : until - scored])
                losses += (-rows[np.arange(until - at), tokens[at + 1 : until + 1]]).tolist()
                compare(rows)
            begin = end

    def _asked(self, command: Choose) -> tuple[MultipleChoiceQuestion, ...]:
        """The questions as the model reads them. Raises TemplateError."""
        if not command.template:
            return command.questions
        # What the template writes before a reply ends where the reply begins, so that a choice begins with no space.
        return tuple(
            MultipleChoiceQuestion(
                self._form.prompt((ChatMessage(role="user", content=each.prompt),)),
                tuple(choice.lstrip() or choice for choice in each.choices),
            )
            for each in command.questions
        )

    def _score_choices(self, questions: tuple[MultipleChoiceQuestion, ...]) -> ChoicesScored:
        scores = []
        for number, question in enumerate(questions, 1):
            scored = [self._score_choice(question.prompt, choice) for choice in question.choices]
            likelihoods, counts, greedy = zip(*scored, strict=True)
            scores.append(ChoiceScore(likelihoods, counts, greedy))
            self._report(ScoreProgress(number / len(questions)))
        return ChoicesScored(tuple(scores))

    def _score_choice(self, prompt: str, choice: str) -> tuple[float, int, bool]:
        """Log-likelihood of a choice after its prompt, its number of tokens, and whether each is the likeliest one.

        Prompt and choice are tokenized together, since a token may span the space between them; the choice begins
        where the tokens differ from those of the prompt alone. Of what the context cannot hold, the beginning goes.
        """
        alone = self._vocabulary.tokenize(prompt)
        tokens = self._vocabulary.tokenize(prompt + choice)
        excess = max(0, len(tokens) - self._context.n_ctx)
        alone, tokens = alone[excess:], tokens[excess:]
        begin = 0
        while begin < min(len(alone), len(tokens) - 1) and alone[begin] == tokens[begin]:
            begin += 1
        begin = max(begin, 1)
        self._context.reuse(tokens[:begin])
        cached = len(self._context.tokens)
        for at in range(cached, begin - 1, self._context.n_ubatch):
            self._evaluate(tokens[at : min(begin - 1, at + self._context.n_ubatch)])
        total, greedy = 0.0, True
        for at in range(begin - 1, len(tokens) - 1, self._reader.rows_max):
            end = min(len(tokens) - 1, at + self._reader.rows_max)
            rows = log_softmax(self._read(tokens[at:end]))
            total += float(rows[np.arange(end - at), tokens[at + 1 : end + 1]].sum())
            greedy = greedy and bool((rows.argmax(axis=1) == tokens[at + 1 : end + 1]).all())
        return total, len(tokens) - begin, greedy

    def _evaluate(self, tokens: list[int]) -> None:
        if self._stop.requested or not self._context.evaluate(tokens):
            raise _StoppedError

    def _read(self, tokens: list[int], *, skipped: int = 0) -> Rows:
        rows = None if self._stop.requested else self._reader.read(tokens, skipped=skipped)
        if rows is None:
            raise _StoppedError
        return rows


class _DivergenceSum:
    """Kullback-Leibler divergences from a reference, position by position."""

    def __init__(self) -> None:
        self._kl: list[float] = []
        self._agreed = 0

    def add(self, reference: Rows, rows: npt.NDArray[np.float64]) -> None:
        probability = np.exp(reference, dtype=np.float64)
        # The halves' rounding makes the reference's probabilities sum to a little more or less than one.
        probability /= probability.sum(axis=1, keepdims=True)
        self._kl += (probability * (np.log(np.maximum(probability, 1e-30)) - rows)).sum(axis=1).tolist()
        self._agreed += int((reference.argmax(axis=1) == rows.argmax(axis=1)).sum())

    def result(self) -> Divergence:
        kl = np.asarray(self._kl)
        mean, error = _mean_and_error(kl)
        return Divergence(
            kl_mean=mean,
            kl_error=error,
            kl_p99=float(np.percentile(kl, 99)),
            top_agreement=self._agreed / len(kl),
        )


def _mean_and_error(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """Mean and its standard error; the error of one value is 0."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(values.mean()), error
