"""A server in place of a model of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgetop.settings.option import OneOf, Option, path, real, text

SERVER: Final = Option[str | None](
    "server",
    "server",
    "--server",
    default=None,
    metavar="URL",
    parse=text,
    help="let a server answer: llama-server, Ollama or any with the OpenAI chat API, such as http://127.0.0.1:8080; "
    "--model then is one of its models, and a key is taken from EDGETOP_SERVER_KEY",
    about="Only this address is ever contacted, and a server on this machine never through a proxy. Its process"
    " is found by the socket it listens on, so that memory, processor time and power are measured as for "
    "a model of our own; for a server elsewhere the panes say that they cannot be.",
    example="http://127.0.0.1:8080",
)

SERVER_KIND: Final = Option[str](
    "server_kind",
    "server",
    "--server-kind",
    default="auto",
    metavar="KIND",
    parse=OneOf("auto", "llama-server", "ollama", "openai"),
    help="what the server is: auto asks it; else llama-server, ollama or openai",
    about="auto asks for addresses that only one kind of server has. Name the kind where a proxy in front of "
    "the server answers for it.",
)

SERVER_KEY_FILE: Final = Option[Path | None](
    "server_key_file",
    "server",
    "--server-key-file",
    default=None,
    metavar="FILE",
    parse=path,
    help="file that holds the server's API key; neither recorded nor shown",
    about="The file holds nothing but the key. EDGETOP_SERVER_KEY holds a key without a file; it is no setting, "
    "so that it cannot come into a configuration file that is shown around.",
    example="~/.config/edgetop/server.key",
)

SERVER_TIMEOUT: Final = Option[float](
    "server_timeout",
    "server",
    "--server-timeout",
    default=300.0,
    metavar="SECONDS",
    parse=real(1, 86_400),
    help="how long the server may say nothing before it is given up",
    about="A server on a small device may read a long prompt for minutes before its first word.",
)
