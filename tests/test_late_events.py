"""Events that come late end, while logs are followed, in the answer that they would have given in time."""

import contextlib
import gzip
import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scalple.cli import lateness, revisions
from scalple.cli.following import Following
from scalple.cli.lateness import Lateness
from scalple.correlate.record import EVIDENCE
from scalple.ingest import heldfile, sourcefile
from scalple.ingest.errors import VerificationError
from tests.commandline import rows, scalple
from tests.examples import examples
from tests.lateworld import EVENTS, POOLER, SERVER, LateWorld, sampled, simulated
from tests.simulation import HAPPENINGS, Setting, World
from tests.test_simulation import CASTS, CLOCKS, MALICIOUS, MODES, VERSIONS, declared, of

ANSWER = (
    "SELECT session_id, session_line_num, statement_id, substatement_id, session_user_id, "
    "session_email, actor_kind, peer_port, session_authn, attribution_grade, attribution_method, "
    "attribution_reason, attribution_candidates, findings "
    "FROM audit ORDER BY session_id, session_line_num, statement_id, substatement_id"
)
SURE = ("proven", "confirmed")
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the sample says, read in one go."""
    return rows(sampled(tmp_path_factory.mktemp("once")).at_once(), ANSWER)


def settle(following: Following) -> None:
    """Rounds until nothing waits for being attributed anew."""
    deadline = time.monotonic() + 60
    following.round()
    while following.revisions.is_waiting:
        assert time.monotonic() < deadline
        following.round()
        time.sleep(0.02)


Truth = dict[tuple[object, object], object]
"""Session and line -> who it is."""


def nobody_is_wrong(
    found: list[dict[str, Any]], truth: Truth, sure: tuple[str, ...] = SURE
) -> None:
    """Who is surely somebody is who he is."""
    for row in found:
        who = truth.get((row["session_id"], row["session_line_num"]))
        if row["attribution_grade"] in sure and row["session_user_id"] is not None and who:
            assert who == row["session_user_id"], row


def play(world: LateWorld, chance: random.Random, truth: Truth, sure: tuple[str, ...]) -> None:
    """Everything is written, its events in any order at or after their time, while it is followed,
    rotated and begun anew; nobody is named wrongly at any time."""
    moments = world.moments(3)
    parts = world.split(chance, 3, moments)
    chance.shuffle(parts)
    pooler_behind = chance.choice([0, 0, 1])
    with contextlib.ExitStack() as stack:
        following = stack.enter_context(world.following())
        for turn, moment in enumerate(moments):
            is_last = turn == len(moments) - 1
            world.write(POOLER, moment if is_last else moments[max(0, turn - pooler_behind)])
            for due, into, lines in parts:
                if due == turn:
                    world.ship(into, lines)
            world.write(SERVER, moment)
            following.round()
            event = chance.choice(["nothing", "rotate", "restart", "revise"])
            if event == "rotate" and not is_last:
                log = world.logs / SERVER
                log.rename(log.with_name(f"{SERVER}.{turn}"))
                log.touch()
            elif event == "restart":
                stack.pop_all().close()
                following = stack.enter_context(world.following())
            elif event == "revise":
                settle(following)
            nobody_is_wrong(rows(world.store, ANSWER), truth, sure)
        settle(following)


@settings(max_examples=examples(1), deadline=None, phases=WITHOUT_SHRINKING)
@given(seed=st.integers(0, 2**32))
def test_events_that_come_in_any_order_at_any_time_end_in_the_same_answer(
    seed: int, at_once: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = sampled(tmp_path_factory.mktemp("late"))
    truth = {
        (one["session_id"], one["session_line_num"]): one["session_user_id"] for one in at_once
    }
    play(world, random.Random(seed), truth, SURE)
    assert rows(world.store, ANSWER) == at_once
    assert rows(world.store, "SELECT * FROM gaps WHERE reason LIKE 'log-%'") == []
    assert scalple("verify", "--store", world.store).code == 0


# -- each part of that -----------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> LateWorld:
    """The sample, of which nothing is written yet."""
    return sampled(tmp_path)


def statements(world: LateWorld, where: str = "true") -> int:
    """How many there are."""
    (found,) = rows(world.store, f"SELECT count(*) AS n FROM audit WHERE {where}")
    return int(found["n"])


NAMED = "attribution_grade = 'confirmed'"


def test_a_revision_is_done_in_parts_while_following_goes_on_and_survives_rotation_and_restart(
    world: LateWorld, at_once: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sourcefile, heldfile):
        monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 19)
    monkeypatch.setattr(revisions, "STEP_S", 0.0)
    first, last = world.moments(2)
    log, rolled_back = world.logs / SERVER, "list_contains(findings, 'rolled-back')"
    with world.following() as following:
        world.write(POOLER, first)
        world.write(SERVER, first)
        following.round()
        then, taken_back = datetime.now(UTC).isoformat(), statements(world, rolled_back)
        assert statements(world, NAMED) == 0 < taken_back
        world.write(EVENTS, first)
        following.round()  # one block of several
        assert following.revisions.is_waiting
        some = statements(world, NAMED)
        log.rename(older := log.with_name(f"{SERVER}.1"))
        log.touch()
        for name in (POOLER, EVENTS, SERVER):
            world.write(name, last)
        following.round()
        assert following.revisions.is_waiting
        assert statements(world) == len(at_once)
        older.with_name(f"{SERVER}.1.gz").write_bytes(gzip.compress(older.read_bytes()))
        older.unlink()
        log.rename(log.with_name(f"{SERVER}.2"))
    with world.following() as following:
        assert following.revisions.is_waiting
        settle(following)
        assert following.revisions.take_missing() == 0
    assert rows(world.store, ANSWER) == at_once
    assert some < statements(world, NAMED)
    # What the log said isn't taken back by what evidence says.
    assert statements(world, rolled_back) >= taken_back
    question = f"SELECT count(*) AS n FROM audit WHERE {NAMED}"
    old = scalple("sql", "--store", world.store, "--as-of", then, "--format", "json", question)
    assert old.json() == [{"n": 0}]


def test_a_revision_catches_up_with_a_log_that_grows_in_each_round(
    world: LateWorld, at_once: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "STEP_S", 0.0)
    first, *later = world.moments(12)
    with world.following() as following:
        for name in (POOLER, SERVER):
            world.write(name, first)
        following.round()
        world.write(EVENTS, first)
        following.round()
        rounds = 0
        while following.revisions.is_waiting:
            before, moment = statements(world), later.pop(0)
            world.write(POOLER, moment)
            world.write(SERVER, moment)
            following.round()
            assert statements(world) > before
            rounds += 1
        assert 0 < rounds < 6 < len(later) + rounds
        assert statements(world, NAMED) > 0


def test_statements_whose_log_is_gone_keep_their_attribution_and_are_counted(
    world: LateWorld, at_once: list[dict[str, Any]]
) -> None:
    first, last = world.moments(2)
    log = world.logs / SERVER
    with world.following() as following:
        world.write(POOLER, last)
        world.write(SERVER, first)
        following.round()
        gone = statements(world)
        log.rename(log.with_name(f"{SERVER}.1"))
        log.touch()
        world.write(SERVER, last)
        following.round()
        log.with_name(f"{SERVER}.1").unlink()
        before = rows(world.store, ANSWER)
        world.write(EVENTS, last)
        settle(following)
        missing = following.revisions.take_missing()
    (gap,) = rows(world.store, "SELECT reason, detail FROM gaps WHERE reason = 'log-gone'")
    assert missing == gone > 0
    assert f"{gone:,} statements" in gap["detail"]
    found = rows(world.store, ANSWER)
    nobody_is_wrong(
        found, {(r["session_id"], r["session_line_num"]): r["session_user_id"] for r in at_once}
    )
    assert found != before
    said = scalple("coverage", "--store", world.store, "--format", "json").json()
    assert said["gaps"]["log-gone"] == 1


def test_an_event_of_long_ago_does_not_have_all_logs_read_again(world: LateWorld) -> None:
    text = world.config.read_text()
    world.config.write_text(f"{text}revise_days = 1e-6\n")
    last = world.moments(8)[0]
    with world.following() as following:
        world.write(POOLER, last)
        world.write(SERVER, last)
        following.round()
        for n in range(2):
            lines = [("", line.replace(b"2026-", b"1999-")) for _, line in world.rest[EVENTS][:9]]
            world.ship(f"{EVENTS}.{n}", lines[n:])
            settle(following)
    assert len(rows(world.store, "SELECT * FROM gaps WHERE reason = 'too-late'")) == 1
    assert rows(world.store, "SELECT * FROM gaps WHERE reason = 'log-gone'") == []


def event(kind: str, ts: datetime, sidecar: str = "app1") -> pa.Table:
    """One row of evidence."""
    row = {"event": kind, "ts": ts, "sidecar": sidecar, "source": "identity"}
    return pa.Table.from_pylist([row], schema=EVIDENCE)


def test_what_is_late_and_from_when_on() -> None:
    at = datetime(2026, 3, 14, 12, tzinfo=UTC)
    second, nothing = timedelta(seconds=1), EVIDENCE.empty_table()

    def waits(
        kind: str, late: timedelta, known: pa.Table = nothing, skew: timedelta = 0 * second
    ) -> Any:
        found = Lateness(None, skew)
        found.note(event(kind, at - late), at, lambda: known)
        return found.waiting

    assert waits("open", -second) is None
    assert waits("open", second) == at - second
    assert waits("close", second) is None
    assert waits("close", 3 * second) == at - 3 * second
    assert waits("open", -second, skew=2 * second) == at - second
    # A hole or a silence began with the writer's event before.
    known = pa.concat_tables(
        [event("heartbeat", at - n * second, who) for n, who in [(9, "app1"), (5, "app2")]]
    )
    assert waits("open", second, known) == at - 9 * second
    # Who was served is told when it is over.
    assert waits("served", -30 * second) == at - 30 * second
    assert waits("served", -90 * second) is None
    assert Lateness(None).waiting is None
    kept = Lateness(None)
    kept.wait(at)
    assert Lateness(kept.state()).waiting == at
    assert kept.begin(timedelta(days=1)) == (at, at)
    assert Lateness(kept.state()).waiting == at
    kept.end(is_done=True)
    assert Lateness(kept.state()).waiting is None
    with pytest.raises(VerificationError):
        Lateness(b'{"v": 1}')


WORLDS = int(os.environ.get("LATE_WORLDS", "0"))
"""So many simulated worlds."""


@pytest.mark.skipif(not WORLDS, reason="`make prove` plays simulated worlds")
def test_simulated_worlds_end_in_the_same_answer_and_nobody_is_named_wrongly_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lateness, "GRACE", timedelta(0))  # all of such a world lasts no longer
    for seed in range(WORLDS):
        chance = random.Random(seed)
        setting = Setting(
            mode=chance.choice(MODES),
            version=chance.choice(VERSIONS),
            add_host=chance.random() < 0.5,
            cast=CASTS[chance.choice(sorted(CASTS))],
            clients=chance.randint(2, 10),
            backends=chance.randint(1, 4),
            statements=120,
            faults=tuple(chance.sample(HAPPENINGS, chance.randint(0, 2))),
            logs_settings=chance.random() < 0.75,
            pooler_ahead_us=chance.choice(CLOCKS),
            sidecar_ahead_us=chance.choice(CLOCKS),
        )
        (directory := tmp_path / str(seed)).mkdir()
        files = World(setting, seed).play().write(directory)
        said = of(*files, setting).dicts()
        truth = {(one["session_id"], one["session_line_num"]): one["truth"] for one in said}
        world = simulated(directory, files, declared(setting))
        whole = rows(world.at_once(), ANSWER)
        is_forged = setting.cast in [CASTS[one] for one in MALICIOUS]
        play(world, chance, truth, ("proven",) if is_forged else SURE)
        assert rows(world.store, ANSWER) == whole, seed
