from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.errors import EdgetopError, UsageError
from edgetop.settings import options
from edgetop.settings.config_file import config_template, set_in_file, texts_of, unset_in_file
from edgetop.settings.option import Option
from edgetop.settings.resolve import is_of_file, read_value, resolve, setting_named

OF_FILE = [option for option in options.OPTIONS if is_of_file(option)]
BEGUN = """\
# mine
[sampling]
temp = 0.3   # cold
# a word on seeds
seed = 1

[engine]
ctx = "4k"
"""


def some_texts(option: Option[object]) -> list[str]:
    """Texts for the setting that are not its default."""
    if option.is_switch:
        return [option.switched]
    if option.choices or option.example:
        return [option.example or option.choices[-1]]
    return {"currency": ["CHF"], "top_p": ["0.5"], "min_p": ["0.5"], "sysroot": ["~/x"]}.get(option.name, ["20"])


@pytest.mark.parametrize("option", OF_FILE, ids=[option.name for option in OF_FILE])
def test_every_setting_is_read_back_as_it_was_written(option: Option[object], tmp_path: Path) -> None:
    texts = some_texts(option)
    file = tmp_path / "config.toml"
    set_in_file(file, option, texts)
    settings = resolve({"config": str(file)}, {})
    assert settings[option] == read_value(option, texts, "")
    assert settings.origin(option) == str(file)
    assert settings[option] != option.default
    assert unset_in_file(file, option)
    assert resolve({"config": str(file)}, {}).origin(option) == "default"
    assert not unset_in_file(file, option)


def test_what_the_person_wrote_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(BEGUN)
    set_in_file(file, options.TEMP, ["0.7"])
    set_in_file(file, options.THREADS, ["3"])
    set_in_file(file, options.TEMPLATE_ARG, ["a=1", "b=x"])
    changed = file.read_text()
    assert changed == BEGUN.replace("0.3", "0.7") + 'threads = 3\ntemplate_arg = {a = 1, b = "x"}\n'
    for option in (options.THREADS, options.TEMPLATE_ARG):
        unset_in_file(file, option)
    assert file.read_text() == BEGUN.replace("0.3", "0.7")


def test_a_new_section_stands_apart_from_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(BEGUN)
    set_in_file(file, options.THEME, ["light"])
    assert file.read_text() == BEGUN + '\n[screen]\ntheme = "light"\n'


def test_a_file_in_a_folder_that_is_not_there_is_made_and_a_link_stays_a_link(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.toml"
    set_in_file(file, options.DELAY, ["2"])
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    file.chmod(0o600)
    set_in_file(link, options.DELAY, ["3"])
    assert link.is_symlink()
    assert file.read_text() == "[screen]\ndelay = 3\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


def test_a_value_that_cannot_be_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(BEGUN)
    for option, texts in (
        (options.TEMP, ["hot"]),
        (options.TEMP, ["1", "2"]),
        (options.TEMP, []),
        (options.OUTPUT, ["x"]),
    ):
        with pytest.raises(UsageError):
            set_in_file(file, option, texts)
    assert file.read_text() == BEGUN


def test_a_file_that_cannot_be_changed_is_told_in_two_lines(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[engine\n")
    with pytest.raises(UsageError, match="is not TOML"):
        set_in_file(broken, options.TEMP, ["1"])
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    with pytest.raises(EdgetopError, match="cannot read") as refused:
        set_in_file(tmp_path / "loop.toml", options.TEMP, ["1"])
    assert refused.value.hint


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_file(tmp_path_factory: pytest.TempPathFactory, stops: list[str], system: str) -> None:
    file = tmp_path_factory.mktemp("any") / "config.toml"
    set_in_file(file, options.STOP, stops)
    set_in_file(file, options.SYSTEM, [system])
    settings = resolve({"config": str(file)}, {})
    assert settings[options.STOP] == tuple(stops)
    assert settings[options.SYSTEM] == system
    assert texts_of(settings[options.STOP]) == stops


def test_the_template_says_nothing_until_a_line_is_uncommented(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(config_template())
    silent = resolve({"config": str(file)}, {})
    assert {silent.origin(option) for option in OF_FILE} == {"default"}
    lines = config_template().splitlines()
    file.write_text("\n".join(line[1:] if line[:1] == "#" and line[1:2].isalpha() else line for line in lines))
    spoken = resolve({"config": str(file)}, {})
    for option in OF_FILE:
        assert spoken.origin(option) == str(file), option.name
        assert option.default in (None, ()) or spoken[option] == option.default


def test_every_setting_has_words_for_the_manual_and_an_example_where_it_has_no_default() -> None:
    for option in options.OPTIONS:
        assert option.about.endswith("."), option.name
        assert texts_of(option.default) or option.example or option.flag_only or option is options.CONFIG, option.name


@pytest.mark.parametrize("name", ["ctx", "engine.ctx", "--ctx", "EDGETOP_CTX"])
def test_a_setting_has_several_names(name: str) -> None:
    assert setting_named(name) is options.CTX


def test_a_name_nearly_right_is_answered_with_the_right_one() -> None:
    assert setting_named("model-dir") is options.MODEL_DIR
    assert setting_named("--price") is options.PRICE_PER_KWH
    with pytest.raises(UsageError) as refused:
        setting_named("thread")
    assert refused.value.hint == "did you mean threads?"
