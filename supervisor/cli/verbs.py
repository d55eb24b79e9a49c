"""Groups of verbs, and what is suggested for a verb that there is not."""

import click

# What other supervisors and tools call it → what garrison calls it, as the end of a sentence.
ELSEWHERE = {
    **dict.fromkeys(
        ("ps", "list", "ls", "l", "ll", "describe", "show", "info", "pid"),
        "garrison status shows all services, garrison status NAME every detail of one",
    ),
    **dict.fromkeys(
        ("monit", "stats", "htop"),
        "garrison top shows live what services do, garrison metrics prints it for Prometheus",
    ),
    **dict.fromkeys(
        ("is-active", "inspect", "jlist", "prettylist", "health"),
        "garrison status --json is for scripts; it exits 3 if a wanted service does not run",
    ),
    **dict.fromkeys(
        ("dashboard", "web", "ui", "browse", "open", "login"),
        "garrison console prints a link that shows this host in a browser",
    ),
    **dict.fromkeys(
        ("daemon-reload", "reread", "respawn", "deploy"),
        "garrison apply does what garrison diff shows, garrison restart NAME takes the code and "
        "config on disk",
    ),
    **dict.fromkeys(
        ("delete", "del", "rm", "remove"),
        "take the service out of config.toml, then garrison apply; garrison stop NAME only ends it",
    ),
    **dict.fromkeys(
        ("kill", "disable", "signal", "terminate"),
        "garrison stop NAME ends a service, which stays stopped; garrison down ends everything",
    ),
    **dict.fromkeys(
        ("shutdown", "quit", "exit", "halt", "stop-all", "stopall"),
        "garrison down stops every service, then the supervisor",
    ),
    **dict.fromkeys(
        ("enable", "add", "scale", "install"),
        "name the plugin in config.toml, then garrison apply, or garrison start NAME",
    ),
    **dict.fromkeys(
        ("serve", "daemon", "launch", "boot", "resurrect", "startup"),
        "garrison up runs the host, garrison up --detach in the background",
    ),
    **dict.fromkeys(
        ("tail", "journal", "journalctl", "cat", "output", "fg", "attach"),
        "garrison logs NAME -f follows the output of a service",
    ),
    **dict.fromkeys(
        ("history", "audit"), "garrison events shows what happened, garrison deaths the crashes"
    ),
    **dict.fromkeys(
        ("crashes", "coredump", "coredumps", "dumps"),
        "garrison deaths lists the crashes, garrison death ID shows one",
    ),
    **dict.fromkeys(
        ("py-spy", "pstack", "gstack", "threads", "backtrace", "stacktrace"),
        "garrison stack NAME shows where the threads and tasks of a service are",
    ),
    **dict.fromkeys(
        ("deps", "dependencies", "list-dependencies", "topology"),
        "garrison graph shows what depends on what, and what calls what",
    ),
    **dict.fromkeys(
        ("explain", "trace", "transcript"),
        "garrison answer lists what agents answered, garrison answer ID shows why",
    ),
    **dict.fromkeys(
        ("validate", "lint", "verify", "configtest", "test"), "garrison check checks the config"
    ),
    **dict.fromkeys(
        ("exec", "invoke", "rpc", "send", "request"),
        "garrison call NAME METHOD calls a method",
    ),
    **dict.fromkeys(
        ("debug", "pdb", "exec-fg"), "garrison run NAME runs a service on this terminal, for pdb"
    ),
    **dict.fromkeys(("watch", "dev"), "garrison up --watch restarts what was saved"),
    **dict.fromkeys(
        ("new", "create", "scaffold", "generate"), "garrison init DIRECTORY writes a first project"
    ),
    **dict.fromkeys(("manual", "man", "guide"), "garrison docs lists the manual"),
    **dict.fromkeys(
        ("self-update", "replace"),
        "garrison update --from WHEEL runs a new version, garrison upgrade the installed one",
    ),
}
SECTIONS = {  # of `garrison --help`: verbs, in their order
    "The host": ("up", "down", "upgrade", "update", "doctor", "backup", "restore", "systemd"),
    "Its machines": ("node", "nodes", "drain"),
    "Its services": (
        *("status", "start", "stop", "restart", "reload", "reset", "pause", "resume"),
        *("wait", "call", "run"),
    ),
    "Looking": (
        *("why", "logs", "events", "deaths", "death", "stack", "graph", "top", "probe"),
        *("console", "metrics", "hooks", "mcp", "chaos"),
    ),
    "The config": ("init", "import", "plugins", "config", "check", "diff", "apply"),
    "Agents and what they are sent": ("chat", "answer", "mail", "tasks", "person"),
    "This command": ("docs", "completion", "version"),
}
RENAMED = {"help": "--help", "retry": "replay", "delete": "drop", "rm": "drop", "list": "ls"}


def unknown_verb(name: str, known: list[str], parent: str = "") -> str:
    """Return the sentence for a verb that there is not.

    Args:
        name: The verb.
        known: Those that there are.
        parent: The verb that they belong to; empty: they are garrison's own.
    """
    if not parent and (instead := ELSEWHERE.get(name.lower())):
        return f"there is no verb {name}: {instead}"
    from difflib import get_close_matches  # seldom needed, and large

    word = RENAMED.get(name.lower(), "")
    close = get_close_matches(name.lower(), known, n=1)
    if parent and (word in known or close):
        return f"there is no verb {parent} {name}; did you mean {parent} {word or close[0]}?"
    if parent:
        return f"there is no verb {parent} {name}; there are: {', '.join(known)}"
    close = [word] if word == "--help" else close
    return f"there is no verb {name}" + (f"; did you mean {close[0]}?" if close else "")


def sections(known: list[str]) -> dict[str, list[str]]:
    """Return the verbs that there are by their sections; those of none are `Others`."""
    found = {title: [one for one in names if one in known] for title, names in SECTIONS.items()}
    listed = {name for names in SECTIONS.values() for name in names}
    return {**found, "Others": [name for name in known if name not in listed]}


class VerbGroup(click.Group):
    """A verb that has verbs of its own."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            parent = ctx.info_name or "" if ctx.parent is not None else ""
            known = self.list_commands(ctx)
            raise click.UsageError(unknown_verb(name, known, parent), ctx)
        return super().resolve_command(ctx, args)
