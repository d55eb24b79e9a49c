"""The text of an exception that any code may have written. Pure.

Its `__str__` may raise or recurse, its class may hide its name: what reports an error must survive
the error.
"""

UNPRINTABLE = "<its text cannot be printed>"
TEXT_MOST = 1 << 20  # characters; the rest of a longer text is cut

_name_of = type.__dict__["__name__"].__get__


def type_name(value: object) -> str:
    """Return the name of a value's class, whatever its metaclass says."""
    name: str = _name_of(type(value))
    return name


def error_text(error: BaseException) -> str:
    """Return an exception's text, whatever its `__str__` does."""
    try:
        text = str.__getitem__(str(error), slice(TEXT_MOST))  # no subclass of str
    except BaseException:  # noqa: BLE001 (an author's `__str__` may do anything)
        return UNPRINTABLE
    return text


def described(error: BaseException) -> str:
    """Return an exception's type and text: `ValueError: no such room`."""
    name, text = type_name(error), error_text(error)
    return f"{name}: {text}" if text else name
