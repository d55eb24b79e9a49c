"""One sample of every message, with no field at its default."""

from msgspec import Raw

from garrison.ipc import messages as m
from garrison.ipc.errors import Fault
from garrison.ipc.tombstones import Tombstones

MANIFEST = m.Manifest(
    service_type="chat",
    description="Chats.",
    methods=(m.MethodInfo("say", True, "(text: str = 'é')", "Say it.", True),),
    left_out={"sync": "its argument x has no type that can travel"},
    actions=(m.ActionInfo("GREET", "Greets.", ("HELLO",), ({"text": "hi"},), 3),),
    providers=(m.ProviderInfo("TIME", "The time.", 2, True, True),),
    evaluators=(m.EvaluatorInfo("FACTS", "Facts.", ("LEARN",), ("x",), True),),
    models=(m.ModelInfo("TEXT_SMALL", "openai", 5, True),),
    sends_for=("discord",),
    mail_window=4,
    notes=("a note",),
    frames=True,
    task_workers=("REMIND",),
    serves_paused=True,
)
PAUSED = m.Paused("paused by an operator", True, b"g" + b"\x03" * 15)
ENTRY = m.Entry(
    "ada.chat",
    "talk",
    3,
    MANIFEST,
    m.State.RUNNING,
    True,
    7,
    b"g" + b"\x01" * 15,
    ("MESSAGE_SENT",),
    "ada",
    "it crashed",
    ("ada.talk",),
    PAUSED,
)
ROUTE = b"d" + b"\x04" * 15
SOURCE = m.PluginSource("talk", "bot.talk", "/srv/bot")
ASSIGNMENT = m.Assignment(
    name="ada.chat",
    source=SOURCE,
    service_type="chat",
    generation=7,
    token=b"g" + b"\x02" * 15,
    paths=m.Paths(
        control="/run/control.sock",
        bus="/run/bus.sock",
        lock="/run/ada.chat.service.lock",
        recorder="/state/flight/ada.chat",
        data="/state/services/ada.chat",
    ),
    environment=m.WorkerEnvironment({"LANG": b"C.UTF-8"}, {"KEY": b"\xff\x00"}),
    config={"room": ["a", 1]},
    plugin_config={"model": "small"},
    timing=m.Timing(
        watchdog=11.0, start_timeout=61.0, grace=12.0, orphan_grace=13.0, health_interval=9.0
    ),
    calls=m.CallLimits(31.0, 255, 1_000_000, 2_000_000),
    identity=m.AgentIdentity("ada", Raw(b"\x81\xa4name\xa3Ada"), ("OTHER",)),
    record_values=True,
    with_parts=True,
    priority=-1,
    limits=m.WorkerLimits(
        open_files=64,
        nice=5,
        oom_score_adj=-100,
        umask=0o077,
        working_directory="/srv",
        uid=1001,
        gid=1002,
        groups=(9, 10),
        no_new_privs=True,
    ),
    chaos=True,
    restarted_by=m.RestartedBy("ada.chat", "new model", 1.5),
    threads=8,
    task_errors="crash",
    tombstones=Tombstones(b"salt", {"ab": 1.5}),
)
READING = m.Reading(
    source=SOURCE,
    token=b"g" + b"\x03" * 15,
    control="/run/control.sock",
    env={"LANG": b"C.UTF-8"},
    plugin_config={"model": "small"},
    sections=(m.Section("ada.chat", "chat", {"k": 1}, True, "chat"),),
)

DATA: list[m.Data] = [
    m.Call(
        *(1, "say", Raw(b"\x91\x01"), Raw(b"\x81\xa1k\x02"), 2.5, 3, True, ("a.ask",)),
        m.Attribution("ada", "ada.agent", "chat", "r", "p", "t"),
        f"00-{'4b' * 16}-{'a7' * 8}-01 vendor=v",
    ),
    m.Reply(2**63 - 1, Raw(b"\xa1x")),
    m.Failed(
        2,
        Fault("RemoteError", "ada.chat", "say", "ValueError: é", "trace", {"error": ["X"], "n": 1}),
    ),
    m.Refused(4),
    m.Cancel(5),
    m.Item(6, Raw(b"\xc0")),
    m.Done(7),
    m.Credit(8, 16),
    m.Ended(b"g" * 16, "was killed", 3, 4),
    m.Frames(2),
    m.Sync("boot"),
    m.Synced("boot"),
    m.Barrier(9),
    m.Passed(10),
]
UPWARD: list[m.Upward] = [
    m.Hello(1, "ada.chat", 2, 3, True, "3.12.1", "0.1.0", True),
    m.Join(1, 3, True),
    m.Leave(),
    m.Initialized(),
    m.Ready(MANIFEST),
    m.Beat(
        1,
        2,
        3,
        {"guilds": 4.0},
        (m.Held("stream", "ticks", b"g" * 16, 1.5, True),),
        ("the queue is full",),
        m.ThreadUse(16, 2, 1, 0),
        m.Link("the session is over", 1.5, 2.5, 0.5, 3.5, "no answer"),
        (m.CallCount("ada.chat", "say", (3, 0, 1), {9: 3, 25: 1}, 900),),
        {"ada.chat": 2},
        (m.Incident(3, "mail.dead", "10 attempts failed", "ada.chat", {"id": "m1"}),),
    ),
    m.Failing("start", "ValueError: no", "trace", True, 2.5, True),
    m.Stopped("ordered"),
    m.Health("it has lost its connection", 0.25),
    m.Extend(2.5, "loading weights"),
    m.Subscribe(("MESSAGE_SENT", "done")),
    m.PluginRead(
        (MANIFEST,), ("discord",), ("talk",), (m.ConfigProblem(("services", "x"), "no int"),)
    ),
    m.PluginsRead(
        (m.ReadResult(m.PluginRead((MANIFEST,))), m.ReadResult(failing=m.Failing("read", "no")))
    ),
    m.DirectOpen(ROUTE, "its folder is gone"),
    m.DirectRoute(ROUTE, b"g" * 16, True, "it did not answer"),
    m.Stacks(
        7,
        (m.StackOf("MainThread", (m.StackFrame("bot.py", 3, "run"),), 2, 99),),
        (m.StackOf("poll", (), 0, 0, "a lock"),),
        1,
        2,
    ),
    m.Order(
        1, "restart", ("a", "b*"), 5.0, {"follow": True}, "0123456789abcdef", "new model", "u7"
    ),
]
DOWNWARD: list[m.Downward] = [
    m.Welcome(1, "boot", 2, (ENTRY,), 1.0, 2, 3, 4, 5.0, True),
    m.Identify(),
    m.Farewell(),
    m.Rejected("no such incarnation"),
    m.Listed(ENTRY),
    m.Delisted("ada.chat"),
    m.Changed("ada.chat", m.State.BACKOFF, True, 3, b"g", "it crashed", PAUSED),
    m.Drain(1.5, "ordered", 1.0),
    m.ShowTasks(7),
    m.Acknowledged(),
    m.AcceptDirect(ROUTE, b"g" * 16, "/run/d010203040506.sock"),
    m.GrantDirect(ROUTE, b"g" * 16, "/run/d010203040506.sock"),
    m.RevokeDirect(ROUTE),
    m.Answer(1, True, {"x": [1, None]}, "code", "message", True),
]
