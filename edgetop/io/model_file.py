"""A GGUF model before it is loaded: its names, its files, what its header says it is for, its digest.

Names of architectures and keys are llama.cpp's (llama-arch.cpp, gguf-py/gguf/constants.py of llama.cpp 0c1e57098);
those of image models are what stable-diffusion.cpp and ComfyUI-GGUF write.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import stat
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from edgetop import __version__
from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufHeader, GgufIncompleteError, read_header
from edgetop.core.text import one_line
from edgetop.io.files import read_small, replacement, user_folder, write_atomically

PurposeName = Literal[
    "text", "embedding", "reranker", "encoder", "rewriting", "diffusion", "image", "speech", "draft", "projector",
    "adapter", "control vector", "imatrix", "vocabulary", "unknown",
]  # fmt: skip


class Purpose(NamedTuple):
    """What a file is for."""

    name: PurposeName
    words: str
    """With an article, to follow "it is"."""
    hint: str
    """What to do with it."""


_OTHER = "choose a model made for text generation or chat"

PURPOSES: Final[dict[PurposeName, Purpose]] = {
    each.name: each
    for each in (
        Purpose("text", "a model that generates text", ""),
        Purpose("embedding", "an embedding model: it turns text into vectors for searching", _OTHER),
        Purpose("reranker", "a reranker: it scores how well texts answer a question", _OTHER),
        Purpose("encoder", "a text encoder, of use to image generators", _OTHER),
        Purpose("rewriting", "an encoder-decoder model (T5): it rewrites a whole text and does not chat", _OTHER),
        Purpose(
            "diffusion", "a diffusion language model: it does not write token by token",
            "llama.cpp's llama-diffusion-cli runs it",
        ),
        Purpose("image", "a model that makes pictures or video", "stable-diffusion.cpp or ComfyUI run it"),
        Purpose("speech", "a speech model: it makes sound, not text", "llama.cpp's llama-tts runs some of them"),
        Purpose(
            "draft", "a draft model: it proposes tokens to the model it was made for",
            "name that model with -m, and this file with --model-draft and --engine llama-server",
        ),
        Purpose(
            "projector", "the vision or audio part of another model (mmproj)",
            "name the model that it belongs to, which generates text without it as well",
        ),
        Purpose(
            "adapter", "a LoRA adapter: it changes the model that it was made for",
            "name that model with -m, and this file with --lora",
        ),
        Purpose("control vector", "a control vector: it steers the model that it was made for", "name that model"),
        Purpose("imatrix", "an importance matrix, for making quantizations", "name the model that it was made from"),
        Purpose("unknown", "a file that does not say which model it is", _OTHER),
        Purpose("vocabulary", "a vocabulary without weights", "name a file that has the weights as well"),
    )
}  # fmt: skip

_NAMES: Final[dict[PurposeName, str]] = {
    "embedding": """bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 modern-bert neo-bert eurobert
        gemma-embedding llama-embed""",
    "encoder": "t5encoder",
    "rewriting": "t5",
    "diffusion": "dream llada llada-moe rnd1",
    "image": "flux sd1 sd2 sdxl sd3 aura hidream cosmos ltxv hyvid wan lumina2 qwen_image chroma",
    "speech": "wavtokenizer-dec pockettts whisper",
    "draft": "eagle3 dflash gemma4-assistant",
    "projector": "clip",
    "control vector": "controlvector",
    "imatrix": "imatrix",
}
_OF_ARCHITECTURE: Final = {name: purpose for purpose, names in _NAMES.items() for name in names.split()}

_OF_TYPE: Final[dict[str, PurposeName]] = {"adapter": "adapter", "mmproj": "projector", "imatrix": "imatrix"}
"""By `general.type`."""

_OF_PICTURES = (
    "model.diffusion_model.",
    "first_stage_model.",
    "double_blocks.",
    "joint_blocks.",
    "transformer_blocks.",
)
"""How tensors are named in files of stable-diffusion.cpp, which need not say an architecture."""

_RANK = 4
"""LLAMA_POOLING_TYPE_RANK."""


def purpose_of(header: GgufHeader) -> Purpose:
    """What a file is for; of a split model by its first file, or by the headers of all files as one."""
    name = header.architecture
    decided = _OF_TYPE.get(header.text("general.type")) or _OF_ARCHITECTURE.get(name)
    if decided is None or decided == "embedding":
        pooling = header.whole(f"{name}.pooling_type") or 0
        ranks = pooling == _RANK or any(tensor.name in {"cls.output.weight", "cls.weight"} for tensor in header.tensors)
        if ranks:
            decided = "reranker"
        elif pooling > 0 or header.metadata.get(f"{name}.attention.causal") is False:
            decided = "embedding"
    if decided is None and header.split_count == 1:
        if not name:
            drawn = any(tensor.name.startswith(_OF_PICTURES) for tensor in header.tensors)
            decided = "image" if drawn else "unknown"
        elif not header.tensors:
            decided = "vocabulary"
    return PURPOSES[decided or "text"]


_DRAFT_TYPES: Final = {"eagle3": "draft-eagle3", "gemma4-assistant": "draft-mtp"}
"""By architecture."""


def draft_type(header: GgufHeader) -> str:
    """What `--spec-type` has to say for a draft model; empty where llama-server sees it by the file.

    Since 2026 it loads an ordinary one and does not use it unless that is said.
    """
    purpose = purpose_of(header).name
    if purpose == "text" and not any(".nextn." in tensor.name for tensor in header.tensors):
        return "draft-simple"
    return _DRAFT_TYPES.get(header.architecture, "")


def require_text(shown: str, purpose: Purpose) -> None:
    """Raise ModelError for a file that is not for generating text; `shown` is its name."""
    if purpose.name != "text":
        what = f"{one_line(shown)} does not generate text; it is {purpose.words}"
        raise ModelError(what, purpose.hint, reason="unsupported")


_HINTS = (
    ("Git LFS", "run `git lfs pull` in its folder"),
    ("web page", "check the address, and download it again"),
    ("truncated", "the file is cut off; download it again"),
    ("empty", "download it again"),
    ("does not know the architecture", "look for a newer edgetop, or choose another model"),
    ("is not supported", "look for a newer edgetop, or download the model again"),
    ("big endian", "convert it with llama.cpp's gguf_convert_endian.py"),
    ("before GGUF", "download a GGUF of the model"),
    ("not a GGUF file", "name a file in GGUF format"),
)

_WHAT_MAX = 200
"""A key of the file may be in it, and as long as 65,535 bytes."""

_HINT = "download it again, or choose another model"


def refused(shown: str, error: GgufError) -> ModelError:
    """The error for a person, of a file that is `shown` as they named it."""
    hint = next((hint for word, hint in _HINTS if word in error.reason), _HINT)
    what = one_line(error.reason.partition("; ")[0][:_WHAT_MAX])
    return ModelError(f"{one_line(shown)} cannot be read: {what} (at byte {error.offset})", hint, reason="not_a_model")


def check_part(shown: str, header: GgufHeader, part: int, count: int) -> None:
    """Raise ModelError unless a header says that its file is the wanted part, from 1, of a split model."""
    number = (header.whole("split.no") or 0) + 1
    if (number, header.split_count) != (part, count):
        raise ModelError(
            f"{one_line(shown)} says that it is part {number} of {header.split_count}, not {part} of {count}",
            "the parts have been mixed up; download the model again",
        )


PREFERRED = ("Q4_K_M", "Q4_0", "Q5_K_M", "Q4_1", "Q8_0")
"""Quantizations to choose from when none is named, best first for small machines."""

_NAMED = r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<quantization>[\w.-]+))?"
_PART = r"(?i)-([0-9]{5})-of-([0-9]{5})\.gguf$"


class HubModel(Struct, frozen=True):
    """A repository and, perhaps, one of its quantizations."""

    repo: str
    quantization: str | None


class SplitPart(Struct, frozen=True):
    """What the name of one file of a split model says: `stem-00002-of-00003.gguf`."""

    stem: str
    number: int
    count: int

    def named(self, number: int) -> str:
        """The name of another file of the same model."""
        return f"{self.stem}-{number:05}-of-{self.count:05}.gguf"


def parse(text: str) -> HubModel:
    """Read hf:owner/repo[:quant]. Raises ModelError."""
    match = re.fullmatch(_NAMED, text)
    if match is None:
        raise ModelError(f"{one_line(text)} does not name a repository", "write hf:owner/repo or hf:owner/repo:Q4_K_M")
    return HubModel(match["repo"], match["quantization"])


def part_of(file: str) -> SplitPart | None:
    """Read the name of a file of a split model; `None` for any other name."""
    match = re.search(_PART, file)
    part = SplitPart(file[: match.start()], int(match[1]), int(match[2])) if match else None
    return part if part is not None and 0 < part.number <= part.count else None


def choose(files: Sequence[str], quantization: str | None) -> str | None:
    """Choose the GGUF file of the wanted quantization, of a split model its first part; `None` if there is none."""
    models = sorted(
        file for file in files if file.lower().endswith(".gguf") and "mmproj" not in file.lower() and _is_first(file)
    )
    for wanted in (quantization,) if quantization else PREFERRED:
        word = re.compile(rf"(?<![a-z0-9]){re.escape(wanted)}(?![a-z0-9_])", re.IGNORECASE)
        for file in models:
            if word.search(file):
                return file
    return models[0] if models and quantization is None else None


def parts(first: str, files: Sequence[str]) -> list[str]:
    """Name all files of a model of which `first` is the first."""
    part = part_of(first)
    if part is None:
        return [first]
    return sorted(
        file for file in files if (other := part_of(file)) and (other.stem, other.count) == (part.stem, part.count)
    )


def nothing_chosen(wanted: HubModel, files: Sequence[str]) -> ModelError:
    """What to say when `choose` finds nothing."""
    offered = sorted(file for file in files if file.lower().endswith(".gguf") and _is_first(file))
    if not offered:
        return ModelError(f"{wanted.repo} has no GGUF file", "look for a repository of the model with GGUF in its name")
    shown = ", ".join(one_line(file) for file in offered[:8])
    return ModelError(f"{wanted.repo} has no quantization {wanted.quantization}", f"it has {shown}")


def _is_first(file: str) -> bool:
    part = part_of(file)
    return part is None or part.number == 1


HEADER_BYTES_MAX = 256 * 2**20
"""As much of a file is mapped; the largest headers, with vocabulary and merges, have about 20 MiB."""

_PARTS_NAMED = 5


class ModelHeaders(NamedTuple):
    """The headers of all files of a model, the first one first."""

    files: list[Path]
    headers: list[GgufHeader]
    sizes_bytes: list[int]


def read_headers(path: Path) -> ModelHeaders:
    """Read the headers of a model. No weight is touched.

    `path` is a GGUF file, any part of a split model, or a folder with one model in it. Raises ModelError.
    """
    file = _model_in(path) if path.is_dir() else path
    header, size_bytes = _read(file)
    if header.split_count <= 1:
        return ModelHeaders([file], [header], [size_bytes])
    files = _parts_beside(file, header.split_count)
    read = [(header, size_bytes) if part == file else _read(part) for part in files]
    for number, (part, (of_part, _)) in enumerate(zip(files, read, strict=True), 1):
        check_part(str(part), of_part, number, len(files))
    return ModelHeaders(files, [part for part, _ in read], [size for _, size in read])


def require_model(path: Path, n_ctx: int | None = None) -> None:
    """Raise ModelError for a file that no llama.cpp can generate text with, in a context of this length.

    What a later llama.cpp may read, such as a type of weights that this reader does not know, is left to it.
    """
    if path.is_dir():
        raise ModelError(f"{one_line(str(path))} is a folder", "name a GGUF file in it")
    try:
        headers = read_headers(path).headers
    except ModelError as error:
        if isinstance(error.__cause__, GgufError) and not is_certain(error.what):
            return
        raise
    require_text(path.name, purpose_of(headers[0]))
    # A model that learnt its positions (GPT-2) has no more of them; llama.cpp aborts at the first one beyond.
    rows = next((each.shape[-1] for header in headers for each in header.tensors if each.name == _POSITIONS), None)
    if rows is not None and n_ctx is not None and n_ctx > rows:
        what = f"{one_line(path.name)} knows {rows} positions; a context of {n_ctx} is too long for it"
        raise ModelError(what, f"--ctx {rows}", reason="unsupported")


_POSITIONS = "position_embd.weight"

_CERTAIN = (
    "truncated", "cannot be in", "cannot be described", "big endian", "empty", "Git LFS", "web page", "before GGUF",
    "not a GGUF file",
)  # fmt: skip


def is_certain(reason: str) -> bool:
    """Whether a header that this reader refuses for a reason can be read by no program."""
    return any(word in reason for word in _CERTAIN)


def models_in(folder: Path) -> list[Path]:
    """The models of a folder, of a split one its first part there; parts of other models (mmproj) are passed over."""
    first: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.lower().endswith(".gguf") and "mmproj" not in file.name.lower() and file.is_file():
            part = part_of(file.name)
            first.setdefault(f"{part.stem}/{part.count}" if part else file.name, file)
    return list(first.values())


def _model_in(folder: Path) -> Path:
    try:
        models = models_in(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error
    if len(models) == 1:
        return models[0]
    if not models:
        raise ModelError(f"there is no GGUF file in {one_line(str(folder))}", "name a GGUF file")
    shown = ", ".join(one_line(model.name) for model in models[:4]) + (" ..." if len(models) > 4 else "")
    raise ModelError(f"{one_line(str(folder))} holds {len(models)} models", f"name one of them: {shown}")


def _read(path: Path) -> tuple[GgufHeader, int]:
    """The header of one file, and the file's size in bytes."""
    try:
        # A named pipe would wait for a writer, so it is looked at before it is opened.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "not a file")  # noqa: TRY301 - told like the other ones
        with path.open("rb") as file:
            return _read_or_kept(path, file)
    except GgufIncompleteError as error:
        too_long = GgufError(error.offset, f"the header is longer than {HEADER_BYTES_MAX} bytes")
        raise refused(str(path), too_long) from error
    except GgufError as error:
        raise refused(str(path), error) from error
    except (OSError, ValueError) as error:  # a path may hold a zero byte
        raise _unreadable(path, error) from error


