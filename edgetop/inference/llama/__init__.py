"""llama.cpp through its low-level Python bindings; nothing outside this package imports them."""
