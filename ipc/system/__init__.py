"""Operating system helpers that both sides use; nothing here is about messages."""
