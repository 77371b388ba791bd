"""Events that arrive over HTTPS: each byte once, and nobody's but the sender's own."""

import base64
import contextlib
import datetime as dt
import errno
import gzip
import json
import os
import random
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scalple.cli.intaking import check
from scalple.ingest import intakeserver, senders, shippedstate, spool
from scalple.ingest.errors import InputError
from scalple.ingest.generations import Unfinished
from scalple.ingest.intake import Answer, Intake, Request
from scalple.ingest.place import Place
from scalple.ingest.senders import Allowance
from scalple.ingest.shipment import CLOCK, SENDER, STATE_MAX, Position, sign
from scalple.ingest.shipper import Daemon, ElsewhereError, NotTakenError, Reply, Shipper, ship
from tests.certificates import Authority
from tests.commandline import scalple
from tests.examples import examples
from tests.senders import Member, Post, batch_of
from tests.stack import HOST

SECRET = "j.muller@company.com"


def event(seq: int, sidecar: str = "app1", address: str = "10.0.0.5", **more: Any) -> bytes:
    """One line of an event file."""
    said = {
        "v": 1,
        "event": "open",
        "ts": "2026-03-14T11:22:07.913482Z",
        "sidecar": sidecar,
        "seq": seq,
        "connection": f"{sidecar}/{seq}",
        "client_addr": address,
        "client_port": 40_000 + seq % 20_000,
        "actor": SECRET,
    }
    return json.dumps(said | more).encode() + b"\n"


@pytest.fixture
def app1(tmp_path: Path) -> Member:
    """May speak of its own writers, in its own network."""
    return Member(tmp_path, "app1", ("app1", "app1-*"), ("10.0.0.0/24",))


@pytest.fixture
def app2(tmp_path: Path) -> Member:
    """Another one."""
    return Member(tmp_path, "app2", ("app2",))


@pytest.fixture
def post(tmp_path: Path, app1: Member, app2: Member) -> Iterator[Post]:
    """Takes events of both."""
    made = Post(tmp_path, [app1, app2])
    with made.running():
        yield made


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """The event file that app1 writes."""
    (tmp_path / "events").mkdir()
    return tmp_path / "events" / "app1.jsonl"


def append(path: Path, data: bytes) -> None:
    """As a writer does."""
    with path.open("ab") as file:
        file.write(data)


def pattern(path: Path) -> Path:
    """The file, whatever rotation calls it."""
    return path.with_name(f"{path.name}*")


# -- each byte once --------------------------------------------------------------------------------


def test_what_is_written_arrives_once_through_rotation_and_compression(
    post: Post, app1: Member, events: Path
) -> None:
    one = post.shipper(app1, pattern(events), 1 << 14)
    first = b"".join(event(n) for n in range(300))
    append(events, first + event(300)[:40])
    assert one.round() == len(first)
    append(events, event(300)[40:])
    rotated = events.with_name("app1.jsonl.1")
    events.rename(rotated)
    append(events, second := b"".join(event(n) for n in range(301, 400)))
    one.round()
    one.close()
    packed = rotated.with_name("app1.jsonl.1.gz")
    packed.write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    again = post.shipper(app1, pattern(events))
    assert again.round() == 0
    again.close()
    files = sorted(one.read_bytes() for one in (post.spool / "app1").glob("*.jsonl"))
    assert files == sorted([first + event(300), second])