HEADERS_FOLDER: Final = "headers"
HEADERS_KEPT = 256
"""Headers that were read and are kept, the latest ones."""

_KEPT_FROM_BYTES, _KEPT_BYTES_MAX = 2**16, 2**20
"""A shorter header is read as fast as one that was kept."""

_SETTLED_NS = 2_000_000_000
"""What was changed later than this may be changed again without another time of the last change."""


class _KeptHeader(Struct, frozen=True):
    """What was read of a file, for as long as it is the same."""

    edgetop: str
    """The version that read it."""
    file: str
    header: GgufHeader


def _read_or_kept(path: Path, file: BinaryIO) -> tuple[GgufHeader, int]:
    state = os.fstat(file.fileno())
    size_bytes = state.st_size
    if not size_bytes:
        return read_header(b""), 0
    kept = user_folder("cache") / HEADERS_FOLDER / f"{state.st_dev:x}-{state.st_ino:x}"
    key = f"{_state_words(Path(os.path.realpath(path)), state)}|{state.st_ctime_ns}"
    if (header := _kept_header(kept, key)) is not None:
        return header, size_bytes
    with mmap.mmap(file.fileno(), min(size_bytes, HEADER_BYTES_MAX), access=mmap.ACCESS_READ) as mapped:
        header = read_header(mapped, size_bytes=size_bytes)
    settled = time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > _SETTLED_NS
    if settled and header.data_offset >= _KEPT_FROM_BYTES:
        with suppress(OSError, ValueError):  # a name of the file may be no Unicode
            _keep_header(kept, _KeptHeader(__version__, key, header))
    return header, size_bytes


