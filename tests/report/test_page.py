from __future__ import annotations

import json
import re
import sys
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.format import format_rate
from edgetop.core.quantity import with_interval
from edgetop.core.text import literal, one_line
from edgetop.report.page import report_page, script_data
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import session_result
from edgetop.session.compare.result import RepeatedFigure, Result
from edgetop.session.file import to_file
from tests.support.recorded_power import SENSORS, record_watch
from tests.support.recorded_sessions import S, event, fold
from tests.support.shipped_sessions import HOSTILE, ONE, OTHER, WRITTEN_AT, example, hostile, page_of, recorded

NOT_OURS = "<script>window"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """Elements, their attributes and the text outside of scripts and styles; a wrong nesting is an error."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.data.append(data)
        elif not self._open or self._open[-1] != "style":
            self.text += data

    def names(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(example(ONE), example(OTHER))


@pytest.fixture(scope="module")
def hostile_page() -> str:
    return page_of(hostile(example(ONE)), hostile(example(OTHER)))


def test_it_asks_for_no_address_and_may_not(page: str) -> None:
    outline = Outline(page)
    (policy,) = [each["content"] for each in outline.names("meta") if each.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    for _, attributes in outline.elements:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            assert (attributes.get(name) or "#")[0] == "#" or attributes.get(name) == "data:,"
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "@import" not in page.partition("</style>")[0]
    assert "url(" not in page.partition("</style>")[0]


def test_everything_the_comparison_says_is_on_it(page: str) -> None:
    text = " ".join(Outline(page).text.split())
    comparison = [example(name) for name in (ONE, OTHER)]
    for file in comparison:
        summary = file.summary
        assert format_rate(summary.decode_tokens_per_s) in text
        assert file.id in text
        assert file.loads[0].model.path in text
        assert summary.energy is not None
        assert f"grade{summary.energy.grade}" in text
        assert file.device.model in text
        assert file.notes in text
        for turn in file.turns:
            assert " ".join((turn.prompt or "").split()) in text
            assert " ".join("".join(span.text for span in turn.reply).split()) in text
    for words in (
        "Pareto front",
        "What differs",
        "How each figure was measured",
        "two standard uncertainties",
        "unclear",
    ):
        assert words in text


def test_every_plot_has_words_and_a_table_and_headings_follow_each_other(page: str) -> None:
    outline = Outline(page)
    drawings = [each for each in outline.names("div") if each.get("class") == "drawing"]
    ids = {attributes.get("id") for _, attributes in outline.elements}
    assert [each["id"] for each in drawings] == ["plot-energy", "plot-speed", "plot-A", "plot-B"]
    for each in drawings:
        assert each["role"] == "img"
        assert {each["aria-labelledby"], each["aria-describedby"]} <= ids
    assert page.count("The same as a table") == len(drawings)
    levels = [int(name[1]) for name, _ in outline.elements if re.fullmatch(r"h\d", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all(each.get("scope") for each in outline.names("th"))


def test_folders_of_models_and_sessions_are_not_told(page: str) -> None:
    file = example(ONE)
    load = file.loads[0]
    path = "/home/someone/whose-it-is/models/tiny.gguf"
    told = page_of(replace(file, loads=(replace(load, model=replace(load.model, path=path)),)))
    assert "tiny.gguf" in told
    assert "whose-it-is" not in told
    assert "whose-it-is" not in page


def test_hostile_text_stays_text(hostile_page: str) -> None:
    outline = Outline(hostile_page)
    scripts = [each for each in outline.names("script") if each.get("type") != "application/json"]
    assert len(scripts) == 2
    assert outline.names("img") == []
    assert [each["href"] for each in outline.names("a")] == ["#session-A", "#session-B"]
    assert NOT_OURS not in hostile_page
    assert "\u202e" not in hostile_page
    assert "\x1b" not in hostile_page
    assert "49" not in unescape(hostile_page.split("{{7*7}}")[1])[:3]
    shown = literal(HOSTILE)
    # Prompt, system prompt and reply of every turn.
    assert outline.text.count(shown) >= 3 * len(example(ONE).turns)
    assert one_line(HOSTILE)[:20] in outline.text


def test_data_for_the_plots_survives_whatever_names_hold(hostile_page: str) -> None:
    blocks = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', hostile_page, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        assert not set(block) & set("<>&\u2028\u2029")
        assert json.loads(block)["data"]
    text = str(script_data([HOSTILE, "</script>", "<!--", "\u2028"]))
    assert json.loads(text) == [HOSTILE, "</script>", "<!--", "\u2028"]
    assert not set(text) & set("<>&\u2028\u2029")
    with pytest.raises(ValueError, match="JSON"):
        script_data(float("nan"))


def test_one_session_has_no_comparison_to_make() -> None:
    text = Outline(page_of(example(ONE))).text
    for words in ("Comparison", "Pareto", "differs", "verdict", "best", "base"):
        assert words not in text.replace(example(ONE).notes, "")
    assert "Figures" in text


def test_missing_energy_and_missing_text_say_why() -> None:
    file = example(ONE)
    summary = replace(file.summary, energy=None, energy_missing="no meter: buy one")
    turns = tuple(
        replace(
            turn,
            prompt=None,
            figures=replace(turn.figures, energy=None),
            reply=tuple(replace(span, text="") for span in turn.reply),
            tokens=replace(turn.tokens, chars=[0] * len(turn.tokens.chars)),
        )
        for turn in file.turns
    )
    without_power = tuple(entry for entry in file.series if entry.source.kind == "gauge")
    text = Outline(page_of(replace(file, summary=summary, turns=turns, text_recorded=False, series=without_power))).text
    assert "No energy: no meter: buy one." in text
    assert "No power: virtual machine" in text
    assert "were not recorded" in text
    assert "prompt and reply" not in text


def test_what_differs_between_the_sessions_is_marked_in_words(page: str) -> None:
    marked = re.findall(r"<dt>([^<]*?) <span class=\"mark\">differs</span></dt><dd>([^<]*)</dd>", page)
    assert ("file", "SmolLM2-135M-Instruct.Q4_1.gguf") in marked
    assert ("file", "SmolLM2-135M-Instruct.F16.gguf") in marked
    assert "threads" not in {name for name, _ in marked}


def test_a_bench_result_stands_beside_sessions_without_a_section() -> None:
    file = example(ONE)
    bench = Result(
        name="bench", origin="bench.json", kind="llama-bench",
        figures={"decode_tokens_per_s": RepeatedFigure(value=50.0, made="mean", repetitions=(49.0, 50.0, 51.0))},
    )  # fmt: skip
    comparison = compare([session_result(file, Path("a.json")), bench])
    page = report_page(comparison, [recorded(file), None], written_at=WRITTEN_AT)
    outline = Outline(page)
    assert [each["href"] for each in outline.names("a")] == ["#session-A"]
    assert "B is not in it" in outline.text


def test_a_watch_tells_its_servers_and_the_energy_over_all_their_users() -> None:
    file = to_file(fold([*record_watch(SENSORS["fast point"], 2).records, event("session_ended", 200 * S)]))
    assert file.watch is not None
    assert file.watch.energy is not None
    text = Outline(page_of(file)).text
    assert "Servers that were watched" in text
    assert file.services[0].kind in text
    assert with_interval(file.watch.energy.j_per_token) in text


def test_without_an_extra_the_plots_are_svg_and_the_page_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    page = page_of(example(ONE), example(OTHER), interactive=False)
    assert len(page) < 300_000
    outline = Outline(page)
    assert outline.names("script") == []
    assert len(outline.names("svg")) == len([each for each in outline.names("div") if each.get("class") == "drawing"])
    assert outline.names("polyline")
    assert "script-src &#39;none&#39;" in page
    text = outline.text
    for words in ("decode, tokens per second", "energy, J per token", "prefill", "idle power"):
        assert words in text


def test_hostile_names_stay_text_in_svg() -> None:
    page = page_of(hostile(example(ONE)), hostile(example(OTHER)), interactive=False)
    outline = Outline(page)
    assert outline.names("script") == []
    assert outline.names("img") == []
    assert one_line(HOSTILE)[:20] in outline.text
    assert "\x1b" not in page
