"""The verb that makes a call."""

import asyncio
from typing import Any

import click
import msgspec

from garrison.ipc import Client, OrderFailed, ServiceProxy, connect, with_timeout

from .output import DONE, SETTINGS, answer, encode, no_such_service, options


@click.command()
@click.argument("name")
@click.argument("method")
@click.argument("arguments", required=False, metavar="[JSON]")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="The call's deadline; a stream's, for each of its values.",
)
@options
def call(name: str, method: str, arguments: str | None, timeout_s: float) -> int:
    """Call a service's method, with a JSON array (positional) or object (keywords)."""
    args, kwargs = _parsed(arguments)
    SETTINGS.remote_tracebacks = True  # to the author of the method it says what to do next

    async def made() -> None:
        async with connect(SETTINGS.home) as client:
            proxy = with_timeout(service_of(client, name), timeout_s)
            try:
                bound = getattr(proxy, method)
            except AttributeError as error:
                raise OrderFailed("InvalidCall", str(error)) from None
            result = bound(*args, **kwargs)
            if hasattr(result, "__aiter__"):
                async for value in result:
                    _print(value)
            else:
                _print(await result)

    asyncio.run(made())
    return DONE


def _parsed(arguments: str | None) -> tuple[list[Any], dict[str, Any]]:
    if arguments is None:
        return [], {}
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"the arguments are no JSON: {error}") from error
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        return [], value
    shown = encode([value]).decode()
    raise click.UsageError(f"arguments are a JSON array or object: write '{shown}'")


def service_of(client: Client, name: str) -> ServiceProxy:
    """Return a service. Raises OrderFailed where there is none of that NAME or type."""
    proxy = client.get_service(name)
    if proxy is None:
        raise no_such_service(name, [entry.name for entry in client.directory])
    return proxy


def _print(value: Any) -> None:
    answer(value)
    if not SETTINGS.json:
        text = value if isinstance(value, str) else msgspec.json.format(encode(value)).decode()
        click.echo(text)
