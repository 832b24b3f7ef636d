"""Llama.cpp behind the protocol."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from edgetop.core.clock import monotonic_us, seconds
from edgetop.core.engine_settings import EngineInfo
from edgetop.core.records import ModelLoaded, TurnFinished
from edgetop.inference.chat_template import ChatFormat, SpecialTokens, TemplateRenderer, choose_format
from edgetop.inference.engine import Reporter, Stop
from edgetop.inference.llama.library import Library, LibraryError, engine_info, import_library
from edgetop.inference.llama.log import LibraryLog, to_reports
from edgetop.inference.llama.model import LoadedModel, LoadError, load_model
from edgetop.inference.llama.rpc import RpcServers
from edgetop.inference.llama.turn import Generation, Measurement
from edgetop.inference.model_file import check_model_file
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

_NO_MODEL = "No model is loaded: load one first."

_CHATML_BEGIN = "<|im_start|>"


class LlamaEngine:
    """One model at a time."""

    def __init__(self) -> None:
        self._renderer = TemplateRenderer()
        self._loaded: LoadedModel | None = None
        self._form: ChatFormat | None = None
        self._missing = ""
        self._library: Library = None
        try:
            self._library = import_library()
        except LibraryError as error:
            self._missing = str(error)
            return
        self._log = LibraryLog(self._library)
        self._library.llama_backend_init()
        self._rpc = RpcServers(self._library)

    @property
    def info(self) -> EngineInfo:
        """What computes; without a version when the library is missing."""
        return EngineInfo(name="llama.cpp") if self._missing else engine_info(self._library)

    def load(self, command: Load, stop: Stop, report: Reporter) -> None:
        """Load in place of what was loaded; the last report is ModelLoaded or LoadFailed."""
        begin_us = monotonic_us()
        self._unload()
        failed = self._library_failure() or check_model_file(Path(command.path))
        if failed is not None:
            report(failed)
            return
        try:
            self._loaded = load_model(
                self._library, self._log, command, rpc=self._rpc, stop=stop, progress=_Progress(report).tell
            )
        except LoadError as error:
            for log in error.logs:
                report(log)
            report(error.failed)
            return
        for log in self._loaded.logs:
            report(log)
        self._form = self._choose_format(self._loaded)
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
            report(_without_model(command.turn))
            return
        Generation(self._library, self._loaded, self._form, command, stop=stop, report=report).run()
        self._tell_logs(report)

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Evaluate random tokens; the last report is TurnFinished."""
        if self._loaded is None:
            report(_without_model(command.turn))
            return
        Measurement(self._loaded, command, stop=stop, report=report).run()
        self._tell_logs(report)

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:
        """Score a text or choices; the last report is TextScored, ChoicesScored or ScoreFailed."""
        if self._loaded is None:
            report(ScoreFailed(message=_NO_MODEL))
            return
        from edgetop.inference.llama.scoring import Scorer  # noqa: PLC0415 - brings numpy

        Scorer(self._library, self._loaded, stop=stop, report=report).run(command)
        self._tell_logs(report)

    def close(self) -> None:
        """Free the model and end the template process."""
        self._unload()
        self._renderer.close()

    def _tell_logs(self, report: Reporter) -> None:
        for log in to_reports(self._log.take()):
            report(log)

    def _unload(self) -> None:
        if self._loaded is not None:
            self._loaded.free(self._library)
        self._loaded = None
        self._form = None

    def _library_failure(self) -> LoadFailed | None:
        if not self._missing:
            return None
        hint = "Install it with `pip install llama-cpp-python==0.3.36`."
        return LoadFailed(reason="unsupported", message=f"There is no engine: {self._missing}.", hint=hint)

    def _choose_format(self, loaded: LoadedModel) -> ChatFormat:
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
            args=loaded.settings.template_args,
            render=self._renderer.render,
        )


def _without_model(turn: int) -> TurnFinished:
    return TurnFinished(
        turn=turn,
        t_us=monotonic_us(),
        stop_reason="failed",
        prompt_tokens=0,
        cached_tokens=0,
        generated_tokens=0,
        context_used=0,
        error=_NO_MODEL,
    )


class _Progress:
    """Tells the screen of a load, a hundred times at most."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._told = -1.0

    def tell(self, fraction: float) -> None:
        if fraction - self._told >= _PROGRESS_STEP or (fraction >= 1 > self._told):
            self._told = fraction
            self._report(LoadProgress(round(fraction, 3)))
