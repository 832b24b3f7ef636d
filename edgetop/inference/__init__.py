"""Where tokens come from: the worker process, its protocol and the engines behind it."""
