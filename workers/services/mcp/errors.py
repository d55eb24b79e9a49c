"""What callers of the mcp service catch, and what the library's errors mean. Sizes and codes as of
JSON-RPC."""

from garrison.workers import DeclaredError


class McpUnavailable(DeclaredError):
    """A server is not connected: nothing was sent to it."""

    server: str = ""
    retry_after: float | None = None


class McpFailed(DeclaredError):
    """A server refused a request, or gave no answer. `is_known` is False if it may have done it."""

    server: str = ""
    code: int = 0  # of JSON-RPC; 0: garrison's own
    is_known: bool = True


def in_one_line(error: BaseException) -> str:
    """Return what an error says: of groups, what their first one does."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 (its text is a library's or an author's)
        text = ""
    if isinstance(error, DeclaredError):
        return error.reason
    kind = type(error)
    own = kind.__module__.partition(".")[0] == "mcp" and text
    return text[:300] if own else f"{kind.__name__}: {text[:300]}"
