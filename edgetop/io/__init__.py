"""Files and HTTP, shared by every package above `core`."""
