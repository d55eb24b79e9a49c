"""The configuration: every key, reading, checking and resolving it."""
