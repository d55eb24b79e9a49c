"""Chats of the console's users with agents: kept on disk, answered once."""
