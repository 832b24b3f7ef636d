"""LM Studio."""

from __future__ import annotations
