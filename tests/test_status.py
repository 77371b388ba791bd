"""`status` beside a real daemon: what it shows is what the store holds; nobody there, nobody's page, a terminal."""

import errno
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scalple.cli.status import View
from scalple.ingest import statusread
from scalple.ingest.errors import InputError
from scalple.ingest.place import Place
from scalple.ingest.statusread import read_page
from tests.commandline import SAMPLE, manifests, rows, scalple
from tests.daemons import DaemonProcess
from tests.stack import HOST, free_port
from tests.test_daemon import FILES, configuration

DOCS = Path(__file__).resolve().parent.parent / "docs"
COMMAND = [sys.executable, "-m", "scalple.cli.main", "status"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One that has read the sample."""
    directory = tmp_path_factory.mktemp("status")
    (directory / "logs").mkdir()
    for name in FILES:
        (directory / "logs" / name).write_bytes((SAMPLE / name).read_bytes())
    with DaemonProcess(directory, configuration(directory)) as running:
        running.drain()
        yield running


def test_it_shows_what_the_store_holds(daemon: DaemonProcess) -> None:
    said = scalple("status", "--at", f"{HOST}:{daemon.port}", "--json")
    assert (said.code, said.err) == (0, "")
    shown = said.json()
    store = daemon.directory / "store"
    found = rows(store, "SELECT attribution_grade AS g, count(*) AS n FROM audit GROUP BY 1")
    grades = {row["g"]: row["n"] for row in found}
    assert shown["by_grade"] == grades
    assert shown["statements"] == shown["rows"]["audit"] == sum(grades.values())
    named = sum(grades.get(one, 0) for one in ("proven", "confirmed", "claimed"))
    people = sum(grades.values()) - grades["pooler"]
    assert shown["attributed_share"] == pytest.approx(named / people, abs=1e-6)
    assert shown["commits"] == manifests(store)
    assert shown["gaps"] == rows(store, "SELECT count(*) AS n FROM gaps WHERE seq >= 0")[0]["n"]
    assert {one["source"]: one["lag_bytes"] for one in shown["sources"]} == {
        "postgres": 0,
        "pgbouncer": 0,
        "identity": 0,
    }
    assert all(one["lag_s"] == 0 for one in shown["sources"])
    (newest,) = rows(store, "SELECT max(log_time) AS t FROM audit")
    assert shown["newest"].startswith(f"{newest['t']:%Y-%m-%dT%H:%M:%S}")
    section = (DOCS / "DAEMON.md").read_text().partition("### STATUS\n")[2].partition("\n#")[0]
    listed = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert listed == set(shown) == {one.name for one in fields(View)}


def test_a_piped_view_is_shown_once_in_eighty_columns(daemon: DaemonProcess) -> None:
    done = subprocess.run(
        [*COMMAND, "--config", daemon.config], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert re.search(r"(?m)^postgres +0 B +0\.0 s", done.stdout)
    assert re.search(r"(?m)^statements since the start: 7,119, \d+\.\d% attributed$", done.stdout)


def test_half_a_record_is_lag_in_bytes_and_seconds(daemon: DaemonProcess) -> None:
    with (daemon.directory / "logs" / "postgresql.csv").open("ab") as log:
        log.write(b"2026-11-23 13:29:15.0")
    at = ("status", "--at", f"{HOST}:{daemon.port}", "--json")
    daemon.wait_until(lambda: scalple(*at).json()["sources"][0]["lag_s"] > 0.3)
    shown = scalple(*at).json()["sources"][0]
    assert (shown["source"], shown["lag_bytes"]) == ("postgres", 21)
    with (daemon.directory / "logs" / "postgresql.csv").open("r+b") as log:
        log.truncate((SAMPLE / "postgresql.csv").stat().st_size)


def test_a_terminal_is_drawn_anew_until_interrupted(daemon: DaemonProcess) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [*COMMAND, "--at", f"{HOST}:{daemon.port}", "--interval", "0.2"]
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + 20
        while shown.count(b"\x1b[H\x1b[J") < 3:
            assert time.monotonic() < deadline
            try:
                shown += os.read(ours, 65536)
            except OSError as error:
                assert error.errno == errno.EIO
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    os.close(ours)
    last = shown.decode().split("\x1b[H\x1b[J")[2]
    assert len(last.splitlines()) <= 24
    assert max(map(len, last.splitlines())) <= 80
    assert "0.0/s" in last


def test_a_daemon_that_is_not_well_says_why() -> None:
    with served(b"# TYPE scalple_rounds_total counter\nscalple_rounds_total 3.0\n", 503) as port:
        said = scalple("status", "--at", f"{HOST}:{port}")
    assert said.code == 8
    assert "NOT WELL" in said.out
    assert "\n  the last round failed\n" in said.out


@contextmanager
def served(
    metrics: bytes, ready: int = 200, why: bytes = b"the last round failed; more\n"
) -> Iterator[int]:
    """A page that says that."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_metrics = self.path == "/metrics"
            body = metrics if is_metrics else why
            self.send_response(200 if is_metrics else ready)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer((HOST, 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_nobody_there_and_somebody_else_there_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    said = scalple("status", "--at", f"{HOST}:{free_port()}")
    assert (said.code, said.out) == (3, "")
    assert "no daemon answers: connection refused" in said.err
    assert "[daemon] status" in said.err
    for page in (b"hello", b"# TYPE scalple_sidecar_ready gauge\nscalple_sidecar_ready 1.0\n"):
        with served(page) as port:
            said = scalple("status", "--at", f"{HOST}:{port}", "--json")
            assert (said.code, said.out) == (3, "")
            assert "what answers there" in said.err
    config = tmp_path / "config.toml"
    config.write_text("")
    for arguments in ((), ("--config", config), ("--at", "/run/x"), ("--at", "nowhere")):
        said = scalple("status", *arguments)
        assert (said.code, said.out) == (4, ""), arguments


def test_a_name_in_a_label_is_read_as_it_is_written() -> None:
    text = (
        b"# TYPE scalple_rounds_total counter\nscalple_rounds_total 1.0\n"
        b'scalple_rows_total{kind="a\\"} 7 b"} 5.0\nscalple_rows_total{kind="gaps"} 2.0\n'
        b"not a metric\nothers_total NaN\n"
    )
    with served(text) as port:
        shown = json.loads(scalple("status", "--at", f"{HOST}:{port}", "--json").out)
    assert shown["rows"] == {'a\\"} 7 b': 5, "gaps": 2}
    assert shown["gaps"] == 2
    assert shown["newest"] is None


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1e300", "9" * 400, "NaN?", "0x10"])
def test_a_figure_that_is_no_number_is_refused(value: str) -> None:
    for name in ("scalple_commits_total", 'scalple_lag_bytes{source="postgres"}'):
        text = f"# TYPE scalple_rounds_total counter\nscalple_rounds_total 1.0\n{name} {value}\n"
        with served(text.encode()) as port:
            said = scalple("status", "--at", f"{HOST}:{port}")
        assert (said.code, said.out) == (3, "")
        assert name.partition("{")[0] in said.err and "which is none" in said.err


def test_a_moment_that_no_calendar_has_is_refused() -> None:
    text = b"# TYPE scalple_rounds_total counter\nscalple_rounds_total 1.0\n"
    with served(text + b"scalple_newest_statement_seconds 1e18\n") as port:
        said = scalple("status", "--at", f"{HOST}:{port}")
    assert (said.code, said.out) == (3, "") and "scalple_newest_statement_seconds" in said.err


HOSTILE = "a\x1b[2J\x07\x9b1m\u202e\x7f\u2028z"


def test_a_hostile_page_does_not_write_to_the_terminal() -> None:
    text = (
        "# TYPE scalple_rounds_total counter\nscalple_rounds_total 1.0\n"
        f'scalple_statements_total{{grade="{HOSTILE}"}} 1.0\n'
        f'scalple_lag_bytes{{source="{HOSTILE}"}} 1.0\n'
    )
    with served(text.encode(), 503, f"it failed: {HOSTILE}\n".encode()) as port:
        for form in ((), ("--json",)):
            said = scalple("status", "--at", f"{HOST}:{port}", *form)
            assert said.code == 8
            assert all(one.isprintable() for one in said.out.split("\n"))
    assert json.loads(said.out)["by_grade"] == {HOSTILE: 1}
    with served(text.encode() + f"scalple_commits_total {HOSTILE}\n".encode()) as port:
        said = scalple("status", "--at", f"{HOST}:{port}")
    assert said.code == 3 and all(one.isprintable() for one in said.err.split("\n"))


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 \x1b[2J\r\n\r\n", b"\x1b[2J\x07\r\n\r\n", b"HTTP/1.1 999999\r\n\r\n"]
)
def test_an_answer_that_is_none_is_told_in_plain_letters(head: bytes) -> None:
    with socket.create_server((HOST, 0)) as server:
        thread = threading.Thread(target=_answers, args=(server, head))
        thread.start()
        said = scalple("status", "--at", f"{HOST}:{server.getsockname()[1]}")
        thread.join()
    assert said.code == 3
    assert all(one.isprintable() for one in said.err.split("\n"))


def _answers(server: socket.socket, data: bytes) -> None:
    client, _ = server.accept()
    with client:
        client.recv(1 << 16)
        client.sendall(data)


def test_a_page_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    begins = b"# TYPE scalple_rounds_total counter\nscalple_rounds_total 1.0\n"
    with served(begins + b"#" * (5 << 20)) as port, pytest.raises(InputError, match="more than"):
        read_page(Place(HOST, port))
    many = b"".join(b'scalple_rows_total{kind="%d"} 1\n' % n for n in range(2000))
    with served(begins + many) as port, pytest.raises(InputError, match="more than 1,000"):
        read_page(Place(HOST, port))
    with served(begins + b"scalple_x{" + b"a" * (1 << 20) + b"} 1\n") as port:
        read_page(Place(HOST, port))  # in time that grows with its length only
    monkeypatch.setattr(statusread, "_ANSWER_S", 0.2)
    ending = threading.Event()
    with socket.create_server((HOST, 0)) as server:
        thread = threading.Thread(target=_drips, args=(server, ending))
        thread.start()
        with pytest.raises(InputError, match="no whole answer"):
            read_page(Place(HOST, server.getsockname()[1]))
        ending.set()
        thread.join()


def _drips(server: socket.socket, ending: threading.Event) -> None:
    client, _ = server.accept()
    with client, suppress(OSError):
        while not ending.wait(0.02):
            client.sendall(b"H")
