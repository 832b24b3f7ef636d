"""A terminal monitor for language models that run on a small device."""

__version__ = "0.1.0"
