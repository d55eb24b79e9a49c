"""How much waits for a connection, and for how long a closed one goes on sending."""

PEER_QUEUE = 20_000  # messages to one peer; in practice callers' windows are the bound
LINGER_S = 0.5
