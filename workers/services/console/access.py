"""Decides which requests are answered: Host, method, Origin, then session, role, read-only. Pure.

A page of another site can have a browser of this machine send requests here. It can choose neither
`Host` (which names the site it believes to speak to) nor `Origin` nor `Sec-Fetch-Site`; so these
three say whether a request is this console's own.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

METHODS = ("GET", "POST")
LOCAL = frozenset({"localhost"})
HOST = re.compile(
    r"(?P<name>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
)


class Denied(NamedTuple):
    """Why a request is not answered."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a request says of itself.

    Attributes:
        method: In capitals.
        hosts: All values of the header `Host`.
        origins: All values of `Origin`.
        site: `Sec-Fetch-Site`; empty without it.
    """

    method: str
    hosts: tuple[str, ...]
    origins: tuple[str, ...] = ()
    site: str = ""


def denied(seen: Seen, names: Collection[str] = ()) -> Denied | None:
    """Return why a request is none of this console's own; None: it is.

    Args:
        seen: The request.
        names: Names besides those of loopback, by which a proxy addresses the console.
    """
    if len(seen.hosts) != 1 or not is_own_host(seen.hosts[0], names):
        text = "this console is not addressed so: open it by the link of garrison console"
        return Denied(421, f"{text}, or add the name to `names` in its config")
    if seen.method not in METHODS:
        return Denied(405, "this console takes GET and POST alone")
    if len(seen.origins) > 1 or any(not _is_same(one, seen.hosts[0]) for one in seen.origins):
        return Denied(403, "a page of another site has sent this request")
    if seen.method == "POST":
        if not seen.origins:
            return Denied(403, "an action needs the header Origin, which browsers send")
        if seen.site not in {"", "same-origin"}:
            return Denied(403, "a page of another site has sent this request")
    return None


def may_carry(seen: Seen) -> bool:
    """Return whether a GET counts as the session's: not one that another site's page embeds.

    A link from elsewhere, and an address that was typed, count: browsers send no cookie with the
    former, since it is SameSite=Strict.
    """
    return seen.site in {"", "same-origin", "none"}


def is_own_host(host: str, names: Collection[str] = ()) -> bool:
    """Return whether a `Host` is one by which this console is addressed, with any port.

    A name that an attacker has resolve to 127.0.0.1 is none.
    """
    found = HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65_535:
        return False
    name = found["name"].lower()
    if name in LOCAL or name in {one.lower() for one in names}:
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_same(origin: str, host: str) -> bool:
    """Return whether an Origin is the site of a Host; behind a proxy its scheme may be https."""
    scheme, found, rest = origin.lower().partition("://")
    return bool(found) and scheme in {"http", "https"} and rest == host.lower()


def page_denied(user: str, permits: bool, needs: str, acts: bool, readonly: bool) -> Denied | None:
    """Return why a page is not for a session; None: it is.

    Args:
        user: The name of the session's user.
        permits: Whether the user has what the page needs.
        needs: That permission, or "host".
        acts: Whether the page changes something.
        readonly: Whether the console refuses that.
    """
    if acts and readonly:
        return Denied(403, "this console is read-only: its config has readonly = true")
    if not permits:
        whom = "the host's own user and root" if needs == "host" else f"teams that may {needs}"
        return Denied(403, f"{user}: this is for {whom}")
    return None


def bearer(header: str) -> str:
    """Return the token of a header `Authorization: Bearer TOKEN`; empty without one."""
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
