"""Crash reports: composing, storing and reading them."""
