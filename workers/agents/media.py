"""`Media`: a file or link attached to a message. Pure."""

import msgspec


class Media(msgspec.Struct):
    """A file or link attached to a message."""

    url: str
    id: str = ""
    title: str = ""
    source: str = ""
    description: str = ""
    text: str = ""
    content_type: str = ""
