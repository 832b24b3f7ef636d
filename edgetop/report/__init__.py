"""Reports of sessions that open in a browser."""
