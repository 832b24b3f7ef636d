from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import SamplingSettings
from edgetop.core.errors import ModelError
from edgetop.inference import catalog, model_stores
from edgetop.inference.catalog import FoundModel, find_model, find_models, problem_of, resolve
from edgetop.inference.model_stores import DEMO_PACKAGE, ScanLimits, SearchRoot, demo_roots, gguf_files, store_settings
from edgetop.io.model_file import choose, read_model_header
from tests.support.gguf_files import small_gguf

DIGEST = "a" * 64


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working folder, and no demo model."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(catalog, "demo_roots", list)
    return tmp_path / "home"


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), **more}


def model(path: Path, size_bytes: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size_bytes)
    return path


def names(found: list[FoundModel]) -> list[tuple[str, str]]:
    return [(each.name, each.origin) for each in found]


def hugging_face_model(hub_cache: Path, repo: str, file: str, revision: str = "rev1") -> Path:
    folder = hub_cache / f"models--{repo.replace('/', '--')}"
    blob = model(folder / "blobs" / f"{revision}-{file}")
    snapshot = folder / "snapshots" / revision / file
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    snapshot.symlink_to(os.path.relpath(blob, snapshot.parent))
    return snapshot


def ollama_model(store: Path, parts: str, layers: list[dict[str, object]]) -> None:
    manifest = store / "manifests" / parts
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))


def test_every_usual_place_is_searched_the_working_folder_first(home: Path) -> None:
    model(Path("near.gguf"))
    model(home / "mine/sub/own.gguf")
    hugging_face_model(home / ".cache/huggingface/hub", "owner/repo-GGUF", "hf-q4_0.gguf")
    model(home / ".lmstudio/models/publisher/model/studio.gguf")
    model(home / ".cache/lm-studio/models/p/m/old-studio.gguf")
    if sys.platform != "darwin":
        model(home / ".cache/llama.cpp/cached.gguf")
    ollama_model(
        home / ".ollama/models",
        "registry.ollama.ai/library/llama3.2/1b",
        [
            {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "b" * 64},
            {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{DIGEST}"},
        ],
    )
    model(home / f".ollama/models/blobs/sha256-{DIGEST}", 7)
    found = find_models([home / "mine"], environment(home))
    assert names(found) == [
        ("near", "working folder"),
        ("own", "configured folder"),
        ("hf-q4_0", "Hugging Face"),
        *([("cached", "llama.cpp")] if sys.platform != "darwin" else []),
        ("studio", "LM Studio"),
        ("old-studio", "LM Studio"),
        ("llama3.2:1b", "Ollama"),
    ]
    assert found[2].repo == "owner/repo-GGUF"
    assert found[-1].size_bytes == 7


def test_variables_move_the_places(home: Path, tmp_path: Path) -> None:
    hugging_face_model(tmp_path / "hub", "o/r", "a.gguf")
    hugging_face_model(tmp_path / "hf/hub", "o/r", "b.gguf")
    model(tmp_path / "llama/c.gguf")
    moved = environment(home, HF_HUB_CACHE=str(tmp_path / "hub"), LLAMA_CACHE=str(tmp_path / "llama"))
    assert [each.name for each in find_models((), moved)] == ["a", "c"]
    assert [each.name for each in find_models((), environment(home, HF_HOME=str(tmp_path / "hf")))] == ["b"]


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ("registry.ollama.ai/library/qwen3/latest", "qwen3:latest"),
        ("registry.ollama.ai/someone/tuned/q4", "someone/tuned:q4"),
        ("hf.co/owner/repo/Q4_K_M", "hf.co/owner/repo:Q4_K_M"),
    ],
)
def test_ollama_s_models_have_the_names_that_ollama_shows(home: Path, parts: str, name: str) -> None:
    store = home / "store"
    layer: dict[str, object] = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{DIGEST}"}
    ollama_model(store, parts, [layer])
    blob = model(store / f"blobs/sha256-{DIGEST}")
    chosen = environment(home, OLLAMA_MODELS=str(store))
    assert names(find_models((), chosen)) == [(name, "Ollama")]
    assert resolve(name, environment=chosen) == blob


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b'{"layers": 3}',
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../secret"}]}',
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model"}]}',
        b"\xff\xfe",
    ],
)
def test_a_broken_manifest_of_ollama_is_passed_over(home: Path, manifest: bytes) -> None:
    file = home / ".ollama/models/manifests/registry.ollama.ai/library/x/1"
    file.parent.mkdir(parents=True)
    file.write_bytes(manifest)
    assert find_models((), environment(home)) == []


