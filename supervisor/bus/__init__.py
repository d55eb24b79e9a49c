"""The data plane: sockets, listeners, routing tables and the router."""
