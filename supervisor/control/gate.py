"""Checks who may give an order before it is begun, and records who gave it."""

import os
import time
from typing import Any

import msgspec

from garrison.ipc import socket_paths
from garrison.ipc.messages import Order, Token, should_log
from garrison.ipc.sockets import Peer
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.lifecycle.services import ServiceTable
from garrison.supervisor.logs.events import EventLog

from .accounts import account_problems, gids_of, operator_of, peer_of, uids_of
from .commands.base import WHY_MOST, Refusal
from .operators import UNRECORDED, NotAllowed, Operator, may, team_names
from .order_rate import BURST, OrderRate

NAMES_SHOWN = 20  # of an order, in its event
IDENTIFIED = frozenset({"console"})  # commands that act for their sender, as the kernel has it
REFUSALS_MOST = 1000  # users whose refusals are counted


class OrderGate:
    """Passes the orders of the host's own user, and of operators as far as they may.

    Args:
        host: Has the teams.
        services: Has the NAMEs.
        log: Where orders are recorded that may change something, and refused ones.
    """

    def __init__(self, host: HostSpec, services: ServiceTable, log: EventLog) -> None:
        self._teams, self._services, self._log = host.operators, services, log
        self._refused: dict[int, int] = {}  # uid → how often
        self._rate = OrderRate(time.monotonic)

    def admit(self, token: Token, order: Order, peer: Peer) -> Order:
        """Return an order as it is to be carried out.

        Raises:
            Refusal: It is not for whose process has sent it, or on whose behalf, or they have
                given too many.
        """
        own_socket = not socket_paths.is_operator_token(token)
        operator = operator_of(peer, self._teams, own_socket)
        data: dict[str, Any] = {"verb": order.verb, "names": _shown(order)}
        is_passed_on = order.behalf >= 0 and operator.trusted
        if is_passed_on:  # from here on, as if that user had sent it
            peer, data["via"] = peer_of(order.behalf), self._via(token)
            operator = operator_of(peer, self._teams, False)
        data |= {"uid": peer.uid, "user": operator.user}
        try:
            if order.behalf >= 0 and not is_passed_on:
                raise NotAllowed(f"{operator.user} gives no orders on behalf of others")
            admitted = may(operator, order, self._services.names())
            self._check_rate(operator, order)
        except NotAllowed as error:
            refusal = Refusal(error.code, str(error))
            count = self._refused[peer.uid] = self._refused.get(peer.uid, 0) + 1
            if should_log(count) and len(self._refused) <= REFUSALS_MOST:
                self._log.record("order.refused", **data, reason=str(refusal), count=count)
            raise refusal from None
        if order.verb not in UNRECORDED and token and peer.uid >= 0:
            extra = {"team": team_names(operator), "person": admitted.person, "why": admitted.why}
            self._log.record(
                "order.given", **data, **{k: v[:WHY_MOST] for k, v in extra.items() if v}
            )
        if order.verb in IDENTIFIED:
            uid = peer.uid if peer.uid >= 0 else os.geteuid()
            options = {**admitted.options, "uid": uid}
            admitted = msgspec.structs.replace(admitted, options=options)
        return admitted

    def _check_rate(self, operator: Operator, order: Order) -> None:
        """Raise NotAllowed if an operator has given too many: they would push out other events."""
        if operator.trusted or order.verb in UNRECORDED:
            return
        if (wait := self._rate.take(operator.uid)) > 0:
            raise NotAllowed(
                f"{operator.user} has given {BURST} orders in a short time: try again in "
                f"{max(1, round(wait))} s",
                "too_many_orders",
            )

    def _via(self, token: Token) -> str:
        """Return the service that passes an order on: its plugin and NAME."""
        service = self._services.by_token.get(token)
        return "" if service is None else f"{service.spec.plugin} {service.name}"


def _shown(order: Order) -> str:
    more = f" and {len(order.names) - NAMES_SHOWN} more" if len(order.names) > NAMES_SHOWN else ""
    return ", ".join(name[:64] for name in order.names[:NAMES_SHOWN]) + more


def open_for_operators(host: HostSpec, endpoints: Endpoints, log: EventLog) -> None:
    """Create the operators' socket, if the config names any; a failure does not stop the host."""
    teams = host.operators
    if not teams:
        return
    for name, _, problem in account_problems(teams):
        log.record("operators.unknown", team=name, problem=problem)
    uids = {uid for team in teams.values() for uid in uids_of(team.users)}
    gids = gids_of(team.group for team in teams.values())
    try:
        endpoints.open_operators(uids - {0, os.geteuid()}, gids)
    except OSError as error:
        log.record("operators.no_socket", problem=str(error))
