"""A server of the Model Context Protocol of 2025, of the standard library alone, with faults.

`python plain_mcp_server.py FAULT…` talks on its standard streams. Its tools have faults of their
own; those of the command line concern its start:

- mute: it never answers, and does not end with its input;
- late: its first answer takes a second;
- babble: it writes what is no message, to both of its outputs;
- broken: it ends at once, with a word on its standard error.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

EMPTY = {"type": "object", "properties": {}}
WORDS = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
SLEEP = ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",)
PIXEL = "iVBORw0KGgo="  # the start of every PNG
TOOLS: dict[str, dict[str, Any]] = {
    "echo": {
        "inputSchema": WORDS,
        "description": "Says it again",
        "annotations": {"readOnlyHint": True},
    },
    "note": {"inputSchema": WORDS, "description": "Writes a line into the file of NOTES"},
    "wipe": {"inputSchema": EMPTY, "annotations": {"destructiveHint": True}},
    "hang": {"inputSchema": EMPTY},
    "die": {"inputSchema": EMPTY},
    "die_once": {"inputSchema": WORDS, "annotations": {"idempotentHint": True}},
    "huge": {"inputSchema": EMPTY},
    "picture": {"inputSchema": EMPTY},
    "fail": {"inputSchema": EMPTY},
    "environment": {"inputSchema": EMPTY},
    "leave": {"inputSchema": EMPTY, "description": "Leaves a process in a session of its own"},
    "learn": {"inputSchema": WORDS, "description": "Has one more tool, or one less"},
    "rewrite": {"inputSchema": WORDS, "description": "Changes the resource"},
    "ask": {
        "inputSchema": WORDS,
        "description": "Makes the request of its client that it is named",
    },
    "deaf": {"inputSchema": EMPTY, "description": "Does not read any more"},
}
RESOURCE = {"uri": "notes://today", "name": "today"}
state: dict[str, Any] = {"note": "nothing"}


def send(message: dict[str, Any]) -> None:
    """Write a message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(words: str, **more: Any) -> dict[str, Any]:
    """Return a result."""
    return {"content": [{"type": "text", "text": words}], **more}


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Run a tool; None: it gives no answer."""
    words = arguments.get("text", "")
    match name:
        case "note" | "die_once":
            with Path(os.environ["NOTES"]).open("a+") as file:
                file.seek(0)
                is_first = f"{words}\n" not in file.readlines()
                file.write(f"{words}\n")
            if name == "die_once" and is_first:
                os._exit(3)
            return text("written")
        case "hang":
            return None
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "huge":
            return text("x" * 3_000_000)
        case "picture":
            return {"content": [{"type": "image", "data": PIXEL, "mimeType": "image/png"}]}
        case "fail":
            return text("it is broken", isError=True)
        case "environment":
            return text(json.dumps(dict(os.environ)))
        case "leave":
            process = subprocess.Popen([sys.executable, "-c", *SLEEP], start_new_session=True)
            return text(str(process.pid))
        case "learn":
            if words in TOOLS:
                del TOOLS[words]
            else:
                TOOLS[words] = {"inputSchema": EMPTY}
            send({"method": "notifications/tools/list_changed"})
        case "rewrite":
            state["note"] = words
            send({"method": "notifications/resources/updated", "params": {"uri": RESOURCE["uri"]}})
        case "ask":
            return text(json.dumps(ask(words)))
        case "deaf":
            threading.Event().wait()
        case _:
            return text(words, structuredContent={"text": words} if name == "echo" else None)
    return text("done")


def ask(method: str) -> Any:
    """Make a request of the client; return its answer."""
    said = {"role": "user", "content": {"type": "text", "text": "Think"}}
    params = {
        "sampling/createMessage": {"messages": [said], "maxTokens": 9},
        "elicitation/create": {"message": "Sure?", "requestedSchema": EMPTY},
    }
    send({"id": "asked", "method": method, "params": params.get(method, {})})
    while line := sys.stdin.readline():
        message = json.loads(line)
        if message.get("id") == "asked":
            return message.get("result") or message["error"]
    return None


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of a request."""
    match method:
        case "initialize":
            has = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "prompts": {}}
            info = {"name": "plain", "version": "1"}
            version = "2025-06-18"
            return {"protocolVersion": version, "capabilities": has, "serverInfo": info}
        case "tools/list":
            return {"tools": [{"name": name, **rest} for name, rest in TOOLS.items()]}
        case "tools/call":
            return call(params["name"], params.get("arguments") or {})
        case "resources/list":
            return {"resources": [RESOURCE]}
        case "resources/read":
            return {"contents": [{"uri": params["uri"], "text": state["note"]}]}
        case "prompts/list":
            return {"prompts": [{"name": "greet"}]}
        case "prompts/get":
            said = {"role": "user", "content": {"type": "text", "text": "Greet them"}}
            return {"messages": [said]}
        case _:
            return {}


def serve() -> None:
    """Answer requests, until the input ends."""
    while line := sys.stdin.readline():
        message = json.loads(line)
        if "id" not in message:
            continue
        if message["method"] == "server/discover":
            error = {"code": -32601, "message": "Method not found"}
            send({"id": message["id"], "error": error})
            continue
        time.sleep(state.pop("late", 0.0))
        result = answer(message["method"], message.get("params") or {})
        if result is not None:
            send(
                {"id": message["id"], "result": {k: v for k, v in result.items() if v is not None}}
            )


if __name__ == "__main__":
    if "broken" in sys.argv:
        sys.exit("there is no disk")
    if "babble" in sys.argv:
        print("Welcome to the server!", "\x00\xff", '{"a": 1}', sep="\n", flush=True)
        print("it is warm here", file=sys.stderr, flush=True)
    if "mute" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Event().wait()
    if "late" in sys.argv:
        state["late"] = 1.0
    serve()
