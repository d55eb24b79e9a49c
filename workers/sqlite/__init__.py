"""What every service with a SQLite file of its own needs: a writer thread, modes, damage."""
