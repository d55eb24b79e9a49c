"""Keys of a connection over TCP, as an assignment carries them."""

import msgspec


class CurveKeys(msgspec.Struct, frozen=True, omit_defaults=True):
    """The keys of one connection over TCP, in Z85. The secret one is never shown."""

    server: str  # the supervisor's public key
    public: str
    secret: str
    silence: float = 60.0  # seconds without any sign of the other side: the connection is broken

    def __repr__(self) -> str:
        """Return the public part alone."""
        return f"CurveKeys(server={self.server!r}, public={self.public!r})"