def _kept_header(kept: Path, key: str) -> GgufHeader | None:
    """None where there is none, or not of this file as it is now; what another user wrote is none."""
    try:
        if kept.lstat().st_uid != os.getuid():
            return None
        data = read_small(kept, _KEPT_BYTES_MAX)
        found = msgspec.msgpack.decode(data[4:], type=_KeptHeader)
    except (OSError, ValueError, RecursionError):
        return None
    is_whole = zlib.crc32(data[4:]).to_bytes(4, "big") == data[:4]
    return found.header if is_whole and (found.edgetop, found.file) == (__version__, key) else None


def _keep_header(kept: Path, header: _KeptHeader) -> None:
    """Keep it, and forget the ones that were kept first. Raises OSError and ValueError."""
    data = msgspec.msgpack.encode(header)
    if len(data) > _KEPT_BYTES_MAX - 4:
        return
    with replacement(kept, synced=False) as temporary:
        temporary.write_bytes(zlib.crc32(data).to_bytes(4, "big") + data)
    newest_first = sorted(kept.parent.iterdir(), key=lambda each: -each.lstat().st_mtime_ns)
    for old in newest_first[HEADERS_KEPT:]:
        old.unlink()


def _unreadable(path: Path, error: OSError | ValueError) -> ModelError:
    if isinstance(error, FileNotFoundError):
        return ModelError(
            f"there is no file {one_line(str(path))}",
            "check the path; `edgetop models` lists what is on this machine",
            reason="missing",
        )
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    what = f"{one_line(str(path))} cannot be read: {one_line(why)}"
    return ModelError(what, "check the path and its permissions", reason="missing")


