"""From settings to server, store, power sources, price, prompts, live options, and the display of a screen.

Every verb imports this, and few need all of it: what takes long to import is imported by the function that needs it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgetop.core.energy.duty import Duty
from edgetop.core.errors import UsageError
from edgetop.core.text import one_line
from edgetop.inference.server.address import ANY_MODEL, ServerChoice, key_file_of
from edgetop.io.extensions import EXPORTERS, FAILURES, installed, switch_off
from edgetop.io.files import as_utf8, data_folder, expanded
from edgetop.io.terminal import terminal_kind
from edgetop.settings import options
from edgetop.settings.option import SCRIPT_PREFIX, SERVER_ENGINE, Option, listen_address
from edgetop.settings.resolve import Settings, engine_settings, left_open, price_of, sampling_settings

if TYPE_CHECKING:
    from edgetop.core.records import SessionKind
    from edgetop.fit.assessment import Reader
    from edgetop.io.hub import DownloadProgress
    from edgetop.live.alerts import Alerts
    from edgetop.live.chat_session import LiveOptions
    from edgetop.live.metrics import Exporter
    from edgetop.session.store import Store
    from edgetop.telemetry.registry import PowerChoice
    from edgetop.tui.app import Display, MakeScreen
    from edgetop.tui.keys import KeyTables


PROGRESS_S = 0.2
PROMPT_BYTES_MAX = 16 * 2**20
"""No context holds as much; a device such as /dev/zero has no end."""


def server_choice(settings: Settings) -> ServerChoice | None:
    """The server of `--server`; `None` without one. Raises UsageError for an address that is none."""
    url = settings[options.SERVER]
    if url is None:
        return None
    named = settings[options.SERVER_KEY_FILE]
    choice = ServerChoice(
        url=url,
        kind=settings[options.SERVER_KIND],
        key_file="" if named is None else str(named.absolute()),
        timeout_s=settings[options.SERVER_TIMEOUT],
    )
    try:
        address = choice.address
    except ValueError as error:
        raise UsageError(
            f"{settings.origin(options.SERVER)}: this is not the address of a server", f"expected {error}"
        ) from None
    key_file = choice.key_file or key_file_of(address, settings[options.SERVER_KEYS])
    given = tuple(option.name for option in options.OPTIONS if option.section == "engine" and is_flag(settings, option))
    chosen = tuple(name for name in given if name != options.TEMPLATE_ARG.name)
    return ServerChoice(
        url=str(address), kind=choice.kind, key_file=key_file, timeout_s=choice.timeout_s, chosen=chosen
    )


def is_flag(settings: Settings, option: Option[object]) -> bool:
    """Whether a setting was given on the command line."""
    return settings.origin(option) in option.flags


def has_own_engine(settings: Settings) -> bool:
    """Whether edgetop starts llama.cpp itself, with a model file."""
    return not settings[options.ENGINE].startswith(SCRIPT_PREFIX) and settings[options.SERVER] is None


def local_model(name: str | None, settings: Settings, *, with_store_settings: bool = False) -> Path:
    """The file of a model on this machine, downloaded where its name says so, with progress. Raises EdgetopError.

    With `with_store_settings` it is Ollama's manifest where it has one, which tells how to run the model.
    """
    from edgetop.commands.output import clear_progress, show_progress  # noqa: PLC0415 - only to load
    from edgetop.inference.catalog import find_model, last_model, resolve  # noqa: PLC0415 - the same

    find = find_model if with_store_settings else resolve
    shown_s = 0.0

    def report(progress: DownloadProgress) -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s >= PROGRESS_S and not settings[options.QUIET]:
            shown_s = time.monotonic()
            show_progress(progress.words)

    try:
        return find(name, folders=settings[options.MODEL_DIR], last_used=last_model(), report=report)
    finally:
        clear_progress()


def named_model(settings: Settings) -> Path:
    """The model to load where it is not a file to search for."""
    named = settings[options.MODEL]
    if settings[options.SERVER] is not None:
        return ANY_MODEL if named is None else Path(named)
    return Path(named or settings[options.ENGINE])


def sessions_folder(settings: Settings) -> Path:
    """The folder of recorded sessions, which may not exist yet."""
    chosen = settings[options.DATA_DIR]
    return data_folder({"EDGETOP_DATA_DIR": str(chosen)} if chosen is not None else {})


def open_store(settings: Settings) -> Store:
    """The recorded sessions. The device is given back as it was where a benchmark was killed that had set it."""
    from edgetop.session.store import Store  # noqa: PLC0415 - with what reads sessions

    store = Store(sessions_folder(settings))
    if device_state(store).exists():
        _give_back_device(device_state(store), settings)
    return store


def bench_folder(store: Store) -> Path:
    """Where plans and what was done of them are kept: beside the folder of the sessions."""
    return store.folder.parent / "benches"


def device_state(store: Store) -> Path:
    """There while a benchmark has set the device, and after one was killed that had."""
    return bench_folder(store) / "device.json"


def _give_back_device(state: Path, settings: Settings) -> None:
    from edgetop.bench.device_settings import DeviceError, DeviceSettings  # noqa: PLC0415 - once after a crash
    from edgetop.commands.output import print_error, print_status  # noqa: PLC0415 - the same
    from edgetop.telemetry.host import Host  # noqa: PLC0415 - the same

    try:
        for each in DeviceSettings(state, Host(sysroot=settings[options.SYSROOT])).take_over():
            print_status(f"given back after a benchmark that was killed: {each}")
    except DeviceError as error:
        print_error(error.what, error.hint)


def given_prompts(arguments: argparse.Namespace) -> list[str]:
    """Texts and files of the command line, in its order. Raises UsageError."""
    return [
        text if source == "text" else read_prompt(None if text == "-" else Path(text))
        for source, text in arguments.prompts
    ]


def read_prompt(file: Path | None) -> str:
    """Read a prompt from a file, or from standard input for `None`. Raises UsageError."""
    try:
        if file is None:
            data = sys.stdin.buffer.read(PROMPT_BYTES_MAX + 1) if sys.stdin is not None else b""
        else:
            with file.open("rb") as opened:
                data = opened.read(PROMPT_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file or 'standard input'}: {error.strerror}", "name a file of text") from None
    if len(data) > PROMPT_BYTES_MAX:
        raise UsageError(f"{file or 'standard input'} is larger than any context", "give a shorter prompt")
    text = as_utf8(data).decode("utf-8", "replace").strip()
    if not text:
        raise UsageError(f"{file or 'standard input'} holds no prompt", "give one with -p TEXT")
    return text


def alerts_of(settings: Settings, kind: SessionKind) -> Alerts | None:
    """The alerts that the user asked for, if any. Raises UsageError."""
    if not settings[options.ALERT]:
        return None
    from edgetop.live.alerts import Alerts  # noqa: PLC0415 - with sessions

    command, ends = settings[options.ALERT_RUN], settings[options.ALERT_EXIT]
    return Alerts(settings[options.ALERT], kind, command=command, ends=ends)


def exporters_of(settings: Settings) -> Sequence[Exporter]:
    """What gives a session's measurements to other programs, as the user asked. Raises EdgetopError."""
    addresses, file = settings[options.EXPORT], settings[options.EXPORT_FILE]
    if not addresses and file is None:
        return ()
    from edgetop.live.metrics import PrometheusExporter  # noqa: PLC0415 - few export anything

    exporters: list[Exporter] = [] if file is None else [PrometheusExporter(file=file)]
    for text in addresses:
        name, _, target = text.partition(":")
        if name in installed(EXPORTERS):
            exporters += _extension_exporters(name, target)
            continue
        try:
            exporters.append(PrometheusExporter(address=listen_address(text)))
        except ValueError as error:
            what = f"--export: {one_line(text)!r} is no address and no exporter"
            raise UsageError(what, f"expected {error}") from None
    return exporters


