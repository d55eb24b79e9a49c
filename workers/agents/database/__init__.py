"""The database of an agent: what it holds, how it is queried, and how a worker reaches it."""
