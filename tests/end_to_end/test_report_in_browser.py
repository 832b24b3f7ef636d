"""The report in a real browser: drawn, quiet on network and console, readable on a phone, deaf to hostile text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetop.core.text import literal
from edgetop.session.file import SessionFile
from tests.end_to_end.chromium import Browser, browser
from tests.support.shipped_sessions import HOSTILE, ONE, OTHER, example, hostile, page_of

DESKTOP, PHONE = 1280, 360
PLOTS = ["plot-energy", "plot-speed", "plot-A", "plot-B"]

DRAWN = """
return [...document.querySelectorAll('.drawing')].map(place => ({
    id: place.id,
    lines: [...place.querySelectorAll('.trace path.js-line')].filter(path => path.getBBox().width > 0).length,
    points: place.querySelectorAll('.trace .points path').length,
    width: place.querySelector('.main-svg').getBoundingClientRect().width,
    right: place.getBoundingClientRect().right,
}))
"""
WIDER_THAN_THE_VIEW = """
return [...document.body.querySelectorAll('*')].filter(element => {
    if (element.closest('.scroll, .drawing')) return false;
    return element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5;
}).map(element => element.outerHTML.slice(0, 80))
"""


@pytest.fixture
def files() -> tuple[SessionFile, SessionFile]:
    return example(ONE), example(OTHER)


def written(folder: Path, *files: SessionFile) -> Path:
    path = folder / "report.html"
    path.write_text(page_of(*files), encoding="utf-8")
    return path


def drawn(page: Browser) -> list[dict[str, Any]]:
    return list(page.run(DRAWN))


@pytest.mark.parametrize(("width", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_it_is_drawn_fits_asks_for_nothing_and_makes_no_error(
    tmp_path: Path, files: tuple[SessionFile, SessionFile], width: int, dark: bool
) -> None:
    path = written(tmp_path, *files)
    with browser(tmp_path / "profile", width, dark=dark) as page:
        page.open(path)
        plots = drawn(page)
        assert [plot["id"] for plot in plots] == PLOTS
        assert all(plot["lines"] or plot["points"] for plot in plots)
        # Speed, power and memory of each session.
        assert all(plot["lines"] >= 4 for plot in plots[2:])
        assert all(plot["width"] <= width and plot["right"] <= width for plot in plots)
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert page.run(WIDER_THAN_THE_VIEW) == []
        assert page.requested() == [path.as_uri()]
        assert page.complaints() == []


def test_wide_tables_scroll_inside_their_own_box_and_can_be_reached_by_keyboard(
    tmp_path: Path, files: tuple[SessionFile, SessionFile]
) -> None:
    with browser(tmp_path / "profile", PHONE) as page:
        page.open(written(tmp_path, *files))
        table = "document.querySelector('table.comparison')"
        assert page.run(f"return {table}.scrollWidth > innerWidth")
        box = f"{table}.closest('.scroll')"
        assert page.run(f"{box}.scrollLeft = 9999; return {box}.scrollLeft > 0 && scrollX === 0")
        assert page.run(f"return {box}.tabIndex") == 0


def test_colours_follow_the_reader_s_choice(tmp_path: Path, files: tuple[SessionFile, SessionFile]) -> None:
    path = written(tmp_path, *files)
    looks = "return [getComputedStyle(document.body).backgroundColor, document.querySelector('.xtick text').style.fill]"
    found = []
    for dark in (False, True):
        with browser(tmp_path / f"profile-{dark}", DESKTOP, dark=dark) as page:
            page.open(path)
            found.append(page.run(looks))
    (light_ground, light_text), (dark_ground, dark_text) = found
    assert light_ground != dark_ground
    assert light_text != dark_text


def test_hostile_text_is_shown_and_runs_nowhere(tmp_path: Path, files: tuple[SessionFile, SessionFile]) -> None:
    said = [HOSTILE, f"{HOSTILE} again"]
    path = written(tmp_path, *(hostile(file, text) for file, text in zip(files, said, strict=True)))
    with browser(tmp_path / "profile", PHONE) as page:
        page.open(path)
        page.run("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.run("return window.hacked") is None
        assert page.run("return document.querySelectorAll('script').length") == len(PLOTS) + 2
        assert page.run("return document.querySelectorAll('img, iframe, object, embed, form').length") == 0
        links = page.run("return [...document.querySelectorAll('a')].map(link => link.getAttribute('href'))")
        assert links == ["#session-A", "#session-B"]
        texts = page.run("return [...document.querySelectorAll('pre')].map(text => text.textContent)")
        assert texts
        assert {text for text in texts if text} == {literal(text) for text in said}
        # What plotly, which reads some HTML, made of names.
        names = page.run("return [...document.querySelectorAll('.drawing text')].map(each => each.textContent).join()")
        assert "</script><script>" in names
        assert page.run("return document.querySelectorAll('.drawing a[href]').length") == 0
        assert page.run("return document.documentElement.scrollWidth") <= PHONE
        assert page.requested() == [path.as_uri()]
        assert page.complaints() == []


def test_the_policy_forbids_what_a_breach_would_try(tmp_path: Path, files: tuple[SessionFile, SessionFile]) -> None:
    path = written(tmp_path, *files)
    with browser(tmp_path / "profile", DESKTOP) as page:
        page.open(path)
        page.run(
            """
            const script = document.createElement('script');
            script.textContent = 'window.hacked = 1';
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'http://203.0.113.1/a.png';
            document.body.append(image);
            window.refused = fetch('http://203.0.113.1/').then(() => 'sent', () => 'refused');
            """
        )
        assert page.run("return window.refused") == "refused"
        assert page.run("return window.hacked") is None
        assert page.sent() == [path.as_uri()]
        assert any("Content Security Policy" in complaint for complaint in page.complaints())