def _extension_exporters(name: str, target: str) -> Sequence[Exporter]:
    """The exporter of an extension; none where it fails, which is said."""
    try:
        return [installed(EXPORTERS)[name].load()(target)]
    except FAILURES as error:
        switch_off(EXPORTERS, name, error)
        return ()


def live_options(settings: Settings, alerts: Alerts | None = None, exporters: Sequence[Exporter] = ()) -> LiveOptions:
    """How the live session is to be run. Raises UsageError."""
    from edgetop.live.chat_session import LiveOptions  # noqa: PLC0415 - with engine and sensors

    server = server_choice(settings)
    return LiveOptions(
        engine=engine_settings(settings),
        left_open=left_open(settings) if server is None and not settings[options.RPC] else frozenset(),
        sampling=sampling_settings(settings),
        system=settings[options.SYSTEM],
        sysroot=settings[options.SYSROOT],
        power=power_choice(settings),
        use=duty_of(settings),
        sync_pulse=settings[options.SYNC_PULSE],
        record=settings[options.RECORD],
        text_recorded=settings[options.TEXT],
        output=settings[options.OUTPUT],
        model_folders=settings[options.MODEL_DIR],
        alerts=alerts,
        exporters=exporters,
        engine_name=_engine_name(settings[options.ENGINE]) if server is None else server.engine_name,
    )


