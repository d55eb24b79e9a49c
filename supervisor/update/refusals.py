"""Why an environment cannot be updated, and what to do instead. Pure."""

from dataclasses import dataclass

CONTAINER = (
    "this host runs in a container, whose image has its packages: the next container would have "
    "the former ones. Build or pull the new image, and start a container of it with the same volume"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the environment that runs the host."""

    path: str  # of the environment
    is_venv: bool = True
    container: str = ""  # what shows that this is one; empty: none
    in_image: bool = False  # the environment is part of the container's image
    is_first: bool = False  # the supervisor is process 1
    pipx: bool = False
    uv_tool: bool = False
    editable: str = ""  # the checkout that garrison is used from
    has_pip: bool = True
    writable: bool = True
    exchanges: bool = True  # its file system can exchange two paths
    others: tuple[str, ...] = ()  # homes of other hosts that run by it
    user: str = ""  # that the supervisor runs as, where that is another
    runs_by: str = ""  # the environment that the supervisor runs by, where it is another


def refusal(facts: Facts, package: str = "garrison") -> str:
    """Return why an environment cannot be updated; empty if it can."""
    path = facts.path
    checks = [
        (facts.is_first or (facts.container and facts.in_image), CONTAINER),
        (
            facts.user,
            f"the host runs as {facts.user}, who has to be able to put it back: run this as "
            f"{facts.user} (sudo -u {facts.user} …)",
        ),
        (
            facts.runs_by,
            f"the host runs by {facts.runs_by}, and this command by {path}: "
            f"run {facts.runs_by}/bin/garrison update",
        ),
        (
            facts.pipx,
            f"{path} is pipx's: run pipx upgrade {package}, then garrison upgrade",
        ),
        (
            facts.uv_tool,
            f"{path} is uv's: run uv tool upgrade {package}, then garrison upgrade",
        ),
        (
            not facts.is_venv,
            f"{path} is no virtual environment, so there is no other beside it: make one (python3 "
            "-m venv .venv), install garrison in it, and start the host by it",
        ),
        (
            facts.editable,
            f"garrison is used from its checkout {facts.editable} (pip install -e), whose former "
            f"code is not kept: update the checkout, then run garrison upgrade; or install it "
            f"without -e once",
        ),
        (
            not facts.has_pip,
            f"{path} has no pip, which installs what is new: run {path}/bin/python -m ensurepip",
        ),
        (
            not facts.writable,
            f"the folder of {path} cannot be written, and the new version is made in it: run this "
            "as its owner",
        ),
        (
            not facts.exchanges,
            f"the file system of {path} cannot exchange two paths at one moment (renameat2), so a "
            "kill could leave none: move the environment to ext4, xfs or btrfs",
        ),
        (
            facts.others,
            f"another host runs by {path} as well ({', '.join(facts.others)}): give each an "
            "environment of its own, or stop the other one meanwhile",
        ),
    ]
    return next((text for holds, text in checks if holds), "")
