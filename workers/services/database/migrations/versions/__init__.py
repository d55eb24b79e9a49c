"""One module for each migration. They are read by their files' names."""