def _parts_beside(file: Path, count: int) -> list[Path]:
    part = part_of(file.name)
    if part is None or part.count != count:
        raise ModelError(
            f"{one_line(file.name)} is one of {count} parts, and its name does not lead to the others",
            f"name the files as they were: ...-00001-of-{count:05}.gguf and so on",
        )
    files = [file if number == part.number else file.with_name(part.named(number)) for number in range(1, count + 1)]
    lacking = [number for number, other in enumerate(files, 1) if not other.exists()]
    if lacking:
        raise lacks_parts(part, lacking)
    return files


def lacks_parts(part: SplitPart, lacking: Sequence[int]) -> ModelError:
    """The error for a split model, one of whose files is `part`, without those of these numbers."""
    shown = ", ".join(map(str, lacking[:_PARTS_NAMED])) + (" ..." if len(lacking) > _PARTS_NAMED else "")
    what = f"{one_line(part.stem)} lacks part {shown} of {part.count}"
    return ModelError(what, "download it, and put all parts in one folder")


def read_model_header(path: Path) -> tuple[GgufHeader | None, str]:
    """Read the header of a GGUF file; `None` and the reason in one line if that cannot be done."""
    try:
        return _read(path)[0], ""
    except ModelError as error:
        return None, error.__cause__.reason if isinstance(error.__cause__, GgufError) else error.what


