"""A real sidecar, run as its own process through the command line, before a stack's pooler.

Enters: a running stack, and keys of `[sidecar]`. Leaves: a port to connect to, and the events that the
sidecar wrote. Does not: judge anything.
"""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from psycopg.conninfo import make_conninfo

from tests.stack import HOST, Stack, free_port

_WAIT_S = 30.0
_COMMAND = [sys.executable, "-m", "scalple.cli.main", "sidecar"]


class SidecarProcess:
    """A sidecar in front of `upstream`. Start and stop it by `with`; it can be restarted.

    Args:
        directory: where its configuration, events and log go.
        upstream: where it connects to.
        keys: of `[sidecar]`, as TOML values; strings as `"…"`.
        tables: more text for the configuration.
    """

    def __init__(
        self, directory: Path, upstream: str, keys: dict[str, Any] | None = None, tables: str = ""
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.status_port = free_port()
        self.events = directory / "events.jsonl"
        self.log = directory / "sidecar.log"
        self.config = directory / "sidecar.toml"
        self.process: subprocess.Popen[bytes] | None = None
        self._keys: dict[str, Any] = {
            "listen": f"{HOST}:{self.port}",
            "upstream": upstream,
            "events": str(self.events),
            "status": f"{HOST}:{self.status_port}",
            "heartbeat_s": 1,
            "drain_s": 5,
        } | (keys or {})
        self._tables = tables
        self.configure()

    def configure(self, **keys: Any) -> None:
        """Write the configuration, with keys changed."""
        self._keys |= keys
        lines = [f"{name} = {json.dumps(value)}" for name, value in self._keys.items()]
        self.config.write_text("\n".join(["[sidecar]", *lines, self._tables, ""]))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_COMMAND, "--config", str(self.config)], stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _WAIT_S
        while not self.ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Stop it, and wait until it has gone; the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            return process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """End it without a word."""
        self.stop(signal.SIGKILL)

    def hup(self) -> None:
        """Have it reload, and wait until it has."""
        assert self.process is not None
        before = self.log.read_text().count('"reload')
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + _WAIT_S
        while self.log.read_text().count('"reload') == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ready(self) -> bool:
        """Whether it says that it serves."""
        try:
            return self.page("ready") == "ready\n"
        except OSError:
            return False

    def page(self, name: str) -> str:
        """One of its status pages."""
        with urllib.request.urlopen(f"http://{HOST}:{self.status_port}/{name}", timeout=5) as page:
            text: str = page.read().decode()
        return text

    def metric(self, name: str) -> float:
        """One of its metrics."""
        for line in self.page("metrics").splitlines():
            if line.startswith(f"scalple_sidecar_{name} "):
                return float(line.split()[-1])
        raise KeyError(name)

    def dsn(self, stack: Stack, user: str | None, *, name: str | None = "app", **more: Any) -> str:
        """A connection string through it, for that person."""
        said = dict(more)
        options = said.pop("options", "")
        if user is not None:
            options = f"-c scalple.user={user} {options}".strip()
        if options:
            said["options"] = options
        base = stack.dsn_pooler(port=self.port, application_name=name)
        return make_conninfo(base, **said)

    def said(self, event: str | None = None) -> list[dict[str, Any]]:
        """The events of one kind, or all, from all files."""
        files = sorted(self.directory.glob("events*.jsonl*"))
        lines = [line for file in files for line in file.read_text().splitlines()]
        events = [json.loads(line) for line in lines]
        return [one for one in events if event is None or one["event"] == event]

    def wait_for(self, event: str) -> None:
        """Wait until an event of that kind is in its files."""
        deadline = time.monotonic() + _WAIT_S
        while not self.said(event):
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)


def before_pooler(stack: Stack, directory: Path, **keys: Any) -> SidecarProcess:
    """A sidecar in front of the stack's PgBouncer."""
    return SidecarProcess(directory, f"{HOST}:{stack.pooler_port}", keys)
