"""The keys about nodes: `[engine]`, and where a service runs."""

from pathlib import Path

import pytest

from garrison.ipc.errors import ConfigError
from garrison.supervisor.config.accepted import Accepted, AcceptedConfig, accept_whole
from garrison.supervisor.config.engine_spec import EngineKind, EngineSpec, NodeSpec, Placement
from garrison.supervisor.config.load import Config, load

E = "[engine]\nkind = 'nodes'\nlisten = '10.0.0.1:7700'\n"


def loaded(directory: Path, text: str, accepted: Accepted | None = None) -> Config:
    path = directory / "config.toml"
    path.write_text(text)
    return load(path, Path("/h"), {}, accepted)


def placement(directory: Path, section: str) -> Placement:
    config = loaded(directory, f"[plugins.chat]\n[services.chat]\n{section}")
    (spec,) = config.services({"chat": ["chat"]})
    return spec.placement


def test_without_the_table_everything_runs_here(tmp_path: Path) -> None:
    """The engine is local, and a service is on the supervisor's machine."""
    engine = loaded(tmp_path, "").host.engine
    assert (engine.kind, engine.has_nodes, engine.lease) == (EngineKind.LOCAL, False, 10.0)
    assert placement(tmp_path, "").pinned == "supervisor"


def test_with_ray_nodes_are_waited_for_longer(tmp_path: Path) -> None:
    """Ray has to start them; `join_wait` changes that."""
    ray = E.replace("nodes", "ray")
    found = [loaded(tmp_path, text).host.engine.join_wait for text in (E, ray, ray + "join_wait=1")]
    assert found == [5.0, 60.0, 1.0]


def test_what_ray_brings(tmp_path: Path) -> None:
    """Paths begin at the config's folder; what a node could not keep is refused."""
    ray = E.replace("nodes", "ray") + "runtime_env = "
    text = ray + "{ pip = ['a==1'], py_modules = ['w/a.whl', 'https://h/b.zip', '/c'] }"
    assert loaded(tmp_path, text).host.engine.runtime_env == {
        "pip": ("a==1",),
        "py_modules": (f"{tmp_path}/w/a.whl", "https://h/b.zip", "/c"),
    }
    for wrong, problem in [
        (ray + "{ env_vars = ['A=1'] }", "expected pip or py_modules"),
        (ray + "{ pip = [1] }", "expected a text in quotes"),
    ]:
        with pytest.raises(ConfigError, match=problem):
            loaded(tmp_path, wrong)


def test_all_keys(tmp_path: Path) -> None:
    """Sizes of memory are bytes, other resources numbers."""
    text = (
        E + "lease = 4\n[engine.nodes.gpu-box]\nresources = { GPU = 2, memory = '64GiB', x = 0 }\n"
        "[host]\norphan_grace = 3\n"
    )
    assert loaded(tmp_path, text).host.engine == EngineSpec(
        kind=EngineKind.NODES,
        listen="10.0.0.1:7700",
        lease=4.0,
        nodes={"gpu-box": NodeSpec(resources={"GPU": 2.0, "memory": 64.0 * 2**30, "x": 0.0})},
    )


@pytest.mark.parametrize(
    ("section", "pinned"),
    [
        ("node = 'gpu-box'", "gpu-box"),
        ("node = 'gpu-box'\nresources = { GPU = 1 }", "gpu-box"),
        ("node = 'any'", ""),
        ("resources = { GPU = 0.5 }", ""),
        ("node = 'supervisor'\nresources = { GPU = 1 }", "supervisor"),
        ("movable = true", "supervisor"),
    ],
)
def test_where_a_service_may_run(tmp_path: Path, section: str, pinned: str) -> None:
    """A node is a pin; "any" and resources without a node are none."""
    assert placement(tmp_path, section).pinned == pinned


