"""Decides which keys may connect over TCP, and whose each one is. Pure.

A key of an incarnation is derived from the supervisor's own secret and the incarnation's token. So
nothing of it is stored, and the next supervisor knows the keys of the workers that it adopts. Keys
are in Z85, as libzmq takes them; in a handshake they are 32 bytes.
"""

import hashlib
from collections.abc import Mapping

import zmq
from zmq.utils import z85

from garrison.ipc.messages import CurveKeys, Token

ENGINE, MEMBER = b"engine", b"member"  # ZAP domains: nodes, and workers on them
KEY_BYTES = 32


def derived_secret(secret: str, token: Token) -> str:
    """Return the secret key of an incarnation.

    Args:
        secret: The supervisor's.
        token: The incarnation's.
    """
    known = z85.decode(secret)
    digest = hashlib.blake2b(token, digest_size=KEY_BYTES, key=known, person=b"garrison worker")
    return z85.encode(digest.digest()).decode()


def public_of(secret: str) -> str:
    """Return the public key of a secret one."""
    return zmq.curve_public(secret.encode()).decode()


class Admission:
    """Which keys are known.

    Args:
        secret: The supervisor's secret key.
        silence: Seconds that workers' connections may be silent.

    Attributes:
        nodes: Public key → node.
    """

    def __init__(self, secret: str, silence: float) -> None:
        self._secret, self._silence = secret, silence
        self._server = public_of(secret)
        self.nodes: Mapping[bytes, str] = {}
        self._members: dict[bytes, Token] = {}
        self._keys: dict[Token, CurveKeys] = {}

    def admit(self, token: Token) -> CurveKeys:
        """Return the keys of an incarnation, which may connect from now on."""
        keys = self._keys.get(token)
        if keys is None:
            own = derived_secret(self._secret, token)
            keys = CurveKeys(self._server, public_of(own), own, self._silence)
            self._keys[token] = keys
            self._members[z85.decode(keys.public)] = token
        return keys

    def forget(self, token: Token) -> None:
        """Admit an incarnation no longer."""
        keys = self._keys.pop(token, None)
        if keys is not None:
            del self._members[z85.decode(keys.public)]

    def holder(self, domain: bytes, mechanism: bytes, key: bytes) -> str:
        """Return who connects with a key; empty: it may not.

        Args:
            domain: Of the socket.
            mechanism: Of the handshake.
            key: The public key.
        """
        if mechanism != b"CURVE":
            return ""
        if domain == ENGINE:
            name = self.nodes.get(key, "")
            return f"{name} {z85.encode(key).decode()}" if name else ""
        return holder_of(self._members[key]) if domain == MEMBER and key in self._members else ""

    def node_of(self, holder: str) -> str:
        """Return the node whose key the holder of a connection has; empty: it is known no more."""
        name, _, key = holder.partition(" ")
        return name if key and self.nodes.get(z85.decode(key)) == name else ""


def holder_of(token: Token) -> str:
    """Return how the holder of an incarnation's key is named."""
    return token.hex()
