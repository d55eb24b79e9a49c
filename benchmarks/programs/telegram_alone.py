"""A bot of python-telegram-bot alone, with the same model in the same process: the floor.

Usage: telegram_alone.py URL
"""

import logging
import os
import sys
from typing import Any

from telegram import Update
from telegram.ext import ApplicationBuilder, ContextTypes, MessageHandler

from garrison.workers.services.eliza import answer, load


def main() -> None:
    """Answer each message by a reply."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    script = load("")

    async def on_message(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        message: Any = update.message
        await message.reply_text(answer(script, [message.text]), do_quote=True)

    builder = ApplicationBuilder().token(os.environ["TELEGRAM_BOT_TOKEN"])
    application: Any = builder.base_url(f"{sys.argv[1]}bot").build()
    application.add_handler(MessageHandler(None, on_message))
    application.run_polling()


if __name__ == "__main__":
    main()
