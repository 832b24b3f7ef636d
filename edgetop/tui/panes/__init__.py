"""Panes: one class and one file each."""
