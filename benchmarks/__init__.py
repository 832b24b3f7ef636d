"""Measurements of edgetop itself, run by hand; none of it is shipped.

Each module is a program: `python -m benchmarks.NAME`. All of them work with what `make test` installs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NoReturn

from tests.support.requirements import NotInstalledError

_missing = [name for name in ("gguf", "hypothesis", "pytest", "xllamacpp") if find_spec(name) is None]
if _missing:
    raise SystemExit(f"{', '.join(_missing)} missing: run `make test` once, or pip install -e '.[test]'")


def run_benchmark(main: Callable[[], int | None]) -> NoReturn:
    """Run a benchmark as a program; where it misses something, one line says what to install."""
    try:
        sys.exit(main())
    except NotInstalledError as missing:
        sys.exit(str(missing))
