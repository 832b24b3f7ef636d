from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from edgetop.commands.command_line import Parser, add_options, given_flags, parser_of
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings import resolve as resolving
from edgetop.settings.option import token_count
from edgetop.settings.resolve import Settings, engine_settings, resolve, sampling_settings


@pytest.fixture(autouse=True)
def no_configuration_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolving, "default_config_file", lambda: tmp_path / "none" / "config.toml")


def resolved(
    flags: Mapping[str, Sequence[str] | str | None] | None = None,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    chosen = dict(flags or {})
    if config is not None:
        chosen["config"] = str(config)
    return resolve(chosen, environment or {})


def config_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return file


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    config = config_file(tmp_path, "[engine]\nctx = 1024\n")
    by_flag = resolved({"ctx": "4k"}, {"EDGETOP_CTX": "2048"}, config)
    by_environment = resolved({}, {"EDGETOP_CTX": "2048"}, config)
    by_file = resolved({}, {}, config)
    by_default = resolved()
    assert [each[options.CTX] for each in (by_flag, by_environment, by_file, by_default)] == [4096, 2048, 1024, None]
    assert [each.origin(options.CTX) for each in (by_flag, by_environment, by_file, by_default)] == [
        "--ctx", "EDGETOP_CTX", str(config), "default",
    ]  # fmt: skip


def test_every_key_of_the_file_is_read_as_its_flag_is(tmp_path: Path) -> None:
    config = config_file(
        tmp_path,
        """
        [engine]
        ctx = "8k"
        template_arg = { enable_thinking = false, effort = "low" }
        [sampling]
        temp = 0
        stop = ["\\n\\n", "END"]
        [recording]
        record = false
        [search]
        model_dir = ["/a", "~/b"]
        """,
    )
    settings = resolved({}, {}, config)
    assert settings[options.CTX] == 8192
    assert settings[options.TEMPLATE_ARG] == (("enable_thinking", False), ("effort", "low"))
    assert settings[options.TEMP] == 0
    assert settings[options.STOP] == ("\n\n", "END")
    assert settings[options.RECORD] is False
    assert settings[options.MODEL_DIR] == (Path("/a"), Path("~/b").expanduser())


def test_a_negative_flag_turns_off_what_is_on_by_default() -> None:
    parser = Parser()
    add_options(parser, ("recording", "screen"))
    settings = resolved(given_flags(parser.parse_args(["--no-record", "-U"])))
    assert settings[options.RECORD] is False
    assert settings[options.TEXT] is True
    assert settings[options.ASCII] is True


def test_no_color_of_the_environment_switches_colours_off_unless_empty() -> None:
    assert resolved({}, {"NO_COLOR": "1"})[options.NO_COLOR] is True
    assert resolved({}, {"NO_COLOR": ""})[options.NO_COLOR] is False
    assert resolved({}, {"NO_COLOR": "1", "EDGETOP_NO_COLOR": "0"})[options.NO_COLOR] is False


def test_folders_in_the_environment_are_separated_as_in_path() -> None:
    assert resolved({}, {"EDGETOP_MODEL_DIR": "/a::/b"})[options.MODEL_DIR] == (Path("/a"), Path("/b"))


def test_a_stop_text_in_the_environment_may_hold_anything() -> None:
    assert resolved({}, {"EDGETOP_STOP": "a:b"})[options.STOP] == ("a:b",)


def test_an_output_file_is_of_one_run_and_not_of_the_environment() -> None:
    assert resolved({}, {"EDGETOP_OUTPUT": "/x.json"})[options.OUTPUT] is None


@pytest.mark.parametrize(
    ("flags", "what", "hint"),
    [
        ({"ctx": "4z"}, "--ctx: '4z' is not valid", "4096 or 4k"),
        ({"ctx": "0"}, "--ctx", "a number of tokens"),
        ({"threads": "0"}, "--threads", "from 1 to 512"),
        ({"temp": "nan"}, "--temp", "from 0 to 100"),
        ({"kv_type": "q9"}, "--kv-type", "q8_0"),
        ({"template_arg": ["novalue"]}, "--template-arg", "KEY=VALUE"),
        ({"delay": "0.1"}, "--delay", "from 0.25 to 60"),
        ({"config": "/nowhere.toml"}, "there is no configuration file", "leave it out"),
    ],
)
def test_a_bad_value_is_told_with_what_was_expected(flags: dict[str, str | list[str]], what: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolved(flags)
    assert what in refused.value.what
    assert hint in refused.value.hint
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[engine]\nthread = 4\n", "no setting 'thread' in [engine]", "did you mean threads?"),
        ("[motor]\nx = 1\n", "no table [motor]", "known are"),
        ("engine = 3\n", "no table [engine]", ""),
        ("[engine\n", "is not TOML", "fix that line"),
        ("[engine]\nctx = [1, 2]\n", "only one value", "TOKENS"),
        ("[recording]\noutput = 'x'\n", "no setting 'output'", ""),
        ("[general]\nconfig = 'x'\n", "no setting 'config'", ""),
    ],
)
def test_a_mistake_in_the_file_names_the_file(tmp_path: Path, text: str, what: str, hint: str) -> None:
    config = config_file(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        resolved({}, {}, config)
    assert str(config) in refused.value.what
    assert what in refused.value.what
    assert hint in refused.value.hint


def test_the_engine_gets_every_setting_of_its_own() -> None:
    chosen = resolved(
        {
            "ctx": "2k", "threads": "3", "threads_batch": "4", "gpu_layers": "0", "kv_type": "q8_0", "batch": "256",
            "ubatch": "64", "load_mode": "copy", "full_context": "shift", "template": "tool_use",
            "template_arg": ["n=2", "x=1.5", "y=no", "z=true"],
        }
    )  # fmt: skip
    assert engine_settings(chosen) == EngineSettings(
        n_ctx=2048, n_threads=3, n_threads_batch=4, n_gpu_layers=0, type_k="q8_0", type_v="q8_0", n_batch=256,
        n_ubatch=64, load_mode="copy", full_context="shift", template_name="tool_use",
        template_args={"n": 2, "x": 1.5, "y": "no", "z": True},
    )  # fmt: skip


def test_sampling_gets_every_setting_of_its_own() -> None:
    chosen = resolved(
        {
            "temp": "0.2", "top_k": "0", "top_p": "0.5", "min_p": "0.1", "repeat_penalty": "1.1", "seed": "7",
            "max_tokens": "12", "stop": ["a", "b"],
        }
    )  # fmt: skip
    assert sampling_settings(chosen) == SamplingSettings(
        temperature=0.2, top_k=0, top_p=0.5, min_p=0.1, repeat_penalty=1.1, seed=7, max_tokens=12, stop=("a", "b")
    )


def test_defaults_are_the_engine_s_own() -> None:
    assert engine_settings(resolved()) == EngineSettings()
    assert sampling_settings(resolved()) == SamplingSettings()


def test_names_flags_and_variables_are_unique() -> None:
    names = [option.name for option in options.OPTIONS]
    flags = [flag for option in options.OPTIONS for flag in option.flags]
    assert len(set(names)) == len(names)
    assert len(set(flags)) == len(flags)


@pytest.mark.parametrize(("text", "count"), [("4096", 4096), ("4k", 4096), (" 1K ", 1024)])
def test_tokens_may_be_counted_in_k(text: str, count: int) -> None:
    assert token_count(text) == count


def test_a_price_is_a_number_and_its_currency_a_short_word(tmp_path: Path) -> None:
    settings = resolved({}, {}, config_file(tmp_path, '[price]\nprice_per_kwh = 0.31\ncurrency = "CHF"\n'))
    assert (settings[options.PRICE_PER_KWH], settings[options.CURRENCY]) == (0.31, "CHF")
    assert (resolved()[options.PRICE_PER_KWH], resolved()[options.CURRENCY]) == (None, "EUR")
    for flags in ({"price_per_kwh": "-1"}, {"price_per_kwh": "nan"}, {"currency": "a b"}, {"currency": "\x1b[2J"}):
        with pytest.raises(UsageError):
            resolved(flags)


def test_llama_cpp_s_flags_mean_what_ours_mean() -> None:
    words = ["-t", "2", "-tb", "3", "-c", "4k", "-ngl", "5", "-s", "6", "-ctk", "q8_0", "-ctv", "q8_0", "-fa", "on"]
    settings = resolve(given_flags(parser_of("run").parse_args([*words, "-hf", "owner/repo:Q4_0"])), {})
    engine, sampling = engine_settings(settings), sampling_settings(settings)
    assert (engine.n_threads, engine.n_threads_batch, engine.n_ctx, engine.n_gpu_layers) == (2, 3, 4096, 5)
    assert (engine.type_k, engine.type_v, engine.flash_attention, sampling.seed) == ("q8_0", "q8_0", "on", 6)
    assert settings[options.MODEL] == "hf:owner/repo:Q4_0"
    long = parser_of("run").parse_args(["--ctx-size", "8k", "--n-gpu-layers", "0", "--hf-repo", "a/b", "-b", "64"])
    chosen = resolve(given_flags(long), {})
    assert (chosen[options.CTX], chosen[options.GPU_LAYERS], chosen[options.MODEL]) == (8192, 0, "hf:a/b")
    assert chosen[options.BATCH] == 64
