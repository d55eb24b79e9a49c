"""Worker processes: the engine interface, the local engine, its launcher, limits and users."""
