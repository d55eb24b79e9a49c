"""The keys of `[host]` about traces: the collector's address, and how many are recorded (pure)."""

from urllib.parse import urlsplit

from .values import ConfigValueError, Reader, secret_name, wrong_type

MOST = 2_000  # characters of an address


def collector(value: object) -> str:
    """Read the address of a collector, of OTLP over HTTP, without its path; "" is none."""
    if not isinstance(value, str):
        raise wrong_type('an address in quotes, such as "http://127.0.0.1:4318"', value)
    if not value:
        return value
    try:
        parts = urlsplit(value)
        hostname, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigValueError("expected an address such as http://127.0.0.1:4318") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigValueError(
            "an address has no user and password here: put them into the headers that "
            "`traces_headers` names"
        )
    if parts.scheme not in {"http", "https"} or not hostname or len(value) > MOST:
        raise ConfigValueError(
            f"expected an address such as http://127.0.0.1:4318, got `{value[:80]}`"
        )
    if parts.query or parts.fragment or not value.isprintable() or " " in value:
        raise ConfigValueError(f"an address has no query here, got `{value[:80]}`")
    if parts.path.rstrip("/").endswith("/v1/traces"):
        raise ConfigValueError("write the address without /v1/traces, which is added to it")
    return value


def ratio(value: object) -> float:
    """Read a share, 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type("a number from 0 to 1, such as 0.1", value)
    if not 0 <= value <= 1:  # so written, NaN is refused too
        raise ConfigValueError("expected a number from 0 to 1, such as 0.1 for one of ten")
    return float(value)


def headers_name(value: object) -> str:
    """Read the name of a secret; "" is none."""
    return "" if value == "" else secret_name(value)


TRACE_READERS: dict[str, Reader] = {  # by `Key.kind`
    "collector": collector,
    "ratio": ratio,
    "secret_name": headers_name,
}
