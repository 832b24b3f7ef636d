"""Engines in a server that somebody else runs: llama-server, Ollama, any with the OpenAI chat API."""
