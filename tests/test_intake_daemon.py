"""A sidecar's events arrive from another host, late, while both ends are killed: the right names in the end."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import rows, scalple
from tests.daemons import DaemonProcess
from tests.senders import Member, Post
from tests.stack import HOST, free_port
from tests.test_daemon import SAID, Writer, configuration, read_at_once


@contextmanager
def shipping(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`ship-events` as a process."""
    command = [str(Path(sys.executable).with_name("scalple-ingest")), "ship-events"]
    with log.open("ab") as file:
        process = subprocess.Popen([*command, "--config", str(config)], stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """Nothing is written yet."""
    (tmp_path / "logs").mkdir()
    return Writer(tmp_path / "logs")


def test_late_events_of_another_host_name_the_right_people_whoever_is_killed(
    tmp_path: Path, writer: Writer
) -> None:
    member = Member(tmp_path, "app1", ("*",))
    post = Post(tmp_path, [member])
    post.port = free_port()
    text = re.sub(r"(?m)^identity\s*= \[.*\]$", "", configuration(tmp_path))
    section = post.section()
    text += (
        f'\n[intake]\nlisten = "{section.listen}"\ndirectory = "intake"\n'
        f'certificate_file = "{post.certificate}"\nkey_file = "{post.key}"\n'
        f'[[intake.sender]]\nname = "app1"\nwriters = ["*"]\n'
        f'public_key_file = "{member.public}"\ntoken_file = "{member.token_file}"\n'
    )
    ship = tmp_path / "ship.toml"
    ship.write_text(
        f'[ship]\nto = "https://{HOST}:{post.port}"\nevents = ["logs/identity.jsonl*"]\n'
        f'name = "app1"\nkey_file = "{member.key_file}"\ntoken_file = "{member.token_file}"\n'
        f'ca_file = "{post.authority.certificate}"\nbatch_kb = 16\nscan_interval_s = 0.2\n'
    )
    log = tmp_path / "ship.log"
    with DaemonProcess(tmp_path, text, more="revise_interval_s = 0.2\n") as daemon:
        first, second, last = writer.moments(3)
        writer.write(first)
        daemon.drain()  # statements are committed, and nobody has said who they were
        with shipping(ship, log) as shipper:
            writer.write(second)
            daemon.wait_until(lambda: bool(post.arrived(member)))
            shipper.kill()
        with shipping(ship, log) as shipper:
            daemon.kill()
            writer.write(last)
            daemon.start()
            identity = (writer.logs / "identity.jsonl").read_bytes()
            daemon.wait_until(lambda: post.arrived(member) == identity)
            daemon.drain()
            daemon.wait_until(lambda: daemon.metric("revising") == 0)
            assert daemon.metric('intake_requests_total{status="200"}') > 0
            shipper.send_signal(signal.SIGTERM)
            assert shipper.wait(30) == 0
        assert daemon.stop() == 0
    store = tmp_path / "store"
    found = rows(store, f"SELECT {SAID} FROM audit ORDER BY source_offset")
    assert found == read_at_once(tmp_path)
    (counted,) = rows(
        store,
        "SELECT count(*) AS n, count(DISTINCT (sidecar, sidecar_seq)) AS d FROM evidence "
        "WHERE source = 'identity'",
    )
    assert counted["n"] == counted["d"] == identity.count(b"\n")
    revised: list[dict[str, Any]] = rows(store, "SELECT count(*) AS n FROM revisions")
    assert revised[0]["n"] > 100
    assert scalple("verify", "--store", store).code == 0


def test_a_reload_lets_a_sender_in_and_another_out(tmp_path: Path, writer: Writer) -> None:
    one, two = Member(tmp_path, "app1", ("app1",)), Member(tmp_path, "app2", ("app2",))
    post = Post(tmp_path, [one])
    post.port = free_port()

    def configured(member: Member) -> str:
        return configuration(tmp_path) + (
            f'\n[intake]\nlisten = "{HOST}:{post.port}"\ndirectory = "intake"\n'
            f'certificate_file = "{post.certificate}"\nkey_file = "{post.key}"\n'
            f'[[intake.sender]]\nname = "{member.name}"\nwriters = ["{member.name}"]\n'
            f'public_key_file = "{member.public}"\ntoken_file = "{member.token_file}"\n'
        )

    def asks(member: Member) -> int:
        return post.ask(member, None, path="/v1/positions")[0]

    with DaemonProcess(tmp_path, configured(one)) as daemon:
        assert (asks(one), asks(two)) == (200, 401)
        daemon.write(configured(two).replace("app2.pub", "missing.pub"))
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: "reload refused" in daemon.log.read_text())
        assert (asks(one), asks(two)) == (200, 401)
        daemon.write(configured(two))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: asks(two) == 200)
        assert asks(one) == 401
    assert "company.com" not in daemon.log.read_text()