_SAMPLE_BYTES = 2**20
_SAMPLES = 16


def content_key(path: Path) -> str:
    """A short digest of a model file: its size, its beginning and samples from all of it. Raises ModelError."""
    import hashlib  # noqa: PLC0415 - few runs need it, and it loads OpenSSL

    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest = hashlib.sha256(str(size).encode())
            for index in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}.", "Check the path.") from None
    return digest.hexdigest()[:12]


DIGESTS_FILE = "model-digests.json"
_DIGESTS_MAX = 500
_PIECE_BYTES = 4 * 2**20
_NAMED_BY_DIGEST = r"(?:sha256-)?([0-9a-f]{64})"


class _Digests(Struct):
    by_file: dict[str, str] = {}
    """SHA-256 by paths, sizes and times of the last change."""


def known_digest(path: Path) -> str:
    """The SHA-256 of a model without reading it: of an earlier time, or of its name in a store; else empty."""
    files = _files_of(path)
    named = re.fullmatch(_NAMED_BY_DIGEST, files[0].name) if len(files) == 1 else None
    if named is not None and "blobs" in files[0].parts:
        return named[1]
    key = _digest_key(files)
    return _digests().by_file.get(key, "") if key else ""


def compute_digest(path: Path, *, goes_on: Callable[[], bool] = lambda: True) -> str:
    """The SHA-256 of a model, kept for the next time; empty where it cannot be read or `goes_on` says no.

    Of a split model it is that of all parts, one behind the other. At idle I/O priority where the system has one, so
    that nothing else waits for it. Not to be called while a model loads or decodes.
    """
    if known := known_digest(path):
        return known
    import hashlib  # noqa: PLC0415 - few runs need it, and it loads OpenSSL

    files = _files_of(path)
    key = _digest_key(files)
    digest = hashlib.sha256()
    if not files:
        return ""
    try:
        with idle_io():
            for each in files:
                with each.open("rb") as file:
                    while data := file.read(_PIECE_BYTES):
                        digest.update(data)
                        if not goes_on():
                            return ""
        if key and key == _digest_key(files):  # nothing has changed meanwhile
            kept = _digests()
            kept.by_file = dict(list(kept.by_file.items())[-_DIGESTS_MAX + 1 :]) | {key: digest.hexdigest()}
            write_atomically(_digests_file(), [msgspec.json.encode(kept)])
    except OSError:
        return ""
    return digest.hexdigest()


