"""The keys of replay, in one table that feeds bindings, key line, help, palette and remapping."""

from __future__ import annotations

from edgetop.tui.keymap import PAGE, KeyAction, ScreenKeys

KEYS: tuple[KeyAction, ...] = (
    KeyAction("play_or_pause", ("space",), "play or pause", "Play", named="play"),
    KeyAction("flip", ("tab",), "the next session, where not all have room", "Next", named="next_session"),
    KeyAction("step(-1)", ("left",), "the token before", "Token", named="previous_token"),
    KeyAction("step(1)", ("right",), "the next token", "Token", named="next_token"),
    KeyAction(
        "jump_turn(-1)",
        ("left_square_bracket",),
        "the beginning of the turn, or the turn before",
        "Turn",
        named="previous_turn",
    ),
    KeyAction("jump_turn(1)", ("right_square_bracket",), "the next turn", "Turn", named="next_turn"),
    KeyAction("change_speed(-1)", ("minus", "less_than_sign"), "slower, down to 0.25x", "Speed", named="slower"),
    KeyAction(
        "change_speed(1)", ("plus", "equals_sign", "greater_than_sign"), "faster, up to 64x", "Speed", named="faster"
    ),
    KeyAction("align", ("a",), "align by wall time, by turn, or by token", "Align"),
    KeyAction("help", ("f1", "question_mark", "h"), "help", "Help"),
    KeyAction("close", ("q", "escape"), "leave the replay", "Quit"),
    KeyAction("scrub(1)", ("full_stop", "shift+right"), "a hundredth of the way on", named="scrub_on"),
    KeyAction("scrub(-1)", ("comma", "shift+left"), "a hundredth of the way back", named="scrub_back"),
    KeyAction("to_start", ("home",), "the beginning"),
    KeyAction("to_end", ("end",), "the end"),
    KeyAction("zoom_pane", ("z",), "one pane, all of the room; z again: all panes"),
    KeyAction("toggle_pane(1)", ("1",), "show or hide tokens", named="toggle_tokens"),
    KeyAction("toggle_pane(2)", ("2",), "show or hide memory", named="toggle_memory"),
    KeyAction("toggle_pane(3)", ("3",), "show or hide power", named="toggle_power"),
    KeyAction("toggle_pane(4)", ("4",), "show or hide energy", named="toggle_energy"),
    KeyAction("focus_pane(1)", ("p",), "the next pane", named="next_pane"),
    KeyAction("focus_pane(-1)", ("P",), "the pane before", named="previous_pane"),
    KeyAction("move_pane(1)", ("right_curly_bracket", "shift+down"), "move the pane down", named="pane_down"),
    KeyAction("move_pane(-1)", ("left_curly_bracket", "shift+up"), "move the pane up", named="pane_up"),
    KeyAction("change_span(-1)", ("left_parenthesis",), "graphs: a shorter time", named="shorter_time"),
    KeyAction(
        "change_span(1)", ("right_parenthesis",), "graphs: a longer time, up to the whole session", named="longer_time"
    ),
    KeyAction("scroll_chat(1)", ("j", "down"), "chat: a line down", named="chat_down"),
    KeyAction("scroll_chat(-1)", ("k", "up"), "chat: a line up", named="chat_up"),
    KeyAction("page_chat(1)", ("pagedown",), "chat: a page down", named="chat_page_down"),
    KeyAction("page_chat(-1)", ("pageup",), "chat: a page up", named="chat_page_up"),
    KeyAction("next_theme", ("t",), "next theme"),
    KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII"),
    *PAGE[1:],
)
REPLAY = ScreenKeys("replay", "Replay", KEYS)
ABOUT: tuple[tuple[str, str], ...] = (
    ("time", "all sessions begin together and go by their own clocks"),
    ("turn", "each turn of all begins together; who is done with it first waits"),
    ("token", "each session at the moment when it had got so many tokens"),
    ("B−A", "at the play head, what the second has more or less than the first"),
)
"""Words of the transport line."""
