"""A rename is finished, or undone, by the next supervisor, at whichever step this one is killed."""

import errno
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.lifecycle.renames import Renaming
from garrison.supervisor.state import atomic, orders, renames
from garrison.supervisor.state.accepted_store import AcceptedStore
from garrison.supervisor.state.orders import OrderStore, load_orders
from garrison.supervisor.state.renames import CannotRename, RenameStore

STEPS = (
    7  # that write: begun, folder, orders, two logs, done; and one more, at which none is killed
)


class Killed(BaseException):
    """The supervisor is killed here."""


def store(home: Path) -> RenameStore:
    """Return the renames as the next supervisor reads them."""
    host = HostSpec(home=home, run=home / "run", state=home / "state", logs=home / "logs")
    found, _ = load_orders(host.state)
    return RenameStore(host, OrderStore(host.state, found, print), AcceptedStore(host.state, print))


def prepare(home: Path) -> RenameStore:
    """Make a home with what `old` has: data, logs, and an order that keeps it stopped."""
    (home / "logs").mkdir(parents=True)
    (home / "state" / "services" / "old").mkdir(parents=True)
    (home / "state" / "services" / "old" / "data").write_text("a")
    (home / "logs" / "old.log").write_text("now")
    (home / "logs" / "old.log.1").write_text("before")
    one = store(home)
    one._orders.record("old", False, True, 3)
    return one


def whose(home: Path) -> set[str]:
    """Return which NAMEs have something of it, with nothing missing."""
    found = load_orders(home / "state")[0]
    data = {path.parent.name for path in home.glob("state/services/*/data")}
    logs = {path.name.partition(".")[0] for path in home.glob("logs/*.log*")}
    assert len(list(home.glob("logs/*.log*"))) == 2
    return data | logs | set(found.stopped) | set(found.numbers)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("left", ["new", "old"])
@pytest.mark.parametrize("step", range(STEPS))
def test_it_is_whole_whenever_the_supervisor_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, left: str, after: bool
) -> None:
    """The config that the next one has says whether it goes on or back."""
    one, steps = prepare(tmp_path), itertools.count()

    def killing(does: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **options: Any) -> Any:
            is_last = next(steps) == step
            if is_last and not after:
                raise Killed
            result = does(*args, **options)
            if is_last:
                raise Killed
            return result

        return do

    with monkeypatch.context() as patch:
        patch.setattr(renames, "write_atomic", killing(atomic.write_atomic))
        patch.setattr(orders, "save_orders", killing(orders.save_orders))
        patch.setattr(Path, "rename", killing(Path.rename))
        try:
            one.carry_out(Renaming("old", "new"))
            killed = False
        except Killed:
            killed = True

    begun = bool(store(tmp_path)._stored.begun)
    done = store(tmp_path).finish({left})
    assert len(done) == begun
    if begun:
        assert whose(tmp_path) == {left}
    else:
        assert len(whose(tmp_path)) == 1
    assert killed or whose(tmp_path) == {"new"}
    assert store(tmp_path).finish({left}) == []
    assert store(tmp_path).former("new") == (("old",) if whose(tmp_path) == {"new"} else ())


def test_what_cannot_be_moved_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has another NAME then, and the error says why."""
    one = prepare(tmp_path)

    def busy(*_: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", busy)
        patch.setattr(renames, "write_atomic", lambda *_, **__: None)
        with pytest.raises(CannotRename, match="old has left cannot be moved to new: Device or"):
            one.carry_out(Renaming("old", "new"))
    assert whose(tmp_path) == {"old"}
    assert store(tmp_path).former("new") == ()


def test_files_of_both_are_kept(tmp_path: Path) -> None:
    """A data folder with files is never replaced; logs of the new NAME stay beside the others."""
    one = prepare(tmp_path)
    (tmp_path / "state" / "services" / "new").mkdir()
    (tmp_path / "logs" / "new.log").write_text("other")
    one.carry_out(Renaming("old", "new"))
    assert (tmp_path / "logs" / "old.log").read_text() == "now"
    (tmp_path / "state" / "services" / "old").mkdir()
    (tmp_path / "state" / "services" / "old" / "data").touch()
    with pytest.raises(CannotRename, match="both have data folders with files"):
        one.carry_out(Renaming("old", "new"))
    assert (tmp_path / "state" / "services" / "new" / "data").read_text() == "a"
