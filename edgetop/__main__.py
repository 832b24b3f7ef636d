"""`python -m edgetop`."""

from __future__ import annotations

import os
import sys

# Python puts the working folder first, where a stranger's file of some module's name may lie.
try:
    if sys.path and sys.path[0] in {"", os.getcwd()}:  # noqa: PTH109 - pathlib is not imported yet
        del sys.path[0]
except OSError:  # it is gone
    sys.path[:] = filter(None, sys.path)

from edgetop.cli import main

raise SystemExit(main())
