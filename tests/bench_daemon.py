"""What the daemon costs, and how soon a statement can be asked about: at a steady rate, and catching up.

Enters: a recording (bench_input.py). Leaves: lines on stdout. Its three files are written as their servers
wrote them, only faster or slower, while a daemon follows them: processor time, peak memory, and the time
from the write of a record to the commit that holds it. Then a daemon that finds all of it at once, beside
`reprocess` of the same files.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.bench_input import CONFIG, FILES, ensure

LOG = "postgresql.csv"
SLICE_S = 0.1
FIRST = 10
"""Records that a daemon commits before its time is taken: it runs for months, and starts once."""
_TIME = re.compile(rb'^(?:\{.*?"ts":")?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d\.\d{3})')
_RECORD = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC,", re.MULTILINE)


@dataclass
class Daemon:
    """A daemon on files in a directory, and when its commits reached which byte of the server's log."""

    directory: Path
    interval_s: float
    reached: list[tuple[int, float]] = field(default_factory=list)
    cpu_s: float = 0.0
    peak_mb: float = 0.0

    def __post_init__(self) -> None:
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        text = CONFIG
        for name in FILES:
            text = text.replace(f'["{name}"]', f'["{self.logs / name}*"]')
        text += f"\n[daemon]\ncommit_interval_s = {self.interval_s}\n"
        self.config = self.directory / "config.toml"
        self.config.write_text(text)
        self._manifests = self.directory / "store" / "bench" / "manifests"
        self._seen = 0

    def start(self) -> None:
        """Its messages go to a file."""
        program = str(Path(sys.executable).with_name("scalple-ingest"))
        command = [program, "daemon", "--config", str(self.config)]
        with (self.directory / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def look(self) -> int:
        """How far it has committed the server's log, in bytes; notes when."""
        while (path := self._manifests / f"{self._seen:020}.json").exists():
            now = time.monotonic()
            for one in json.loads(path.read_bytes())["positions"]:
                if one["source"] == "postgres":
                    self.reached.append((one["end"], now))
            self._seen += 1
        return self.reached[-1][0] if self.reached else 0

    def wait(self, end: int, seconds: float = 900.0) -> float:
        """Until all of it is committed; the seconds that took."""
        begin = time.monotonic()
        while self.look() < end:
            if self.process.poll() is not None or time.monotonic() > begin + seconds:
                sys.exit((self.directory / "daemon.log").read_text()[-2000:])
            time.sleep(0.02)
        return time.monotonic() - begin

    def stop(self) -> None:
        """Ends it, and takes down what it used."""
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert peak is not None
        self.peak_mb = int(peak[1]) / 1024
        self.process.terminate()
        _, _, usage = os.wait4(self.process.pid, 0)
        self.cpu_s = usage.ru_utime + usage.ru_stime

    def latencies(self, written: list[tuple[int, float]]) -> list[float]:
        """Seconds from the write of each slice to the commit that holds it, ascending."""
        ends = [end for end, _ in self.reached]
        waits = []
        for end, at in written:
            which = bisect_right(ends, end - 1)
            waits.append(self.reached[which][1] - at)
        return sorted(waits)


def moments(data: bytes) -> list[tuple[bytes, int]]:
    """(the latest time so far, where it ends) of each line."""
    found, at, latest = [], 0, b""
    for line in data.splitlines(keepends=True):
        at += len(line)
        if said := _TIME.match(line):
            latest = max(latest, said[1] + b" " + said[2])
        found.append((latest, at))
    return found


def steady(source: Path, scratch: Path, rate: int, seconds: float, interval_s: float) -> None:
    """So many records a second."""
    daemon = Daemon(scratch, interval_s)
    data = {name: (source / name).read_bytes() for name in FILES}
    begins = [found.start() for found in _RECORD.finditer(data[LOG])]
    times = [data[LOG][at : at + 23] for at in begins]
    others = {name: moments(data[name]) for name in FILES if name != LOG}
    handles = {name: (daemon.logs / name).open("ab", buffering=0) for name in FILES}
    at = dict.fromkeys(FILES, 0)
    daemon.start()
    handles[LOG].write(data[LOG][: begins[FIRST]])
    at[LOG] = begins[FIRST]
    daemon.wait(at[LOG])  # it is loaded
    written: list[tuple[int, float]] = []
    begin, done = time.monotonic(), FIRST
    total = min(len(begins) - 1, int(rate * seconds))
    while done < total:
        done = min(total, FIRST + int(rate * (time.monotonic() - begin)) + 1)
        for name, ends in others.items():
            which = bisect_right(ends, (times[done], 1 << 62))
            end = ends[which - 1][1] if which else 0
            handles[name].write(data[name][at[name] : end])
            at[name] = max(at[name], end)
        handles[LOG].write(data[LOG][at[LOG] : begins[done]])
        at[LOG] = begins[done]
        written.append((at[LOG], time.monotonic()))
        daemon.look()
        time.sleep(SLICE_S)
    took = time.monotonic() - begin
    daemon.wait(at[LOG])
    daemon.stop()
    waits = daemon.latencies(written)
    print(
        f"steady: {(done - FIRST) / took:,.0f} records/s for {took:.0f} s, a commit each {interval_s} s: "
        f"queryable after {waits[len(waits) // 2]:.2f} s (median), "
        f"{waits[int(len(waits) * 0.99)]:.2f} s (p99); {daemon.cpu_s / took:.2f} of a processor, "
        f"peak {daemon.peak_mb:,.0f} MB",
        flush=True,
    )


def catching_up(source: Path, scratch: Path) -> None:
    """All of it at once, and `reprocess` of the same."""
    daemon = Daemon(scratch, 5.0)
    for name in FILES:
        shutil.copy(source / name, daemon.logs / name)
    size = (daemon.logs / LOG).stat().st_size
    daemon.start()
    seconds = daemon.wait(size - (1 << 16))
    daemon.stop()
    program = str(Path(sys.executable).with_name("scalple-ingest"))
    store = str(scratch / "whole")
    begin = time.monotonic()
    subprocess.run(
        [
            program,
            "reprocess",
            "--config",
            str(daemon.config),
            "--store",
            store,
            "--origin",
            "bench",
        ],
        check=True,
        capture_output=True,
    )
    whole = time.monotonic() - begin
    print(
        f"catching up: {size / 1e6:,.0f} MB in {seconds:.1f} s, peak {daemon.peak_mb:,.0f} MB; "
        f"reprocess {whole:.1f} s -> {whole / seconds:.2f} x its speed",
        flush=True,
    )


def main() -> None:
    """Record what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--megabytes", type=int, default=350)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    source = ensure(options.out, "extended", options.megabytes)
    for name, interval_s in (("five", 5.0), ("one", 1.0)):
        with tempfile.TemporaryDirectory(dir=options.out) as scratch:
            (Path(scratch) / name).mkdir()
            steady(source, Path(scratch) / name, options.rate, options.seconds, interval_s)
    with tempfile.TemporaryDirectory(dir=options.out) as scratch:
        catching_up(source, Path(scratch))


if __name__ == "__main__":
    main()
