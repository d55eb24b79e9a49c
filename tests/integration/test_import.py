"""Programs of supervisord and pm2, moved over by `garrison import`, run as they ran there."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from tests.support.host import Host, hosting
from tests.support.waiting import until

SUPERVISORD = """\
; the main file, as packages install it
[unix_http_server]
file=/var/run/supervisor.sock   ; the path to the socket file

[supervisord]
logfile=/var/log/supervisor/supervisord.log
environment=STAGE="test"

[supervisorctl]
serverurl=unix:///var/run/supervisor.sock

[include]
files = conf.d/*.conf
"""
TICKER = """\
[program:ticker]
command=%(here)s/ticker.sh "two words"
directory=%(here)s
autorestart=true
stdout_logfile=/var/log/ticker.log
environment=QUEUE="mail,sms",API_TOKEN="token-of-the-ticker"
"""
OTHERS = """\
[program:worker]
command=python3 -uc "import os, time; print(os.environ['STAGE'], %(process_num)d); time.sleep(999)"
process_name=%(program_name)s_%(process_num)02d
numprocs=2
autorestart=unexpected
stopsignal=INT

[program:job]
command=sh -c "echo done once"
autorestart=false
startsecs=0
"""
SCRIPT = """\
#!/bin/sh
echo "$1 of $QUEUE with $API_TOKEN at $STAGE in $(basename "$PWD")"
exec sleep 1000
"""
ECOSYSTEM = """
const port = 3000 + 1;
console.log("this is no part of it");
module.exports = {
  apps: [{ name: "bot", script: "./bot.js", args: ["--port", String(port)],
           env: { MODE: "dev" }, env_production: { MODE: "prod" } }],
};
"""
BOT = """
console.log(process.env.MODE, process.argv.slice(2).join(" "));
process.on("SIGINT", () => { console.log("bye"); process.exit(0); });
setInterval(() => {}, 1000);
"""


def imported(host: Host, name: str, *words: str) -> str:
    """Import a file as the host's config; return what was printed."""
    host.config.unlink()
    ran = host.run("import", "-o", str(host.config), *words, str(host.folder / name))
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def test_three_programs_are_moved_over_from_supervisord() -> None:
    """What is written passes `garrison check` and runs; secrets are in a file of their own."""
    files = {"supervisord.conf": SUPERVISORD, "ticker.sh": SCRIPT}
    with hosting(files=files, up=False) as host:
        (host.folder / "conf.d").mkdir()
        (host.folder / "conf.d" / "ticker.conf").write_text(TICKER)
        (host.folder / "conf.d" / "others.conf").write_text(OTHERS)
        (host.folder / "ticker.sh").chmod(0o755)
        out = imported(host, "supervisord.conf")
        assert "services: worker_00, worker_01, job, ticker" in out
        secrets = host.folder / ".env.ticker"
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
        assert "token-of-the-ticker" not in host.config.read_text()
        check = host.run("check", "-c", str(host.config), json=True)
        assert (check.data["errors"], check.data["warnings"]) == ([], [])
        again = host.run("import", "-o", str(host.config), str(host.folder / "supervisord.conf"))
        assert "nothing is overwritten" in again.err
        host.up()
        for name in ("ticker", "worker_00", "worker_01"):
            host.wait_for(name, "running")
        line = f"two words of mail,sms with [API_TOKEN] at test in {host.folder.name}"
        until(lambda: line in host.log("ticker"))
        until(lambda: "test 1" in host.log("worker_01"))
        until(lambda: host.status("job")["state"] == "stopped")
        assert "done once" in host.log("job")


def test_a_file_of_pm2_as_json(tmp_path: Path) -> None:
    """Without `-o` the config is printed, and no secret is in it."""
    path = tmp_path / "ecosystem.config.json"
    apps = [{"name": "bot", "script": "bot.py", "env": {"TOKEN": "a-secret-token"}}]
    path.write_text(json.dumps({"apps": apps}))
    with hosting(up=False) as host:
        ran = host.run("import", str(path), json=True)
        assert ran.data["services"] == ["bot"]
        assert "a-secret-token" not in ran.out
        assert 'command = ["python3", "bot.py"]' in host.run("import", str(path)).out
        refused = host.run("import", str(tmp_path / "Procfile"))
        assert (refused.code, "neither supervisord" in refused.err) == (1, True)


@pytest.mark.external
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_a_file_of_pm2_in_javascript_is_run_by_node() -> None:
    """What it prints does not matter; an error of it is named."""
    files = {"ecosystem.config.js": ECOSYSTEM, "bot.js": BOT, "bad.js": "throw new Error('no')"}
    with hosting(files=files, up=False) as host:
        bad = host.run("import", str(host.folder / "bad.js"))
        assert "node cannot evaluate it: Error: no" in bad.err
        imported(host, "ecosystem.config.js", "--env", "production")
        host.up()
        until(lambda: "prod --port 3001" in host.log("bot"))
        host.wait_for("bot", "running")
        host.ask("stop", "bot")
        assert "bye" in host.log("bot")
