"""Fetches a sound that a request names by its address, within limits. Durations are seconds."""

from garrison.ipc import RetryLater
from garrison.workers import ModelError, PermanentFailure

from ..http_support.addresses import Rule
from ..http_support.fetching import Fetcher, FetchError, Limits
from .media_requests import SOUND_MOST, Sound, check_size

PORTS = frozenset({80, 443})
USER_AGENT = "garrison"
SECONDS = 30.0  # for all of one sound
KINDS = ("audio/", "video/", "application/octet-stream", "application/ogg")  # of a sound


class SoundFetch:
    """Fetches sounds. Its library is loaded with the first one.

    Args:
        allow_private: Whether addresses of this machine and its networks are fetched, at any port.
        most: Bytes of a sound.
        seconds: For one sound.
    """

    def __init__(
        self, allow_private: bool = False, most: int = SOUND_MOST, seconds: float = SECONDS
    ) -> None:
        self._rule = Rule(frozenset() if allow_private else PORTS, allow_private)
        self._limits = Limits(most, seconds)
        self._fetcher: Fetcher | None = None

    async def with_data(self, sound: Sound) -> Sound:
        """Return a sound whose data is there.

        Raises:
            ModelError: Its address is not fetched, or is no sound.
        """
        if not sound.url:
            return sound
        try:
            if self._fetcher is None:
                self._fetcher = Fetcher(self._rule, USER_AGENT)
            found = await self._fetcher.get(sound.url, self._limits, _is_sound)
        except RetryLater as error:
            raise ModelError("busy", error.seconds, error.reason) from error
        except (FetchError, PermanentFailure) as error:
            raise ModelError("invalid", text=str(error)) from error
        check_size(len(found.data), self._limits.most)
        kind = sound.content_type or found.content_type
        return sound._replace(data=found.data, url="", content_type=kind)

    async def close(self) -> None:
        """End what is under way."""
        if self._fetcher is not None:
            await self._fetcher.close()


def _is_sound(content_type: str) -> bool:
    return content_type.startswith(KINDS)
