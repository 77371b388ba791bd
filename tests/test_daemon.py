"""Logs that are followed while they are written end in the store as if they had been read at once.

The recorded sample is written piece by piece, in the order in which its servers wrote it, while a daemon
follows it and is killed, its logs are rotated and its disk fills up.
"""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import SAMPLE, rows, scalple
from tests.daemons import DaemonProcess

FILES = ("identity.jsonl", "pgbouncer.log", "postgresql.csv")
_TIME = re.compile(r'^(?:\{.*?"ts":")?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d\.\d{3})')
SAID = (
    "source_offset, attribution_grade, session_user_id, attribution_method, attribution_reason, "
    "attribution_candidates, findings, success, sqlstate, query, subjects"
)


class Writer:
    """Writes the sample's files as their servers did."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.data = {name: (SAMPLE / name).read_bytes() for name in FILES}
        self.ends = {name: _ends(data) for name, data in self.data.items()}
        self.at = dict.fromkeys(FILES, 0)
        for name in FILES:
            (logs / name).touch()

    def moments(self, count: int) -> list[str]:
        """So many moments, the last one after everything."""
        times = [moment for moment, _ in self.ends["postgresql.csv"]]
        return [*(times[len(times) * n // count] for n in range(1, count)), "9999"]

    def write(self, moment: str, torn: int = 0) -> None:
        """Everything up to that moment, and some bytes of the server's log more."""
        for name in FILES:
            end = max((e for when, e in self.ends[name] if when <= moment), default=0)
            end = max(self.at[name], end + (torn if name == "postgresql.csv" else 0))
            with (self.logs / name).open("ab") as file:
                file.write(self.data[name][self.at[name] : end])
            self.at[name] = min(end, len(self.data[name]))


def _ends(data: bytes) -> list[tuple[str, int]]:
    """(the latest time so far, where it ends) of each line."""
    found, at, latest = [], 0, ""
    for line in data.splitlines(keepends=True):
        at += len(line)
        if said := _TIME.match(line.decode(errors="replace")):
            latest = max(latest, f"{said[1]} {said[2]}")
        found.append((latest, at))
    return found


def configuration(directory: Path) -> str:
    """The sample's, for files that are being written."""
    text = (SAMPLE / "config.toml").read_text()
    text = re.sub("(?m)^store .*$", f'store = "{directory / "store"}"', text)
    for name in FILES:
        text = text.replace(f'["{name}"]', f'["{directory / "logs" / name}*"]')
    return text.replace('["schema.sql"]', f'["{SAMPLE / "schema.sql"}"]')


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """Nothing is written yet."""
    (tmp_path / "logs").mkdir()
    return Writer(tmp_path / "logs")


@pytest.fixture
def daemon(tmp_path: Path, writer: Writer) -> Iterator[DaemonProcess]:
    """Follows them."""
    with DaemonProcess(tmp_path, configuration(tmp_path)) as running:
        yield running


def read_at_once(directory: Path) -> list[dict[str, Any]]:
    """What a run makes of the sample, under the same subject key."""
    keys = directory / "whole.keys"
    keys.mkdir(mode=0o700)
    shutil.copy(directory / "store.keys" / "subject.key", keys)
    said = scalple(
        *("reprocess", "--config", SAMPLE / "config.toml", "--store", directory / "whole"),
    )
    assert said.code == 0, said.err
    return rows(directory / "whole", f"SELECT {SAID} FROM audit ORDER BY source_offset")


def test_killed_again_and_again_it_ends_as_if_read_at_once(
    tmp_path: Path, writer: Writer, daemon: DaemonProcess
) -> None:
    for turn, moment in enumerate(writer.moments(6)):
        writer.write(moment, torn=37)
        if turn % 2:
            time.sleep(0.1 * turn)
            daemon.kill()
            daemon.start()
        else:
            daemon.drain()
    daemon.drain()
    assert daemon.metric('lag_bytes{source="postgres"}') == 0
    assert daemon.stop() == 0
    found = rows(tmp_path / "store", f"SELECT {SAID} FROM audit ORDER BY source_offset")
    whole = read_at_once(tmp_path)
    assert found == whole
    assert rows(tmp_path / "store", "SELECT * FROM gaps") == []
    assert scalple("verify", "--store", tmp_path / "store").code == 0


