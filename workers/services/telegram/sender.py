"""Sends a message by Telegram's API, each of its calls once."""

import contextlib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.workers import NotSent, Outgoing

from .config import Config
from .files import File
from .outgoing import BAD_MARKUP, Call, Target, as_outcome, calls_of, is_unfetched, target_of

if TYPE_CHECKING:
    import telegram

BEGUN_MOST = 256  # messages of several calls of which some were made
MOVED_MOST = 256  # groups that have another id now
UPLOAD_S = 50.0  # for a file; below `deliver_timeout`


class Sender:
    """The sends of one bot.

    Args:
        bot: The library's.
        library: The module `telegram`.
        config: The service's.
    """

    def __init__(self, bot: "telegram.Bot", library: Any, config: Config) -> None:
        self._bot, self._library, self._config = bot, library, config
        # A message of several calls that is put off is continued, not begun again
        self._begun: OrderedDict[str, list[str]] = OrderedDict()
        self._moved: OrderedDict[int | str, int] = OrderedDict()

    async def send(self, m: Outgoing) -> str:
        """Send a message; return the id of its last call's message.

        Raises:
            NotSent: Telegram refused it.
            RetryLater: It was surely not sent.
            TelegramError: It may have been sent.
        """
        target, most = target_of(m.channel), self._config.attachment_bytes
        calls = calls_of(m, most)
        done = self._begun.get(m.id, [])
        try:
            while len(done) < len(calls):
                try:
                    done.append(await self._call(calls[len(done)], target))
                except self._library.error.BadRequest as error:
                    if done or not is_unfetched(error):
                        raise
                    links = calls_of(m, most, as_links=True)
                    if links == calls:
                        raise
                    calls = links
        except self._library.error.TelegramError as error:
            if done:
                self._begun[m.id] = done
                if len(self._begun) > BEGUN_MOST:
                    self._begun.popitem(last=False)
            meant = as_outcome(error, self._library.error)
            if meant is error:
                raise
            raise meant from error
        self._begun.pop(m.id, None)
        if not done:
            raise NotSent("the message has neither a text nor a file")
        return done[-1]

    async def _call(self, call: Call, target: Target) -> str:
        """Make a call; where the group has become a supergroup, at its new id."""
        chat = self._moved.get(target.chat, target.chat)
        try:
            return await self._with_markup(call, Target(chat, target.topic))
        except self._library.error.ChatMigrated as error:
            self._moved[target.chat] = error.new_chat_id
            if len(self._moved) > MOVED_MOST:
                self._moved.popitem(last=False)
            return await self._with_markup(call, Target(error.new_chat_id, target.topic))

    async def _with_markup(self, call: Call, target: Target) -> str:
        """Make a call; as plain text where Telegram refuses the markup."""
        mode = self._config.parse_mode or None
        try:
            return await self._make(call, target, mode)
        except self._library.error.BadRequest as error:
            if mode is None or BAD_MARKUP not in str(error).lower():
                raise
        return await self._make(call, target, None)

    async def _make(self, call: Call, target: Target, mode: str | None) -> str:
        library, bot = self._library, self._bot
        check_no_paths(call.files)
        about: dict[str, Any] = {"chat_id": target.chat, "message_thread_id": target.topic}
        if call.reply_to is not None:
            about["reply_parameters"] = library.ReplyParameters(
                call.reply_to, allow_sending_without_reply=True
            )
        if call.buttons:
            about["reply_markup"] = library.InlineKeyboardMarkup(
                [
                    [library.InlineKeyboardButton(label, callback_data=data) for label, data in row]
                    for row in call.buttons
                ]
            )
        if not call.files:
            if not self._config.link_previews:
                about["link_preview_options"] = library.LinkPreviewOptions(is_disabled=True)
            return _id(await bot.send_message(text=call.text, parse_mode=mode, **about))
        about |= {"read_timeout": UPLOAD_S, "write_timeout": UPLOAD_S}
        if len(call.files) > 1:
            album = [self._input(one) for one in call.files]
            sent = await bot.send_media_group(
                media=album, caption=call.text or None, parse_mode=mode, **about
            )
            return _id(sent[0])
        (file,) = call.files
        about |= {file.kind: file.source, "caption": call.text or None, "parse_mode": mode}
        if isinstance(file.source, bytes):
            about["filename"] = file.name
        return _id(await getattr(bot, f"send_{file.kind}")(**about))

    def _input(self, file: File) -> Any:
        """Return a file of an album."""
        kind = self._library.InputMediaPhoto
        if file.kind == "video":
            kind = self._library.InputMediaVideo
        if isinstance(file.source, bytes):
            return kind(file.source, filename=file.name)
        return kind(file.source)


def check_no_paths(files: list[File]) -> None:
    """Refuse an id or address that names a file of this machine: the library would upload that.

    Raises:
        NotSent: One does.
    """
    for one in files:
        with contextlib.suppress(OSError, ValueError):  # no path at all
            if isinstance(one.source, str) and Path(one.source).exists():
                raise NotSent(f"an attachment names a file of this machine: {one.source[:60]!r}")


def _id(message: Any) -> str:
    return str(message.message_id)
