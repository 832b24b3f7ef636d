"""The keys of the pages, in tables that feed bindings, key lines, help, palette and remapping."""

from __future__ import annotations

from edgetop.tui.keymap import ANYWHERE, PAGE, KeyAction, ScreenKeys

_CLOSE = "back"

SESSIONS = ScreenKeys(
    "sessions",
    "Recorded sessions",
    (
        KeyAction("replay", ("enter", "f6"), "replay the marked sessions, or the chosen one", "Replay"),
        KeyAction("mark", ("m", "space"), "mark, or take the mark away", "Mark"),
        KeyAction("compare", ("c", "f5"), "compare the marked sessions", "Compare"),
        KeyAction("go_on", ("o",), "go on with its conversation in the chat", "Open"),
        KeyAction("filter", ("slash",), "show only sessions with these words", "Filter"),
        KeyAction("sort(1)", ("s", "greater_than_sign"), "sort by the next column", "Sort", named="sort"),
        KeyAction("sort(-1)", ("S", "less_than_sign"), "sort by the column before", named="sort_back"),
        KeyAction("reverse", ("r", "I"), "turn the order round", "Reverse"),
        KeyAction("tags", ("t",), "change the tags", "Tags"),
        KeyAction("delete", ("d", "delete"), "delete the marked sessions, or the chosen one; asks first", "Delete"),
        KeyAction("unmark", ("U",), "take all marks away"),
        KeyAction("move(1)", ("down", "j"), "the next row", named="down"),
        KeyAction("move(-1)", ("up", "k"), "the row before", named="up"),
        KeyAction("page(1)", ("pagedown",), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        KeyAction("move(-1000000)", ("home", "g"), "the first row", named="top"),
        KeyAction("move(1000000)", ("end", "G"), "the last row", named="bottom"),
        KeyAction("close", ("escape", "q", "f3"), _CLOSE, "Back"),
        *PAGE,
    ),
)
COMPARE = ScreenKeys(
    "compare",
    "Comparison",
    (
        KeyAction("close", ("escape", "q", "f5"), _CLOSE, "Back"),
        KeyAction("replay", ("enter", "f6"), "replay the chosen session beside the base", "Replay"),
        KeyAction("figures(-1)", ("left",), "the figures before", "Figures", named="previous_figures"),
        KeyAction("figures(1)", ("right",), "the next figures", "Figures", named="next_figures"),
        KeyAction("choose_base", ("b",), "hold all results against the chosen one", "Base"),
        KeyAction("sort", ("s",), "sort by the next figure", "Sort"),
        KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII", "Glyphs"),
        KeyAction("next_theme", ("t",), "next theme", "Theme"),
        KeyAction("move(1)", ("down", "j"), "the next row", named="down"),
        KeyAction("move(-1)", ("up", "k"), "the row before", named="up"),
        KeyAction("page(1)", ("pagedown", "space"), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        KeyAction("top", ("home",), "the first row"),
        KeyAction("bottom", ("end", "G"), "the end of the plots"),
        *PAGE,
    ),
)
CHECK = ScreenKeys(
    "check",
    "Check",
    (
        KeyAction("choose", ("enter",), "take the model and the context of the chosen row", "Choose"),
        KeyAction("close", ("escape", "q", "f8"), _CLOSE, "Back"),
        KeyAction("page_details", ("space",), "the next page of the details", "More"),
        KeyAction("sort('fits')", ("f",), "sort by how well it fits; again: turned round", "fit", named="sort_fits"),
        KeyAction("sort('model')", ("n",), "sort by name", "name", named="sort_model"),
        KeyAction("sort('size')", ("s",), "sort by size of the file", "size", named="sort_size"),
        KeyAction("sort('bits')", ("b",), "sort by bits per weight", "bits", named="sort_bits"),
        KeyAction("sort('ctx')", ("c",), "sort by context", "context", named="sort_ctx"),
        KeyAction("sort('memory')", ("m",), "sort by memory", "memory", named="sort_memory"),
        KeyAction("sort('tok/s')", ("d",), "sort by decode speed", "decode", named="sort_decode"),
        KeyAction("sort('J/tok')", ("e",), "sort by energy per token", "energy", named="sort_energy"),
        KeyAction("sort('reading')", ("r",), "sort by pace against reading", "reading", named="sort_reading"),
        KeyAction("move(1)", ("j",), "the next row", named="down"),
        KeyAction("move(-1)", ("k",), "the row before", named="up"),
        *PAGE,
    ),
)
SORT_COLUMNS = {key.name: key.action[6:-2] for key in CHECK.keys if key.action.startswith("sort(")}
"""Columns by the names of the actions that sort by them."""
PICKER = ScreenKeys(
    "picker",
    "Choice of a model",
    (
        KeyAction("choose", ("enter",), "load the model", "Load"),
        KeyAction("close", ("escape", "q", "f4"), _CLOSE, "Back"),
        KeyAction("cursor_down", ("down", "j"), "the next model", named="down"),
        KeyAction("cursor_up", ("up", "k"), "the model before", named="up"),
        *PAGE,
    ),
)
SETTINGS = ScreenKeys(
    "settings",
    "Settings",
    (
        KeyAction("edit", ("enter",), "change the chosen setting", "Change"),
        KeyAction("step", ("space",), "the next value of a switch or a choice"),
        KeyAction("write", ("w",), "write the chosen setting to the configuration file", "Write"),
        KeyAction("filter", ("slash",), "show only settings with these words", "Filter"),
        KeyAction("reset", ("d", "delete"), "back to the default", "Default"),
        KeyAction("write_all", ("W",), "write all that was changed to the configuration file", "Write all"),
        KeyAction("move(1)", ("down", "j"), "the next row", named="down"),
        KeyAction("move(-1)", ("up", "k"), "the row before", named="up"),
        KeyAction("page(1)", ("pagedown",), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        KeyAction("move(-1000)", ("home", "g"), "the first row", named="top"),
        KeyAction("move(1000)", ("end", "G"), "the last row", named="bottom"),
        KeyAction("close", ("escape", "q", "f2"), _CLOSE, "Back"),
        *PAGE,
    ),
)
HELP = ScreenKeys(
    "help",
    "Help",
    (
        KeyAction("close", ("escape", "q", "f1", "h", "question_mark", "enter"), _CLOSE),
        KeyAction("search", ("slash",), "show only what has certain words"),
        KeyAction("scroll(1)", ("j", "down"), "a line down", named="down"),
        KeyAction("scroll(-1)", ("k", "up"), "a line up", named="up"),
        KeyAction("page(1)", ("pagedown", "space"), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        KeyAction("page(-10000)", ("home", "g"), "the beginning", named="top"),
        KeyAction("page(10000)", ("end", "G"), "the end", named="bottom"),
        *ANYWHERE[1:],
        KeyAction("app.quit", ("f10",), "quit; the session is saved"),
    ),
)
PALETTE = ScreenKeys(
    "palette",
    "Palette",
    (
        KeyAction("close", ("escape", "ctrl+p"), _CLOSE),
        KeyAction("run", ("enter",), "do what is chosen"),
        KeyAction("move(1)", ("down", "tab"), "the next one", named="down"),
        KeyAction("move(-1)", ("up", "shift+tab"), "the one before", named="up"),
        KeyAction("page(1)", ("pagedown",), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        *ANYWHERE[1:],
        KeyAction("app.quit", ("f10",), "quit; the session is saved"),
    ),
)
