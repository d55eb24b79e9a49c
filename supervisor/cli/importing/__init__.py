"""`garrison import`: other supervisors' files as a config of plain commands."""
