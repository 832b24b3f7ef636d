"""llama.cpp as an engine."""

from __future__ import annotations

import os

from msgspec.structs import replace

from edgetop.core.clock import monotonic_us, seconds
from edgetop.core.engine_settings import EngineInfo, EngineSettings
from edgetop.core.records import ModelLoaded
from edgetop.inference.chat_template import (
    ChatFormat,
    SpecialTokens,
    TemplateArgs,
    TemplateRenderer,
    TemplateStoppedError,
    choose_format,
)
from edgetop.inference.engine import NO_MODEL, Reporter, Stop, empty_turn, file_failure
from edgetop.inference.llama.library import EngineChoice, Library, LibraryError, engine_info, import_library
from edgetop.inference.llama.log import LibraryLog, to_reports
from edgetop.inference.llama.model import LoadedModel, LoadError, RpcServers, cancelled, load_model
from edgetop.inference.llama.portable import no_engine_hint
from edgetop.inference.llama.turn import Generation, Measurement
from edgetop.inference.protocol import (
    Choose,
    Generate,
    Load,
    LoadFailed,
    LoadProgress,
    Measure,
    Perplexity,
    ScoreFailed,
)

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
        for log in self._loaded.logs:
            report(log)
        self._renderer.stopped = lambda: stop.requested
        try:
            self._form = self._choose_format(self._loaded, self._loaded.settings.template_args)
        except TemplateStoppedError:
            self._unload()
            report(cancelled())
            return
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
        Generation(self._library, self._loaded, form, command, stop=stop, report=report).run()
        self._report_logs(report)

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Evaluate random tokens; the last report is TurnFinished."""
        if self._loaded is None:
            report(empty_turn(command.turn, "failed", NO_MODEL))
            return
        Measurement(self._loaded, command, stop=stop, report=report).run()
        self._report_logs(report)

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:
        """Score a text or choices; the last report is TextScored, ChoicesScored or ScoreFailed."""
        if self._loaded is None:
            report(ScoreFailed(message=NO_MODEL))
            return
        from edgetop.inference.llama.scoring import Scorer  # noqa: PLC0415 - brings numpy

        Scorer(self._library, self._loaded, stop=stop, report=report).run(command)
        self._report_logs(report)

    def close(self) -> None:
        """Free the model and end the template process."""
        self._unload()
        self._renderer.close()

    def _report_logs(self, report: Reporter) -> None:
        for log in to_reports(self._log.drain()):
            report(log)

    def _unload(self) -> None:
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
