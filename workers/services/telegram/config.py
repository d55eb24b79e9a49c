"""Config keys of the telegram service. Durations are seconds, sizes bytes."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from garrison.workers import Platform

UPLOAD_MOST = 50 * 1024 * 1024  # what Telegram takes from a bot
FETCH_MOST = 20 * 1024 * 1024  # what Telegram gives to one
Listen = tuple[str, int]


class Config(Platform.Config):
    """`[services.telegram.config]`."""

    mode: Literal["polling", "webhook"] = "polling"
    poll_timeout: Annotated[int, msgspec.Meta(ge=1, le=50)] = 30  # for which a poll waits
    webhook_url: str = ""  # https address at which Telegram reaches `listen`
    listen: str = "127.0.0.1:8443"  # HOST:PORT of the webhook's server
    webhook_secret: bool = True  # false: for a server at base_url that sends none
    parse_mode: Literal["", "HTML", "Markdown", "MarkdownV2"] = ""  # of answers; empty: plain
    link_previews: bool = True
    channel_posts: bool = False  # posts of channels are messages too
    # a file up to this size travels within its message; a larger one is fetched by its id
    fetch_bytes: Annotated[int, msgspec.Meta(ge=0, le=FETCH_MOST)] = 1024 * 1024
    attachment_bytes: Annotated[int, msgspec.Meta(ge=0)] = UPLOAD_MOST  # of a file that is sent
    transcription: bool = True  # a voice message becomes text, where a model can do it

    def __post_init__(self) -> None:
        listen_of(self.listen)
        if self.mode == "webhook":
            check_webhook_url(self.webhook_url, is_telegram=not self.base_url)
        if not (self.webhook_secret or self.base_url):
            raise ValueError(
                "webhook_secret = false is for a server at base_url: Telegram sends the secret, "
                "and without it anybody could write messages in anybody's name"
            )


def listen_of(text: str) -> Listen:
    """Return the host and the port of HOST:PORT.

    Raises:
        ValueError: It is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise ValueError(f"listen is HOST:PORT, such as 127.0.0.1:8443, not {text!r:.60}")
    return host.strip("[]"), int(port)


def check_webhook_url(url: str, is_telegram: bool = True) -> None:
    """Check the address of a webhook.

    Args:
        url: The address.
        is_telegram: Telegram's own server uses it; one of one's own takes http, too.

    Raises:
        ValueError: It would be refused.
    """
    parts, schemes = urlsplit(url), {"https"} if is_telegram else {"http", "https"}
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(
            'mode = "webhook" needs webhook_url, the https address at which Telegram reaches this '
            f"service, not {url!r:.60}"
        )
