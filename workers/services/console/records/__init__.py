"""Recorded lines and events: read, searched, followed, and put into words."""