def test_a_split_model_is_one_and_says_which_part_it_lacks(home: Path) -> None:
    for number in (1, 2, 3):
        model(home / f"m/whole-0000{number}-of-00003.gguf", number)
    model(home / "m/torn-00001-of-00003.gguf")
    model(home / "m/torn-00003-of-00003.gguf")
    torn, whole = find_models([home / "m"], environment(home))
    assert (whole.name, whole.size_bytes, whole.missing_parts) == ("whole", 6, ())
    assert whole.path.name == "whole-00001-of-00003.gguf"
    assert resolve(str(home / "m/whole-00003-of-00003.gguf")) == whole.path, "any part names the model"
    assert (torn.name, torn.missing_parts) == ("torn", (2,))
    with pytest.raises(ModelError, match="lacks part 2 of 3"):
        resolve("torn", folders=[home / "m"], environment=environment(home))


def test_hidden_folders_and_the_same_file_twice_are_left_out(home: Path) -> None:
    model(Path("a.gguf"))
    model(Path(".venv/lib/b.gguf"))
    Path("again.gguf").symlink_to("a.gguf")
    assert [each.name for each in find_models((), environment(home))] == ["a"]


def test_loops_broken_links_and_unreadable_folders_hinder_nothing(home: Path) -> None:
    folder = home / "m"
    model(folder / "sub/a.gguf")
    (folder / "sub/loop").symlink_to(folder)
    (folder / "gone.gguf").symlink_to(folder / "nothing")
    (folder / "folder.gguf").mkdir()
    locked = folder / "locked"
    locked.mkdir(mode=0)
    try:
        assert [each.name for each in find_models([folder], environment(home))] == ["a"]
    finally:
        locked.chmod(0o700)


def test_depth_and_number_of_entries_are_bounded(home: Path) -> None:
    model(home / "m/1/2/deep.gguf")
    for number in range(20):
        model(home / f"m/{number:02}.txt")
    place = SearchRoot(home / "m", "configured folder", depth=1)
    assert list(gguf_files(place, ScanLimits())) == []
    assert list(gguf_files(SearchRoot(home / "m", "configured folder", depth=2), ScanLimits(entries=5))) == []
    assert list(gguf_files(SearchRoot(home / "m", "configured folder"), ScanLimits(seconds=0))) == []
    assert len(list(gguf_files(SearchRoot(home / "m", "configured folder", depth=2), ScanLimits()))) == 1


@pytest.mark.parametrize("text", ["phi3-q4", "PHI3-Q4", "phi3-q4.gguf"])
def test_a_name_is_found_with_and_without_its_ending(home: Path, text: str) -> None:
    path = model(home / "m/phi3-q4.gguf")
    assert resolve(text, folders=[home / "m"], environment=environment(home)) == path


def test_a_path_is_taken_as_it_is(home: Path) -> None:
    model(Path("here.gguf"))
    assert resolve("./here.gguf", environment=environment(home)) == Path.cwd() / "here.gguf"
    with pytest.raises(ModelError, match="is a folder"):
        resolve(".", environment=environment(home))
    with pytest.raises(ModelError, match=r"no file /nowhere/x\.gguf"):
        resolve("/nowhere/x.gguf", environment=environment(home))


@pytest.mark.parametrize("text", ["smolm2", "SmolLM2-135M-Instruct.Q4_0", "135m"])
def test_a_misspelt_name_is_answered_with_close_ones(home: Path, text: str) -> None:
    model(home / "m/SmolLM2-135M-Instruct.Q4_1.gguf")
    model(home / "m/qwen3-0.6b.gguf")
    with pytest.raises(ModelError) as refused:
        resolve(text, folders=[home / "m"], environment=environment(home))
    assert refused.value.hint == "did you mean SmolLM2-135M-Instruct.Q4_1?"
    assert refused.value.exit_code == 3


