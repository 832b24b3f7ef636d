"""What the keys of the chat do while the panes have the keyboard."""

from __future__ import annotations

from abc import abstractmethod

from edgetop.tui.dialogue import Dialogue
from edgetop.tui.widgets.chat_box import ChatBox


class ChatActions:
    """Mixed into a screen with a chat."""

    _box: ChatBox
    _dialogue: Dialogue

    @abstractmethod
    def action_leave_prompt(self) -> None:
        """Give the keyboard to the panes."""

    @abstractmethod
    def action_enter_prompt(self) -> None:
        """Give the keyboard to the prompt."""

    @abstractmethod
    def wake(self) -> None:
        """Something begins: look soon what has come of it."""

    def action_scroll_chat(self, lines: int) -> None:
        """Move the chat by lines."""
        self._box.chat.action_move(lines)

    def action_page_chat(self, pages: int) -> None:
        """Move the chat by pages."""
        self._box.chat.action_page(pages)

    def action_chat_top(self) -> None:
        """Show the beginning of the chat."""
        self._box.chat.action_to_top()

    def action_chat_end(self) -> None:
        """Show the end of the chat."""
        self._box.chat.action_to_end()

    def action_search(self) -> None:
        """Ask for words to search the chat for."""
        self.action_leave_prompt()
        self._box.begin_search()

    def action_search_on(self, step: int) -> None:
        """Go on to the next match, or back to the one before."""
        self._box.search_on(step)

    def action_copy_answer(self) -> None:
        """Copy the answer in view, or the last one."""
        self._dialogue.copy_read_answer()

    def action_copy_code(self) -> None:
        """Copy the last code of the answer in view, or of the last answer that has some."""
        self._dialogue.copy_read_code()

    def action_edit(self) -> None:
        """Change the last prompt, to ask again in its place."""
        self.action_enter_prompt()
        self._dialogue.carry_out("edit", "")

    def action_retry(self) -> None:
        """Answer the last prompt once more."""
        self._dialogue.carry_out("retry", "")
        self.wake()

    def action_toggle_thoughts(self) -> None:
        """Open or fold the reasoning in view."""
        if not self._box.chat.toggle_thoughts():
            self._dialogue.say("There is no reasoning in this chat.")
