"""URL, kind and key of a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from edgetop.core.text import one_line
from edgetop.io.files import as_utf8

ENGINE_PREFIX: Final = "server:"
"""Prefix of the name of an engine that is a server; the rest is a `ServerChoice` in JSON."""

ANY_MODEL: Final = Path()
"""In place of a model's name: the one that the server has loaded, or its only one."""

TIMEOUT_S = 300.0
LOADING_S = 900.0
UNIX: Final = "unix"
"""The scheme of a socket that has a path on this machine."""

_PORTS = {"http": 80, "https": 443}
_API_PATHS = (
    "/chat/completions", "/completions", "/embeddings", "/models", "/v1", "/chat", "/generate", "/tags", "/api",
    "/completion", "/props", "/slots", "/metrics", "/health",
)  # fmt: skip
"""What stands behind the address of a server where somebody copied that of a request, from its end on."""


class Address(msgspec.Struct, frozen=True):
    """The address of a server, without user, password and query."""

    scheme: str
    host: str
    """A name or an IP address, without brackets."""
    port: int
    prefix: str = ""
    """Before the paths of the API, without `/v1` and without a slash at its end."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address as people paste it: `http://127.0.0.1:8080/v1/chat/completions`, `8080`, `unix:/a/socket`.

        Raises ValueError with what was expected.
        """
        expected = "an address such as http://127.0.0.1:8080"
        url = text.strip()
        if url.isascii() and url.lstrip(":").isdecimal() and len(url) <= 6:
            url = f"127.0.0.1:{url.lstrip(':')}"
        socket_path = url.removeprefix("unix://" if url.startswith("unix://") else "unix:")
        if socket_path != url:
            if not socket_path.startswith("/") or not socket_path.isprintable():
                raise ValueError("the path of a socket such as unix:/run/llama.sock")
            return cls(UNIX, socket_path, 0)
        url = url if "://" in url else f"http://{url}"
        if not url.isascii() or not url.isprintable() or any(character in url for character in ' "<>\\^`{|}'):
            raise ValueError(expected)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(expected) from None
        if parts.username is not None or parts.password is not None:
            raise ValueError("an address without user and password; a key belongs into EDGETOP_SERVER_KEY")
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or port == 0:
            raise ValueError(expected)
        prefix = parts.path.rstrip("/")
        for ending in _API_PATHS:
            prefix = prefix.removesuffix(ending).rstrip("/")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], prefix)

    def __str__(self) -> str:
        return f"unix:{self.host}" if self.scheme == UNIX else f"{self.origin}{self.prefix}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a key belongs to."""
        if self.scheme == UNIX:
            return str(self)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """What paths of the API stand behind in a request."""
        return f"http+unix://{quote(self.host, safe='')}" if self.scheme == UNIX else str(self)

    @property
    def authority(self) -> str:
        """Host and port, for a person."""
        return self.origin.partition("://")[2] or self.origin

    @property
    def is_loopback(self) -> bool:
        """Whether it names this machine's loopback."""
        from edgetop.io.http import is_loopback  # noqa: PLC0415 - 40 ms, and not each address is contacted

        return self.scheme == UNIX or is_loopback(self.host)


class ServerChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which server is the engine, and how to contact it. Contains no key: that stays in its file or variable."""

    url: str
    kind: str = "auto"
    """One of `KIND_VALUES`."""
    key_file: str = ""
    chosen: tuple[str, ...] = ()
    """Settings of an engine of one's own that were given as flags; few kinds of servers can obey any."""
    timeout_s: float = TIMEOUT_S
    """How long the server may send nothing."""
    loading_s: float = LOADING_S
    """How long it may take to load its model."""

    @property
    def engine_name(self) -> str:
        """The engine's name, from which its worker makes it."""
        return ENGINE_PREFIX + msgspec.json.encode(self).decode()

    @classmethod
    def of_engine(cls, name: str) -> ServerChoice | None:
        """The server of an engine's name; `None` for an engine that is no server."""
        return cls.parse_json(name.removeprefix(ENGINE_PREFIX)) if name.startswith(ENGINE_PREFIX) else None

    @classmethod
    def parse_json(cls, text: str) -> ServerChoice:
        """A choice in JSON. Raises ValueError."""
        return msgspec.json.decode(text, type=cls)

    @property
    def address(self) -> Address:
        """Raises ValueError with what was expected."""
        return Address.parse(self.url)


KEY_VARIABLE = "EDGETOP_SERVER_KEY"
KEY_BYTES_MAX = 8192


def key_of(choice: ServerChoice, variable: str | None) -> str:
    """The API key, from the file that was named or else from the variable's value; empty without one.

    Raises ValueError, in one line without the key, when there is one that cannot be sent.
    """
    if choice.key_file:
        try:
            with Path(choice.key_file).open("rb") as file:
                data = file.read(KEY_BYTES_MAX + 1)
        except OSError as error:
            raise ValueError(f"the key file {one_line(choice.key_file)} cannot be read: {error.strerror}") from None
        where, key = "the key file", as_utf8(data).decode("ascii", "replace").strip()
    else:
        where, key = KEY_VARIABLE, (variable or "").strip()
    if len(key) > KEY_BYTES_MAX or not key.isascii() or not key.isprintable():
        raise ValueError(f"{where} holds no key: a key is one line of plain characters")
    return key


def key_file_of(address: Address, files: Iterable[tuple[str, Path]]) -> str:
    """The file that `[server.keys]` names for the origin of an address; empty without one.

    Raises ValueError for an address there that is none.
    """
    return next((str(file) for url, file in files if Address.parse(url).origin == address.origin), "")
