"""URL, kind and key of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from edgetop.core.text import one_line

ENGINE_PREFIX: Final = "server:"
"""Prefix of the name of an engine that is a server; the rest is a `ServerChoice` in JSON."""

ANY_MODEL: Final = Path()
"""In place of a model's name: the one that the server has loaded, or its only one."""

TIMEOUT_S = 300.0
LOADING_S = 900.0
_PORTS = {"http": 80, "https": 443}


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
        """Read an address such as `http://127.0.0.1:8080`. Raises ValueError with what was expected."""
        expected = "an address such as http://127.0.0.1:8080"
        url = text if "://" in text else f"http://{text}"
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
        prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], prefix)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"

    @property
    def authority(self) -> str:
        """Host and port, for a person."""
        return str(self).partition("://")[2].removesuffix(self.prefix) if self.prefix else str(self).partition("://")[2]

    @property
    def is_loopback(self) -> bool:
        """Whether it names this machine's loopback."""
        from edgetop.io.http import is_loopback  # noqa: PLC0415 - 40 ms, and not each address is contacted

        return is_loopback(self.host)


class ServerChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which server is the engine, and how to contact it. Contains no key: that stays in its file or variable."""

    url: str
    kind: str = "auto"
    """One of `KIND_VALUES`."""
    key_file: str = ""
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
        where, key = "the key file", data.decode("ascii", "replace").strip()
    else:
        where, key = KEY_VARIABLE, (variable or "").strip()
    if len(key) > KEY_BYTES_MAX or not key.isascii() or not key.isprintable():
        raise ValueError(f"{where} holds no key: a key is one line of plain characters")
    return key
