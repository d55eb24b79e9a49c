"""A client's directory and calls agree, whether it gets a change or the whole directory."""

import asyncio
from typing import Any

import msgspec
import pytest

from garrison.ipc.client import Client
from garrison.ipc.errors import InvalidCall, ServiceUnavailable
from garrison.ipc.mail import check_postable
from garrison.ipc.messages import (
    Changed,
    Delisted,
    Entry,
    Listed,
    Manifest,
    MethodInfo,
    State,
    Welcome,
)
from garrison.ipc.proxy import remote_method, with_timeout


def entry(name: str, state: State = State.RUNNING, *methods: str) -> Entry:
    """Return a service with some methods, `m` where none is named."""
    infos = tuple(MethodInfo(method) for method in methods or ("m",))
    token = b"g-" + name.encode() if state is State.RUNNING else b""
    return Entry(name, "p", 0, Manifest(name, "", infos), state, True, 1, token)


def welcome(*entries: Entry, boot: str = "boot") -> Welcome:
    """Return a whole directory."""
    return Welcome(1, boot, 2, entries)


def called(client: Client, name: str) -> asyncio.Future[Any]:
    """Call a service without its proxy."""
    future: asyncio.Future[Any] = client.loop.create_future()
    client.call(name, "m", (), {}, None, msgspec.msgpack.decode, future)
    return future


@pytest.fixture
async def client() -> Client:
    """Return a client without sockets, with two services in its directory."""
    made = Client(b"g-me")
    made.session.handle(welcome(entry("a"), entry("b", State.STARTING)))
    return made


async def test_a_delisted_service_is_not_configured(client: Client) -> None:
    """Its calls are unavailable at once."""
    client.session.handle(Delisted("b"))

    with pytest.raises(ServiceUnavailable, match="not configured"):
        await called(client, "b")


@pytest.mark.parametrize("boot", ["boot", "another"])
async def test_a_service_that_is_not_in_a_new_directory_is_not_configured(
    client: Client, boot: str
) -> None:
    """A client that missed a change gets the whole directory, as from a new supervisor."""
    waiting = called(client, "b")

    client.session.handle(welcome(entry("a"), boot=boot))

    for future in (waiting, called(client, "b")):
        assert future.done()
        with pytest.raises(ServiceUnavailable, match="not configured"):
            await future


@pytest.mark.parametrize("whole", [False, True])
async def test_a_load_promise_is_done_when_the_service_runs(client: Client, whole: bool) -> None:
    """After a change, and after a whole directory."""
    promise = asyncio.ensure_future(client.get_service_load_promise("b", timeout=5.0))
    await asyncio.sleep(0)
    assert client.session.waiters

    if whole:
        client.session.handle(welcome(entry("a"), entry("b")))
    else:
        client.session.handle(Changed("b", State.RUNNING, True, 1, b"g-b"))
    for _ in range(10):
        await asyncio.sleep(0)

    done = promise.done()
    promise.cancel()
    assert done


@pytest.mark.parametrize("whole", [False, True])
async def test_a_proxy_has_the_methods_that_its_service_has_now(
    client: Client, whole: bool
) -> None:
    """A method that was removed is an AttributeError, even if it was used before."""
    proxy = client.get_service("a")
    assert proxy is not None
    assert callable(proxy.m)

    altered = entry("a", State.RUNNING, "other")
    client.session.handle(welcome(altered, entry("b")) if whole else Listed(altered))

    with pytest.raises(AttributeError, match="no such method"):
        _ = proxy.m
    assert callable(proxy.other)


async def test_a_client_of_an_agent_finds_its_own_services(client: Client) -> None:
    """With every method of the family; it does not find another agent's."""
    kinds = {"ada.chat": "chat", "ada.x": "x", "max.chat": "chat", "max.y": "y"}
    client.session.handle(
        welcome(
            entry("chat"),
            *(
                msgspec.structs.replace(
                    entry(name), manifest=Manifest(kind), agent=name[:3], events=("greeted",)
                )
                for name, kind in kinds.items()
            ),
        )
    )
    client.agent = "ada"

    assert repr(client.get_service("chat")) == repr(client.get_service("ada.chat"))
    chats = client.get_services_by_type("chat")
    assert [repr(one) for one in chats] == [
        "<service ada.chat: running>",
        "<service chat: running>",
    ]
    assert client.get_registered_service_types() == list(client.get_all_services())
    assert set(client.get_all_services()) == {"chat", "x"}
    assert [client.has_service(name) for name in ("x", "y", "max.y")] == [True, False, True]
    assert repr(await client.get_service_load_promise("x")) == repr(client.get_service("ada.x"))
    with pytest.raises(ServiceUnavailable, match="not configured"):
        await client.get_service_load_promise("y")


async def test_a_name_that_is_no_method_is_explained(client: Client) -> None:
    """Left out, an attribute, private, or misspelt; and none is an attribute of the proxy."""
    manifest = Manifest(
        "a",
        methods=(MethodInfo("greet"),),
        left_out={"cached": "functools.cache hides it"},
        attributes={"size": "a property", "count": "an attribute (int)"},
    )
    described = msgspec.structs.replace(entry("a"), manifest=manifest)
    client.session.handle(Listed(described))
    proxy = client.get_service("a")
    assert proxy is not None

    assert repr(remote_method(proxy, "greet")) == "<method a.greet>"
    for name, why in {
        "cached": "a.cached: cannot be called: functools.cache hides it",
        "size": "a.size: is a property",
        "count": r"a.count: is an attribute \(int\)",
        "__class__": "begins with _ is private",
        "_client": "begins with _ is private",
        "service_type": "no such method",
        "__call__": "begins with _ is private",
        "great": "did you mean 'greet'",
    }.items():
        with pytest.raises(AttributeError, match=why):
            remote_method(proxy, name)
        with pytest.raises(InvalidCall):
            check_postable(described, name)


async def test_a_proxy_s_attributes_cannot_be_set(client: Client) -> None:
    """The value would stay in this process without a word; methods are not replaced either."""
    proxy = client.get_service("a")
    assert proxy is not None
    for name in ("limit", "m", "_timeout", "service_type"):
        with pytest.raises(AttributeError, match=f"a.{name} cannot be set: a is in another"):
            setattr(proxy, name, 9)
        with pytest.raises(AttributeError, match="cannot be deleted"):
            delattr(proxy, name)
    assert callable(proxy.m)
    assert callable(with_timeout(proxy, 3.0).m)
