"""Frozen types and pure functions that every other room stands on; nothing here does I/O."""
