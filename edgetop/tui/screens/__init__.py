"""Screens: one module each, on three base classes."""
