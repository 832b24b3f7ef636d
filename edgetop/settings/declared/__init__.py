"""The settings, by subject; `edgetop.settings.options` brings them together."""
