"""The character in the prompt: recalls its knowledge, and logs what there is no room for.

Durations are seconds.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from garrison.ipc import CallError
from garrison.workers import (
    EmbedParams,
    GenerateTextParams,
    Memory,
    ModelType,
    ModelUnavailable,
    Runtime,
)

from . import prompt
from .character_prompt import is_post
from .config import Config
from .knowledge import is_long, pieces, recall, recall_by_words

log = logging.getLogger(__name__)

EMBED_S = 2.0  # for the embedding of a message
PIECE_S = 30.0  # for the embedding of one piece of knowledge
ADVANCE_S = 60.0  # until the pieces are embedded again after a failure


class Persona:
    """The agent's character, as prompts show it.

    Args:
        runtime: The agent's.
        config: Sampling parameters, and the room for the character.
    """

    def __init__(self, runtime: Runtime, config: Config) -> None:
        self._runtime, self._config = runtime, config
        texts = runtime.character.knowledge_texts
        self._pieces = pieces(texts) if is_long(texts) else []
        self._vectors: list[Sequence[float]] = []  # of the pieces, by the embedding model
        self._embedding: asyncio.Task[None] | None = None
        self._embed_at = 0.0
        self._logged = set[str]()  # sections of which something was left out

    async def params(
        self, conversation: Sequence[Memory], provided: str, answering: bool = True
    ) -> GenerateTextParams:
        """Return the params of a model call about the last message.

        Args:
            conversation: The oldest message first.
            provided: The providers' texts.
            answering: Whether the model answers; a template would lead it astray otherwise.
        """
        runtime, config = self._runtime, self._config
        knowledge = await self._recall(conversation) if self._pieces else None
        params, left_out = prompt.params(
            runtime.character,
            conversation,
            runtime.agent_id,
            provided,
            config.sampling,
            knowledge,
            config.character_length,
            answering,
        )
        self._log_left_out(left_out)
        return params

    def reply(self, memory: Memory, text: str) -> str:
        """Return the answer in a model's output: a template may request a form around it."""
        content = memory.content
        post = is_post(content.channel_type)
        if self._runtime.character.template(post, content.source):
            return prompt.reply_text(text)
        return text

    def _log_left_out(self, left_out: dict[str, int]) -> None:
        for section, lines in left_out.items():
            if section not in self._logged:
                self._logged.add(section)
                log.warning(
                    "character.too_long %d of its %s are left out of prompts, which have room for "
                    "%d characters of it: shorten the character file, or set character_length",
                    *(lines, section, self._config.character_length),
                )

    # --- knowledge --------------------------------------------------------------------------

    async def _recall(self, conversation: Sequence[Memory]) -> list[str]:
        """Return the knowledge that is near to the last message: by an embedding model once that
        has embedded all of it, else by words."""
        text = prompt.message_text(conversation[-1].content) if conversation else ""
        if len(self._vectors) == len(self._pieces):
            wanted = await self._embed(text, EMBED_S)
            if wanted and len(wanted) == len(self._vectors[0]):
                return await asyncio.to_thread(recall, self._pieces, self._vectors, wanted)
            if wanted:  # another model answers now
                self._vectors = []
        self._begin_embedding()
        return await asyncio.to_thread(recall_by_words, self._pieces, text)

    def _begin_embedding(self) -> None:
        """Embed the pieces in the background; no answer waits for that."""
        now = asyncio.get_running_loop().time()
        if (self._embedding is None or self._embedding.done()) and now >= self._embed_at:
            self._embed_at = now + ADVANCE_S
            work = self._embed_pieces()
            self._embedding = self._runtime.spawn(work, "knowledge", essential=False)

    async def _embed_pieces(self) -> None:
        vectors = list[Sequence[float]]()
        for piece in self._pieces:
            found = await self._embed(piece, PIECE_S)
            if not found or (vectors and len(found) != len(vectors[0])):
                return
            vectors.append(found)
        self._vectors = vectors

    async def _embed(self, text: str, timeout: float) -> list[float]:
        """Return a text's vector; empty where no embedding model gives one."""
        params = EmbedParams(text)
        try:
            found: Any = await self._runtime.use_model(
                ModelType.TEXT_EMBEDDING, params, timeout=timeout
            )
        except (ModelUnavailable, CallError) as error:
            log.info("knowledge.not_embedded error=%s", error)
            return []
        is_vector = isinstance(found, list) and all(isinstance(one, float | int) for one in found)
        return found if is_vector else []