def _engine_name(name: str) -> str:
    """The engine's name for its worker, whose working folder is another one."""
    server, _, program = name.partition("=")
    if server == SERVER_ENGINE:
        # A name without a folder is looked for as programs are.
        return f"{server}={expanded(program).absolute()}" if "/" in program else name
    kind, colon, file = name.partition(":")
    return f"{kind}:{Path(file).absolute()}" if colon else name


def power_choice(settings: Settings) -> PowerChoice:
    """The power sources that the user asked for."""
    from edgetop.telemetry.registry import PowerChoice  # noqa: PLC0415 - with sensors

    return PowerChoice(
        name=settings[options.POWER],
        command=settings[options.POWER_EXEC],
        streams=settings[options.POWER_STREAM],
        gpu_sensors=settings[options.GPU_SENSORS],
    )


def duty_of(settings: Settings) -> Duty:
    """How the model is used, as far as the user says it."""
    return Duty(
        answer_tokens=settings[options.ANSWER_TOKENS],
        requests_per_hour=settings[options.REQUESTS_PER_HOUR],
        battery_wh=settings[options.BATTERY_WH],
    )


def given_duty(settings: Settings) -> Duty | None:
    """The use of the model that recorded sessions are to be shown for; `None` where the user says nothing of it."""
    duty = duty_of(settings)
    return None if duty == Duty() else duty


def reader_of(settings: Settings) -> Reader:
    """How fast the user reads."""
    from edgetop.fit.assessment import Reader  # noqa: PLC0415 - with all predictions

    return Reader(
        words_per_minute=settings[options.WORDS_PER_MINUTE], tokens_per_word=settings[options.TOKENS_PER_WORD]
    )


THEME_PREFIX = "edgetop-"
Result = TypeVar("Result")


def is_terminal() -> bool:
    """Whether a person sits before both ends of us."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def shows_screens(settings: Settings) -> bool:
    """Whether a person sits there who wants screens, on a terminal that can show them, or before a browser."""
    in_browser = os.environ.get("TEXTUAL_DRIVER", "").endswith(":WebDriver")
    return (is_terminal() or in_browser) and not settings[options.PLAIN] and terminal_kind() != "dumb"


def show_screen(make_screen: MakeScreen[Result], settings: Settings) -> Result | None:
    """Run one screen as the settings of the section `screen` say; what it was dismissed with.

    `make_screen` is to import the screen, since Textual takes longer to import than the rest. Raises UsageError for a
    theme that there is not, and EdgetopError when the screen ended by a defect of its own.
    """
    display = chosen_display(settings)
    from edgetop.tui.app import SingleScreenApp  # noqa: PLC0415 - Textual is slow to import

    app = SingleScreenApp(make_screen, display)
    app.run_to_end()
    if app.signal_code:
        raise SystemExit(app.signal_code)
    return app.return_value


def chosen_display(settings: Settings) -> Display:
    """How screens are to be drawn.

    Raises UsageError for a theme, a screen or an action that there is not, and for a key that would do two things.
    """
    if settings[options.NO_COLOR]:
        # Textual reads it from the environment when it is imported.
        os.environ["NO_COLOR"] = "1"
    from edgetop.tui.app import Display  # noqa: PLC0415 - Textual is slow to import

    return Display(
        level="ascii" if settings[options.ASCII] else None,
        theme=chosen_theme(settings),
        delay_s=settings[options.DELAY],
        price=price_of(settings),
        keys=chosen_keys(settings),
        mouse=settings[options.MOUSE],
    )


def chosen_keys(settings: Settings) -> KeyTables:
    """The keys of all screens, with those that the configuration file wants. Raises UsageError."""
    from edgetop.tui.keys import TABLES, remapped  # noqa: PLC0415 - only where a screen or its keys are shown

    return remapped(settings.keys, str(settings.config_file)) if settings.keys else TABLES


def chosen_theme(settings: Settings) -> str | None:
    """Name of the theme that was asked for, if one was. Raises UsageError when there is none, or it is no theme."""
    from edgetop.tui.themes import theme_files  # noqa: PLC0415 - only where a screen is opened

    asked = settings[options.THEME]
    if asked is None:
        return None
    name, files = asked.removeprefix(THEME_PREFIX), theme_files()
    if name not in files:
        import difflib  # noqa: PLC0415 - only for what is not found

        close = difflib.get_close_matches(name, files, n=1)
        raise UsageError(
            f"there is no theme {asked!r}", f"did you mean {close[0]}?" if close else f"there are {', '.join(files)}"
        )
    from edgetop.tui.themes import ThemeError, read_theme  # noqa: PLC0415 - Textual is slow to import

    try:
        read_theme(files[name])
    except ThemeError as error:
        raise UsageError(
            f"the theme {files[name]} cannot be used: {error}", "fix it, or choose another one with --theme"
        ) from None
    return THEME_PREFIX + name
