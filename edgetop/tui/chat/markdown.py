"""One Markdown block as styled lines.

Import this when a reply is finished, not before: Rich's Markdown and its parser take 3 MB. Only what changes how text
looks is honoured: headings, emphasis, code, lists, quotes, tables, rules, and links, whose address stands behind their
text. Images, HTML, entities and references would hide or replace what the model wrote, so they are shown as written.
What cannot be shown whole in the width given is left to be shown as plain text.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import cast

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import BlockQuote, CodeBlock, Heading, ListItem, Markdown, MarkdownElement, TableElement
from rich.segment import Segment
from rich.style import Style
from rich.syntax import Syntax, SyntaxTheme
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from edgetop.core.text import literal
from edgetop.tui.chat.transcript import StyledLine
from edgetop.tui.styled_text import TAB
from edgetop.tui.themes import Glyphs

_STYLES_OF_ROLES = {
    "heading": ("h1", "h2", "h3", "h4", "h5", "h6", "table.header"),
    "strong": ("strong",),
    "emphasis": ("em", "emph"),
    "code": ("code", "code_block", "link"),
    "quote": ("block_quote",),
    "mark": ("item.bullet", "item.number", "hr", "table.border", "link_url"),
}

_TOKENS_OF_ROLES = {"keyword": "Keyword", "string": "Literal.String", "comment": "Comment", "number": "Literal.Number"}

DEPTH_MAX = 12
"""Lists and quotes inside each other, in tokens of the parser (a list and its item are two)."""

CODE_SIZE_MAX = 4_000
"""Characters of one code fence that are highlighted; some patterns of highlighters can be made slow on purpose."""

_LANGUAGES = frozenset({
    "bash", "c", "c++", "cpp", "css", "diff", "go", "html", "ini", "java", "javascript", "js", "json", "kotlin", "lua",
    "make", "makefile", "php", "py", "python", "rs", "ruby", "rust", "sh", "shell", "sql", "swift", "toml", "ts",
    "typescript", "xml", "yaml", "yml", "zsh",
})  # fmt: skip

WORD_COLUMNS = 8
"""A table in which longer words would have to be broken into parts shorter than this is shown row by row."""

_NOT_HONOURED = ["autolink", "html_inline", "html_block", "entity", "reference"]


def render_markdown(
    text: str, width: int, base: Style, roles: Mapping[str, Style], glyphs: Glyphs
) -> list[StyledLine] | None:
    """Lines of at most `width` cells without any control character; `None` where plain text must do.

    `base` styles plain text; `roles` has a style for each of MARKDOWN_ROLES.
    """
    styles = {f"markdown.{name}": roles[role] for role, names in _STYLES_OF_ROLES.items() for name in names}
    console = Console(file=io.StringIO(), width=width, height=1, color_system=None, theme=Theme(styles), _environ={})
    options = console.options
    if glyphs.level == "ascii":
        options.encoding = "ascii"
    safe = literal(text, ascii=glyphs.level == "ascii").replace("\t", TAB)
    try:
        tokens = _parse(safe)
        if not _fits(tokens, width):
            return None
        lines = console.render_lines(_Reply(tokens, roles, glyphs), options, style=base, pad=False)
    except Exception:  # noqa: BLE001 - foreign code over hostile text; the plain text is always right
        return None
    if any(Segment.get_line_length(line) > width for line in lines):
        return None
    shared: dict[Style, Style] = {}
    stripped = [_stripped(line, base, shared) for line in lines]
    shown = [index for index, line in enumerate(stripped) if line]
    return stripped[shown[0] : shown[-1] + 1] if shown else []


def _stripped(line: Sequence[Segment], base: Style, shared: dict[Style, Style]) -> StyledLine:
    """`line` without the blanks at its end; equal styles are one object, since a chat keeps thousands of lines."""
    segments = [Segment(text, shared.setdefault(style or base, style or base)) for text, style, _ in line]
    while segments:
        text, style, _ = segments.pop()
        if text := text.rstrip(" "):
            segments.append(Segment(text, style))
            break
    return tuple(segments)


def _parse(text: str) -> Sequence[Token]:
    parser = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"]).disable(_NOT_HONOURED)
    # Addresses stay as the model wrote them.
    parser.normalizeLink = str  # type: ignore[assignment]
    tokens = parser.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"  # a model writes line breaks on purpose
                continue
            title = f' "{child.attrs["title"]}"' if child.attrs.get("title") else ""
            if child.type == "link_open":
                child.attrs["href"] = f"{child.attrs['href']}{title}"
            elif child.type == "image":
                child.type, child.tag, child.children = "text", "", None
                child.content = f"![{child.content}]({child.attrs['src']}{title})"
    return tokens


def _fits(tokens: Sequence[Token], width: int) -> bool:
    """Whether no text is lost: no part is too narrow for it, or so deep that the parser has given up on it."""
    return all(token.level <= DEPTH_MAX and token.level * 4 <= width for token in tokens)


class _RoleTheme(SyntaxTheme):
    """Colours of code from the roles of edgetop's theme."""

    def __init__(self, roles: Mapping[str, Style]) -> None:
        self._styles = [(tuple(name.split(".")), roles[role]) for role, name in _TOKENS_OF_ROLES.items()]

    def get_style_for_token(self, token_type: tuple[str, ...]) -> Style:
        return next((style for name, style in self._styles if token_type[: len(name)] == name), Style.null())

    def get_background_style(self) -> Style:
        return Style.null()


