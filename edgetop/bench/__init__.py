"""Repeatable measurement: plans, runs, quality, results."""
