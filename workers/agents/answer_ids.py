"""Ids of answers: the same whenever an answer to the same message is repeated. Pure."""

import uuid

NAMESPACE = uuid.UUID("6ab6a3f2-5f0e-4d8b-9a7e-0c7a5d3f1e42")


def answer_id(source: str, room: str, message_id: str, mark: str, n: int) -> str:
    """Return the id of one response to a message.

    Args:
        source: NAME of the service that received the message.
        room: The message's room_id.
        message_id: The message's id.
        mark: Distinguishes the answers to a message that is processed with given responses.
        n: The response's number, from 0.
    """
    return str(uuid.uuid5(NAMESPACE, "\n".join((source, room, message_id, mark, str(n)))))
