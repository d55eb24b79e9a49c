"""`voice_text`: the spoken text of a voice message, by whichever service transcribes."""

from garrison.ipc.errors import CallError
from garrison.workers.agents.media import Media
from garrison.workers.agents.models import ModelType, ModelUnavailable

from .runtime import Runtime

VOICE_S = 60.0  # for one transcript


async def voice_text(
    runtime: Runtime, media: Media, language: str = "", timeout: float = VOICE_S
) -> str:
    """Return the spoken text of a voice message.

    It is "" where the attachment is no sound, no service offers TRANSCRIPTION, nothing was spoken,
    or none of the providers answered. The last is logged: a message is passed on without its
    transcript rather than not at all.

    Args:
        runtime: The service's.
        media: A sound at an http(s) or `data:` address. Do not pass an address that contains a
            secret: download such a file, and pass `Media.of(data, content_type)`.
        language: As in "en"; "" has the model find it.
        timeout: Seconds.
    """
    is_there = media.url.startswith(("data:", "http://", "https://"))
    is_sound = is_there and media.type.startswith("audio/")
    if not is_sound or not runtime.provider_of(ModelType.TRANSCRIPTION):
        return ""
    try:
        params = {"audio": media.data() or media.url, "content_type": media.type}
        params |= {"language": language} if language else {}
        text = await runtime.use_model(ModelType.TRANSCRIPTION, params, timeout=timeout)
    except (ModelUnavailable, CallError, ValueError) as error:
        runtime.logger.warning("voice.no_text error=%s", error)
        return ""
    return text.strip() if isinstance(text, str) else ""
