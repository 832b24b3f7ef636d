"""llama.cpp as an engine: prefill, sampling, decode, of a chat or of a pp or tg test."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Sequence

from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, monotonic_us, seconds
from edgetop.core.engine_settings import EngineInfo, EnginePerf, EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Prefill, StopReason, Tokens, TurnFinished
from edgetop.inference.chat_template import (
    ChatFormat,
    SpecialTokens,
    TemplateArgs,
    TemplateError,
    TemplateRenderer,
    TemplateStoppedError,
    choose_format,
    opened_part,
)
from edgetop.inference.engine import NO_MODEL, Reporter, Stop, empty_turn, file_failure
from edgetop.inference.llama.library import (
    EngineChoice,
    Library,
    LibraryError,
    MissingFunctionError,
    engine_info,
    import_library,
)
from edgetop.inference.llama.log import LibraryLog, to_reports
from edgetop.inference.llama.model import (
    Context,
    Counters,
    DecodeError,
    LoadedModel,
    LoadError,
    RpcServers,
    RpcWatch,
    cancelled,
    load_model,
)
from edgetop.inference.llama.portable import no_engine_hint
from edgetop.inference.protocol import (
    ChatMessage,
    Choose,
    Generate,
    Load,
    LoadFailed,
    LoadProgress,
    Measure,
    Perplexity,
    ScoreFailed,
    Waiting,
)
from edgetop.inference.reply import ReplyBatcher

_SEEDS = 2**32 - 1
"""llama.cpp reads 2**32 - 1 as "choose one", so it is no seed."""

_MIN_KEEP = 1


class Sampler:
    """A chain of llama.cpp's samplers, in its own programs' order; steps that would change nothing are left out."""

    def __init__(self, library: Library, sampling: SamplingSettings, *, n_vocab: int, n_ctx: int) -> None:
        self._library = library
        self.seed: int | None = None
        """The seed in use; `None` for greedy sampling."""
        params = library.llama_sampler_chain_default_params()
        params.no_perf = False
        self._chain = library.llama_sampler_chain_init(params)
        penalties = (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        last_n = n_ctx if sampling.repeat_last_n < 0 else sampling.repeat_last_n
        self._penalised_tokens = last_n if penalties != (1.0, 0.0, 0.0) else 0
        if self._penalised_tokens:
            self._add(library.llama_sampler_init_penalties(n_vocab, last_n, *penalties))
        if sampling.temperature <= 0:
            self._add(library.llama_sampler_init_greedy())
            return
        self.seed = (secrets.randbits(32) if sampling.seed is None else sampling.seed) % _SEEDS
        if sampling.top_k > 0:
            self._add(library.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            self._add(library.llama_sampler_init_top_p(sampling.top_p, _MIN_KEEP))
        if sampling.min_p > 0:
            self._add(library.llama_sampler_init_min_p(sampling.min_p, _MIN_KEEP))
        self._add(library.llama_sampler_init_temp(sampling.temperature))
        self._add(library.llama_sampler_init_dist(self.seed))

    def accept_prompt(self, tokens: list[int]) -> None:
        """Let the penalties see the end of the prompt."""
        for token in tokens[-self._penalised_tokens :] if self._penalised_tokens else ():
            self._library.llama_sampler_accept(self._chain, token)

    def sample(self, context: object) -> int:
        """Sample from the logits of the last token decoded. Without any, the library aborts."""
        return int(self._library.llama_sampler_sample(self._chain, context, -1))

    @property
    def spent_ms(self) -> float:
        """Time spent in the chain so far, by the library's own counter."""
        return float(self._library.llama_perf_sampler(self._chain).t_sample_ms)

    def free(self) -> None:
        """Free the chain; the sampler must not be used any more."""
        self._library.llama_sampler_free(self._chain)

    def _add(self, sampler: object) -> None:
        self._library.llama_sampler_chain_add(self._chain, sampler)


_TOKEN_CHARACTERS_MAX = 256
"""The longest tokens of vocabularies are runs of spaces, of fewer than this."""

_REPLY_SHARE = 4
"""When old messages have to go, a quarter of the context is reserved for the reply."""


class PromptError(Exception):
    """The conversation does not fit the context, or is none; the message says by how much and what to do."""

    def __init__(self, text: str, reason: StopReason = "context_full") -> None:
        super().__init__(text)
        self.reason = reason


