"""Following logs for long: what comes in order costs little, what comes late loses nothing, nothing grows."""

import copy
import functools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.correlator import Correlator
from scalple.correlate.eventsathand import SPACING, EventsAtHand
from scalple.correlate.evidence import Evidence, link_slack
from scalple.correlate.labels import Wholes
from scalple.correlate.present import present
from scalple.correlate.record import EVIDENCE
from scalple.correlate.remembering import FAR, GONE_US
from scalple.correlate.resets import PoolDoubts
from scalple.correlate.rules import Rules
from scalple.correlate.takeovers import Takeovers
from scalple.ingest.epoch import microseconds
from scalple.ingest.records import TIME
from tests.live import Watched, attribute_live
from tests.remembered import remembered
from tests.simulation import Setting
from tests.test_simulation import CASTS, declared

BEGIN = datetime(2026, 3, 14, 12, tzinfo=UTC)
NEAR = timedelta(seconds=20)
STEP = timedelta(seconds=5)
FEW = 60
"""More events than those of twice the last seconds."""


class Feed:
    """Clients that come and go again within a second, one each step."""

    def __init__(self, kept: int = 40) -> None:
        self.hand = EventsAtHand(EVIDENCE.empty_table(), None, Rules(), NEAR, kept)
        self.seq = self.steps = 0
        self.all: list[dict[str, object]] = []

    def client(self, came: datetime) -> pa.Table:
        """Its two lines."""
        place = {
            "source": "pgbouncer",
            "sidecar": "1",
            "connection": "0x1",
            "client_addr": "10.0.0.1",
            "client_port": 1024 + self.seq % 60000,
            "database": "db",
            "db_role": "app",
        }
        rows = [
            {**place, "event": event, "ts": came + timedelta(milliseconds=at), "seq": self.seq + at}
            for at, event in ((0, "client-login"), (500, "client-close"))
        ]
        self.seq += 1000
        self.all += rows
        return pa.Table.from_pylist(rows, schema=EVIDENCE)

    def until(self, moment: datetime) -> None:
        """Clients, one each step; statements up to the step before are attributed."""
        while (now := BEGIN + self.steps * STEP) < moment:
            self.steps += 1
            self.hand.reach(log(now - STEP), now - STEP)
            self.hand.learn(self.client(now), now - STEP)

    def since(self, moment: datetime) -> set[int]:
        """Numbers of events that happened from then on."""
        return {int(str(one["seq"])) for one in self.all if str(one["ts"]) >= str(moment)}

    @property
    def at_hand(self) -> set[int]:
        return set(self.hand.events.column("seq").to_pylist())


@functools.cache
def _followed(minutes: int) -> Feed:
    feed = Feed()
    feed.until(BEGIN + timedelta(minutes=minutes))
    return feed


def followed(minutes: int) -> tuple[Feed, datetime]:
    """A feed that was followed for so long, and now."""
    return copy.deepcopy(_followed(minutes)), BEGIN + timedelta(minutes=minutes)


def log(*moments: datetime) -> pa.Table:
    return pa.table({"log_time": pa.array(moments, TIME)})


def test_what_comes_in_order_needs_the_last_seconds_alone() -> None:
    feed, now = followed(20)
    assert feed.since(now - NEAR) <= feed.at_hand
    assert len(feed.at_hand) <= FEW
    assert not feed.hand.reach(log(now - timedelta(seconds=2)), now)


@settings(deadline=None, max_examples=6)
@given(st.integers(1, 1500))
def test_a_late_record_finds_the_events_of_its_time(late_s: int) -> None:
    feed, now = followed(40)
    late = timedelta(seconds=late_s)
    horizon = feed.hand.horizon
    assert horizon is not None
    changed = feed.hand.reach(log(now, now - late), now)
    assert changed == (now - late - timedelta(seconds=1) < horizon)
    assert feed.since(now - min(late, FAR)) <= feed.at_hand


@settings(deadline=None, max_examples=6)
@given(st.integers(1, 880))
def test_a_late_event_finds_those_of_its_time(late_s: int) -> None:
    feed, now = followed(20)
    late = timedelta(seconds=late_s)
    fresh = feed.client(now - late)
    feed.hand.learn(fresh, now)
    assert set(fresh.column("seq").to_pylist()) <= feed.at_hand
    assert feed.since(now - late) <= feed.at_hand


def test_whoever_was_late_is_expected_late_for_a_while_and_not_for_ever() -> None:
    feed, now = followed(20)
    assert feed.hand.reach(log(now - timedelta(seconds=90)), now)
    feed.until(now + timedelta(seconds=60))
    assert not feed.hand.reach(log(now - timedelta(seconds=30)), now + timedelta(seconds=60))
    feed.until(now + timedelta(minutes=5))
    assert len(feed.at_hand) <= FEW


