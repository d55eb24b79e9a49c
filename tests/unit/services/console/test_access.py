"""Which requests a console answers, by table."""

import pytest

from garrison.workers.services.console.access import (
    Seen,
    bearer,
    denied,
    is_own_host,
    may_carry,
    page_denied,
)

HOST = "127.0.0.1:8420"
OWN = (f"http://{HOST}",)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8420", True),
        ("127.0.0.1", True),
        ("127.8.9.1:1", True),
        ("localhost:9000", True),
        ("LocalHost", True),
        ("[::1]:8420", True),
        ("bots.example:443", True),  # a name of the config
        ("", False),
        ("localhost.", False),
        ("localhost.evil.example", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1.nip.io:8420", False),
        ("evil.example:8420", False),
        ("192.168.1.2", False),
        ("0.0.0.0:8420", False),
        ("[::ffff:192.168.1.2]", False),
        ("::1", False),
        ("localhost:99999", False),
        ("localhost:8420@evil.example", False),
        ("localhost/evil.example", False),
        ("localhost evil.example", False),
        ("local\x00host", False),
        ("2130706433", False),  # 127.0.0.1 as a number: browsers write it out
    ],
)
def test_a_console_has_the_names_of_loopback(host: str, is_own: bool) -> None:
    """And those of its config; no name that anyone can have resolve to this machine."""
    assert is_own_host(host, ["Bots.example"]) == is_own
    refused = denied(Seen("GET", (host,)), ["bots.example"])
    assert (refused is None) == is_own
    assert refused is None or refused.status == 421


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (Seen("GET", (HOST,)), 0),
        (Seen("GET", (HOST,), OWN, "same-origin"), 0),
        (Seen("POST", (HOST,), OWN), 0),
        (Seen("POST", (HOST,), OWN, "same-origin"), 0),
        (Seen("POST", (HOST,), (f"https://{HOST}",)), 0),  # by a proxy that has a certificate
        (Seen("GET", ()), 421),
        (Seen("GET", (HOST, "evil.example")), 421),
        (Seen("GET", (HOST, HOST)), 421),
        (Seen("HEAD", (HOST,)), 405),
        (Seen("PUT", (HOST,), OWN), 405),
        (Seen("DELETE", (HOST,), OWN), 405),
        (Seen("OPTIONS", (HOST,), ("http://evil.example",)), 405),
        (Seen("CONNECT", (HOST,)), 405),
        (Seen("post", (HOST,), OWN), 405),
        (Seen("POST", (HOST,)), 403),
        (Seen("POST", (HOST,), ("null",)), 403),
        (Seen("POST", (HOST,), ("",)), 403),
        (Seen("POST", (HOST,), ("http://evil.example",)), 403),
        (Seen("POST", (HOST,), ("http://127.0.0.1:1",)), 403),  # another server of this machine
        (Seen("POST", (HOST,), ("http://localhost:8420",)), 403),
        (Seen("POST", (HOST,), (f"http://{HOST}.evil.example",)), 403),
        (Seen("POST", (HOST,), (f"http://evil.example@{HOST}",)), 403),
        (Seen("POST", (HOST,), (f"ftp://{HOST}",)), 403),
        (Seen("POST", (HOST,), (*OWN, "http://evil.example")), 403),
        (Seen("POST", (HOST,), OWN, "cross-site"), 403),
        (Seen("POST", (HOST,), OWN, "same-site"), 403),
        (Seen("GET", (HOST,), ("http://evil.example",)), 403),
    ],
)
def test_requests_of_other_sites_are_refused(seen: Seen, status: int) -> None:
    """What a browser says of where a request comes from, no page can choose."""
    refused = denied(seen)

    assert (refused.status if refused else 0) == status


@pytest.mark.parametrize(
    ("site", "carries"),
    [
        ("", True),
        ("none", True),
        ("same-origin", True),
        ("same-site", False),
        ("cross-site", False),
    ],
)
def test_a_get_of_another_site_is_nobody_s(site: str, carries: bool) -> None:
    """Not even where a browser sends the cookie with it: ports of one machine are one site."""
    assert may_carry(Seen("GET", (HOST,), (), site)) == carries


@pytest.mark.parametrize(
    ("permits", "needs", "acts", "readonly", "text"),
    [
        (True, "host", True, False, ""),
        (True, "status", False, True, ""),
        (False, "host", False, False, "mia: this is for the host's own user and root"),
        (False, "restart", True, False, "mia: this is for teams that may restart"),
        (True, "host", True, True, "this console is read-only"),
        (False, "stop", True, True, "this console is read-only"),
    ],
)
def test_a_page_is_for_those_who_may(
    permits: bool, needs: str, acts: bool, readonly: bool, text: str
) -> None:
    """A read-only console refuses every action, of every user."""
    refused = page_denied("mia", permits, needs, acts, readonly)

    assert (refused is None) == (text == "")
    assert refused is None or (refused.status, refused.text[: len(text)]) == (403, text)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", ""),
        ("", ""),
        ("Bearer", ""),
        ("abc", ""),
    ],
)
def test_a_bearer_token_is_read(header: str, token: str) -> None:
    """Other kinds of credentials are none."""
    assert bearer(header) == token
