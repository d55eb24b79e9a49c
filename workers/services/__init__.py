"""The bundled services, written with the public contract alone; each imports its library itself."""

__all__: list[str] = []
