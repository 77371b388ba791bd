"""What a daemon says of itself while something is wrong: with a sender, with its disk, with its files."""

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from scalple.cli import status
from scalple.cli.config import Config
from scalple.cli.daemon import pause_s
from scalple.cli.daemonstatus import DaemonState, counters, faults
from scalple.cli.following import Following
from scalple.cli.followplan import open_following
from scalple.cli.intaking import check
from scalple.cli.options import configured
from scalple.ingest.errors import StoreError
from scalple.ingest.intake import Request
from scalple.ingest.shipment import EVENTS_PATH, SENDER, SIGNATURE, sign
from scalple.ingest.statusread import Page, read_metrics
from scalple.store.writer import StoreWriter
from tests.commandline import SAMPLE
from tests.senders import Member, Post, batch_of
from tests.test_daemon import configuration
from tests.test_intake import append


@dataclass
class Watched:
    """A daemon's rounds, made by hand, and what is said of them."""

    directory: Path
    more: str = ""

    def __post_init__(self) -> None:
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        self.state = DaemonState()

    def config(self) -> Config:
        """As a file says it."""
        path = self.directory / "c.toml"
        path.write_text(configuration(self.directory) + self.more)
        return configured(path)

    @contextmanager
    def following(self) -> Iterator[Following]:
        """Its files, followed."""
        with open_following(self.config()) as following:
            yield following

    def round(self, following: Following) -> None:
        """One that goes well."""
        self.state.note(following, following.round(), 0.1)

    def view(self) -> status.View:
        """What `status` makes of it."""
        registry = CollectorRegistry()
        registry.register(counters(self.state))
        why = faults(self.state)
        metrics = read_metrics(generate_latest(registry).decode())
        return status.view_of(Page(metrics, not why, "; ".join(why)), "here")

    def shown(self) -> str:
        """The same, for people."""
        view = self.view()
        return "\n".join(status.lines(view, None, dt.datetime.now(dt.UTC)))


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """Of a server's log that is there."""
    made = Watched(tmp_path)
    data = (SAMPLE / "postgresql.csv").read_bytes()
    (made.logs / "postgresql.csv").write_bytes(data[: data.index(b"\n2026", 4000) + 1])
    return made


def test_a_senders_nonsense_makes_nobody_else_unwell(tmp_path: Path, watched: Watched) -> None:
    member = Member(tmp_path, "app1", ("app1",))
    post = Post(tmp_path, [member])
    intake = watched.state.intake = check(post.section()).intake
    watched.more = (
        f'\n[intake]\nlisten = "{post.section().listen}"\ndirectory = "{post.spool}"\n'
        f'certificate_file = "{post.certificate}"\nkey_file = "{post.key}"\n'
        f'[[intake.sender]]\nname = "app1"\nwriters = ["app1"]\n'
        f'public_key_file = "{member.public}"\ntoken_file = "{member.token_file}"\n'
    )

    def send(events: bytes) -> int:
        data = batch_of(member, events).to_bytes()
        said = {SENDER: "app1", "Authorization": f"Bearer {member.token}"}
        said[SIGNATURE] = sign(data, member.key)
        headers = {name.lower(): value for name, value in said.items()}
        request = Request("POST", EVENTS_PATH, headers, len(data), None)
        return intake.answer(request, lambda: data).status

    assert send(b"nonsense\n" * 20) == 422
    assert send(b"{" + b"x" * 100) == 200  # it might have become an event
    with watched.following() as following:
        watched.round(following)
        watched.round(following)
    view = watched.view()
    assert (view.ready, view.unreadable_files) == (True, 0)
    assert [(one.sender, one.refused, one.unreadable_files) for one in view.senders] == [
        ("app1", 1, 1)
    ]
    assert "sender app1: 1 batches refused, 1 files that are none of events" in watched.shown()
    # The same in a folder of this host is this host's trouble.
    (watched.logs / "identity.jsonl").write_bytes(b"nonsense\n" * 20)
    with watched.following() as following:
        watched.round(following)
    assert (watched.view().ready, watched.view().unreadable_files) == (False, 1)


def test_the_lag_grows_while_the_disk_is_full(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("no space left on device")

    log = watched.logs / "postgresql.csv"
    state, read = watched.state, log.stat().st_size
    with watched.following() as following:
        watched.round(following)
        assert [state.lag["postgres"].bytes, state.lag_s("postgres")] == [0, 0.0]
        rest = (SAMPLE / "postgresql.csv").read_bytes()[read:].splitlines(keepends=True)
        append(log, rest[0])
        with monkeypatch.context() as patch:
            patch.setattr(StoreWriter, "commit", full)
            with pytest.raises(StoreError):
                following.round()
            state.note_failure("full", following.followers)
    seen = [(state.lag["postgres"].bytes, state.lag_s("postgres"))]
    for line in rest[1:4]:  # by now the store can't even be opened
        append(log, line)
        time.sleep(0.01)
        state.note_failure("full")
        seen.append((state.lag["postgres"].bytes, state.lag_s("postgres")))
    ends = [sum(map(len, rest[: n + 1])) for n in range(4)]
    assert [behind for behind, _ in seen] == ends
    assert all(one < two for (_, one), (_, two) in pairwise(seen))
    (source, *_) = watched.view().sources
    assert (source.source, source.lag_bytes) == ("postgres", ends[-1]) and source.lag_s > 0
    log.rename(log.with_name("postgresql.csv.1"))
    append(log, b"".join(rest[4:6]))
    state.note_failure("full")
    assert state.lag["postgres"].bytes == sum(map(len, rest[:6]))


def test_a_daemon_that_failed_for_days_tries_again() -> None:
    assert [pause_s(n) for n in (1, 2, 7, 100_000)] == [1.0, 2.0, 60.0, 60.0]


def test_a_daemon_that_follows_nothing_is_not_well(watched: Watched) -> None:
    log = watched.logs / "postgresql.csv"
    data = log.read_bytes()
    log.unlink()
    with watched.following() as following:
        watched.round(following)
        assert watched.view().why == "nothing is followed: no file matches [sources]"
        (watched.logs / "pgbouncer.log").write_bytes(b"")
        watched.round(following)
        assert "no server log is followed" in (watched.view().why or "")
        log.write_bytes(data)
        watched.round(following)
    assert watched.view().ready
    assert [one.files for one in watched.view().sources] == [1, 1, 0]
    assert [line.split()[-1] for line in watched.shown().splitlines()[2:6]] == [
        "files",
        *"110",
    ]
