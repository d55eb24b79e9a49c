"""The author's API: `Service`, `Plugin`, `Runtime`, and the components of an agent."""

from garrison.ipc import (
    Attribution,
    Busy,
    DeadLetter,
    DeclaredError,
    ModelError,
    NotSent,
    PermanentFailure,
    RetryLater,
    state,
    with_timeout,
)
from garrison.ipc.character import Character, MessageExample, Style
from garrison.workers.agents.answer_ids import answer_id
from garrison.workers.agents.components import (
    Action,
    Evaluator,
    EventType,
    Provider,
    ProviderResult,
    Refusal,
    State,
)
from garrison.workers.agents.content import (
    ActionResult,
    Content,
    Media,
    Memory,
    Processed,
    TargetInfo,
    as_memory,
)
from garrison.workers.agents.database.adapter import DatabaseAdapter
from garrison.workers.agents.database.queries import TaskChanges, TaskQuery
from garrison.workers.agents.database.records import (
    Component,
    Entity,
    Log,
    Participant,
    Relationship,
    Room,
    World,
)
from garrison.workers.agents.database.tasks import Task
from garrison.workers.agents.model_budget import (
    BudgetGrant,
    BudgetNeed,
    BudgetSpent,
    set_attribution,
)
from garrison.workers.agents.model_trace import ModelTrace
from garrison.workers.agents.models import (
    ChatMessage,
    EmbedParams,
    GenerateObjectParams,
    GenerateTextParams,
    ModelType,
    ModelUnavailable,
)
from garrison.workers.agents.persons import IsPerson, is_about, is_person
from garrison.workers.agents.task_workers import TaskEnd, TaskRun, TaskWorker
from garrison.workers.agents.tools import Generated, Tool, ToolCall

from .caller import Caller
from .children.child_process import ChildProcess
from .define_service import define_service
from .library import load_library
from .model_provider import ModelProvider
from .platform.choices import Choice
from .platform.commands import Command
from .platform.messages import Heard, Outgoing, Sent
from .platform.platform import Platform
from .plugin import Plugin
from .process_ended import ProcessEnded, ProcessNotStarted
from .runtime import Runtime
from .service import Service, ServiceType, idempotent
from .voice import voice_text

__all__ = [
    "Action",
    "ActionResult",
    "Attribution",
    "BudgetGrant",
    "BudgetNeed",
    "BudgetSpent",
    "Busy",
    "Caller",
    "Character",
    "ChatMessage",
    "ChildProcess",
    "Choice",
    "Command",
    "Component",
    "Content",
    "DatabaseAdapter",
    "DeadLetter",
    "DeclaredError",
    "EmbedParams",
    "Entity",
    "Evaluator",
    "EventType",
    "GenerateObjectParams",
    "GenerateTextParams",
    "Generated",
    "Heard",
    "IsPerson",
    "Log",
    "Media",
    "Memory",
    "MessageExample",
    "ModelError",
    "ModelProvider",
    "ModelTrace",
    "ModelType",
    "ModelUnavailable",
    "NotSent",
    "Outgoing",
    "Participant",
    "PermanentFailure",
    "Platform",
    "Plugin",
    "ProcessEnded",
    "ProcessNotStarted",
    "Processed",
    "Provider",
    "ProviderResult",
    "Refusal",
    "Relationship",
    "RetryLater",
    "Room",
    "Runtime",
    "Sent",
    "Service",
    "ServiceType",
    "State",
    "Style",
    "TargetInfo",
    "Task",
    "TaskChanges",
    "TaskEnd",
    "TaskQuery",
    "TaskRun",
    "TaskWorker",
    "Tool",
    "ToolCall",
    "World",
    "answer_id",
    "as_memory",
    "define_service",
    "idempotent",
    "is_about",
    "is_person",
    "load_library",
    "set_attribution",
    "state",
    "voice_text",
    "with_timeout",
]
