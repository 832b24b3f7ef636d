"""A terminal monitor for language models that run on a small device, and its API: docs/api.md."""

__version__ = "0.1.0"

__all__ = (
    "EdgetopError",
    "EnergyMeter",
    "Measurement",
    "SavedSession",
    "__version__",
    "examples",
    "load_session",
    "sessions",
)


def __getattr__(name: str) -> object:
    """What the API has, once it is asked for: to import edgetop itself costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'edgetop' has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - the same

    return getattr(importlib.import_module("edgetop.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
