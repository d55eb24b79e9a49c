"""The client of a provider's library, and what happens without a key."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from garrison.ipc import ModelError
from garrison.workers import GenerateTextParams, ModelType, Runtime

from .bounds import bounded


class ServerAddress(Protocol):
    """The config keys that a client needs."""

    base_url: str
    timeout: float


class ServerConfig(ServerAddress, Protocol):
    """Those of a provider of texts."""

    model: str
    small_model: str


class Vendor(NamedTuple):
    """Who runs a provider's own server."""

    key_name: str  # NAME of the secret
    url: str
    keys_url: str  # the page where a key is to be had


OPENAI_VENDOR = Vendor(
    "OPENAI_API_KEY", "https://api.openai.com/v1", "https://platform.openai.com/api-keys"
)


class ServerClient:
    """The library's client, if there is a key; `status` shows that there is none.

    Args:
        runtime: The provider's.
        config: Its config.
        create: The library's class.
        create_http: The library's class of HTTP clients.
        vendor: Who runs the provider's own server.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: ServerAddress,
        create: Callable[..., Any],
        create_http: Callable[..., Any],
        vendor: Vendor,
    ) -> None:
        self._client: Any = None
        key_name = vendor.key_name
        page = "" if config.base_url else f" (a key is to be had at {vendor.keys_url})"
        self.advice = f"Correct {key_name}{page}, then run garrison restart {runtime.name}"
        self.no_key = (
            f"there is no {key_name}: set it, and name it in the `secrets` of this service{page}"
        )
        key = runtime.get_setting(key_name)
        if not key and config.base_url:
            key = "none"  # servers of one's own require no key; the library requires one
        if not key:
            runtime.warn("key", self.no_key)
            return
        self._client = create(
            api_key=key,
            base_url=config.base_url or vendor.url,
            timeout=config.timeout,
            max_retries=0,  # the caller knows other providers
            http_client=bounded(create_http, config.timeout),
        )

    def get(self) -> Any:
        """Return the library's client.

        Raises:
            ModelError: There is no key.
        """
        if self._client is None:
            raise ModelError("auth", text=self.no_key)
        return self._client

    @property
    def has_key(self) -> bool:
        """Return whether there is a key, or none is needed."""
        return self._client is not None

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.close()


def chosen_model(config: ServerConfig, params: GenerateTextParams) -> str:
    """Return the model that a request names, or the config's for its type."""
    small = params.model_type in {ModelType.TEXT_SMALL, ModelType.OBJECT_SMALL}
    return params.model or (config.small_model if small else "") or config.model


def check_url(url: str) -> None:
    """Check a `base_url`.

    Raises:
        ValueError: It is none; the text does not contain it, as it may have a password.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address in brackets that is none
        is_url = False
    if url and not is_url:
        raise ValueError("base_url is no address: write it as http://HOST:PORT/v1 or https://HOST")


def check_stream(stream: Any) -> None:
    """Raise ModelError if a server sent a page or one object in place of a stream."""
    kind = stream.response.headers.get("content-type", "")
    if kind.startswith(("text/html", "application/json")):
        raise ModelError("invalid", text=f"no stream came back, but {kind}: check `base_url`")