def test_an_event_from_another_age_costs_some_rounds_only() -> None:
    feed, now = followed(20)
    feed.hand.learn(feed.client(BEGIN - timedelta(days=400)), now)
    assert feed.since(now - FAR) <= feed.at_hand
    feed.until(now + FAR + timedelta(minutes=2))
    assert len(feed.at_hand) <= FEW


def test_a_record_of_years_ahead_takes_nothing_along() -> None:
    feed, now = followed(20)
    feed.hand.learn(feed.client(now), now + timedelta(days=4000))
    assert not feed.hand.reach(log(now - timedelta(seconds=1)), now + timedelta(days=4000))
    feed.hand.reach(log(now - timedelta(minutes=10)), now + timedelta(days=4000))
    assert feed.since(now - timedelta(minutes=10)) <= feed.at_hand


def test_many_small_rounds_leave_few_tables() -> None:
    feed, _ = followed(40)
    events, _ = feed.hand.all()
    assert events.column("seq").num_chunks < 20
    assert feed.hand.events.column("seq").num_chunks < 12


def test_a_sender_whose_clock_is_a_day_behind_makes_nothing_grow() -> None:
    feed, now = followed(20)
    for _ in range(16):
        feed.hand.reach(log(now), now)
        now += STEP
        late = feed.client(now - timedelta(days=1))
        feed.hand.learn(pa.concat_tables([feed.client(now), late]), now - STEP)
        assert feed.since(now) <= feed.at_hand
    horizon = feed.hand.horizon
    assert horizon is not None
    assert now - FAR - 2 * STEP <= horizon


def test_a_clock_that_was_ahead_for_a_while_loses_nothing_and_costs_nothing_afterwards() -> None:
    feed, now = followed(20)
    ahead = now + timedelta(hours=1)
    feed.hand.reach(log(ahead), now)
    set_back = 0
    for at in range(16):
        now += STEP
        feed.hand.learn(feed.client(now), ahead)
        late = timedelta(seconds=60 if at == 8 else 2)
        set_back += feed.hand.reach(log(now - late), ahead)
        assert feed.since(now - late) <= feed.at_hand
    assert set_back <= 2


def test_events_are_kept_as_far_back_as_is_said_and_no_further() -> None:
    feed, now = followed(40)
    events, horizon = feed.hand.all()
    assert horizon is not None
    assert now - FAR - 2 * SPACING - NEAR < horizon <= now - FAR
    assert feed.since(now - FAR) <= set(events.column("seq").to_pylist())
    assert pc.sum(pc.less(events.column("ts"), pa.scalar(horizon, TIME))).as_py() <= 6


def test_without_statements_nothing_is_left_out() -> None:
    feed = Feed()
    for at in range(100):
        feed.hand.learn(feed.client(BEGIN + timedelta(seconds=at)), None)
    assert feed.at_hand == feed.since(BEGIN)
    assert not feed.hand.reach(log(BEGIN), None)


@pytest.mark.parametrize("cast", ["relay", "open"])
def test_what_is_remembered_goes_with_who_is_there_not_with_who_ever_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cast: str
) -> None:
    # Who has gone is remembered for as long as a horizon may be set back.
    for module in ("labels", "resets", "takeovers"):
        monkeypatch.setattr(f"scalple.correlate.{module}.GONE_US", 10_000_000)
    setting = Setting(cast=CASTS[cast], statements=3000, version="1.18")
    world = Watched(setting, 5)
    files = world.play().write(tmp_path)
    seen: list[Counter[str]] = []

    def watch(correlator: Correlator) -> None:
        seen.append(remembered(correlator))

    moments = world.moments(files, 30, random.Random(5))
    attribute_live(*files, declared(setting), moments, near=timedelta(seconds=3), watch=watch)
    half = len(seen) // 2
    before, after = most(seen[:half]), most(seen[half:])
    came = files[1].read_text().count("login attempt")
    assert 0 < after["Labels._names"] < came / 3
    grown = {name: (before[name], n) for name, n in after.items() if n > 1.5 * before[name] + 100}
    assert not grown


