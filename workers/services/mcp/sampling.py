"""A server's requests for a model, answered by the agent's models where its config allows that."""

from typing import Any

import mcp_types as types

from garrison.workers import ChatMessage, GenerateTextParams, ModelType, Runtime

TOKENS_MOST = 4096  # of an answer
TEXT_MOST = 64 * 1024  # characters of a request


async def sample(runtime: Runtime, params: Any) -> Any:
    """Return a model's answer to a conversation of texts, as the protocol has it.

    Args:
        runtime: The service's.
        params: The server's `CreateMessageRequestParams`.

    Raises:
        ValueError: It has other contents than texts, or is too long.
        ModelUnavailable: No model answers.
    """
    request = _request(params)
    text = await runtime.use_model(ModelType.TEXT_LARGE, request)
    return types.CreateMessageResult(
        role="assistant",
        content=types.TextContent(type="text", text=str(text)),
        model=runtime.provider_of(ModelType.TEXT_LARGE) or "unknown",
        stop_reason="endTurn",
    )


def _request(params: Any) -> GenerateTextParams:
    messages: list[ChatMessage] = []
    for one in params.messages:
        blocks = one.content if isinstance(one.content, list) else [one.content]
        if any(block.type != "text" for block in blocks):
            raise ValueError("only texts can be given to a model")
        text = "\n".join(block.text for block in blocks)
        messages.append({"role": one.role, "content": text})
    size = len(params.system_prompt or "") + sum(len(one["content"]) for one in messages)
    if size > TEXT_MOST:
        raise ValueError(f"the request has {size:,} characters; {TEXT_MOST:,} at most")
    return GenerateTextParams(
        messages=messages,
        system=params.system_prompt or "",
        max_tokens=max(1, min(params.max_tokens, TOKENS_MOST)),
        temperature=params.temperature,
        stop=list(params.stop_sequences or []),
    )
