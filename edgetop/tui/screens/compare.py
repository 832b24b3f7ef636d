"""The comparison: table, details of the chosen row, plots."""

from __future__ import annotations

from collections.abc import Callable

from textual import events, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll

from edgetop.core.figures import BY_NAME
from edgetop.core.format import plural
from edgetop.io.files import with_tilde
from edgetop.session.compare.compare import compare
from edgetop.session.compare.result import Comparison, Result
from edgetop.session.compare.wording import alike_text, interval_text, named, order_of
from edgetop.tui.comparison_text import TableLayout, conclusion_lines, front_lines, layouts, speed_lines, table_lines
from edgetop.tui.keys import COMPARE, key_slots
from edgetop.tui.styled_text import Line, Span, fit, for_level, line_of, paragraph, spread
from edgetop.tui.themes import GlyphLevel
from edgetop.tui.widgets import BaseScreen, KeyBar, LinesWidget

Replay = Callable[[Result, Result], None]
"""Opens the replay of the base beside another result."""

CURSOR_COLUMNS = 2


class CompareScreen(BaseScreen[None]):
    """Results side by side; figures for which there is no room are one key away."""

    TABLE = COMPARE
    DEFAULT_CSS = """
    CompareScreen { layout: vertical; background: $background; }
    CompareScreen > #compare-head { height: 1; width: 100%; padding: 0 1; }
    CompareScreen > VerticalScroll { height: 1fr; padding: 0 1; scrollbar-size: 1 1; scrollbar-gutter: stable; }
    CompareScreen.ascii > VerticalScroll { scrollbar-size: 0 0; scrollbar-gutter: auto; }
    CompareScreen #compare-body { width: 100%; height: auto; }
    """

    def __init__(self, comparison: Comparison, *, level: GlyphLevel, replay: Replay | None = None) -> None:
        super().__init__(classes=level)
        self._comparison = comparison
        self._level: GlyphLevel = level
        self._replay = replay
        self._sort_by: str | None = None
        self._page = 0
        self._chosen = order_of(comparison, None)[0][1][0]
        self._row_tops: dict[int, int] = {}
        """The line that each row of the comparison begins at."""
        self._row_ends: dict[int, int] = {}
        self._first_row = 0
        """The line from which on a row is not the first one."""
        self._working = False

    @property
    def comparison(self) -> Comparison:
        """What is shown."""
        return self._comparison

    def compose(self) -> ComposeResult:
        """A head, what scrolls, and the keys."""
        yield LinesWidget(id="compare-head")
        with VerticalScroll(can_focus=False):
            yield LinesWidget(id="compare-body")
        yield KeyBar(id="compare-keys")

    def on_mount(self) -> None:
        """Draw when the sizes are known."""
        self.call_after_refresh(self._draw)

    def on_resize(self, _event: events.Resize) -> None:
        """Lay out for the new size."""
        self.call_after_refresh(self._draw)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)

    def action_move(self, rows: int) -> None:
        """Choose another row; beyond the last one the plots scroll into view."""
        order = self._order()
        at = order.index(self._chosen) + rows
        if 0 <= at < len(order):
            self._chosen = order[at]
            self._draw()
            self._show_chosen()
        else:
            self._scroll(rows)

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self._scroll(pages * max(1, self.query_one(VerticalScroll).size.height - 1))

    def action_top(self) -> None:
        """Go to the first row."""
        self._chosen = self._order()[0]
        self._draw()
        self.query_one(VerticalScroll).scroll_to(y=0, animate=False, immediate=True)

    def action_bottom(self) -> None:
        """Go to the end of the plots."""
        self._scroll(len(self.query_one("#compare-body", LinesWidget).plain))

    def action_figures(self, blocks: int) -> None:
        """Show the next figures, or the previous ones."""
        self._page = min(max(0, self._page + blocks), len(self._layouts()) - 1)
        self._draw()

    def action_sort(self) -> None:
        """Sort by the next figure, the best first; after the last one by groups again."""
        names: list[str | None] = [None, *self._comparison.figures]
        self._sort_by = names[(names.index(self._sort_by) + 1) % len(names)]
        if self._sort_by is not None:
            found = (page for page, each in enumerate(self._layouts()) if self._sort_by in each.figures)
            self._page = next(found, self._page)
        self._draw()
        self._show_chosen()

    def action_choose_base(self) -> None:
        """Compare all results with the chosen one."""
        if self._chosen != self._comparison.base and not self._working:
            self._working = True
            self._draw()
            self._compare_with(self._chosen)

    def action_replay(self) -> None:
        """Replay the chosen session beside the base."""
        rows = self._comparison.rows
        base, chosen = rows[self._comparison.base].result, rows[self._chosen].result
        if self._replay is not None and base.kind == chosen.kind == "session":
            self._replay(base, chosen)
        elif self._replay is not None:
            self.notify_text("only sessions of edgetop can be replayed")

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        super().set_level(level)
        self._draw()

    @work(thread=True, exclusive=True)
    def _compare_with(self, base: int) -> None:
        again = compare([row.result for row in self._comparison.rows], base)
        self.call_from_worker(self._show_comparison, again)

    def _show_comparison(self, comparison: Comparison) -> None:
        self._working = False
        self._comparison = comparison
        self._draw()
        self._show_chosen()

    def _order(self) -> list[int]:
        return [index for _, rows in order_of(self._comparison, self._sort_by) for index in rows]

    def _width(self) -> int:
        return max(1, self.query_one("#compare-body").size.width - CURSOR_COLUMNS)

    def _layouts(self) -> list[TableLayout]:
        return layouts(self._comparison, self._width(), self._level)

    def _draw(self) -> None:
        if not self.can_draw or self.query_one("#compare-body").size.width <= CURSOR_COLUMNS:
            return
        blocks = self._layouts()
        self._page = min(self._page, len(blocks) - 1)
        body = self.query_one("#compare-body", LinesWidget)
        lines = self._body(blocks[self._page])
        body.styles.height = len(lines)
        body.show_lines([for_level(line, self._level) for line in lines])
        head = self.query_one("#compare-head", LinesWidget)
        head.show_lines([for_level(self._head(blocks, head.content_size.width), self._level)])
        hidden = set() if self._replay is not None else {"replay"}
        shown = [slot for slot in key_slots(self.keys.keys) if slot.actions[0].name not in hidden]
        self.query_one(KeyBar).show_keys(shown, self._level)

    def _body(self, layout: TableLayout) -> list[Line]:
        comparison, width, level = self._comparison, self._width(), self._level
        lines: list[Line] = []
        self._row_tops, self._row_ends = {}, {}
        if said := conclusion_lines(comparison, width):
            lines += [*((Span(" " * CURSOR_COLUMNS), *line) for line in said), ()]
        self._first_row = len(lines) + 2
        for line in table_lines(comparison, layout, width, level, self._sort_by):
            first = line.row is not None and line.row not in self._row_tops
            if line.row is not None:
                self._row_tops.setdefault(line.row, len(lines))
                self._row_ends[line.row] = len(lines)
            mark = "> " if first and line.row == self._chosen else " " * CURSOR_COLUMNS
            lines.append((Span(mark, "accent"), *line.spans))
        for part in (
            self._details(layout, width),
            front_lines(comparison, width, level),
            speed_lines(comparison, width, level),
            [line for note in comparison.notes for line in paragraph(note, width, "dim")],
            paragraph(f"All: {alike_text(comparison)}" if comparison.alike else "", width, "dim"),
        ):
            if part:
                lines += [(), *((Span(" " * CURSOR_COLUMNS), *line) for line in part)]
        return lines

    def _details(self, layout: TableLayout, width: int) -> list[Line]:
        """Details of the chosen row: intervals of changes, what is not comparable, where its energy comes from."""
        row = self._comparison.rows[self._chosen]
        lines = paragraph(named(self._comparison, self._chosen), width, "title")
        for name in layout.figures:
            cell, label = row.cells[name], BY_NAME[name].label
            if cell.value is None:
                lines += paragraph(f"{label}: {cell.missing}", width, "dim")
            elif not row.is_base:
                text = ", ".join(part for part in (interval_text(cell), cell.verdict, cell.why) if part)
                lines += paragraph(f"{label}: {text}", width)
        for flag in row.flags:
            lines += paragraph(f"! {flag.text}", width, "warning")
        result = row.result
        if result.energy_scope is not None:
            grade = f"grade {result.energy_grade}" + (
                f": {result.energy_grade_reason}" if result.energy_grade_reason else ""
            )
            text = f"energy of {result.energy_scope.replace('_', ' ')} by {result.energy_source}, {grade}"
            lines += paragraph(text, width, "dim")
        return [*lines, *paragraph(f"from {with_tilde(result.origin)}", width, "dim")]

    def _head(self, blocks: list[TableLayout], width: int) -> Line:
        count = len(self._comparison.rows)
        title = line_of(Span("compare", "title"), f"  {plural(count, 'result')}")
        by = "by group" if self._sort_by is None else f"by {BY_NAME[self._sort_by].heading}"
        page = f"figures {self._page + 1}/{len(blocks)}" if len(blocks) > 1 else ""
        rights = [" · ".join(part for part in (by, page) if part), page, ""]
        if self._working:
            rights = ["comparing again ..."]
        return fit(spread(title, [line_of(Span(each, "dim")) for each in rights], width), width)

    def _scroll(self, lines: int) -> None:
        page = self.query_one(VerticalScroll)
        page.scroll_to(y=page.scroll_y + lines, animate=False, immediate=True)

    def _show_chosen(self) -> None:
        """Scroll the chosen row into view, once what was drawn has its size."""
        self.call_after_refresh(self._scroll_to_chosen)

    def _scroll_to_chosen(self) -> None:
        page = self.query_one(VerticalScroll)
        top, end = self._row_tops.get(self._chosen, 0), self._row_ends.get(self._chosen, 0)
        if top < page.scroll_y + 1:
            # With the conclusion and the headings where the row is the first one.
            page.scroll_to(y=0 if top <= self._first_row else top - 1, animate=False, immediate=True)
        elif end >= page.scroll_y + page.size.height:
            page.scroll_to(y=end - page.size.height + 1, animate=False, immediate=True)
