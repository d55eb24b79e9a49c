"""The manifests for Kubernetes fit together, as far as that is known without a cluster."""

from pathlib import Path
from typing import Any

import pytest

from garrison.supervisor.cli.node import node

FILE = Path(__file__).parents[2] / "docs" / "operate" / "kubernetes" / "node.yaml"
GRACES_S = 40  # --grace, and for what cannot move to end in order


@pytest.fixture(name="manifests")
def _manifests() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return {one["kind"]: one for one in yaml.safe_load_all(FILE.read_text())}


def test_one_node_at_a_time(manifests: dict[str, Any]) -> None:
    """The next pod of a node starts when the former has ended, which may take its graces."""
    spec = manifests["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > GRACES_S


def test_what_is_mounted_is_there(manifests: dict[str, Any]) -> None:
    """And each volume is used."""
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    containers = [*pod["initContainers"], *pod["containers"]]
    mounted = {mount["name"] for one in containers for mount in one["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_command_is_garrisons(manifests: dict[str, Any]) -> None:
    """Its options exist."""
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    program, _, _, verb, *rest = container["command"]
    assert (program, verb) == ("garrison", "node")
    known = {name for option in node.params for name in option.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_the_service_has_the_supervisors_ports(manifests: dict[str, Any]) -> None:
    """`listen` is the first of three."""
    ports = [one["port"] for one in manifests["Service"]["spec"]["ports"]]
    assert ports == [7700, 7701, 7702]
