from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from edgetop.core import model_names
from edgetop.core.errors import ModelError
from edgetop.inference import catalog
from edgetop.inference.catalog import FoundModel, ScanLimits, SearchRoot, find_models, gguf_files, resolve
from edgetop.io.model_file import read_model_header
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


def hugging_face_model(hub_cache: Path, repo: str, file: str) -> Path:
    folder = hub_cache / f"models--{repo.replace('/', '--')}"
    blob = model(folder / "blobs" / "0123abcd")
    snapshot = folder / "snapshots" / "rev1" / file
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
    assert (torn.name, torn.missing_parts) == ("torn", (2,))
    with pytest.raises(ModelError, match="lacks part 2 of 3"):
        resolve("torn", folders=[home / "m"], environment=environment(home))


def test_projectors_hidden_folders_and_the_same_file_twice_are_left_out(home: Path) -> None:
    model(Path("a.gguf"))
    model(Path("mmproj-a-f16.gguf"))
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
    monkeypatch.setattr(catalog, "demo_roots", lambda: [catalog.SearchRoot(demo.parent, "demo", depth=1)])
    assert resolve(None, last_used=last) == last
    assert resolve(None, last_used=home / "gone.gguf") == demo
    assert names(find_models((), environment(home))) == [("d", "demo")]


def test_the_demo_s_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / catalog.DEMO_PACKAGE
    file = model(package / "m.gguf")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.demo_model() == file
    (package / "__init__.py").unlink()
    # Without __init__.py it yields to a package of that name further down the path, as where the demo is installed.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    assert file in [root.folder / "m.gguf" for root in catalog.demo_roots()]


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
    assert model_names.choose(FILES, quantization) == chosen


@pytest.mark.parametrize("text", ["hf:", "hf:owner", "hf:a/b/c", "hf:a/b:", "hf:../b c"])
def test_what_names_no_repository_is_refused(home: Path, text: str) -> None:
    with pytest.raises(ModelError, match="does not name a repository"):
        resolve(text, environment=environment(home))


def test_a_model_in_the_cache_is_not_downloaded_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    here = hugging_face_model(home / ".cache/huggingface/hub", "owner/repo", "m-Q4_0.gguf")
    assert resolve("hf:Owner/repo:q4_0", environment=environment(home)) == here
    with pytest.raises(ModelError) as refused:
        resolve("hf:owner/repo:q8_0", environment=environment(home))
    assert "edgetop[hub]" in refused.value.hint


def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: list[str] | Exception) -> list[str]:
    downloaded: list[str] = []

    def list_repo_files(_repo: str) -> list[str]:
        if isinstance(files, Exception):
            raise files
        return files

    def download(_repo: str, file: str) -> str:
        downloaded.append(file)
        return str(tmp_path / file)

    module = ModuleType("huggingface_hub")
    module.utils = SimpleNamespace(disable_progress_bars=lambda: None)  # type: ignore[attr-defined]
    module.HfApi = lambda: SimpleNamespace(list_repo_files=list_repo_files)  # type: ignore[attr-defined]
    module.hf_hub_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return downloaded


def test_all_parts_of_a_split_model_are_downloaded(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    downloaded = fake_hub(monkeypatch, tmp_path, FILES)
    path = resolve("hf:owner/repo:Q8_0", environment=environment(home))
    assert path == tmp_path / "m-Q8_0-00001-of-00002.gguf"
    assert downloaded == FILES[3:5]


def test_a_download_that_fails_says_why_in_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_hub(monkeypatch, tmp_path, OSError("404 \x1b[31mnot found\nRequest ID: 1"))
    with pytest.raises(ModelError) as refused:
        resolve("hf:owner/repo", environment=environment(home))
    assert refused.value.what == "cannot download owner/repo: 404 ␛[31mnot found"
    fake_hub(monkeypatch, tmp_path, FILES)
    with pytest.raises(ModelError, match="no quantization Q2_K") as refused:
        resolve("hf:owner/repo:Q2_K", environment=environment(home))
    assert "m-Q4_K_M.gguf" in refused.value.hint


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
