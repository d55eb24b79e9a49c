"""Backups of a host: what is in one, copying it as of one moment, the archive, restoring it."""
