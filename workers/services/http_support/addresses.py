"""Which addresses are public: a page of anyone's may name any address. Pure."""

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

# Beside what `ipaddress` says itself, whose tables differ between releases of Python.
REFUSED: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "::/96",  # the unspecified one, loopback, and IPv4 in an old form
        "::ffff:0:0:0/96",  # IPv4 for a translator
        *("64:ff9b::/96", "64:ff9b:1::/48"),  # a gateway's IPv4: it may be a private one
        *("100::/64", "2001::/23", "2001:db8::/32"),
        "2002::/16",  # 6to4: an IPv4 in it
        *("3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)


class Rule(NamedTuple):
    """Where connections may go."""

    ports: frozenset[int]  # none: any port
    allow_private: bool


def is_public(host: str) -> bool:
    """Return whether an IP address is one of the public internet.

    Args:
        host: An address as the resolver has it, perhaps with a zone: "fe80::1%eth0".
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in REFUSED if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast


def refusal(host: str, port: int, rule: Rule) -> str:
    """Return why a connection is refused, as the end of a sentence; "" if it may be made."""
    if rule.ports and port not in rule.ports:
        return f"port {port} is not allowed"
    if not rule.allow_private and not is_public(host):
        return f"{host} is not an address of the public internet"
    return ""
