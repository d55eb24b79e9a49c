"""Processes that a service starts, and that end with what they were started for."""
