"""Fetches files from Telegram, within a limit of bytes, and has voice messages transcribed.

The address of a file contains the bot's token: it does not leave this module.
"""

import asyncio
import logging
from typing import Any

from garrison.workers import Media, ModelType, NotSent, Runtime, voice_text

from .config import FETCH_MOST, Config
from .connection import Connection
from .files import FileRef, media_of

log = logging.getLogger(__name__)

FETCH_S = 30.0  # for one file
FETCHES_MOST = 4  # at the same time


class Fetcher:
    """The files of one bot.

    Args:
        runtime: The service's.
        config: Its config.
        connection: The bot's.
        http: The module `httpx`.
    """

    def __init__(self, runtime: Runtime, config: Config, connection: Connection, http: Any) -> None:
        self._runtime, self._config, self._connection = runtime, config, connection
        self._http, self._slots = http, asyncio.Semaphore(FETCHES_MOST)

    async def take(self, file: FileRef) -> tuple[Media, str]:
        """Return a file of a message, and what is spoken in it.

        A small file is there with its data, a larger one by its id. The text is "" where it is no
        voice message, or none can be had: the message goes on without it.
        """
        is_spoken = file.kind == "voice" and self._config.transcription
        is_spoken = is_spoken and bool(self._runtime.provider_of(ModelType.TRANSCRIPTION))
        small = self._config.fetch_bytes
        data, most = None, FETCH_MOST if is_spoken else small
        if 0 < file.size <= most:
            try:
                data = await self.data(file.id, most)
            except NotSent as error:
                log.warning("telegram.file_not_fetched kind=%s error=%s", file.kind, error)
        text = ""
        if is_spoken and data is not None:
            text = await voice_text(self._runtime, Media.of(data, file.content_type))
        return media_of(file, data if data is not None and len(data) <= small else None), text

    async def data(self, file: str, most: int) -> bytes:
        """Return the content of a file.

        Raises:
            NotSent: Telegram does not have it, or it is larger.
        """
        try:
            async with self._slots, asyncio.timeout(FETCH_S):
                about = await self._connection.client.get_file(file)
                return await self._read(self._address(about.file_path or ""), most)
        except (self._connection.errors.TelegramError, self._http.HTTPError, TimeoutError) as error:
            # The text of the error may have the address
            raise NotSent(
                f"a file cannot be fetched from Telegram: {type(error).__name__}"
            ) from None

    def _address(self, path: str) -> str:
        root = self._connection.file_root
        return path if path.startswith(f"{root}/") else f"{root}/{path.lstrip('/')}"

    async def _read(self, url: str, most: int) -> bytes:
        data = bytearray()
        async with self._connection.files.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise NotSent(f"a file cannot be fetched from Telegram: {answer.status_code}")
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > most:
                    raise NotSent(f"a file at Telegram has more than {most} bytes")
        return bytes(data)
