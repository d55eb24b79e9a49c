"""The supervisor's part of `garrison person forget`: the tombstone, and the recorded values."""

from garrison.ipc.messages import Order, Token

from .base import Command, CommandContext, Refusal, command, option, until_recorded

SOURCES_MOST = 1000
ID_MOST = 1024  # characters


@command()
def forget(context: CommandContext, peer: Token, order: Order) -> Command:
    """Record that a person was forgotten, and clear the recorded values of all crash reports.

    Whom a value concerns cannot be told: it is the beginning of an encoded argument.
    """
    sources = option(order, "sources", tuple[str, ...], ())
    person = option(order, "person", str, "")
    if not person or not sources or len(sources) > SOURCES_MOST:
        raise Refusal("usage", f"forget: a person, and 1 to {SOURCES_MOST} sources")
    if max(map(len, (person, *sources))) > ID_MOST:
        raise Refusal("usage", f"forget: an id has at most {ID_MOST} characters")
    try:
        context.persons.tombstones.add(sources, person)
    except OSError as error:
        text = f"the tombstone cannot be written, so nothing was erased: {error}"
        raise Refusal("failed", text) from error
    yield from until_recorded(context)
    cleared = context.persons.crashes.clear_values()
    context.log.record("person.forgotten", reports=cleared)
    return {"reports": cleared}
