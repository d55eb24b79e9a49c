"""A bot of discord.py alone, with the same model in the same process: the floor of a platform.

Usage: discord_alone.py URL
"""

import os
import sys

import discord
import discord.gateway
import discord.http
import yarl

from garrison.workers.services.eliza import answer, load


def main() -> None:
    """Answer each message by a reply."""
    url = yarl.URL(sys.argv[1])
    discord.http.Route.BASE = f"{url}api/v10"
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = url.with_scheme("ws") / "gateway" / ""
    intents = discord.Intents.default()
    intents.message_content = True
    client, script = discord.Client(intents=intents), load("")

    @client.event
    async def on_message(message: discord.Message) -> None:
        if message.author != client.user:
            await message.reply(answer(script, [message.content]), mention_author=False)

    client.run(os.environ["DISCORD_TOKEN"], log_handler=None)


if __name__ == "__main__":
    main()