class _CodeFence(CodeBlock):
    """Code, indented and highlighted, without a background; what a line has too much is marked on the next one."""

    def __init__(self, lexer_name: str, roles: Mapping[str, Style], wrapped: str) -> None:
        super().__init__(lexer_name, "default")
        self._roles = roles
        self._wrapped = wrapped

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> CodeBlock:
        reply = cast("_Reply", markdown)
        wrapped = ">" if reply.glyphs.level == "ascii" else "↪"
        return cls((token.info or "").partition(" ")[0].lower(), reply.roles, wrapped)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        text = Text(code)
        if self.lexer_name in _LANGUAGES and len(code) <= CODE_SIZE_MAX:
            text = Syntax(code, self.lexer_name, theme=_RoleTheme(self._roles), word_wrap=True).highlight(code)
            text.rstrip()
        narrower = options.update(width=options.max_width - 2, overflow="fold")
        style = console.get_style("markdown.code_block")
        mark = Segment(f"{self._wrapped} ", self._roles["mark"])
        for written in text.split("\n", allow_blank=True):
            for at, line in enumerate(console.render_lines(written, narrower, style=style, pad=False)):
                yield mark if at else Segment("  ")
                yield from line
                yield Segment.line()


class _Heading(Heading):
    """A heading at the left, as in a manual page."""

    LEVEL_ALIGN = {}


class _Item(ListItem):
    """A list item with the level's own dot."""

    def __init__(self, dot: str) -> None:
        super().__init__()
        self._dot = dot

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> MarkdownElement:  # noqa: ARG003 - Rich's signature
        return cls(cast("_Reply", markdown).glyphs.dot)

    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        segments = iter(super().render_bullet(console, options))
        for bullet in segments:
            yield Segment(f" {self._dot} ", cast("Segment", bullet).style)
            yield from segments


class _Quote(BlockQuote):
    """A quote behind a line of the level's own."""

    def __init__(self, vertical: str) -> None:
        super().__init__()
        self._vertical = vertical

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> MarkdownElement:  # noqa: ARG003 - Rich's signature
        return cls(cast("_Reply", markdown).glyphs.vertical)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        narrower = options.update(width=options.max_width - 2)
        for line in console.render_lines(self.elements, narrower, style=self.style, pad=False):
            yield Segment(f"{self._vertical} ", self.style)
            yield from line
            yield Segment.line()


class _Table(TableElement):
    """A table whose words are whole where there is room; where there is far too little its rows are lists of cells."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head = (
            [] if self.header is None or self.header.row is None else [each.content for each in self.header.row.cells]
        )
        rows = [[each.content for each in row.cells] for row in (self.body.rows if self.body is not None else ())]
        widths = _column_widths(head, rows, options.max_width)
        if not widths:
            yield _listed(head, rows or [head])
            return
        table = Table(
            box=box.SIMPLE, pad_edge=False, show_edge=False, style="markdown.table.border", collapse_padding=True
        )
        for cell, width in zip(head, widths, strict=True):
            table.add_column(cell, width=width, overflow="fold", header_style="markdown.table.header")
        for row in rows:
            table.add_row(*row)
        yield table


def _listed(head: Sequence[Text], rows: Sequence[Sequence[Text]]) -> Text:
    """The cells of each row below each other, each behind its heading; a blank line between rows."""
    cells = (
        Text("\n").join(Text.assemble((f"{name.plain}: ", "markdown.table.header"), cell) for name, cell in pairs)
        for pairs in (zip(head, row, strict=False) for row in rows)
    )
    return Text("\n\n").join(cells)


def _column_widths(head: Sequence[Text], rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    """Cells for each column, so that as few words as possible are broken; none where too many would be."""
    columns = list(zip(head, *rows, strict=False))
    room = width - 2 * (len(columns) - 1)
    longest = max(WORD_COLUMNS, room)
    words = [
        min(longest, max((_word_columns(word) for cell in column for word in cell.plain.split()), default=1))
        for column in columns
    ]
    while sum(words) > room and longest > WORD_COLUMNS:
        longest -= 1
        words = [min(each, longest) for each in words]
    if sum(words) > room:
        return []
    # Headings may have several lines; the column that lacks least gets what is left first.
    lacks = [
        max(0, *(cell.cell_len - own for cell in column[1:]), 0) for own, column in zip(words, columns, strict=True)
    ]
    for at in sorted(range(len(words)), key=lacks.__getitem__):
        words[at] += min(lacks[at], room - sum(words))
    return words


def _word_columns(word: str) -> int:
    """Cells of a word; wide characters can stand on lines of their own."""
    cells = cell_len(word)
    return cells if cells == len(word) else min(cells, WORD_COLUMNS)


class _Reply(Markdown):
    elements = {
        **Markdown.elements,
        "fence": _CodeFence,
        "code_block": _CodeFence,
        "heading_open": _Heading,
        "list_item_open": _Item,
        "blockquote_open": _Quote,
        "table_open": _Table,
    }

    def __init__(self, tokens: Sequence[Token], roles: Mapping[str, Style], glyphs: Glyphs) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = list(tokens)
        self.roles = roles
        self.glyphs = glyphs