@contextmanager
def idle_io() -> Iterator[None]:
    """Let this thread read only when nobody else does."""
    import psutil  # noqa: PLC0415 - slow to import, and few files are read whole

    if not sys.platform.startswith("linux"):
        yield
        return
    thread = psutil.Process(threading.get_native_id())
    try:
        before = thread.ionice()
        thread.ionice(psutil.IOPRIO_CLASS_IDLE)
    except (psutil.Error, OSError):
        yield
        return
    try:
        yield
    finally:
        with suppress(psutil.Error, OSError):
            thread.ionice(before.ioclass, before.value)


def _files_of(path: Path) -> list[Path]:
    """The file of a model, or all parts of a split one, whichever of them is named.

    None where a part lacks: there need not be the 99999 of which a name speaks.
    """
    part, files = part_of(path.name), list[Path]()
    for number in range(1, 2 if part is None else part.count + 1):
        file = path if part is None else path.with_name(part.named(number))
        if not file.exists():
            return []
        files.append(Path(os.path.realpath(file)))
    return files


def _digest_key(files: Sequence[Path]) -> str:
    try:
        states = [file.stat() for file in files]
    except OSError:
        return ""
    return "|".join(map(_state_words, files, states))


def _state_words(file: Path, state: os.stat_result) -> str:
    """What changes with the file."""
    return f"{file}|{state.st_size}|{state.st_mtime_ns}|{state.st_ino}"


def _digests_file() -> Path:
    return user_folder("cache") / DIGESTS_FILE


def _digests() -> _Digests:
    try:
        return msgspec.json.decode(read_small(_digests_file(), 2**24), type=_Digests)
    except (OSError, ValueError, RecursionError):
        return _Digests()


Result = TypeVar("Result")

ASSESSMENT_S = 5.0
"""The longest that an assessment may take; usually it is some milliseconds."""


class _OutOfTimeError(BaseException):
    """Raised in the thread of an assessment; no `except Exception` in it holds it up."""


def in_time(work: Callable[[], Result], limit_s: float = ASSESSMENT_S) -> Result:
    """Read or assess a model of a stranger, for so long. Raises ModelError when it takes longer."""
    thread, lock, over = threading.get_ident(), threading.Lock(), False

    def end() -> None:
        import ctypes  # noqa: PLC0415 - only when time is over

        with lock:
            if not over:
                error = ctypes.py_object(_OutOfTimeError)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        try:
            return work()
        finally:
            with lock:
                over = True
            timer.cancel()
    except _OutOfTimeError:
        what = f"the header asks for more work than is done for one model: its assessment was ended after {limit_s:g} s"
        raise ModelError(what, "it was not made by llama.cpp's own tools; take the model from somewhere else") from None
