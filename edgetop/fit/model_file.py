"""Facts from files on this machine."""

from __future__ import annotations

from pathlib import Path

from edgetop.core.gguf import GgufError
from edgetop.core.model_purpose import purpose_of, refused, require_text
from edgetop.fit.model_facts import ModelFacts, facts_of
from edgetop.io.model_file import read_headers


def read_facts(path: Path) -> ModelFacts:
    """Read the headers of a model and give its facts. No weight is touched.

    `path` is a GGUF file, any part of a split model, or a folder with one model in it. Raises ModelError,
    also for a file that is not for generating text.
    """
    files, headers, sizes_bytes = read_headers(path)
    require_text(path.name, purpose_of(headers[0]))
    try:
        return facts_of(headers, source=str(path), sizes_bytes=sizes_bytes, files=[str(part) for part in files])
    except GgufError as error:
        raise refused(str(files[0]), error) from error
