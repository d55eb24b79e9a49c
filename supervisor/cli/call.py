"""The verb that calls a method."""

import asyncio
from typing import Any

import click
import msgspec

from garrison.ipc import Client, OrderFailed, ServiceProxy, connect, with_timeout
from garrison.ipc.proxy import remote_method

from .arguments import parse_arguments
from .completion import complete_methods, complete_names
from .errors import DONE, no_such_service
from .output import Invocation, encode, options


@click.command(
    epilog="Examples: garrison call hello greet Ada; garrison call hello greet name=Ada; "
    "garrison call hello count '{\"until\": 5}'"
)
@click.argument("name", metavar="NAME", shell_complete=complete_names)
@click.argument("method", metavar="METHOD", shell_complete=complete_methods)
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT…]")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Deadline of the call, in seconds; for a stream, of each of its values.",
)
@options
def call(
    invocation: Invocation, name: str, method: str, arguments: tuple[str, ...], timeout_s: float
) -> int:
    """Call a service's method and print what it returns.

    Each ARGUMENT is a value, or name=VALUE for a named one. A VALUE is JSON (3, true, '"3"',
    '[1, 2]') or else text. A JSON array or object that stands alone holds all arguments. Values
    that begin with a dash follow a `--`.
    """
    args, kwargs = parse_arguments(arguments, invocation.command(f"call {name} {method}"))
    invocation.shows_tracebacks = True  # the method's author needs it

    async def make_call() -> None:
        async with connect(invocation.home) as client:
            proxy = with_timeout(find_service(client, name), timeout_s)
            try:
                bound = remote_method(proxy, method)
            except AttributeError as error:
                raise OrderFailed("InvalidCall", str(error)) from None
            result = bound(*args, **kwargs)
            if hasattr(result, "__aiter__"):
                async for value in result:
                    _print(invocation, value)
            else:
                _print(invocation, await result)

    asyncio.run(make_call())
    return DONE


def find_service(client: Client, name: str) -> ServiceProxy:
    """Return a service. Raises OrderFailed if none has that NAME or type."""
    proxy = client.get_service(name)
    if proxy is None:
        raise no_such_service(name, [entry.name for entry in client.directory])
    return proxy


def _print(invocation: Invocation, value: Any) -> None:
    invocation.answer(value)
    if not invocation.json:
        text = value if isinstance(value, str) else msgspec.json.format(encode(value)).decode()
        click.echo(text)
