"""The report of a benchmark: its results section and its pictures, recomputed from the sessions of its archive."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.bench import results
from edgetop.bench.conclusions import conclusions_of
from edgetop.bench.output import read_archive
from edgetop.bench.paper import View, energy_parts, paper_rows
from edgetop.bench.plan import BenchRequest, ModelFile, Plan, TokenTest, settings_of
from edgetop.bench.results import results_of
from edgetop.commands.bench import study_of
from edgetop.core.figures import NET_J_PER_TOKEN
from edgetop.report.page import Study
from tests.bench.made_results import PP, TG, figure, measured, of_setting, plan_result, quality
from tests.commands.machine import Machine


def text_of(page: str) -> str:
    """What a reader sees of a page."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def is_told(study: Study, page: str) -> list[str]:
    """What of a study does not stand in the page."""
    told = [study.title, study.method, study.caption, *study.sentences, *(cell for row in study.rows for cell in row)]
    for picture in study.pictures:
        told += [picture.caption.title, *picture.caption.sentences]
        told += [cell for row in picture.caption.rows for cell in row]
    assert len(told) > 40
    return [each for each in told if " ".join(each.split()) not in page]


def test_every_number_of_a_report_follows_from_the_sessions_of_the_archive(machine: Machine, tmp_path: Path) -> None:
    machine.script(tokens_per_s=400.0, perplexity=21.5)
    report, archive = tmp_path / "report.html", tmp_path / "archive.zip"
    ran = machine.run(
        "bench", "-t", "1,2", "-p", "32", "-n", "8", "-r", "2", "--order", "blocks", "--quality", "--power", "none",
        "--report", str(report), "--archive", str(archive),
    )  # fmt: skip
    assert ran.code == 0, ran.stderr
    held = read_archive(archive, tmp_path / "unpacked")
    result = results_of(held.plan, held.finished)
    study = study_of(held.plan, result, View(), conclusions_of(result).sentences)
    assert is_told(study, text_of(report.read_text("utf-8"))) == []
    assert {"Decode speed", "Load", "Memory by part"} <= {picture.caption.title for picture in study.pictures}


def test_pictures_say_what_their_tables_say_and_that_power_is_simulated() -> None:
    def with_net(
        test: TokenTest, rates: tuple[float, ...], joules: tuple[float, ...], net: float
    ) -> results.TestResult:
        found = measured(test, rates, joules)
        return replace(found, figures={**found.figures, NET_J_PER_TOKEN: figure(net)})

    settings = [
        of_setting(
            "<script>alert(1)</script>",
            with_net(PP, (100.0, 101.0), (0.05, 0.05), 0.03),
            with_net(TG, (20.0, 20.4), (0.5, 0.52), 0.3),
            scores=quality(20.0),
        ),
        of_setting("Q4_0", measured(PP, (90.0, 91.0)), measured(TG, (10.0, 10.2), (0.9, 0.9)), scores=quality(22.0)),
    ]
    result = plan_result(*settings)
    result = replace(result, settings=tuple(replace(each, simulated=True) for each in result.settings))
    told = paper_rows(result, View())
    parts = energy_parts(told[0])
    decode, prefill = (result.settings[0].test(test.name) for test in (TG, PP))
    assert decode is not None
    assert prefill is not None
    gross = [test.j_per_token.value for test in (decode, prefill) if test.j_per_token is not None]
    assert sum(parts) == pytest.approx(gross[0] + gross[1] * PP.n_prompt / TG.n_gen), "the parts are the whole"
    assert parts[0] == pytest.approx(0.03 * PP.n_prompt / TG.n_gen)
    assert energy_parts(told[1]) == (), "without energy of the prefill there are no parts"
    plan = Plan(name="made", settings=settings_of([ModelFile(path="a", label="a")], BenchRequest()), tests=(PP, TG))
    study = study_of(plan, result, View(), ())
    assert study.title.endswith("simulated power")
    assert "Simulated power" in study.caption
    assert {"J/token (simulated)", "W (simulated)"} < set(study.headings)
    assert "Simulated power" in study.method
    assert "with 0.5" in (said := next(each for each in conclusions_of(result).sentences if "J/token" in each)), said
    assert "(simulated power)" in said
    by_title = {picture.caption.title: picture for picture in study.pictures}
    assert set(by_title) == {
        "Memory by part", "Decode speed", "Energy per token by part", "Energy per token against speed",
        "Quality against energy per token", "Right answers against energy per token",
    }  # fmt: skip
    for title in ("Energy per token by part", "Energy per token against speed", "Quality against energy per token"):
        assert "simulated power" in " ".join(by_title[title].caption.sentences)
    speed = by_title["Decode speed"].caption
    assert speed.headings == ("setting", "tok/s", "95 % interval")
    assert [row[1] for row in speed.rows] == ["20.2", "10.1"]