def test_a_longer_orphan_grace_makes_the_lease_longer(tmp_path: Path) -> None:
    """A lease that is not given is never shorter than `orphan_grace`."""
    assert loaded(tmp_path, E + "[host]\norphan_grace = 40").host.engine.lease == 40.0


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("[engine]\nkind = 'nodes'", 2, "engine.kind", "needs `listen ="),
        ("[engine]\nkind = 'rays'", 2, "engine.kind", "did you mean"),
        ("[engine]\nlisten = 'here'", 2, "engine.listen", "address of this machine and a port"),
        ("[engine]\nlisten = 'box:7700'", 2, "engine.listen", "address of this machine"),
        ("[engine]\nlisten = '10.0.0.1:65534'", 2, "engine.listen", "at most port 65533"),
        (E + "lease = 9", 4, "engine.lease", "10 s at least"),
        (E + "lease = 0", 4, "engine.lease", "above 0"),
        (E + "[engine.nodes.any]", 4, "engine.nodes.any", "cannot be a node's NAME"),
        (E + "[engine.nodes.a]\ncpu = 1", 5, "engine.nodes.a.cpu", "no such key"),
        (
            "[engine]\nkind = 'ray'\nlisten = '10.0.0.1:1'\n[engine.nodes.a]",
            4,
            "engine.nodes",
            "the cluster says",
        ),
        ("[engine]\naddress = 'ray://x'", 2, "engine.address", "auto"),
        ("[engine]\nnode_key = 'node.key'", 2, "engine.node_key", "begins with / or ~/"),
        ("[services.a]\nnode = 'a b'", 2, "services.a.node", "cannot be a node's NAME"),
        ("[services.a]\nresources = { gpu = 1 }", 2, "services.a.resources.gpu", "called `GPU`"),
        ("[services.a]\nresources = { GPU = 0 }", 2, "services.a.resources.GPU", "more than 0"),
        ("[services.a]\nresources = { GPU = -1 }", 2, "services.a.resources.GPU", "not negative"),
        ("[services.a]\nresources = { GPU = nan }", 2, "services.a.resources.GPU", "negative"),
        ("[services.a]\nresources = { GPU = '1' }", 2, "services.a.resources.GPU", "such as 1"),
        (
            "[services.a]\nresources = { memory = '5%' }",
            2,
            "services.a.resources.memory",
            "2 GiB",
        ),
        ("[services.a]\nresources = { 'a b' = 1 }", 2, 'services.a.resources."a b"', "letters"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, line: int, key: str, says: str) -> None:
    """An error has the line and the key, and says what was expected."""
    with pytest.raises(ConfigError, match=says) as caught:
        loaded(tmp_path, text)
    assert (caught.value.line, caught.value.key) == (line, key)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:7700", "0.0.0.0:65533"])
def test_addresses_to_listen_at(tmp_path: Path, listen: str) -> None:
    """Addresses of both families are accepted, and port 0."""
    assert loaded(tmp_path, f"[engine]\nlisten = '{listen}'").host.engine.listen == listen


def test_a_wrong_table_leaves_the_accepted_one(tmp_path: Path) -> None:
    """Where `[engine]` does not fit, the host goes on with the one that it accepted; so does a host
    whose accepted config was written before there was the table."""
    config = loaded(tmp_path, E)
    stored = accept_whole(config.origins, [])
    wrong = loaded(tmp_path, "[engine]\nkind = 'x'\n[host]\nlog_files = 7", Accepted.parse(stored))
    assert (wrong.host.engine, wrong.host.log_files) == (config.host.engine, 7)
    assert [one.unit for one in wrong.rejected] == [("engine",)]

    again = accept_whole(wrong.origins, [], stored)
    once_more = loaded(tmp_path, "[engine]\nkind = 'x'", Accepted.parse(again))
    assert once_more.host.engine == config.host.engine

    old = accept_whole(loaded(tmp_path, "").origins, [])
    old = AcceptedConfig(documents=old.documents, host=old.host, defaults=old.host, agent=old.host)
    fresh = loaded(tmp_path, "[engine]\nkind = 'x'", Accepted.parse(old))
    assert fresh.host.engine == EngineSpec()
