"""The conversation: transcript, prompt and what turns them into requests."""
