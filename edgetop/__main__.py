"""`python -m edgetop`."""

from __future__ import annotations

from edgetop.cli import main

raise SystemExit(main())
