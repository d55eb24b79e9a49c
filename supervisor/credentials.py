"""Finds platforms whose credential another service, home or user of this machine has."""

from collections.abc import Iterable, Iterator, Mapping

from garrison.ipc.character import setting_of
from garrison.ipc.errors import StartError
from garrison.ipc.system import credential_lock
from garrison.supervisor.config.characters import character_for
from garrison.supervisor.config.environment import service_environment
from garrison.supervisor.config.spec import HostSpec, ServiceSpec


def credential_problems(
    host: HostSpec,
    services: Iterable[ServiceSpec],
    credentials: Mapping[tuple[str, str], str],
    environ: Mapping[str, str],
) -> Iterator[str]:
    """Yield a sentence for each service that would be refused its credential.

    The home's own services may have theirs: they run.

    Args:
        host: The home.
        services: Its services.
        credentials: The names of their credentials, by plugin and service_type; "": none.
        environ: The supervisor's environment.
    """
    run = host.run.resolve()  # as the kernel shows it
    users: dict[str, str] = {}  # secret → the first service that has it
    for spec in services:
        name = credentials.get((spec.plugin, spec.service_type), "")
        secret = _value(spec, name, environ) if name else ""
        if not secret:
            continue
        first = users.setdefault(secret, spec.name)
        if first != spec.name:
            yield (
                f"{spec.name} would not start beside {first}: both have the same credential "
                f"{name}; give one of them another"
            )
            continue
        holder = credential_lock.holder_of(secret)
        if holder is not None and holder.run != run:
            yield (
                f"{spec.name} would not start: its credential {name} is in use by "
                f"{holder.words()}; stop that one, or give {spec.name} a credential of its own"
            )


def missing_credentials(
    services: Iterable[ServiceSpec],
    credentials: Mapping[tuple[str, str], str],
    environ: Mapping[str, str],
) -> Iterator[str]:
    """Yield a sentence for each service that would start without the credential of its class.

    The arguments are those of `credential_problems`. A secret that is named and not set is
    reported elsewhere: with it the service does not start.
    """
    for spec in services:
        name = credentials.get((spec.plugin, spec.service_type), "")
        named = set(spec.environment.secrets)
        if name and name not in named and not _value(spec, name, environ):
            yield (
                f"{spec.name} would start without its credential {name}: "
                f'add secrets = ["{name}"] under [services.{spec.name}]'
            )


def _value(spec: ServiceSpec, name: str, environ: Mapping[str, str]) -> str:
    """Return a setting as the service would find it; "" if there is none."""
    try:
        found = service_environment(spec, environ)
    except StartError:  # that is reported
        return ""
    character, _ = character_for(spec, found.names)
    own = setting_of(character, name)
    return str(own if own is not None else found.values.get(name) or found.public.get(name, ""))