def test_logs_are_rotated_under_it(tmp_path: Path, writer: Writer, daemon: DaemonProcess) -> None:
    expected = 0
    for turn, moment in enumerate(writer.moments(4)):
        writer.write(moment)
        if turn == 1:
            daemon.drain()
        for name in FILES if turn < 3 else ():
            (writer.logs / name).rename(writer.logs / f"{name}.{turn}")
            (writer.logs / name).touch()
        if turn == 2:
            daemon.kill()
            daemon.start()
    daemon.drain()
    assert daemon.stop() == 0
    expected = len(read_at_once(tmp_path))
    (counted,) = rows(
        tmp_path / "store",
        "SELECT count(*) AS n, count(DISTINCT (session_id, session_line_num)) AS d FROM audit",
    )
    assert counted["n"] == expected
    found, whole = (
        rows(
            tmp_path / one,
            "SELECT session_id, session_line_num, attribution_grade, session_user_id FROM audit "
            "ORDER BY ALL",
        )
        for one in ("store", "whole")
    )
    assert found == whole
    assert rows(tmp_path / "store", "SELECT * FROM gaps") == []
    assert scalple("verify", "--store", tmp_path / "store").code == 0


def test_a_full_disk_delays_and_loses_nothing(
    tmp_path: Path, writer: Writer, daemon: DaemonProcess
) -> None:
    first, last = writer.moments(2)
    writer.write(first)
    daemon.drain()
    assert daemon.process is not None
    limit = ["prlimit", f"--pid={daemon.process.pid}"]
    subprocess.run([*limit, "--fsize=0:"], check=True)
    writer.write(last)
    daemon.wait_until(lambda: daemon.metric("failed_rounds_total") > 0)
    assert daemon.metric("ready") == 0
    subprocess.run([*limit, "--fsize=unlimited:"], check=True)
    daemon.wait_until(lambda: daemon.metric("ready") == 1)
    daemon.drain()
    assert daemon.stop() == 0
    found = rows(tmp_path / "store", f"SELECT {SAID} FROM audit ORDER BY source_offset")
    assert found == read_at_once(tmp_path)


def test_another_writer_is_refused_while_it_runs(
    tmp_path: Path, writer: Writer, daemon: DaemonProcess
) -> None:
    writer.write(writer.moments(2)[0])
    said = scalple("reprocess", "--config", daemon.config)
    assert said.code == 5
    assert "writ" in said.err


def test_a_reload_takes_what_is_right_and_keeps_it_otherwise(
    tmp_path: Path, writer: Writer, daemon: DaemonProcess
) -> None:
    assert daemon.process is not None
    first, last = writer.moments(2)
    writer.write(first)
    daemon.drain()
    text = daemon.config.read_text()
    daemon.config.write_text(text + "\nnonsense = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until(lambda: "reload refused" in daemon.log.read_text())
    for turn, wrong in enumerate(
        (
            re.sub('origin = ".*"', 'origin = "another"', text),
            re.sub("(?m)^store .*$", 'store = "/proc/none/store"', text),
        ),
        2,
    ):
        daemon.config.write_text(wrong)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda turn=turn: daemon.log.read_text().count("reload refused") == turn)  # type: ignore[misc]
    assert '"failed"' not in daemon.log.read_text()
    daemon.config.write_text(text.replace('"redact"', '"hash"'))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until(lambda: '"reloaded"' in daemon.log.read_text())
    writer.write(last)
    daemon.drain()
    assert daemon.stop() == 0
    (counted,) = rows(tmp_path / "store", "SELECT count(*) AS n FROM audit")
    assert counted["n"] == len(read_at_once(tmp_path))


def test_a_store_that_vanishes_is_not_begun_anew(
    tmp_path: Path, writer: Writer, daemon: DaemonProcess
) -> None:
    first, last = writer.moments(2)
    writer.write(first)
    daemon.drain()
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    writer.write(last)
    daemon.wait_until(lambda: daemon.log.read_text().count('"failed"') > 1)
    assert daemon.metric("ready") == 0
    assert not (tmp_path / "store" / "sample" / "checkpoint").exists()
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    daemon.wait_until(lambda: daemon.metric("ready") == 1)
    daemon.drain()
    assert daemon.stop() == 0
    (counted,) = rows(tmp_path / "store", "SELECT count(*) AS n FROM audit")
    assert counted["n"] == len(read_at_once(tmp_path))
    assert scalple("verify", "--store", tmp_path / "store").code == 0


def test_check_says_what_there_is_to_follow(tmp_path: Path, writer: Writer) -> None:
    config = tmp_path / "config.toml"
    config.write_text(configuration(tmp_path))
    said = scalple("daemon", "--config", config, "--check")
    assert said.code == 0, said.err
    assert said.out.count("1 file(s)") == 3
    assert "no file is there" not in said.err
    assert not (tmp_path / "store").exists()
    shutil.rmtree(tmp_path / "logs")
    said = scalple("daemon", "--config", config, "--check")
    assert (said.code, said.err.count("no file is there yet")) == (0, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('store = "store"\n', "no server log to follow"),
        ('store = "store"\n[daemon]\ncommit_interval_s = 0\n', "commit_interval_s"),
        ('[sources]\npostgres = ["x.csv"]\n', "--store"),
        ('store = "s3://bucket/x"\n[sources]\npostgres = ["x.csv"]\n', "on its own host"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    said = scalple("daemon", "--config", config)
    assert said.code == 4
    assert says in said.err
