"""Which variables of the supervisor's environment every service is given (pure)."""

# Programs need these to find themselves, their user, their language and their certificates. Left
# out on purpose: HTTP_PROXY and the like, which often hold a password (`pass_env` passes them on);
# TERM, because a worker's output is a file; LD_PRELOAD, PYTHONHOME, PYTHONSTARTUP and
# PYTHONINSPECT, which concern one program alone.
ALLOWED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("VIRTUAL_ENV", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONPYCACHEPREFIX", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONWARNINGS"),
        *("PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "LD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
ALLOWED_PREFIXES = ("LC_", "XDG_")


def is_passed_to_all(name: str) -> bool:
    """Return True if every service is given a variable."""
    return name in ALLOWED or name.startswith(ALLOWED_PREFIXES)
