"""A daemon as a process.

Enters: a configuration. Leaves: a running `scalple-ingest daemon`, which can be killed and started again.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.stack import HOST, free_port

WAIT_S = 180.0


@dataclass
class DaemonProcess:
    """Follows what a configuration names, with a status page added to it.

    Args:
        directory: for its configuration and its log.
        text: the configuration without `[daemon]`.
    """

    directory: Path
    text: str
    interval_s: float = 0.2
    more: str = ""
    """Keys of `[daemon]` besides."""
    process: subprocess.Popen[bytes] | None = None
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.log = self.directory / "daemon.log"
        self.config = self.directory / "daemon.toml"
        self.write(self.text)

    def write(self, text: str) -> None:
        """Change the configuration."""
        own = f'commit_interval_s = {self.interval_s}\nscan_interval_s = 0.5\nstatus = "{HOST}:{self.port}"\n'
        own += "nice = 0\n"  # on a busy machine whoever gives way waits for minutes
        self.config.write_text(f"{text}\n[daemon]\n{own}{self.more}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until a round was made."""
        command = [str(Path(sys.executable).with_name("scalple-ingest")), "daemon"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(self.config)], stderr=log, stdin=subprocess.DEVNULL
            )
        if wait:
            self.wait_until(lambda: self.metric("rounds_total") > 0)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Stop it; the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            return process.wait(WAIT_S)
        finally:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.stop(signal.SIGKILL)

    def page(self, name: str) -> str:
        """One of its status pages."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/{name}", timeout=5) as page:
            text: str = page.read().decode()
        return text

    def metric(self, name: str) -> float:
        """One of its metrics; 0 where it doesn't answer or has none of that name."""
        try:
            lines = self.page("metrics").splitlines()
        except OSError:
            return 0.0
        found = [line for line in lines if line.startswith(f"scalple_{name} ")]
        return float(found[0].split()[-1]) if found else 0.0

    def resident_mb(self) -> float:
        """What it holds in memory; 0 where it doesn't run."""
        if self.process is None:
            return 0.0
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def drain(self) -> None:
        """Wait until it has made two more rounds: what stood in the files before is committed."""
        rounds = self.metric("rounds_total")
        self.wait_until(lambda: self.metric("rounds_total") >= rounds + 2)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for something."""
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
