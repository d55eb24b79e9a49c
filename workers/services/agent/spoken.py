"""Gives a voice message its text, where a service transcribes. What has a text is left as it is."""

from garrison.workers import Memory, Runtime, voice_text

SOUNDS_MOST = 3  # of one message
SPOKEN = "spoken"  # key in a message's metadata: its text is a transcript


async def add_spoken_text(runtime: Runtime, memory: Memory) -> None:
    """Set the text of a message that has none to what its attachments say.

    Args:
        runtime: The agent's.
        memory: The message; a transcript is marked in its metadata.
    """
    content = memory.content
    if content.text.strip() or not content.attachments:
        return
    texts = [await voice_text(runtime, media) for media in content.attachments[:SOUNDS_MOST]]
    if text := "\n".join(filter(None, texts)):
        content.text, memory.metadata[SPOKEN] = text, True
