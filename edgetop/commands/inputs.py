"""From settings to server, store, power sources, price, prompts, live options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgetop.core.energy.duty import Price
from edgetop.core.errors import UsageError
from edgetop.io.files import data_folder
from edgetop.live.chat_session import LiveOptions
from edgetop.session.store import Store
from edgetop.settings import options
from edgetop.settings.resolve import Settings, engine_settings, left_open, sampling_settings
from edgetop.telemetry.registry import PowerChoice

if TYPE_CHECKING:
    from edgetop.inference.server.address import Kind, ServerChoice


ANY_MODEL = Path()
"""The model that the server has loaded, or its only one."""

_KINDS: Final[dict[str, Kind]] = {
    "auto": "auto",
    "llama-server": "llama-server",
    "ollama": "ollama",
    "openai": "openai",
}


def server_choice(settings: Settings) -> ServerChoice | None:
    """The server of `--server`; `None` without one. Raises UsageError for an address that is none."""
    url = settings[options.SERVER]
    if url is None:
        return None
    from edgetop.inference.server.address import ServerChoice  # noqa: PLC0415 - few have a server

    key_file = settings[options.SERVER_KEY_FILE]
    choice = ServerChoice(
        url=url,
        kind=_KINDS[settings[options.SERVER_KIND]],
        key_file="" if key_file is None else str(key_file.absolute()),
        timeout_s=settings[options.SERVER_TIMEOUT],
    )
    try:
        address = choice.address
    except ValueError as error:
        raise UsageError(
            f"{settings.origin(options.SERVER)}: this is no address of a server", f"expected is {error}"
        ) from None
    return ServerChoice(url=str(address), kind=choice.kind, key_file=choice.key_file, timeout_s=choice.timeout_s)


def has_own_engine(settings: Settings) -> bool:
    """Whether llama.cpp runs in a process of ours, with a model file."""
    return settings[options.ENGINE] == "llama" and settings[options.SERVER] is None


def named_model(settings: Settings) -> Path:
    """What is to be loaded where it is not a file that we look for."""
    named = settings[options.MODEL]
    if settings[options.SERVER] is not None:
        return ANY_MODEL if named is None else Path(named)
    return Path(named or settings[options.ENGINE])


def open_store(settings: Settings) -> Store:
    """The folder of recorded sessions."""
    chosen = settings[options.DATA_DIR]
    return Store(data_folder({"EDGETOP_DATA_DIR": str(chosen)} if chosen is not None else {}))


PROMPT_BYTES_MAX = 16 * 2**20
"""No context holds as much; a device such as /dev/zero has no end."""


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
    text = data.decode("utf-8", "replace").strip()
    if not text:
        raise UsageError(f"{file or 'standard input'} holds no prompt", "give one with -p TEXT")
    return text


def live_options(settings: Settings) -> LiveOptions:
    """How the live session is to be run. Raises UsageError."""
    server = server_choice(settings)
    return LiveOptions(
        engine=engine_settings(settings),
        left_open=left_open(settings) if server is None and not settings[options.RPC] else frozenset(),
        sampling=sampling_settings(settings),
        system=settings[options.SYSTEM],
        sysroot=settings[options.SYSROOT],
        power=power_choice(settings),
        record=settings[options.RECORD],
        text_recorded=settings[options.TEXT],
        output=settings[options.OUTPUT],
        model_folders=settings[options.MODEL_DIR],
        engine_name=_engine_name(settings[options.ENGINE]) if server is None else server.engine_name,
    )


def _engine_name(name: str) -> str:
    """The engine as its worker, whose working folder is another one, is to be told of it."""
    kind, colon, file = name.partition(":")
    return f"{kind}:{Path(file).absolute()}" if colon else name


def power_choice(settings: Settings) -> PowerChoice:
    """The power sources that the person asked for."""
    return PowerChoice(
        name=settings[options.POWER],
        command=settings[options.POWER_EXEC],
        streams=settings[options.POWER_STREAM],
    )


def price_of(settings: Settings) -> Price | None:
    """What energy costs, if the person said so."""
    per_kwh = settings[options.PRICE_PER_KWH]
    return None if per_kwh is None else Price(per_kwh=per_kwh, currency=settings[options.CURRENCY])


def sessions_folder(settings: Settings) -> Path:
    """The folder of recorded sessions, which need not be there."""
    chosen = settings[options.DATA_DIR]
    return data_folder({"EDGETOP_DATA_DIR": str(chosen)} if chosen is not None else {})
