"""The reference of config.toml."""

from pathlib import Path


def reference_toml() -> str:
    """Return the reference of config.toml."""
    return (Path(__file__).resolve().parents[2] / "config.toml").read_text("utf-8")