def test_without_a_name_the_last_used_model_comes_before_the_demo(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last, demo = model(home / "last.gguf"), model(home / "demo/d.gguf")
    with pytest.raises(ModelError, match="no model was named"):
        resolve(None)
    monkeypatch.setattr(catalog, "demo_roots", lambda: [SearchRoot(demo.parent, "demo", depth=1)])
    assert resolve(None, last_used=last) == last
    assert resolve(None, last_used=home / "gone.gguf") == demo
    assert names(find_models((), environment(home))) == [("d", "demo")]


def test_the_demo_s_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / DEMO_PACKAGE
    file = model(package / "m.gguf")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.demo_model() == file
    (package / "__init__.py").unlink()
    # Without __init__.py it yields to a package of that name further down the path, as where the demo is installed.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    assert file in [root.folder / "m.gguf" for root in demo_roots()]


def test_the_last_model_is_remembered_while_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "user_state_path", lambda *_a, **_k: tmp_path / "state")
    assert catalog.last_model() is None
    path = model(tmp_path / "a \udcff.gguf")
    catalog.remember_model(path)
    assert catalog.last_model() == path
    path.unlink()
    assert catalog.last_model() is None
    (tmp_path / "state/last-model").write_bytes(b"\0")
    assert catalog.last_model() is None


def test_a_state_folder_that_cannot_be_written_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("a file")
    monkeypatch.setattr(catalog, "user_state_path", lambda *_a, **_k: tmp_path / "state")
    catalog.remember_model(tmp_path / "x")
    assert catalog.last_model() is None


FILES = ["README.md", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf",
         "mmproj-f16.gguf", "m-IQ4_0x.gguf"]  # fmt: skip


@pytest.mark.parametrize(
    ("quantization", "chosen"),
    [
        (None, "m-Q4_K_M.gguf"),
        ("q4_k_s", "m-Q4_K_S.gguf"),
        ("Q8_0", "m-Q8_0-00001-of-00002.gguf"),
        ("Q4", None),
        ("Q4_0", None),
        ("f16", None),
    ],
)
def test_a_quantization_is_chosen_as_a_whole_word(quantization: str | None, chosen: str | None) -> None:
    assert choose(FILES, quantization) == chosen


@pytest.mark.parametrize("text", ["hf:", "hf:owner", "hf:a/b/c", "hf:a/b:", "hf:../b c"])
def test_what_names_no_repository_is_refused(home: Path, text: str) -> None:
    with pytest.raises(ModelError, match="does not name a repository"):
        resolve(text, environment=environment(home))


def test_a_model_in_the_cache_is_not_downloaded_again(home: Path) -> None:
    here = hugging_face_model(home / ".cache/huggingface/hub", "owner/repo", "m-Q4_0.gguf")
    offline = environment(home, HF_HUB_OFFLINE="1")
    assert resolve("hf:Owner/repo:q4_0", environment=offline) == here
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        resolve("hf:owner/repo:q8_0", environment=offline)


@pytest.mark.parametrize("main", ["old", "new"])
def test_of_two_revisions_the_one_that_main_names_is_loaded(home: Path, main: str) -> None:
    hub = home / ".cache/huggingface/hub"
    for revision in ("old", "new"):
        hugging_face_model(hub, "owner/repo", "m-Q4_0.gguf", revision)
    hugging_face_model(hub, "owner/repo", "only-old-Q8_0.gguf", "old")
    refs = hub / "models--owner--repo/refs"
    refs.mkdir()
    (refs / "main").write_text(main)
    found = find_models((), environment(home))
    assert sorted((each.name, each.repo, each.revision) for each in found) == [
        ("m-Q4_0", "owner/repo", main), ("only-old-Q8_0", "owner/repo", "old"),
    ]  # fmt: skip
    assert resolve("hf:owner/repo:q4_0", environment=environment(home)).parent.name == main
    assert resolve("owner/repo/m-Q4_0", environment=environment(home)).parent.name == main
    assert found[0].where == f"Hugging Face owner/repo {found[0].revision}"


MODEL_LAYER: dict[str, object] = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{DIGEST}"}


