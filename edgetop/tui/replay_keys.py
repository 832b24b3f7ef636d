"""Every key of replay, in one table that feeds the bindings, the key line and the help."""

from __future__ import annotations

from edgetop.tui.keymap import KeyAction

KEYS: tuple[KeyAction, ...] = (
    KeyAction("play_or_pause", ("space",), "play or pause"),
    KeyAction("step(1)", ("right",), "the next token"),
    KeyAction("step(-1)", ("left",), "the token before"),
    KeyAction("jump_turn(1)", ("right_square_bracket",), "the next turn"),
    KeyAction("jump_turn(-1)", ("left_square_bracket",), "the beginning of the turn, or the turn before"),
    KeyAction("scrub(1)", ("full_stop", "shift+right"), "a hundredth of the way on"),
    KeyAction("scrub(-1)", ("comma", "shift+left"), "a hundredth of the way back"),
    KeyAction("to_start", ("home",), "the beginning"),
    KeyAction("to_end", ("end",), "the end"),
    KeyAction("change_speed(1)", ("plus", "equals_sign", "greater_than_sign"), "faster, up to 64x"),
    KeyAction("change_speed(-1)", ("minus", "less_than_sign"), "slower, down to 0.25x"),
    KeyAction("align", ("a",), "align by wall time, by turn, or by token"),
    KeyAction("flip", ("tab",), "the next session, where not all have room"),
    KeyAction("toggle_pane(1)", ("1",), "show or hide tokens"),
    KeyAction("toggle_pane(2)", ("2",), "show or hide memory"),
    KeyAction("toggle_pane(3)", ("3",), "show or hide power"),
    KeyAction("toggle_pane(4)", ("4",), "show or hide energy"),
    KeyAction("scroll_chat(1)", ("j", "down"), "chat: a line down"),
    KeyAction("scroll_chat(-1)", ("k", "up"), "chat: a line up"),
    KeyAction("page_chat(1)", ("pagedown",), "chat: a page down"),
    KeyAction("page_chat(-1)", ("pageup",), "chat: a page up"),
    KeyAction("next_theme", ("t",), "next theme"),
    KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII"),
    KeyAction("help", ("f1", "question_mark", "h"), "help"),
    KeyAction("close", ("q", "escape"), "leave the replay"),
)
LABELS: tuple[tuple[str, str, str], ...] = (
    ("play_or_pause", "Space", "Play"),
    ("flip", "Tab", "Next"),
    ("step", "←→", "Token"),
    ("jump_turn", "[ ]", "Turn"),
    ("change_speed", "- +", "Speed"),
    ("align", "a", "Align"),
    ("help", "F1", "Help"),
    ("close", "q", "Quit"),
)
"""Actions in the key line: their keys, and a word."""
ABOUT: tuple[tuple[str, str], ...] = (
    ("time", "all sessions begin together and go by their own clocks"),
    ("turn", "each turn of all begins together; who is done with it first waits"),
    ("token", "each session at the moment when it had got so many tokens"),
    ("B−A", "at the play head, what the second has more or less than the first"),
)
"""Words of the transport line."""
