"""Metrics of a host in OpenMetrics text; `garrison metrics` shows them."""
