"""The agent's memories, tasks and cached values, in the file `memory.db`."""
