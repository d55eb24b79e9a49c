"""What outlives a supervisor: the home, the snapshot, adoption and handover."""
