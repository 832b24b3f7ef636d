"""What edgetop's exit codes mean, for the manual."""

from __future__ import annotations

from typing import Final

EXIT_CODES: Final[tuple[tuple[str, str], ...]] = (
    ("0", "done"),
    ("1", "failed: one line what, one line how to mend it"),
    ("2", "wrong usage"),
    ("3", "the model cannot be loaded"),
    ("4", "`check`: it does not fit"),
    ("5", "`check`: it fits, but is slower than `--min-speed`"),
    ("6", "`compare --fail-if`: a limit was crossed"),
    ("130", "interrupted; what was measured is saved"),
)
