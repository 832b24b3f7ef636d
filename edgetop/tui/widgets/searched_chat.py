"""The chat of the live screen: what can be searched, and from which answers are copied."""

from __future__ import annotations

from edgetop.tui.chat_block import Place, Row
from edgetop.tui.chat_search import ChatSearch
from edgetop.tui.widgets.chat_view import ChatView


class SearchedChat(ChatView):
    """A chat view with a search, which goes from match to match and marks those in view."""

    _search: ChatSearch | None = None
    _origin = Place(0, 0)
    """The line that a search begins from, whatever words are typed."""

    @property
    def answer_in_view(self) -> str | None:
        """The answer that is read, as far as it is here; `None` where the view follows the end or shows none."""
        if self._following:
            return None
        transcript = self._transcript
        below = transcript.place_below(self._top, self.size.height)
        blocks = transcript.blocks
        in_view = blocks[self._top.block : below.block + (below.line > 0)]
        message = next((block.message for block in in_view if block.kind == "assistant"), None)
        if message is None:
            return None
        return "".join(block.text for block in blocks if block.message == message and block.kind == "assistant")

    @property
    def growing_answer(self) -> str:
        """What has come of the answer that is being given."""
        blocks = self._transcript.blocks
        return "".join(block.text for block in blocks if block.message == self._reply and block.kind == "assistant")

    def search(self, words: str) -> str:
        """Mark words, and go to the first match from here on; which of how many it is, for a person."""
        if self._search is None:
            self._origin = self._top
        self._search = ChatSearch(self._transcript)
        self._search.begin(words, self._origin)
        return self._go_to_match(self._search)

    def search_on(self, step: int) -> str:
        """Go on to the next match, or back to the one before; which of how many it is, for a person."""
        if self._search is None:
            return ""
        self._search.step(step)
        return self._go_to_match(self._search)

    def end_search(self) -> None:
        """Mark nothing any more; the view stays where it is."""
        self._search = None
        self.action_move(0)

    def rows_in_view(self) -> list[Row | None]:
        """The lines from the top of the view to its bottom, with what is searched for marked."""
        rows = super().rows_in_view()
        return rows if self._search is None else self._search.marked(rows, self._top)

    def _go_to_match(self, search: ChatSearch) -> str:
        """Bring the match into view, which does not follow the end meanwhile."""
        place = search.place()
        transcript, height = self._transcript, self.size.height
        if place is not None:
            in_view = self._top <= place < transcript.place_below(self._top, height)
            lowest = transcript.place_above(transcript.end, height)
            above = min(lowest, transcript.place_above(place, height // 3))
            self._move_to(self._top if in_view else above)
        self._show()
        return search.words
