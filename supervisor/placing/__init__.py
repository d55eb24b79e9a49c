"""Where services run, on a host with several machines."""