def test_processes_that_have_gone_leave_no_events_at_hand() -> None:
    rows: list[dict[str, object]] = []
    for life in range(200):
        # Some come again under their name and some don't; one was killed.
        name = f"worker-{life % 3}" if life % 2 else f"job-{life}"
        begun = BEGIN + timedelta(minutes=life)
        words = ["start", "open", "close", "heartbeat", *(["stop"] if life != 4 else [])]
        for number, event in enumerate(words):
            row: dict[str, object] = {"source": "identity", "event": event, "sidecar": name}
            row |= {"seq": len(rows), "sidecar_seq": number + 1}
            row |= {"ts": begun + timedelta(seconds=number)}
            if event in ("open", "close"):
                row |= {"connection": "1", "client_addr": "10.0.0.1", "client_port": 4000}
                row |= {"database": "db", "db_role": "app", "actor": "somebody"}
            rows.append(row)
    events = pa.Table.from_pylist(rows, schema=EVIDENCE)
    soon = BEGIN + timedelta(minutes=200)
    left = present(events, soon, link_slack(Rules()))
    assert set(left.column("sidecar").to_pylist()) <= {"job-4", "worker-0", "worker-1", "worker-2"}
    days = present(left, soon + timedelta(days=2), link_slack(Rules()))
    assert days.num_rows <= 3
    assert Evidence(days, Rules()).has_identities


def most(counts: list[Counter[str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in counts:
        found |= one
    return found


def test_a_sidecar_that_says_once_a_day_that_it_lives_is_alive_a_day_later() -> None:
    rows: list[dict[str, object]] = [
        {"event": "start", "detail": '{"heartbeat_s": 86400}'},
        {"event": "open", "connection": "1", "client_addr": "10.0.0.1", "client_port": 4000},
    ]
    for at, row in enumerate(rows):
        row |= {"source": "identity", "sidecar": "side", "seq": at, "sidecar_seq": at, "ts": BEGIN}
    events = pa.Table.from_pylist(rows, schema=EVIDENCE)
    soon = present(events, BEGIN + timedelta(hours=25), link_slack(Rules()))
    assert soon.column("event").to_pylist() == ["start", "open"]
    long_after = present(events, BEGIN + timedelta(days=5), link_slack(Rules()))
    assert "open" not in long_after.column("event").to_pylist()


class Gone:
    """A client that came and left: evidence that tells of it, and later evidence that doesn't any more."""

    def __init__(self) -> None:
        feed = Feed()
        first, second = (feed.client(BEGIN + timedelta(seconds=at)) for at in (0, 5))
        self.rest = pa.concat_tables([second, self.link()])
        self.told = Evidence(pa.concat_tables([first, self.rest]), Rules())
        self.key = self.told.endpoints["10.0.0.1", 1024]
        self.pool = int(self.told.client_pool[0])
        self.us = microseconds(BEGIN)

    def link(self) -> pa.Table:
        """A server connection, which goes on."""
        row = {"source": "pgbouncer", "event": "server-connect", "ts": BEGIN, "seq": 10**9}
        row |= {"sidecar": "1", "connection": "0x2", "client_addr": "10.0.0.9", "client_port": 9}
        return pa.Table.from_pylist([{**row, "database": "db", "db_role": "app"}], schema=EVIDENCE)

    def silent(self) -> Evidence:
        return Evidence(self.rest, Rules(), self.told)

    def again(self) -> Evidence:
        return Evidence(self.told.events, Rules(), self.told)


def test_a_cut_name_stands_for_whoever_left_a_moment_ago_once_the_horizon_is_set_back() -> None:
    gone = Gone()
    wholes = Wholes(gone.told)
    wholes.add((7,), gone.key, 3)
    wholes.renew(gone.silent())
    wholes.forget(gone.us + 10_000_000)
    assert wholes.held() == {gone.key}
    wholes.forget(gone.us + 2 * GONE_US)
    assert wholes.held() == set()


def test_a_name_taken_by_nobody_knows_whom_is_still_taken_once_the_horizon_is_set_back() -> None:
    gone = Gone()
    takeovers = Takeovers(gone.told)
    pool, time = np.array([gone.pool]), np.array([gone.us + 1])
    owner, borne, nobody = np.array([gone.key + 50]), np.array([gone.key]), np.array([-1])
    takeovers.apply(pool, time, owner, borne, nobody)
    for evidence in (gone.silent(), gone.again()):
        takeovers.renew(evidence, gone.us + 10_000_000)
    assert takeovers.apply(pool, time + 1, borne, borne, nobody).all()


def test_a_client_that_was_replayed_is_known_to_be_once_the_horizon_is_set_back() -> None:
    gone = Gone()
    doubts = PoolDoubts(gone.told)
    row, pool, time = np.array([0]), np.array([gone.pool]), np.array([gone.us + 1])
    no = np.array([False])

    def unnamed(replayed: int) -> bool:
        client = np.array([replayed])
        return bool(doubts.apply(row, pool, time, time, time, client, no, no, client)[2].all())

    assert unnamed(-1)
    assert not unnamed(0)
    for evidence in (gone.silent(), gone.again()):
        doubts.renew(evidence, gone.us + 10_000_000)
    assert not unnamed(-1)
