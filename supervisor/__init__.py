"""The supervisor: decides and routes. `garrison.supervisor.cli` is its command line."""

__all__: list[str] = []
