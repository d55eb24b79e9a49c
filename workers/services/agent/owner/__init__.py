"""Tells the agent's owner in the chat what has happened to the host's services."""