def test_a_lost_acknowledgement_doubles_nothing(
    post: Post, app1: Member, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []
    said = intakeserver._response

    def swallowed(answer: Answer) -> bytes:
        if "end" in answer.body and len(lost) < 2:
            lost.append(answer.body["end"])
            raise OSError("the cable is out")
        return said(answer)

    monkeypatch.setattr(intakeserver, "_response", swallowed)
    append(events, data := b"".join(event(n) for n in range(500)))
    one = post.shipper(app1, events, 1 << 14)
    for _ in range(2):
        with pytest.raises(NotTakenError):
            one.round()
    one.round()
    one.close()
    assert len(lost) == 2
    assert post.arrived(app1) == data


def test_a_replayed_batch_changes_nothing(post: Post, app1: Member) -> None:
    first, second = (batch_of(app1, event(0) + event(1)).to_bytes() for _ in range(2))
    assert post.ask(app1, first)[:2] == (200, {"end": len(event(0) + event(1))})
    more = batch_of(app1, event(2), len(event(0) + event(1)), head=(event(0) + event(1))[:64])
    assert post.ask(app1, more.to_bytes())[0] == 200
    for _ in range(3):
        assert post.ask(app1, second)[0] == 200
    assert post.arrived(app1) == event(0) + event(1) + event(2)


def test_a_batch_that_says_other_bytes_or_leaves_some_out_is_refused(
    post: Post, app1: Member
) -> None:
    data = event(0) + event(1)
    assert post.ask(app1, batch_of(app1, data).to_bytes())[0] == 200
    other = batch_of(app1, event(0) + event(7)).to_bytes()
    assert post.ask(app1, other)[0] == 409
    later = batch_of(app1, event(9), len(data) + 5, head=data[:64]).to_bytes()
    status, said, _ = post.ask(app1, later)
    assert (status, said["end"]) == (409, len(data))
    lies = batch_of(app1, event(3), head=b"something else", incarnation=1).to_bytes()
    assert post.ask(app1, lies)[0] == 409
    assert post.arrived(app1) == data
    assert len(list((post.spool / "app1").iterdir())) == 1


def test_a_write_that_breaks_off_goes_on_in_the_middle_of_the_line(
    post: Post, app1: Member, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(events, data := b"".join(event(n) for n in range(100)))
    wrote = spool._write_all

    def breaks_off(descriptor: int, lines: bytes) -> None:
        if b'"event"' not in lines:
            wrote(descriptor, lines)
            return
        wrote(descriptor, lines[: len(lines) // 3 + 7])
        raise OSError(errno.ENOSPC, "full")

    one = post.shipper(app1, events)
    with monkeypatch.context() as patch:
        patch.setattr(spool, "_write_all", breaks_off)
        with pytest.raises(NotTakenError, match="507") as refused:
            one.round()
    assert refused.value.retry_s == 30
    assert 0 < len(post.arrived(app1)) < len(data)
    one.round()
    one.close()
    assert post.arrived(app1) == data


def test_a_write_that_breaks_off_in_the_head_leaves_no_torn_file(
    post: Post, app1: Member, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(events, event(0))
    wrote = spool._write_all

    def breaks_off(descriptor: int, lines: bytes) -> None:
        wrote(descriptor, lines[:49])
        raise OSError(errno.EIO, "broken")

    one = post.shipper(app1, events)
    with monkeypatch.context() as patch:
        patch.setattr(spool, "_write_all", breaks_off)
        with pytest.raises(NotTakenError):
            one.round()
    append(events, event(1))
    one.round()
    one.close()
    assert post.arrived(app1) == event(0) + event(1)


def test_a_spool_that_was_lost_is_sent_again(post: Post, app1: Member, events: Path) -> None:
    append(events, event(0))
    one = post.shipper(app1, events)
    one.round()
    for path in (post.spool / "app1").iterdir():
        path.unlink()
    append(events, event(1))
    with pytest.raises(ElsewhereError) as elsewhere:
        one.round()
    assert one.pause_s(elsewhere.value) == 0
    one.round()
    one.close()
    assert post.arrived(app1) == event(0) + event(1)


def test_what_is_old_and_read_goes_and_is_not_sent_again(
    post: Post, app1: Member, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(events, event(0))
    one = post.shipper(app1, events)
    one.round()
    kept = spool.Spool(post.spool / "app1")
    (path,) = (post.spool / "app1").glob("*.jsonl")
    kept.tidy(1000, lambda _path: True)
    assert path.exists()
    os.utime(path, (1, 1))
    kept.tidy(1000, lambda _path: True)
    (old,) = (post.spool / "app1").glob("*.jsonl*")
    assert old.name == f"{path.name}.old" and old.read_bytes() == event(0)
    kept.tidy(1000, lambda _path: True)  # too soon
    monkeypatch.setattr(spool, "OLD_S", 0.0)
    kept.tidy(1000, lambda _path: False)  # not read yet
    assert old.exists()
    kept.tidy(1000, lambda _path: True)
    assert not old.exists()
    one.close()
    again = post.shipper(app1, events)
    assert again.round() == 0
    append(events, event(1))
    with pytest.raises(ElsewhereError):
        again.round()
    again.round()
    again.close()
    assert post.arrived(app1) == event(0) + event(1)


def test_a_daemon_that_is_down_is_caught_up_with(
    tmp_path: Path, app1: Member, events: Path
) -> None:
    post = Post(tmp_path, [app1])
    with post.running():
        pass
    append(events, data := b"".join(event(n) for n in range(20)))
    one = post.shipper(app1, events)
    with pytest.raises(NotTakenError) as refused:
        one.round()
    pauses = [one.pause_s(refused.value) for _ in range(12)]
    assert pauses[0] <= 1 < pauses[-1] <= 60
    with post.running():
        one.round()
    one.close()
    assert post.arrived(app1) == data


@settings(max_examples=examples(2), deadline=None, phases=(Phase.explicit, Phase.generate))
@given(seed=st.integers(0, 2**32))
def test_whatever_fails_all_bytes_arrive_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(seed)
    directory = tmp_path_factory.mktemp("any")
    member = Member(directory, "app1", ("app1",))
    post = Post(directory, [member])
    path = directory / "events" / "app1.jsonl"
    path.parent.mkdir()
    written: list[bytes] = [b""]
    seq = 0
    fails = {"answers": False, "disk": False}
    said, wrote = intakeserver._response, spool._write_all

    def swallowed(answer: Answer) -> bytes:
        if fails["answers"] and chance.random() < 0.5:
            raise OSError
        return said(answer)

    def broken(descriptor: int, lines: bytes) -> None:
        if fails["disk"] and chance.random() < 0.5:
            wrote(descriptor, lines[: chance.randrange(len(lines) + 1)])
            raise OSError(errno.EIO, "broken")
        wrote(descriptor, lines)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intakeserver, "_response", swallowed)
        patch.setattr(spool, "_write_all", broken)
        one: Shipper | None = None
        for turn in range(10):
            last = turn == 9
            fails = (
                dict.fromkeys(fails, False) if last else {f: chance.random() < 0.4 for f in fails}
            )
            lines = b"".join(event(seq + n, pad="x" * chance.randrange(300)) for n in range(30))
            seq += 30
            append(path, lines)
            written[-1] += lines
            with post.running() if chance.random() < 0.9 or last else contextlib.nullcontext():
                one = one or post.shipper(member, pattern(path), 1 << 14)
                one.daemon = post.daemon(member)
                for _ in range(3):
                    with contextlib.suppress(NotTakenError):
                        one.round()
            if chance.random() < 0.3:
                one.close()
                one = None
            if chance.random() < 0.3 and not last:
                path.rename(path.with_name(f"app1.jsonl.{turn}"))
                written.append(b"")
        if one is not None:
            one.close()
    files = [one.read_bytes() for one in (post.spool / "app1").glob("*.jsonl")]
    assert sorted(files) == sorted(one for one in written if one)


# -- who may send ----------------------------------------------------------------------------------


def test_a_forged_signature_is_refused(post: Post, app1: Member, app2: Member) -> None:
    data = batch_of(app1, event(0)).to_bytes()
    forger = Ed25519PrivateKey.generate()
    for signature in (sign(data, forger), sign(data, app2.key), "", "not base64 é", "AAAA"):
        said = {"Scalple-Signature": signature.encode("latin-1", "replace").decode("latin-1")}
        assert post.ask(app1, data, headers=said)[0] == 403
    other = batch_of(app1, event(1)).to_bytes()
    assert post.ask(app1, other, headers={"Scalple-Signature": sign(data, app1.key)})[0] == 403
    assert not post.spool.exists()


def test_a_wrong_token_is_refused(post: Post, app1: Member, app2: Member) -> None:
    data = batch_of(app1, event(0)).to_bytes()
    for shown in ("Bearer wrong", f"Bearer {app2.token}", "Bearer", f"Basic {app1.token}", ""):
        assert post.ask(app1, data, headers={"Authorization": shown})[0] == 401
    for name in ("app2", "nobody", ""):
        assert post.ask(app1, data, headers={"Scalple-Sender": name})[0] == 401
    assert post.ask(app1, None, path="/v1/positions", headers={"Authorization": "x"})[0] == 401
    assert not post.spool.exists()


def test_a_batch_signed_for_one_sender_is_not_anothers(
    post: Post, app1: Member, app2: Member
) -> None:
    data = batch_of(app1, event(0), sender="app2").to_bytes()
    assert post.ask(app1, data)[0] == 403


@pytest.mark.parametrize(
    "lines",
    [
        event(0, "app2"),
        event(0) + event(1, "app2"),
        b"nonsense\0\0\0" + event(1, "app2"),
        event(0)[:-1] + b"\0" + event(1, "app2"),
        event(0, address="10.0.1.5"),
        event(0, address="unix"),
        event(0, address="::ffff:10.0.1.5"),
    ],
)
def test_another_senders_writers_and_connections_are_refused(
    post: Post, app1: Member, lines: bytes
) -> None:
    status, said, _ = post.ask(app1, batch_of(app1, lines).to_bytes())
    assert status == 403
    assert SECRET not in json.dumps(said)
    assert post.arrived(app1) == b""


def test_a_writers_name_cut_in_two_batches_is_refused(post: Post, app1: Member) -> None:
    line = event(0, "app2")
    cut = line.index(b"app2") + 2
    assert post.ask(app1, batch_of(app1, line[:cut]).to_bytes())[0] == 200
    rest = batch_of(app1, line[cut:], cut, head=line[: min(64, cut)], head_bytes=min(64, cut))
    assert post.ask(app1, rest.to_bytes())[0] == 403


def test_the_second_half_of_a_name_is_not_looked_at_before_the_first_is_there(
    post: Post, app1: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests at once: the second half is sent first, with much behind it to look at."""
    line = event(0, "app2")
    cut = line.index(b"app2") + 2
    head = line[: min(64, cut)]
    rest = batch_of(app1, line[cut:] + b"{}\n" * 1000, cut, head=head, head_bytes=len(head))
    whole, fault = post.arrived, senders.Sender.fault

    def slow(self: senders.Sender, lines: bytes) -> str | None:
        if b"{}" in lines:
            time.sleep(0.5)
        return fault(self, lines)

    monkeypatch.setattr(senders.Sender, "fault", slow)
    with ThreadPoolExecutor(2) as pool:
        second = pool.submit(post.ask, app1, rest.to_bytes())
        time.sleep(0.2)
        first = pool.submit(post.ask, app1, batch_of(app1, line[:cut]).to_bytes())
        assert (first.result()[0], second.result()[0] in (403, 409)) == (200, True)
    assert b"{}" not in whole(app1)


def test_a_line_too_long_to_be_looked_at_is_refused(
    post: Post, app1: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_LINE_MAX", 100)
    begins = b'{"padding":"' + b"x" * 200
    assert post.ask(app1, batch_of(app1, begins).to_bytes())[0] == 200
    rest = batch_of(app1, b'",' + event(0, "app2")[1:], len(begins), head=begins[:64])
    assert post.ask(app1, rest.to_bytes())[0] == 422


def test_what_is_compressed_is_refused(post: Post, app1: Member) -> None:
    packed = gzip.compress(event(0, "app2"))
    assert post.ask(app1, batch_of(app1, packed).to_bytes())[0] == 422
    assert post.ask(app1, batch_of(app1, packed[:1]).to_bytes())[0] == 422
    assert post.arrived(app1) == b""


def test_a_name_leads_nowhere_else(post: Post, app1: Member) -> None:
    batch = batch_of(app1, event(0))
    file = batch.head.file.model_copy(update={"name": "../../../etc/x\n.jsonl"})
    away = type(batch)(batch.head.model_copy(update={"file": file}), batch.events)
    assert post.ask(app1, away.to_bytes())[0] == 200
    (found,) = (post.spool / "app1").iterdir()
    assert "/" not in found.name and found.read_bytes() == event(0)


def test_lines_that_are_no_events_name_nobody_and_are_kept(post: Post, app1: Member) -> None:
    data = event(0) + b"torn {\n" + event(1)
    assert post.ask(app1, batch_of(app1, data).to_bytes())[0] == 200
    assert post.arrived(app1) == data


@pytest.mark.parametrize("lines", [b"garbage\n" * 9, b"\n" * 99, b'{"v":1}\n' * 9])
def test_a_file_without_any_event_is_passed_over_and_holds_up_no_other(
    post: Post, app1: Member, events: Path, capfd: pytest.CaptureFixture[str], lines: bytes
) -> None:
    status, said, _ = post.ask(app1, batch_of(app1, lines).to_bytes())
    assert (status, said["file"]) == (422, "events.jsonl")
    wrong, now = events.with_name("app0.jsonl"), [0.0]
    append(wrong, lines)
    append(events, event(0))
    one = post.shipper(app1, pattern(events).with_name("app*"))
    one.clock = lambda: now[0]
    for _ in range(3):
        one.round()
    assert post.arrived(app1) == event(0)
    append(events, event(1))
    one.round()
    assert post.arrived(app1) == event(0) + event(1)
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (passed,) = (line for line in told if line["event"] == "file passed over")
    assert passed["file"] == str(wrong) and "no identity event" in passed["why"] and passed["hint"]
    # It becomes one: nothing of it is lost either.
    append(wrong, event(2))
    now[0] = 61.0
    one.round()
    one.round()
    one.close()
    kept = {path.read_bytes() for path in (post.spool / "app1").glob("*.jsonl")}
    assert kept == {lines + event(2), event(0) + event(1)}


def test_a_file_that_does_not_begin_with_an_event_arrives_whole(
    post: Post, app1: Member, events: Path
) -> None:
    append(events, data := b"# events of app1\n" + event(0) + b"{torn\n" + event(1))
    one = post.shipper(app1, events)
    one.round()
    one.close()
    assert post.arrived(app1) == data


def test_a_line_that_is_too_long_holds_up_no_other_file(
    post: Post, app1: Member, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_LINE_MAX", 10_000)
    append(events, event(0) + event(1, pad="x" * 30_000) + event(2))
    one = post.shipper(app1, events.with_name("*"), 1 << 13)
    one.round()
    append(events.with_name("other.jsonl"), event(3))
    append(events, event(4))
    one.round()
    one.close()
    assert event(3) in post.arrived(app1)
    assert event(2) not in post.arrived(app1)


class Nearby(Daemon):
    """A daemon in this process: what it is asked is what it would be asked from afar."""

    def __init__(self, intake: Intake, member: Member) -> None:
        context = ssl.create_default_context()
        super().__init__(Place(HOST, 1), member.name, member.key, context, member.token)
        self.intake, self.asked_bytes = intake, 0

    def _ask(
        self, method: str, path: str, data: bytes | None = None, more: dict[str, str] | None = None
    ) -> Reply:
        said = {SENDER: self.sender, "Authorization": f"Bearer {self.token}"} | (more or {})
        headers = {name.lower(): value for name, value in said.items()}
        self.asked_bytes += len(data or b"")
        request = Request(method, path, headers, len(data or b""), None)
        answer = self.intake.answer(request, lambda: data or b"")
        return Reply(answer.status, json.loads(json.dumps(answer.body)), None)


def test_hundreds_of_event_files_arrive_and_are_remembered(
    tmp_path: Path,
    app1: Member,
    events: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What the sender's follower remembers of more than 546 files was once too large for a batch (so many
    in `make prove`, and more than can be open at once here)."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)
    count = min(3000, examples(150))
    intake = check(Post(tmp_path, [app1], {"rate_kb_s": 1_000_000}).section()).intake
    lines = [event(n, ts=f"2026-03-14T11:22:07.{n:06}Z") for n in range(count)]
    for n, line in enumerate(lines):
        events.with_name(f"{n:04}.jsonl").write_bytes(line)
    one = Shipper(Nearby(intake, app1), [str(events.with_name("*.jsonl"))])
    while one.round() or one.is_behind:
        pass
    one.close()
    spooled = list((tmp_path / "intake" / "app1").glob("*.jsonl"))
    assert sorted(path.read_bytes() for path in spooled) == sorted(lines)
    events.with_name("0007.jsonl").unlink()
    daemon = Nearby(intake, app1)
    again = Shipper(daemon, [str(events.with_name("*.jsonl"))])
    assert again.round() == 0
    append(events.with_name("0000.jsonl"), event(count))
    assert again.round() == len(event(count))
    append(events.with_name("0001.jsonl"), event(count))
    before = daemon.asked_bytes
    again.round()
    again.close()
    assert daemon.asked_bytes - before < 1000  # what is remembered isn't said twice
    assert "can't be read" not in capfd.readouterr().err


def test_more_files_than_a_sender_may_have_are_told_of_and_the_others_go_on(
    tmp_path: Path,
    app1: Member,
    events: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(spool, "FILES_MAX", 3)
    intake = check(Post(tmp_path, [app1]).section()).intake
    for n in range(5):
        events.with_name(f"{n}.jsonl").write_bytes(event(n))
    one = Shipper(Nearby(intake, app1), [str(events.with_name("*.jsonl"))])
    one.round()
    append(events.with_name("0.jsonl"), event(9))
    one.round()
    (tmp_path / "intake" / "app1").joinpath("state").write_bytes(b"")
    told = capfd.readouterr().err
    assert told.count("file passed over") == 2 and "[intake] keep_days" in told
    spooled = {path.read_bytes() for path in (tmp_path / "intake" / "app1").glob("*.jsonl")}
    assert spooled == {event(0) + event(9), event(1), event(2)}
    one.close()


@given(seed=st.integers(0, 2**32), count=st.integers(0, 50))
def test_what_a_sender_remembers_comes_back_as_it_was(seed: int, count: int) -> None:
    chance = random.Random(seed)
    heads = [(chance.randrange(1, 4096), f"{chance.getrandbits(256):064x}") for _ in range(count)]
    remembered = [Unfinished(head, chance.randrange(3), chance.getrandbits(64)) for head in heads]
    has = [
        Position(
            name="x",
            head_bytes=head[0],
            head_sha256=head[1],
            incarnation=incarnation,
            end=1,
            tail_sha256=head[1],
        )
        for head in heads
        for incarnation in range(3)
    ]
    found = shippedstate.unpacked(shippedstate.packed(remembered), has)
    assert found is not None
    said = json.loads(found)["unfinished"]
    assert sorted(said) == sorted([*one.head, one.incarnation, one.inode] for one in remembered)


def test_what_is_remembered_of_too_many_files_is_not_known_rather_than_wrong() -> None:
    one = Unfinished((64, "0" * 64), 0, 1)
    most = shippedstate.ENTRIES_MAX
    assert most >= spool.FILES_MAX
    assert len(base64.b64encode(shippedstate.packed([one] * most))) <= STATE_MAX
    assert shippedstate.packed([one] * (most + 1)) == b""
    assert shippedstate.unpacked(b"", []) is None
    earlier = b'{"v":1,"unfinished":[]}'
    assert shippedstate.unpacked(earlier, []) == earlier
    for torn in (b"\x02abc", b"\x03", b"\x02" + bytes(15)):
        with pytest.raises(InputError):
            shippedstate.unpacked(torn, [])


# -- certificates ----------------------------------------------------------------------------------


@pytest.fixture
def by_certificate(tmp_path: Path) -> Iterator[tuple[Post, Member]]:
    """One sender, by his certificate alone."""
    member = Member(tmp_path, "app3", ("app3",), with_certificate=True, with_token=False)
    made = Post(tmp_path, [member])
    with made.running():
        yield made, member


def test_a_certificate_of_ours_is_enough(by_certificate: tuple[Post, Member]) -> None:
    post, member = by_certificate
    assert post.ask(member, batch_of(member, event(0, "app3")).to_bytes())[0] == 200


def test_no_certificate_an_unknown_or_an_expired_one_ends_at_the_door(
    by_certificate: tuple[Post, Member], tmp_path: Path
) -> None:
    post, member = by_certificate
    data = batch_of(member, event(0, "app3")).to_bytes()
    (tmp_path / "others").mkdir()
    unknown = post.trusts(member, Authority(tmp_path / "others"))
    expired = ssl.create_default_context(cafile=str(post.authority.certificate))
    expired.load_cert_chain(*post.authority.issue("app3", days=-0.01))
    for context in (post.trusts(), unknown, expired):
        with pytest.raises((ssl.SSLError, OSError)):
            post.ask(member, data, context=context)
    stranger = ssl.create_default_context(cafile=str(post.authority.certificate))
    stranger.load_cert_chain(*post.authority.issue("app4"))
    assert post.ask(member, data, context=stranger)[0] == 401
    assert not post.spool.exists()


def test_a_daemon_that_is_somebody_else_is_told_nothing(
    post: Post, app1: Member, events: Path, tmp_path: Path
) -> None:
    (tmp_path / "others").mkdir()
    other = Authority(tmp_path / "others")
    append(events, event(0))
    one = post.shipper(app1, events)
    one.daemon.context = ssl.create_default_context(cafile=str(other.certificate))
    with pytest.raises(NotTakenError):
        one.round()
    assert not post.spool.exists()


def test_old_tls_is_refused(post: Post, app1: Member) -> None:
    context = post.trusts()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        post.ask(app1, None, path="/v1/positions", context=context)


# -- how much --------------------------------------------------------------------------------------


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path, app1: Member) -> None:
    post = Post(tmp_path, [app1], {"batch_kb": 16})
    with post.running():
        status, said, _ = post.ask(app1, batch_of(app1, event(0) * 10_000).to_bytes())
        assert (status, said["limit"]) == (413, 16 << 10)
        assert post.ask(app1, batch_of(app1, event(0) * 100).to_bytes())[0] == 413
        assert post.ask(app1, b"")[0] == 411
    assert not post.spool.exists()


def test_a_sender_who_sends_too_much_waits_and_another_does_not(
    tmp_path: Path, app1: Member, app2: Member
) -> None:
    post = Post(tmp_path, [app1, app2], {"batch_kb": 16, "rate_kb_s": 1})
    lines = b"".join(event(n) for n in range(60))
    with post.running():
        found = [post.ask(app1, batch_of(app1, lines, incarnation=n).to_bytes()) for n in range(30)]
        refused = [headers for status, _, headers in found if status == 429]
        assert refused and all(int(one["Retry-After"]) >= 1 for one in refused)
        assert post.ask(app2, batch_of(app2, event(0, "app2")).to_bytes())[0] == 200


def test_an_allowance_comes_back_with_time() -> None:
    now = [0.0]
    allowance = Allowance(100, 1000, lambda: now[0])
    assert [allowance.wait_s(600) for _ in range(2)] == [0.0, 2.0]
    now[0] = 2.0
    assert allowance.wait_s(600) == 0.0
    now[0] = 1e6
    assert [allowance.wait_s(1000), allowance.wait_s(1)] == [0.0, 0.01]


def test_a_daemon_that_is_behind_takes_nothing_more(post: Post, app1: Member) -> None:
    limited = Post(post.directory, [app1], {"backlog_mb": 1})
    with limited.running() as intake:
        assert limited.ask(app1, batch_of(app1, event(0)).to_bytes())[0] == 200
        intake.note_backlog(1 << 20)
        status, _, headers = limited.ask(app1, batch_of(app1, event(1)).to_bytes())
        assert (status, headers["Retry-After"]) == (503, "30")
        intake.note_backlog(0)
        assert limited.ask(app1, batch_of(app1, event(0)).to_bytes())[0] == 200


def test_who_is_slow_is_cut_off_and_keeps_nobody_waiting(tmp_path: Path, app1: Member) -> None:
    post = Post(tmp_path, [app1])
    with post.running(seconds=1.0, connections=8):
        begun = time.monotonic()
        silent = [socket.create_connection((HOST, post.port)) for _ in range(20)]
        # A quarter of the connections is for one address: the others are closed at once.
        assert sum(_is_closed(one, 0.3) for one in silent) >= 18
        for one in silent:
            one.close()
        time.sleep(max(0.0, 1.3 - (time.monotonic() - begun)))
        raw = socket.create_connection((HOST, post.port))
        slow = post.trusts().wrap_socket(raw, server_hostname=HOST)
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 5:
                slow.send(b"P")
                time.sleep(0.05)
        assert time.monotonic() - begun < 3
        slow.close()
        assert post.ask(app1, batch_of(app1, event(0)).to_bytes())[0] == 200


def _is_closed(one: socket.socket, seconds: float) -> bool:
    one.settimeout(seconds)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/events HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"GET /v1/positions HTTP/1.1\r\nX: " + b"y" * 40_000,
    ],
)
def test_a_request_that_can_be_read_in_two_ways_gets_no_answer(post: Post, head: bytes) -> None:
    raw = socket.create_connection((HOST, post.port))
    raw.settimeout(5)
    with post.trusts().wrap_socket(raw, server_hostname=HOST) as secure:
        with contextlib.suppress(OSError):
            secure.sendall(head)
        with contextlib.suppress(OSError):
            assert secure.recv(100) == b""


def test_nothing_else_is_there(post: Post, app1: Member) -> None:
    assert post.ask(app1, None, path="/")[0] == 404
    assert post.ask(app1, None)[0] == 405
    assert post.ask(app1, b"x", path="/v1/positions")[0] == 405


# -- what is left behind, and said -----------------------------------------------------------------


def test_only_the_daemon_may_read_what_arrived(post: Post, app1: Member, events: Path) -> None:
    append(events, event(0))
    one = post.shipper(app1, events)
    one.round()
    one.close()
    found = list((post.spool / "app1").iterdir())
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    assert (post.spool / "app1").stat().st_mode & 0o777 == 0o700


def test_neither_answers_nor_the_log_tell_anybodys_data(
    post: Post, app1: Member, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = [
        post.ask(app1, batch_of(app1, event(0, "app2")).to_bytes()),
        post.ask(app1, event(0)),
        post.ask(app1, event(0), headers={"Scalple-Signature": SECRET}),
        post.ask(app1, event(0), headers={"Authorization": f"Bearer {SECRET}"}),
        post.ask(app1, event(0), headers={"Scalple-Sender": SECRET}),
        post.ask(app1, None, path=f"/{SECRET}"),
    ]
    assert all(status >= 400 for status, _, _ in answers)
    said = capfd.readouterr()
    told = json.dumps(answers) + said.out + said.err
    assert "intake refused" in told
    assert SECRET not in told and app1.token not in told


def test_clocks_that_differ_are_told_of_and_decide_nothing(
    post: Post,
    app1: Member,
    events: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = intakeserver._response

    def hours_ahead(answer: Answer) -> bytes:
        text = said(answer)
        head, _, rest = text.partition(f"{CLOCK}: ".encode())
        _, _, rest = rest.partition(b"\r\n")
        return head + f"{CLOCK}: {time.time() + 7200:.3f}\r\n".encode() + rest

    monkeypatch.setattr(intakeserver, "_response", hours_ahead)
    long_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=400)).isoformat()
    append(events, data := event(0, ts=long_ago) + event(1, ts="2199-01-01T00:00:00Z"))
    one = post.shipper(app1, events)
    one.round()
    one.round()
    one.close()
    assert post.arrived(app1) == data
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    differs = [line for line in told if line["event"] == "clocks differ"]
    assert [round(line["daemon_ahead_s"] / 100) for line in differs] == [72]


def test_a_shipper_waits_goes_on_and_ends(
    tmp_path: Path, app1: Member, events: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    post = Post(tmp_path, [app1])
    with post.running():
        pass
    append(events, event(0))
    waits: list[float] = []
    one = post.shipper(app1, events)
    with contextlib.ExitStack() as stack:

        def wait(seconds: float) -> bool:
            waits.append(seconds)
            if len(waits) == 4:  # after two failures the daemon is back
                stack.enter_context(post.running())
            return post.arrived(app1) == event(0)

        ship(one, lambda _folders: None, wait)
        one.close()
    told = capfd.readouterr().err
    assert "not sent" in told and "sent again" in told
    assert [one for one in waits if one]


# -- configuration ---------------------------------------------------------------------------------


def test_a_configuration_that_lets_anybody_in_is_refused(tmp_path: Path, app1: Member) -> None:
    post = Post(tmp_path, [app1])
    whole = post.section().model_dump(exclude_none=True)
    sender = whole["sender"][0]

    def said(**changes: Any) -> str:
        section = {**whole, **changes}
        lines = [f"{k} = {json.dumps(v)}" for k, v in section.items() if k != "sender"]
        for one in section["sender"]:
            lines += [
                "[[intake.sender]]",
                *(f"{k} = {json.dumps(v)}" for k, v in one.items() if v is not None),
            ]
        config = tmp_path / "c.toml"
        text = 'store = "store"\n[sources]\npostgres = ["x.csv"]\n[intake]\n' + "\n".join(lines)
        config.write_text(text)
        done = scalple("daemon", "--config", config, "--check")
        return "" if done.code == 0 else done.err

    assert said() == ""
    assert "nobody may send" in said(sender=[])
    assert "shows nothing" in said(sender=[{**sender, "token_file": None}])
    assert "client_ca_file" in said(sender=[{**sender, "certificate": "app1"}])
    assert "two senders" in said(sender=[sender, sender])
    assert "is the key of app1" in said(sender=[{**sender, "name": "other"}])
    assert "endpoints" in said(sender=[{**sender, "endpoints": ["10.0.0.0/99"]}])
    app1.token_file.chmod(0o644)
    assert "everybody can read" in said()
    app1.token_file.chmod(0o600)
    app1.token_file.write_text("short")
    assert "a token is one line" in said()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs to"),
        (
            'to = "http://db1:9443"\nevents = ["x"]\nname = "a"\nkey_file = "k"\ntoken_file = "t"',
            "token",
        ),
        (
            'to = "https://db1"\nevents = ["x"]\nname = "a"\nkey_file = "k"',
            "token_file, certificate_file",
        ),
        ('to = "https://db1"\nname = "UP"', "name"),
    ],
)
def test_a_shipper_that_can_not_send_says_why(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "ship.toml"
    config.write_text(f"[ship]\n{text}\n")
    done = scalple("ship-events", "--config", config)
    assert done.code == 4
    assert says in done.err
