"""Finds platforms whose credential another service, home or user of this machine has."""

from collections.abc import Iterable, Iterator, Mapping

from garrison.ipc.character import setting_of
from garrison.ipc.errors import StartError
from garrison.ipc.system import credential_lock
from garrison.supervisor.config.characters import character_for
from garrison.supervisor.config.environment import service_environment
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.spec import ServiceSpec


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
    secrets: Mapping[tuple[str, str], Mapping[str, str]],
    environ: Mapping[str, str],
) -> Iterator[str]:
    """Yield a sentence for each service that would start without a secret that its class states.

    A secret that is named and not set is reported elsewhere: with it the service does not start.
    One with a `base_url` uses a server of the user's own, which may want none.

    Args:
        services: Those of the config.
        credentials: As in `credential_problems`.
        secrets: What the classes state: NAME → where to get one, by plugin and service_type.
        environ: The supervisor's environment.
    """
    for spec in services:
        key = (spec.plugin, spec.service_type)
        stated = secrets.get(key, {})
        credential = credentials.get(key, "")
        own = {} if spec.config.get("base_url") else stated
        for name in dict.fromkeys([*([credential] if credential else ()), *own]):
            if name not in spec.environment.secrets and not _value(spec, name, environ):
                yield (
                    f"{spec.name} would start without its "
                    f"{'credential' if name == credential else 'secret'} {name}: "
                    f'add secrets = ["{name}"] under [services.{spec.name}]'
                    f"{where_to_get(stated, [name])}"
                )


def where_to_get(stated: Mapping[str, str], names: Iterable[str]) -> str:
    """Return where to get secrets, as the end of a sentence; "" where no class states it."""
    return "".join(f"; get {name} at {stated[name]}" for name in names if name in stated)


def _value(spec: ServiceSpec, name: str, environ: Mapping[str, str]) -> str:
    """Return a setting as the service would find it; "" if there is none."""
    try:
        found = service_environment(spec, environ)
    except StartError:  # that is reported
        return ""
    character, _ = character_for(spec, found.names)
    own = setting_of(character, name)
    return str(own if own is not None else found.values.get(name) or found.public.get(name, ""))
