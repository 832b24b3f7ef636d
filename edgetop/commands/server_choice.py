"""The server that the person named in place of a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.resolve import Settings

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
