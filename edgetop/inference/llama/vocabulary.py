"""Text to tokens and back."""

from __future__ import annotations

import ctypes

from edgetop.inference.llama.library import Library
from edgetop.inference.reply_text import REASONING_MARKS

_PIECE_BYTES = 64


class Vocabulary:
    """The vocabulary of a loaded model; valid as long as the model."""

    def __init__(self, library: Library, model: object) -> None:
        self._library = library
        self._vocab = library.llama_model_get_vocab(model)
        self.size: int = library.llama_vocab_n_tokens(self._vocab)
        self.bos: int = library.llama_vocab_bos(self._vocab)
        self.begins_with_bos = bool(library.llama_vocab_get_add_bos(self._vocab)) and self.bos >= 0
        """The model wants the beginning-of-sequence token before every prompt."""
        self._shown = self._control_tokens_in_marks()
        self._known: dict[int, bytes | None] = {}

    def tokenize(self, text: str) -> list[int]:
        """Tokens of a whole prompt.

        The names of special tokens become those tokens wherever they stand, as in llama.cpp's own programs: in what the
        template writes, and in what a person or a document says as well. The beginning-of-sequence token is there once
        if the model wants it, whether or not the template writes it.
        """
        tokens = self._tokenize(text)
        if self.begins_with_bos and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        while self.begins_with_bos and tokens[:2] == [self.bos, self.bos]:
            del tokens[0]
        return tokens

    def tokenize_plain(self, text: str) -> list[int]:
        """Tokens of a text that is only read: the names of special tokens in it are letters like all others.

        The beginning-of-sequence token and its like are there as the model wants them.
        """
        return self._tokenize(text, add_special=True, parse_special=False)

    def piece(self, token: int) -> bytes | None:
        """The bytes of a token, which may be a part of a character; `None` for one that ends the reply.

        Special tokens have no bytes, those of reasoning marks excepted. A model may have several that end a reply.
        """
        if token not in self._known:
            ends = self._library.llama_vocab_is_eog(self._vocab, token)
            self._known[token] = None if ends else self._bytes_of(token)
        return self._known[token]

    def text_of(self, token: int) -> str:
        """The name of a token, such as `<s>`; empty if there is none."""
        name = self._library.llama_vocab_get_text(self._vocab, token) if token >= 0 else None
        return name.decode("utf-8", "replace") if name else ""

    def is_special(self, text: str) -> bool:
        """Whether a text is one control token of this vocabulary."""
        tokens = self._tokenize(text)
        return len(tokens) == 1 and bool(self._library.llama_vocab_is_control(self._vocab, tokens[0]))

    @property
    def eos(self) -> int:
        """The end-of-sequence token; negative if there is none."""
        return int(self._library.llama_vocab_eos(self._vocab))

    def _bytes_of(self, token: int) -> bytes:
        special = token in self._shown
        size_bytes = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size_bytes)
            size = self._library.llama_token_to_piece(self._vocab, token, buffer, size_bytes, 0, special)
            if size >= 0:
                return buffer.raw[:size]
            size_bytes = -size

    def _tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        while True:
            tokens = (self._library.llama_token * room)()
            count = self._library.llama_tokenize(self._vocab, data, len(data), tokens, room, add_special, parse_special)
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def _control_tokens_in_marks(self) -> frozenset[int]:
        marks = (mark for marks in REASONING_MARKS for mark in (marks.begin, marks.end))
        tokens = {token for mark in marks for token in self._tokenize(mark)}
        return frozenset(token for token in tokens if self._library.llama_vocab_is_control(self._vocab, token))