def test_all_names_of_one_blob_are_listed_and_no_tag_means_latest(home: Path) -> None:
    store = home / ".ollama/models"
    names_given = ["library/a/latest", "library/a/1b", "library/b/latest", "someone/c/latest"]
    for name in names_given:
        ollama_model(store, f"registry.ollama.ai/{name}", [MODEL_LAYER])
    blob = model(store / f"blobs/sha256-{DIGEST}")
    found = find_models((), environment(home))
    assert [each.name for each in found] == ["a:1b", "a:latest", "b:latest", "someone/c:latest"]
    assert {each.path for each in found} == {blob}
    for text, name in (("a", "library/a/latest"), ("a:1b", "library/a/1b"), ("A", "library/a/latest"),
                       ("someone/c", "someone/c/latest"), ("ollama:b", "library/b/latest")):  # fmt: skip
        assert find_model(text, environment=environment(home)) == store / "manifests/registry.ollama.ai" / name
        assert resolve(text, environment=environment(home)) == blob


def test_a_name_in_ollama_s_store_without_its_file_says_so(home: Path) -> None:
    ollama_model(home / ".ollama/models", "registry.ollama.ai/library/gone/latest", [MODEL_LAYER])
    (found,) = find_models((), environment(home))
    assert problem_of(found) == "its file is missing: ollama pull gone:latest"
    with pytest.raises(ModelError, match="gone:latest: its file is missing: ollama pull gone:latest"):
        find_model("gone", environment=environment(home))


def test_what_comes_with_a_model_of_ollama_s_is_used_as_far_as_it_was_left_open(home: Path) -> None:
    store = home / ".ollama/models"
    parameters = {
        "stop": ["<|end|>"], "temperature": 0.1, "num_ctx": 1024, "num_predict": -1, "top_k": 10**400, "mirostat": 2,
    }  # fmt: skip
    layers = [MODEL_LAYER]
    blob = model(store / f"blobs/sha256-{DIGEST}")
    for digit, kind, content in (("1", "system", "You are Mario."), ("2", "params", json.dumps(parameters)),
                                 ("3", "template", "{{ .Prompt }}"), ("4", "adapter", "GGUF")):  # fmt: skip
        (blob.parent / f"sha256-{digit * 64}").write_text(content)
        layers.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digit * 64}"})
    ollama_model(store, "registry.ollama.ai/library/mario/latest", layers)
    mario = model_stores.ollama_model(find_model("mario", environment=environment(home)))
    assert mario is not None
    every = {"system", "stop", "temperature", "n_ctx", "max_tokens", "top_k"}
    sampling = SamplingSettings(max_tokens=5)
    brought = store_settings(mario, system=None, sampling=sampling, left_open=every)
    assert (brought.system, brought.n_ctx) == ("You are Mario.", 1024)
    assert brought.sampling == SamplingSettings(stop=("<|end|>",), temperature=0.1)
    assert brought.words == (
        "used: its system prompt, stop ['<|end|>'], temperature 0.1, num_ctx 1024, num_predict -1, its adapter; "
        "not used: top_k, mirostat, its template (the file's own is used)"
    )
    chosen = store_settings(mario, system="Be brief.", sampling=sampling, left_open={"top_k"})
    assert (chosen.system, chosen.sampling, chosen.n_ctx) == ("Be brief.", sampling, None)
    for stops in (["x"] * 1000, ["x" * 1000]):
        odd = replace(
            mario, parameters={"stop": stops, "\x1b[31m" + "k" * 10_000: 1, **dict.fromkeys(map(str, range(1000)))}
        )
        brought = store_settings(odd, system=None, sampling=sampling, left_open=every)
        assert brought.sampling == sampling
        assert len(brought.words) < 1000
        assert "\x1b" not in brought.words


