"""The key files of nodes."""

from pathlib import Path

import pytest
from zmq.utils import z85

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.state.node_keys import NodeKeys, make_keys, own_key, read_key

ADDRESS = "tcp://10.0.0.1:7700"


def test_each_node_gets_a_key_once(tmp_path: Path) -> None:
    """A file that is there stays; no other user can read it."""
    ((first, is_new),) = make_keys(tmp_path, ["box"], ADDRESS)
    content = first.read_bytes()
    again = make_keys(tmp_path, ["box", "attic"], ADDRESS)

    assert is_new
    assert [new for _, new in again] == [False, True]
    assert first.read_bytes() == content
    key, own = read_key(first), own_key(tmp_path)
    assert (key.name, key.address, key.supervisor) == ("box", ADDRESS, own.public)
    assert {path.stat().st_mode & 0o777 for path in first.parent.iterdir()} == {0o600}
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert key.secret not in repr(key)


@pytest.mark.parametrize("name", ["supervisor", "any", "", "a/b", "../x"])
def test_a_name_that_is_no_nodes_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing is written."""
    with pytest.raises(GarrisonError, match="cannot be the name of a node"):
        make_keys(tmp_path, ["box", name], ADDRESS)
    assert not (tmp_path / "node-keys").exists()


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    """The error says what to do."""
    ((path, _),) = make_keys(tmp_path, ["box"], ADDRESS)
    path.chmod(0o640)
    with pytest.raises(GarrisonError, match=f"chmod 600 {path}"):
        read_key(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "box", "public": "short"}'])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, content: str) -> None:
    """With the command that makes one."""
    path = tmp_path / "box.key"
    path.write_text(content)
    with pytest.raises(GarrisonError, match=r"no key file: make one with garrison node keys"):
        read_key(path)


def test_new_keys_are_found(tmp_path: Path) -> None:
    """Files are read again once they have changed; one that cannot be used hides no other."""
    keys = NodeKeys(tmp_path)
    assert keys.read() is None
    ((box, _),) = make_keys(tmp_path, ["box"], ADDRESS)
    public = z85.decode(read_key(box).public)

    assert keys.read() == {public: "box"}
    assert keys.read() is None
    (box.parent / "attic.key").write_bytes(box.read_bytes())
    (box.parent / "attic.key").chmod(0o600)
    assert keys.read() == {public: "box"}
    assert len(keys.problems) == 1
    assert "is the key of box" in keys.problems[0]
    box.unlink()
    assert keys.read() == {}
