"""Settings: each declared once, resolved from flag, environment, configuration file and default."""