class _Turn:
    """What both kinds of turns count, and their last report."""

    def __init__(self, context: Context, turn: int, *, stop: Stop, report: Reporter) -> None:
        self._context = context
        self._turn = turn
        self._stop = stop
        self._report = report
        self._prompt_tokens = 0
        self._cached = 0
        self._generated = 0
        self._seed: int | None = None
        self._prefill_counters = Counters(0.0, 0)
        self._sampling_ms = 0.0

    def _finish(self, reason: StopReason, error: str = "") -> None:
        """Report the end, with the library's counters, which count evaluation and sampling separately."""
        decode = self._context.read_and_reset_counters()
        self._report(
            TurnFinished(
                turn=self._turn,
                t_us=monotonic_us(),
                stop_reason=reason,
                prompt_tokens=self._prompt_tokens,
                cached_tokens=self._cached,
                generated_tokens=self._generated,
                context_used=len(self._context.tokens),
                seed=self._seed,
                perf=EnginePerf(
                    prefill_ms=self._prefill_counters.evaluation_ms,
                    prefill_tokens=self._prefill_counters.tokens,
                    decode_ms=decode.evaluation_ms + self._sampling_ms,
                    decode_tokens=decode.tokens,
                ),
                error=error,
            )
        )


class Generation(_Turn):
    """One answer."""

    def __init__(
        self, library: Library, model: LoadedModel, form: ChatFormat, command: Generate, *, stop: Stop, report: Reporter
    ) -> None:
        super().__init__(model.context, command.turn, stop=stop, report=report)
        self._library = library
        self._model = model
        self._form = form
        self._command = command
        self._prompt: list[int] = []

    def run(self) -> None:
        """Answer; the last report is TurnFinished."""
        self._context.watch(self._stop)
        self._context.read_and_reset_counters()
        try:
            reason = self._answer()
        except TemplateStoppedError:
            self._finish("cancelled")
        except TemplateError as error:
            self._finish("failed", f"The chat template refused the conversation: {error}.")
        except DecodeError as error:
            self._finish("failed", f"{error}. Load the model again.")
        except PromptError as error:
            self._finish(error.reason, str(error))
        else:
            self._finish(reason)

    def _answer(self) -> StopReason:
        text = self._fit_prompt()
        self._cached = self._context.reuse(self._prompt)
        first_us = self._prefill()
        self._prefill_counters = self._context.read_and_reset_counters()
        if first_us is None:
            return "cancelled"
        sampling = self._command.sampling
        sampler = Sampler(self._library, sampling, n_vocab=self._model.vocabulary.size, n_ctx=self._context.n_ctx)
        self._seed = sampler.seed
        sampler.accept_prompt(self._prompt)
        # A reply that is continued is in its answer: the reasoning is over.
        opened = None if self._command.continue_reply else opened_part(text)
        stop = (*sampling.stop, *self._form.stop)
        reply = ReplyBatcher(self._command.turn, self._report, stop=stop, opened=opened)
        try:
            reason = self._decode(sampler, reply, first_us)
        finally:
            self._sampling_ms = sampler.spent_ms
            sampler.free()
            reply.finish()
        return reason

    def _fit_prompt(self) -> str:
        """Tokenize the conversation to fit the context, without its oldest messages where the settings say so."""
        n_ctx = self._context.n_ctx
        messages = self._command.messages
        text = self._render(messages)
        if len(self._prompt) < n_ctx and self._prompt:
            return text
        needed = len(self._prompt)
        if self._model.settings.full_context == "shift":
            limit = n_ctx - n_ctx // _REPLY_SHARE
            while len(self._prompt) > limit and (shorter := _without_oldest(messages)) is not None:
                messages = shorter
                text = self._render(messages)
            if len(self._prompt) > limit:
                self._leave_out(len(self._prompt) - limit, messages)
            if 0 < len(self._prompt) < n_ctx:
                return text
        if not needed:
            raise PromptError("There is nothing to answer: the prompt has no tokens.", "failed")
        raise PromptError(
            f"The conversation takes {needed} tokens and the context holds {n_ctx}. "
            "Clear it, or load with a longer context (--ctx)."
        )

    def _leave_out(self, count: int, messages: tuple[ChatMessage, ...]) -> None:
        """Drop the oldest tokens of a prompt that is longer than the context by itself; the system message stays."""
        kept = self._system_tokens(messages, self._prompt)
        self._prompt = self._prompt[:kept] + self._prompt[kept + count :]
        self._prompt_tokens = len(self._prompt)
        self._report(Waiting(text=f"The prompt is longer than the context: its first {count} tokens are left out."))

    def _render(self, messages: tuple[ChatMessage, ...]) -> str:
        text = self._form.prompt(messages, continue_reply=self._command.continue_reply)
        longest = self._context.n_ctx * _TOKEN_CHARACTERS_MAX
        if len(text) > longest:
            said = sum(len(each.content) for each in messages)
            whose = "The chat template makes" if len(text) > 2 * said + longest // 2 else "The conversation has"
            raise PromptError(
                f"{whose} {len(text)} characters, more than the {self._context.n_ctx} tokens of the context can hold."
            )
        tell_us = monotonic_us() + US_PER_S

        def proceed(count: int, share: float) -> bool:
            nonlocal tell_us
            if self._stop.requested:
                raise TemplateStoppedError("it was stopped")
            if monotonic_us() > tell_us:
                tell_us += 10 * US_PER_S
                self._report(Waiting(text=f"The prompt is made into tokens: {share:.0%}."))
            if count > self._context.n_ctx and self._model.settings.full_context != "shift" and share < 1:
                raise PromptError(
                    f"{share:.0%} of the conversation take {count} tokens and the context holds {self._context.n_ctx}. "
                    "Clear it, or load with a longer context (--ctx)."
                )
            return True

        self._prompt = self._model.vocabulary.tokenize(text, proceed)
        self._prompt_tokens = len(self._prompt)
        return text

    def _prefill(self) -> int | None:
        """Evaluate the part of the prompt that is not cached; returns the stamp of its end, `None` when stopped."""
        total = len(self._prompt) - self._cached
        begin_us = monotonic_us()
        progress = Prefill(turn=self._command.turn, t_us=begin_us, done=0, total=total, cached=self._cached)
        self._report(progress)
        done_us = begin_us
        for begin in range(self._cached, len(self._prompt), self._context.n_ubatch):
            chunk = self._prompt[begin : begin + self._context.n_ubatch]
            if self._stop.requested or not self._context.evaluate(chunk):
                return None
            done_us = monotonic_us()
            self._report(replace(progress, t_us=done_us, done=begin + len(chunk) - self._cached))
        return done_us

    def _decode(self, sampler: Sampler, reply: ReplyBatcher, first_us: int) -> StopReason:
        vocabulary, context = self._model.vocabulary, self._context
        stamp_us = first_us
        limit = self._command.sampling.max_tokens
        if limit is not None and limit <= 0:
            return "max_tokens"
        while not self._stop.requested:
            token = sampler.sample(context.handle)
            piece = vocabulary.piece(token)
            if piece is None:
                return "end_of_generation"
            self._generated += 1
            reply.add(stamp_us, piece)
            if reply.stopped:
                return "stop_string"
            if self._generated == limit:
                return "max_tokens"
            if len(context.tokens) >= context.n_ctx and not self._shift():
                return "context_full"
            if not context.evaluate([token]):
                break
            stamp_us = monotonic_us()
        return "cancelled"

    def _shift(self) -> bool:
        return self._model.settings.full_context == "shift" and self._context.shift(
            self._system_tokens(self._command.messages, self._context.tokens)
        )

    def _system_tokens(self, messages: tuple[ChatMessage, ...], tokens: Sequence[int]) -> int:
        """How many of `tokens`, from the first, are the system message and what precedes it."""
        system = messages[:1]
        if not system or system[0].role != "system":
            return 1
        try:
            beginning = self._model.vocabulary.tokenize(self._form.prompt((*system, ChatMessage("user", ""))))
        except TemplateError:
            return 1
        common = 0
        for token, other in zip(beginning, tokens, strict=False):
            if token != other:
                break
            common += 1
        return max(1, min(common, self._context.n_ctx // 2))


def _without_oldest(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...] | None:
    """Without the oldest exchange, with the system message; `None` when only the last prompt is left."""
    system = messages[:1] if messages[:1] and messages[0].role == "system" else ()
    rest = messages[len(system) :]
    following = next((at for at in range(1, len(rest)) if rest[at].role == "user"), None)
    return None if following is None else (*system, *rest[following:])


_NO_TOKEN = -1
REPORT_EVERY = 8
"""Tokens between two reports: as rare as those of a reply that is shown a few times a second."""


class Measurement(_Turn):
    """One test: a prompt of random tokens, then random tokens one by one, at a depth of the context."""

    def __init__(self, model: LoadedModel, command: Measure, *, stop: Stop, report: Reporter) -> None:
        super().__init__(model.context, command.turn, stop=stop, report=report)
        self._vocabulary = model.vocabulary
        self._command = command
        self._prompt_tokens, self._cached = command.depth + command.n_prompt, command.depth
        self._seed = command.seed
        self._random = random.Random(command.seed)  # noqa: S311 - not for secrets
        self._stamps: list[int] = []

    def run(self) -> None:
        """Measure; the last report is TurnFinished."""
        command = self._command
        needed = command.depth + command.n_prompt + command.n_gen
        if needed > self._context.n_ctx:
            self._finish("context_full", f"The test takes {needed} tokens and the context holds {self._context.n_ctx}.")
            return
        self._context.watch(self._stop)
        try:
            finished = self._fill(command.depth) and self._prefill() and self._decode()
        except DecodeError as error:
            self._finish("failed", f"{error}. Load the model again.")
        else:
            self._finish("max_tokens" if finished else "cancelled")

    def _fill(self, depth: int) -> bool:
        """Bring the cache to the tokens of this depth; they are not part of what is measured."""
        fixed = random.Random(depth)  # noqa: S311 - not for secrets
        tokens = [fixed.randrange(self._vocabulary.size) for _ in range(depth)]
        reused = self._context.reuse([*tokens, _NO_TOKEN])
        step = self._context.n_ubatch
        return all(self._evaluate(tokens[at : min(depth, at + step)]) for at in range(reused, depth, step))

    def _prefill(self) -> bool:
        self._context.read_and_reset_counters()
        total, cached = self._command.n_prompt, self._command.depth
        chunks = self._chunks(total)  # drawn before the clock is read
        done = 0
        self._report_prefill(0, total, cached)
        for chunk in chunks:
            if not self._evaluate(chunk):
                return False
            done += len(chunk)
            self._report_prefill(done, total, cached)
        self._prefill_counters = self._context.read_and_reset_counters()
        return True

    def _decode(self) -> bool:
        tokens = [self._draw() for _ in range(self._command.n_gen)]
        for token in tokens:
            if not self._evaluate([token]):
                self._report_tokens()
                return False
            self._stamps.append(monotonic_us())
            self._generated += 1
            if len(self._stamps) == REPORT_EVERY:
                self._report_tokens()
        self._report_tokens()
        return True

    def _evaluate(self, tokens: list[int]) -> bool:
        return not self._stop.requested and self._context.evaluate(tokens)

    def _chunks(self, count: int) -> list[list[int]]:
        step = self._context.n_ubatch
        return [[self._draw() for _ in range(min(step, count - begin))] for begin in range(0, count, step)]

    def _draw(self) -> int:
        return self._random.randrange(self._vocabulary.size)

    def _report_prefill(self, done: int, total: int, cached: int) -> None:
        self._report(Prefill(turn=self._command.turn, t_us=monotonic_us(), done=done, total=total, cached=cached))

    def _report_tokens(self) -> None:
        if self._stamps:
            stamps, self._stamps = tuple(self._stamps), []
            self._report(Tokens(turn=self._command.turn, t_us=stamps, pieces=("",) * len(stamps)))


_PROGRESS_STEP = 0.01

_CHATML_BEGIN = "<|im_start|>"


class LlamaEngine:
    """One model at a time."""

    def __init__(self, choice: EngineChoice | None = None) -> None:
        self._renderer = TemplateRenderer()
        self._loaded: LoadedModel | None = None
        self._form: ChatFormat | None = None
        self._missing = ""
        self._processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._library: Library = None
        self._rpc_watch = RpcWatch((), lambda _report: None)
        try:
            self._library = import_library(choice)
        except LibraryError as error:
            self._missing = str(error)
            return
        self._log = LibraryLog(self._library)
        self._library.llama_backend_init()
        self._rpc = RpcServers(self._library)

    @property
    def info(self) -> EngineInfo:
        """What computes, or why nothing does."""
        return EngineInfo(name="llama.cpp", missing=self._missing) if self._missing else engine_info(self._library)

    def load(self, command: Load, stop: Stop, report: Reporter) -> None:
        """Load in place of what was loaded; the last report is ModelLoaded or LoadFailed."""
        begin_us = monotonic_us()
        self._unload()
        failed = (
            self._library_failure()
            or _unsupported(command.settings)
            or file_failure(command.file, command.settings.n_ctx)
        )
        if failed is not None:
            report(failed)
            return
        self._pin(command.settings.cpu_mask)
        try:
            self._loaded = load_model(
                self._library, self._log, command, rpc=self._rpc, stop=stop, progress=_Progress(report).report
            )
        except LoadError as error:
            for log in error.logs:
                report(log)
            report(error.failed)
            return
        except MissingFunctionError as error:
            report(LoadFailed(reason="unsupported", message=f"{error}.", hint="Choose another one: `edgetop engine`."))
            return
        for log in self._loaded.logs:
            report(log)
        self._renderer.stopped = lambda: stop.requested
        try:
            self._form = self._choose_format(self._loaded, self._loaded.settings.template_args)
        except TemplateStoppedError:
            self._unload()
            report(cancelled())
            return
        self._rpc_watch = RpcWatch(self._loaded.settings.rpc_servers, report)
        now_us = monotonic_us()
        report(
            ModelLoaded(
                t_us=now_us,
                load_s=seconds(now_us - begin_us),
                model=replace(self._loaded.info, chat_template=self._form.source, template_note=self._form.note),
                engine=self.info,
                settings=self._loaded.settings,
                memory=self._loaded.memory,
            )
        )

    def generate(self, command: Generate, stop: Stop, report: Reporter) -> None:
        """Answer; the last report is TurnFinished."""
        if self._loaded is None or self._form is None:
            report(empty_turn(command.turn, "failed", NO_MODEL))
            return
        self._renderer.stopped = lambda: stop.requested
        form = self._form
        if changed := command.sampling.template_args:
            try:
                form = self._choose_format(self._loaded, self._loaded.settings.template_args | changed)
            except TemplateStoppedError:
                report(empty_turn(command.turn, "cancelled", ""))
                return
        with self._rpc_watch.working():
            Generation(self._library, self._loaded, form, command, stop=stop, report=report).run()
        self._report_logs(report)

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Evaluate random tokens; the last report is TurnFinished."""
        if self._loaded is None:
            report(empty_turn(command.turn, "failed", NO_MODEL))
            return
        with self._rpc_watch.working():
            Measurement(self._loaded, command, stop=stop, report=report).run()
        self._report_logs(report)

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:
        """Score a text or choices; the last report is TextScored, ChoicesScored or ScoreFailed."""
        if self._loaded is None or self._form is None:
            report(ScoreFailed(message=NO_MODEL))
            return
        self._renderer.stopped = lambda: stop.requested
        from edgetop.inference.llama.scoring import Scorer  # noqa: PLC0415 - brings numpy

        with self._rpc_watch.working():
            Scorer(self._library, self._loaded, self._form, stop=stop, report=report).run(command)
        self._report_logs(report)

    def close(self) -> None:
        """Free the model and end the template process."""
        self._unload()
        self._renderer.close()

    def _report_logs(self, report: Reporter) -> None:
        for log in to_reports(self._log.drain()):
            report(log)

    def _unload(self) -> None:
        self._rpc_watch.end()
        if self._loaded is not None:
            self._loaded.free(self._library)
        self._loaded = None
        self._form = None

    def _pin(self, mask: str | None) -> None:
        """Threads that are started from now on run on these processors; on all of ours without a mask."""
        if not hasattr(os, "sched_setaffinity"):
            return
        bits = 0 if mask is None else int(mask, 16)
        wanted = {cpu for cpu in self._processors if bits >> cpu & 1} or self._processors
        os.sched_setaffinity(0, wanted)

    def _library_failure(self) -> LoadFailed | None:
        if not self._missing:
            return None
        return LoadFailed(
            reason="unsupported", message=f"There is no engine: {self._missing}.", hint=f"{no_engine_hint()}."
        )

    def _choose_format(self, loaded: LoadedModel, template_args: TemplateArgs) -> ChatFormat:
        wanted = loaded.settings.template_name
        vocabulary = loaded.vocabulary
        return choose_format(
            template=loaded.template(self._library),
            named=loaded.template(self._library, wanted) if wanted is not None else None,
            wanted_name=wanted,
            tokens=SpecialTokens(
                bos=vocabulary.text_of(vocabulary.bos),
                eos=vocabulary.text_of(vocabulary.eos),
                chatml=vocabulary.is_special(_CHATML_BEGIN),
            ),
            args=template_args,
            render=self._renderer.render,
        )


def _unsupported(settings: EngineSettings) -> LoadFailed | None:
    if not settings.of_server_only:
        return None
    message = f"{' and '.join(settings.of_server_only)}: llama.cpp's library does not carry this out in edgetop."
    return LoadFailed(reason="unsupported", message=message, hint="Use --engine llama-server.")


class _Progress:
    """Reports the progress of a load, a hundred times at most."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._last = -1.0

    def report(self, fraction: float) -> None:
        if fraction - self._last >= _PROGRESS_STEP or (fraction >= 1 > self._last):
            self._last = fraction
            self._report(LoadProgress(round(fraction, 3)))
