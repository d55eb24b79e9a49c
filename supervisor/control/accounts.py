"""Looks up whose process gives an order, and which teams of operators that user belongs to."""

import contextlib
import grp
import os
import pwd
from collections.abc import Iterable, Mapping

from garrison.ipc.sockets import Peer
from garrison.supervisor.config.operators import OperatorTeam
from garrison.supervisor.processes.users import Account

from .operators import Operator

MEMBERS_SHOWN = 20  # of a team, for whom folders are checked


def operator_of(peer: Peer, teams: Mapping[str, OperatorTeam], own_socket: bool) -> Operator:
    """Return who a connected process belongs to. Accounts are looked up each time.

    Args:
        peer: The kernel's record of it.
        teams: `[host] operators`.
        own_socket: Whether it is connected to the socket of the host's own user.
    """
    own = os.geteuid()
    if peer.uid < 0:
        return Operator(-1, "", trusted=own_socket)
    if peer.uid in {own, 0}:
        return Operator(peer.uid, user_name(peer.uid), trusted=True)
    groups = _groups(peer)
    mine = {
        name: team
        for name, team in teams.items()
        if peer.uid in uids_of(team.users) or groups & gids_of([team.group])
    }
    return Operator(peer.uid, user_name(peer.uid), False, user_name(own), mine)


def peer_of(uid: int) -> Peer:
    """Return a user as a process of theirs would be reported by the kernel."""
    with contextlib.suppress(KeyError, OverflowError):
        return Peer(uid, pwd.getpwuid(uid).pw_gid)
    return Peer(uid)


def user_name(uid: int) -> str:
    """Return a user's name, or its number."""
    with contextlib.suppress(KeyError, OverflowError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def uids_of(users: Iterable[str]) -> set[int]:
    """Return the uids of names and numbers; a name without an account has none."""
    found = set[int]()
    for word in users:
        with contextlib.suppress(KeyError):
            found.add(int(word) if word.isdecimal() else pwd.getpwnam(word).pw_uid)
    return found


def gids_of(groups: Iterable[str]) -> set[int]:
    """Return the gids of names and numbers; a name without a group, or an empty one, has none."""
    found = set[int]()
    for word in filter(None, groups):
        with contextlib.suppress(KeyError):
            found.add(int(word) if word.isdecimal() else grp.getgrnam(word).gr_gid)
    return found


def account_problems(teams: Mapping[str, OperatorTeam]) -> list[tuple[str, str, str]]:
    """Return the users and groups that this machine lacks: team, key, and what is wrong."""
    problems = list[tuple[str, str, str]]()
    for name, team in teams.items():
        if team.group and not gids_of([team.group]):
            text = f"there is no group `{team.group}` on this machine: groupadd {team.group}"
            problems.append((name, "group", text))
        for user in team.users:
            if not uids_of([user]):
                problems.append((name, "users", f"there is no user `{user}` on this machine"))
    return problems


def members(team: OperatorTeam) -> list[Account]:
    """Return the accounts of a team, the first ones of many."""
    users = [*team.users]
    with contextlib.suppress(KeyError):
        if team.group and not team.group.isdecimal():
            users += grp.getgrnam(team.group).gr_mem
    accounts = list[Account]()
    for user in dict.fromkeys(users[:MEMBERS_SHOWN]):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
            groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
            accounts.append(Account(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups)))
    return accounts


def _groups(peer: Peer) -> set[int]:
    """Return the groups of a process: its own one, and those that its user is a member of."""
    with contextlib.suppress(KeyError):
        return {peer.gid, *os.getgrouplist(pwd.getpwuid(peer.uid).pw_name, peer.gid)}
    return {peer.gid}
