"""Settings by the names that people give them."""

from __future__ import annotations

import difflib

from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.option import Option


def setting_named(name: str) -> Option[object]:
    """The setting of a name: `ctx`, `engine.ctx`, `--ctx` and EDGETOP_CTX mean the same. Raises UsageError."""
    asked = name.rpartition(".")[2].lstrip("-").replace("-", "_").lower().removeprefix("edgetop_")
    for option in options.OPTIONS:
        if asked == option.name or name in option.flags:
            return option
    known = [option.name for option in options.OPTIONS]
    close = difflib.get_close_matches(asked, known, n=1)
    mend = f"did you mean {close[0]}?" if close else "`edgetop config` lists them"
    raise UsageError(f"there is no setting {name!r}", mend)


def is_of_file(option: Option[object]) -> bool:
    """Whether the configuration file can hold it."""
    return not option.flag_only and option is not options.CONFIG
