"""The messages of a conversation, and the turns that they were asked in."""

from __future__ import annotations

from collections.abc import Sequence

from edgetop.inference.protocol import ChatMessage

OF_EARLIER_SESSION = 0
"""In place of the turn of a prompt that another session asked."""


class ChatHistory:
    """Prompts and answers in order, without the system prompt."""

    def __init__(self) -> None:
        self.messages: list[ChatMessage] = []
        self.counted_tokens: int | None = None
        """Tokens of the messages, as the engine has counted them; `None` while it has not."""
        self._turns: list[int] = []
        """Of the prompts."""

    @property
    def last_prompt(self) -> str | None:
        """What was asked last."""
        return next((message.content for message in reversed(self.messages) if message.role == "user"), None)

    @property
    def ends_with_answer(self) -> bool:
        """Whether there is an answer to go on with."""
        return bool(self.messages) and self.messages[-1].role == "assistant"

    @property
    def turn_of_last_prompt(self) -> int | None:
        """In which it was asked; OF_EARLIER_SESSION for one of another session, `None` where there is none."""
        return self._turns[-1] if self._turns else None

    def ask(self, prompt: str, turn: int) -> None:
        """Append a prompt that is asked in a turn."""
        self.messages.append(ChatMessage("user", prompt))
        self._turns.append(turn)

    def ask_again(self, prompt: str, turn: int) -> None:
        """Put a prompt, which may be the same one, in place of the last one and of what followed that."""
        self.take_back()
        self.ask(prompt, turn)

    def answer(self, text: str, *, continued: bool) -> None:
        """Append an answer, or what an answer went on with."""
        if continued:
            text = self.messages.pop().content + text
        self.messages.append(ChatMessage("assistant", text))

    def drop_answer(self) -> None:
        """Forget the answer at the end."""
        self.messages.pop()

    def take_back(self) -> None:
        """Forget the last prompt and what followed it."""
        while self.messages.pop().role != "user":
            pass
        self._turns.pop()
        self.counted_tokens = None

    def replace(self, messages: Sequence[ChatMessage]) -> None:
        """Go on with the messages of an earlier session."""
        self.messages = list(messages)
        self._turns = [OF_EARLIER_SESSION for message in messages if message.role == "user"]
        self.counted_tokens = None