def test_other_programs_stores_are_searched(home: Path) -> None:
    pointed, downloads = home / "studio", home / "downloads"
    (home / ".lmstudio-home-pointer").parent.mkdir(parents=True, exist_ok=True)
    (home / ".lmstudio-home-pointer").write_text(f"{pointed}\n")
    pointed.mkdir()
    (pointed / "settings.json").write_text(json.dumps({"downloadsFolder": str(downloads)}))
    model(pointed / "models/p/m/pointed.gguf")
    model(downloads / "p/m/chosen.gguf")
    model(home / "models/mine.gguf")
    model(home / "llama/of-router.gguf")
    support = home / ("Library/Application Support" if sys.platform == "darwin" else ".local/share")
    model(support / "Jan/data/llamacpp/models/Jan-v3/model.gguf")
    model(support / "nomic.ai/GPT4All/mini.gguf")
    model(home / ".local/share/ramalama/store/hf/owner/name/snapshots/sha256-1/tiny.gguf")
    docker = home / ".docker/models"
    blob = docker / f"blobs/sha256/{DIGEST}"
    model(blob)
    blob.write_bytes(b"GGUF")
    index = {"models": [{"id": "sha256:1", "tags": ["ai/smollm2:latest"], "files": [f"sha256:{DIGEST}"]}]}
    (docker / "models.json").write_text(json.dumps(index))
    chosen = environment(home, LLAMA_ARG_MODELS_DIR=str(home / "llama"))
    assert sorted(names(find_models((), chosen))) == [
        ("Jan-v3", "Jan"), ("ai/smollm2:latest", "Docker"), ("chosen", "LM Studio"), ("mine", "configured folder"),
        ("mini", "GPT4All"), ("of-router", "llama.cpp"), ("pointed", "LM Studio"), ("tiny", "ramalama"),
    ]  # fmt: skip
    assert resolve("ai/smollm2", environment=chosen) == blob
    legacy = hugging_face_model(home / "legacy", "o/r", "old.gguf")
    assert resolve("old", environment=environment(home, HUGGINGFACE_HUB_CACHE=str(home / "legacy"))) == legacy


def test_what_other_programs_wrote_down_ends_no_search(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / ".lmstudio-home-pointer").write_bytes(b"/a\0b")
    (home / ".lmstudio").mkdir()
    (home / ".lmstudio/settings.json").write_text(json.dumps({"downloadsFolder": "/" + "c" * 300 + "/d\0e"}))
    blobs = home / ".docker/models/blobs/sha256"
    blobs.mkdir(parents=True)
    os.mkfifo(blobs / DIGEST)
    (blobs / ("b" * 64)).write_bytes(b"GGUF")
    entries = [
        {"tags": ["a pipe"], "files": [f"sha256:{DIGEST}"]},
        {"tags": ["x" * 256, "fine"], "files": ["sha256:../../etc/passwd", f"sha256:{'b' * 64}"]},
        {"tags": [f"many {number}" for number in range(50)], "files": [f"sha256:{'b' * 64}"]},
    ]
    (home / ".docker/models/models.json").write_text(json.dumps({"models": entries}))
    monkeypatch.setattr(catalog, "ScanLimits", lambda: ScanLimits(seconds=600, entries=10))
    left_out: list[str] = []
    chosen = environment(home)
    found = catalog._found_models((), chosen, left_out)
    assert [each.name for each in found][:2] == ["fine", "many 0"]
    assert len(found) < 10
    assert left_out == ["Docker's store"]
    with pytest.raises(ModelError, match="Docker's store was given up"):
        resolve("nothing", environment=chosen)


def test_each_place_has_a_budget_of_its_own_and_what_was_left_out_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "ScanLimits", lambda: ScanLimits(seconds=600, entries=10))
    for number in range(20):
        model(Path(f"{number:02}.txt"))
    model(Path("z.gguf"))
    kept = model(home / ".lmstudio/models/p/m/kept.gguf")
    left_out: list[str] = []
    assert [each.path for each in find_models((), environment(home), left_out=left_out)] == [kept]
    assert left_out == [str(Path.cwd())]
    assert resolve("z", environment=environment(home)) == Path.cwd() / "z.gguf", "found without a search"
    with pytest.raises(ModelError, match=r"the search of .* was given up"):
        resolve("y", environment=environment(home))


def test_a_header_that_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    good = tmp_path / "good.gguf"
    good.write_bytes(small_gguf())
    header, problem = read_model_header(good)
    assert (header.name if header else None, problem) == ("Tiny", "")
    bad = model(tmp_path / "bad.gguf")
    empty = model(tmp_path / "empty.gguf", 0)
    assert "not a GGUF file" in read_model_header(bad)[1]
    assert "empty" in read_model_header(empty)[1]
    assert "there is no file" in read_model_header(tmp_path / "none")[1]
