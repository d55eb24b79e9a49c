"""The control plane: the server, requests of the command line, and the directory's publisher."""
