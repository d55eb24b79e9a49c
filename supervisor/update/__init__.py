"""Updates that come back: another version beside the running one, and the way back to it."""
