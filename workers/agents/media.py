"""`Media`: a file or link attached to a message. Pure."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

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

    @staticmethod
    def of(data: bytes, content_type: str, title: str = "", description: str = "") -> "Media":
        """Return a file whose content travels within its `data:` address."""
        url = f"data:{content_type};base64,{base64.b64encode(data).decode()}"
        return Media(url, title=title, description=description, content_type=content_type)

    def data(self) -> bytes | None:
        """Return the content of a `data:` address; None for any other address.

        Raises:
            ValueError: The address is damaged.
        """
        if not self.url.startswith("data:"):
            return None
        head, comma, data = self.url.partition(",")
        if not comma:
            raise ValueError("a data: address has no comma before its data")
        if "base64" not in head.split(";"):
            return unquote_to_bytes(data)
        try:
            return base64.b64decode(unquote_to_bytes(data), validate=True)
        except binascii.Error as error:
            raise ValueError(f"a data: address has damaged base64: {error}") from error

    @property
    def type(self) -> str:
        """Return its content type in lower case, without parameters; "" if it is not known."""
        stated = self.content_type or self.url.partition(",")[0].removeprefix("data:")
        is_known = bool(self.content_type) or self.url.startswith("data:")
        return stated.partition(";")[0].strip().lower() if is_known else ""
