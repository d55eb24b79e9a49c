"""The bundled services. They use only the public contract and import their own libraries."""

__all__: list[str] = []
