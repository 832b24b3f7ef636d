"""What edgetop and its worker process say to each other.

The two share a socket pair. A message is a four-byte big-endian length and that many bytes of msgpack: one of the
structs below, told apart by its tag. Commands go to the worker, reports come back; the records of a turn are sent as
they will be recorded.

Stopping does not go through the socket, since the worker does not read it while it computes: both sides map one
shared page, in which each command has a flag of its own (`edgetop.inference.stop_flag`).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.core.engine import EngineInfo, EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Prefill, Tokens, TurnFinished

Role = Literal["system", "user", "assistant"]


class ChatMessage(Struct, frozen=True):
    """One entry of the conversation as the chat template sees it."""

    role: Role
    content: str


class Load(Struct, frozen=True, kw_only=True, tag="load"):
    """Load a model, in place of the one loaded before. Answered by LoadProgress*, then ModelLoaded or LoadFailed."""

    path: str
    settings: EngineSettings


class Generate(Struct, frozen=True, kw_only=True, tag="generate"):
    """Answer a conversation. Answered by Prefill*, Tokens*, then TurnFinished."""

    turn: int
    messages: tuple[ChatMessage, ...]
    sampling: SamplingSettings
    continue_reply: bool = False
    """The last message is an assistant's that is to be gone on with."""


class Quit(Struct, frozen=True, tag="quit"):
    """Free the model and leave."""


Command = Load | Generate | Quit


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    """The first report of a worker: it runs, and this is its engine."""

    pid: int
    engine: EngineInfo


class LoadProgress(Struct, frozen=True, tag="load_progress"):
    """Share of the weights loaded, 0 to 1."""

    fraction: float


class LoadFailed(Struct, frozen=True, kw_only=True, tag="load_failed"):
    """No model is loaded now."""

    reason: Literal["missing", "not_a_model", "unsupported", "no_memory", "cancelled", "failed"]
    message: str
    """One line: what."""
    mend: str
    """One line: how to mend it."""


class Log(Struct, frozen=True, kw_only=True, tag="log"):
    """A warning or an error from the engine library."""

    level: Literal["warning", "error"]
    text: str


Report = Hello | LoadProgress | LoadFailed | Log | ModelLoaded | Prefill | Tokens | TurnFinished
