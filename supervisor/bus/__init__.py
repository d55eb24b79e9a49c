"""The data plane: ROUTER sockets, their listeners, the routing table and the router."""
