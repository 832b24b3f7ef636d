"""A session while it grows: the engine's reports and the sensors' readings on their way into one timeline."""
