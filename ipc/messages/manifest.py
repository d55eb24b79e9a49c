"""What a service offers, and its entry in the directory."""

from enum import Enum
from typing import Any

import msgspec

from garrison.ipc.marks import Identifier, Text

from .types import Token


class State(Enum):
    """The state of a service."""

    REGISTERED = "registered"  # known, not started yet
    QUEUED = "queued"  # waits for its dependencies and for a start slot
    INITIALIZING = "initializing"  # its process imports the plugin and runs Plugin.init
    STARTING = "starting"  # Service.start runs
    RUNNING = "running"
    STOPPING = "stopping"  # drains, or is being ended
    STOPPED = "stopped"
    BACKOFF = "backoff"  # waits for its next start
    FAILED = "failed"  # not restarted any more, apart from a probe now and then


class MethodInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One method that other services can call."""

    name: Identifier
    stream: bool = False
    signature: Text = ""
    summary: Text = ""  # first line of its docstring
    idempotent: bool = False  # running it twice does no harm: a lost call is sent again


class ActionInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action of a plugin."""

    name: Identifier
    description: Text = ""
    similes: tuple[Identifier, ...] = ()
    examples: tuple[Any, ...] = ()
    priority: int = 0
    idempotent: bool = False  # its handler may run twice
    parameters: dict[Identifier, Any] = {}  # JSON Schema of its options; empty: it takes none
    for_model: bool = False  # a model alone chooses it, and is shown its result
    validates: bool = False  # its author wrote a `validate`


class ProviderInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One provider of context."""

    name: Identifier
    description: Text = ""
    position: int = 0
    dynamic: bool = False
    private: bool = False


class EvaluatorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One evaluator."""

    name: Identifier
    description: Text = ""
    similes: tuple[Identifier, ...] = ()
    examples: tuple[Any, ...] = ()
    always_run: bool = False


class ModelInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model that a worker offers."""

    model_type: Identifier
    provider: Identifier = ""
    priority: int = 0
    stream: bool = False
    counts: bool = False  # its worker returns tokens too, where that is wanted
    tools: bool = False  # it takes tools


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one service offers. Of a plugin's services, one alone lists the plugin's components."""

    service_type: Identifier
    description: Text = ""
    methods: tuple[MethodInfo, ...] = ()
    left_out: dict[Identifier, Text] = {}  # method → why it cannot be called from outside
    actions: tuple[ActionInfo, ...] = ()
    providers: tuple[ProviderInfo, ...] = ()
    evaluators: tuple[EvaluatorInfo, ...] = ()
    models: tuple[ModelInfo, ...] = ()
    sends_for: tuple[Identifier, ...] = ()  # sources with a send handler here
    mail_window: int = 1  # posted messages that may be in delivery to it at the same time
    notes: tuple[Text, ...] = ()  # warnings for its author
    frames: bool = False  # it accepts calls with frames; an older release leaves this out
    attributes: dict[Identifier, Text] = {}  # public names that are no methods → what each one is
    platform: bool = False  # a `Platform`: its send_message takes `id` and `expect`
    credential: Identifier = ""  # NAME of the secret that is its identity on the platform
    gate: bool = False  # it has its plugin's gate, which may refuse messages
    task_workers: tuple[Identifier, ...] = ()  # names of the tasks that it runs
    secrets: dict[Identifier, Text] = {}  # NAMEs that its class states → where to get each
    serves_paused: bool = False  # it takes calls while it is paused, and holds back its own work

    def why_not(self, method: str) -> str:
        """Return why a name cannot be called, as the end of a sentence."""
        if method in self.left_out:
            return f"cannot be called: {self.left_out[method]}"
        if method in self.attributes:
            return f"is {self.attributes[method]}"
        if method.startswith("_"):
            return "a name that begins with _ is private to the service"
        from difflib import get_close_matches  # seldom needed, and large

        known = [one.name for one in self.methods]
        close = get_close_matches(method, known, n=1)
        return "no such method" + (f"; did you mean {close[0]!r}?" if close else "")


class Paused(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service that is paused: it runs, and takes nothing."""

    words: Text = ""  # by whom, since when, and how to end it
    refuses: bool = False  # calls to it fail; otherwise they wait
    token: Token = b""  # of its incarnation, by which its own calls are known


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service in the directory. Entries are in config order, by `position`."""

    name: str
    plugin: str
    position: int
    manifest: Manifest
    state: State
    wanted: bool
    generation: int = 0
    token: Token = b""  # the address for calls; empty while it accepts none
    events: tuple[str, ...] = ()  # its subscriptions
    agent: str = ""  # NAME of its agent; empty: it is shared by all agents
    reason: Text = ""  # why it does not run
    former: tuple[str, ...] = ()  # the NAMEs that it had before; what was posted to them is its own
    paused: Paused | None = None
