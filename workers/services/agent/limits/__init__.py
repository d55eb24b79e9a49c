"""Which messages are answered at all: rates, blocked ids, age, and the gates of plugins."""
