"""Every setting there is: `options.CTX` and all others, and `OPTIONS` with all of them in order.

They are declared by subject in `edgetop.settings.declared`; who needs one imports it from here.
"""

from __future__ import annotations

from typing import Final

from edgetop.settings.declared.device import *  # noqa: F403 - all that a module declares is meant
from edgetop.settings.declared.engine import *  # noqa: F403
from edgetop.settings.declared.fit import *  # noqa: F403
from edgetop.settings.declared.general import *  # noqa: F403
from edgetop.settings.declared.model import *  # noqa: F403
from edgetop.settings.declared.recording import *  # noqa: F403
from edgetop.settings.declared.sampling import *  # noqa: F403
from edgetop.settings.declared.screen import *  # noqa: F403
from edgetop.settings.declared.server import *  # noqa: F403
from edgetop.settings.option import SECTIONS, Option

OPTIONS: Final[tuple[Option[object], ...]] = tuple(
    sorted(
        (value for value in list(globals().values()) if isinstance(value, Option)),
        key=lambda option: SECTIONS.index(option.section),
    )
)
"""All of them, in the order `--help` shows them."""
