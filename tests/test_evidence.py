"""How long an identity holds: each ending, and stale words that must not name whoever comes next."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.closedpool import CLOSED, UNANNOUNCED, UNSEEN
from scalple.correlate.evidence import Evidence
from scalple.correlate.rules import Clocks, Rules
from scalple.correlate.sessions import Session
from scalple.ingest.records import EVENT_SCHEMA
from tests.attribute_logs import numbered
from tests.examples import examples

START = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
ALICE, BOB = 50001, 50002
Event = dict[str, Any]


def at(seconds: float) -> dt.datetime:
    """So many seconds after the beginning."""
    return START + dt.timedelta(seconds=seconds)


def said(event: str, seconds: float, seq: int, **more: Any) -> Event:
    """An identity event."""
    return {
        "source": "identity",
        "event": event,
        "ts": at(seconds),
        "sidecar": "side",
        "sidecar_seq": seq,
    } | more


def opened(seconds: float, seq: int, port: int = ALICE, actor: str = "alice", **more: Any) -> Event:
    """An `open` event."""
    return said(
        "open",
        seconds,
        seq,
        **{"connection": f"c{seq}", "client_addr": "10.0.0.5", "client_port": port, "actor": actor}
        | more,
    )


def pooler(event: str, seconds: float, port: int | None = None, **more: Any) -> Event:
    """An event of PgBouncer's log, in whole milliseconds."""
    whole = int(seconds * 1000) / 1000
    return {
        "source": "pgbouncer",
        "event": event,
        "ts": at(whole),
        "sidecar": "28846",
        "client_addr": "10.0.0.5" if port else None,
        "client_port": port,
    } | more


def login(seconds: float, port: int = ALICE, pointer: str = "0x1") -> Event:
    """A client's login in PgBouncer's log."""
    return pooler(
        "client-login", seconds, port, connection=pointer, database="app", db_role="app_user"
    )


def closed(seconds: float, port: int = ALICE, pointer: str = "0x1", why: str = "x") -> Event:
    """A client's end in PgBouncer's log."""
    return pooler("client-close", seconds, port, connection=pointer, detail=why)


def counted(events: tuple[Event, ...]) -> list[Event]:
    """The same events, counted without a hole in each life of the sidecar, as a writer does."""
    done, count = [], 0
    for event in sorted(events, key=lambda one: one["ts"]):
        if event["source"] == "identity":
            count = 1 if event["event"] == "start" else count + 1
            done.append(event | {"sidecar_seq": count})
        else:
            done.append(event)
    return done


def evidence(*events: Event) -> Evidence:
    """What follows from these events when none is missing."""
    return as_numbered(*counted(events))


def as_numbered(*events: Event) -> Evidence:
    """What follows from these events with the numbers that they have."""
    return Evidence(numbered([pa.Table.from_pylist(list(events), schema=EVENT_SCHEMA)]), Rules())


def named(known: Evidence, seconds: float, port: int = ALICE, *, pooled: bool) -> list[str | None]:
    """Actors of the clients that live at an endpoint at that time; None is an unknown one."""
    moment = int(at(seconds).timestamp() * 1_000_000)
    endpoint = known.endpoints.get(("10.0.0.5", port), -1)
    return [
        known.client_actor[client]
        for client in range(known.clients.num_rows)
        if known.client_endpoint[client] == endpoint
        and (known.client_pool[client] >= 0) == pooled
        and known.client_since_us[client] <= moment <= known.client_until_us[client]
    ]


START_EVENT = said("start", 0, 1, detail='{"heartbeat_s": 10}')
BEATS = [said("heartbeat", 10 * n, 100 + n) for n in range(1, 30)]
ENDINGS: dict[str, tuple[list[Event], float]] = {
    "close": ([said("close", 20, 50, connection="c2"), *BEATS], 20),
    "next open of the endpoint": ([opened(20, 50, actor="bob"), *BEATS], 20),
    "stop of the sidecar": ([said("stop", 20, 50)], 20),
    "start of the sidecar": ([said("start", 20, 1)], 20),
    "three missed heartbeats": ([said("heartbeat", 12, 50)], 42),
    "three missed heartbeats before the next start": (
        [said("heartbeat", 12, 50), said("start", 900, 1)],
        42,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_unpooled_identity_ends_with(ending: str) -> None:
    more, end = ENDINGS[ending]
    known = evidence(START_EVENT, opened(5, 2), *more)
    assert "alice" in named(known, 5, pooled=False)
    assert "alice" in named(known, end - 0.01, pooled=False)
    assert "alice" not in named(known, end + 0.01, pooled=False)


@pytest.mark.parametrize("ending", sorted(ENDINGS.keys() - {"close"}))
def test_behind_a_pooler_an_identity_ends_with(ending: str) -> None:
    more, end = ENDINGS[ending]
    known = evidence(START_EVENT, opened(5, 2), login(5.1), *more, closed(600))
    assert named(known, 6, pooled=True) == ["alice"]
    assert named(known, end - 0.01, pooled=True) == ["alice"]
    # Its client lives on, and nobody says any more who it is.
    assert named(known, end + 0.01, pooled=True) == [None]


def test_behind_a_pooler_its_own_close_ends_a_client_that_the_sidecar_saw_leave() -> None:
    events = [START_EVENT, opened(5, 2), login(5.1), said("close", 20, 50, connection="c2")]
    known = evidence(*events, closed(20.5), *BEATS)
    assert named(known, 20.3, pooled=True) == ["alice"]
    assert named(known, 20.6, pooled=True) == []


def test_a_started_pooler_has_no_client_of_before() -> None:
    up = pooler("process-up", 20, detail="1.18.0")
    known = evidence(START_EVENT, opened(5, 2), login(5.1), up, *BEATS, closed(50))
    assert named(known, 19.9, pooled=True) == ["alice"]
    assert named(known, 20.1, pooled=True) == []


def test_a_stale_open_never_names_the_next_client_of_a_reused_port() -> None:
    """The sidecar died without a word; another client, unannounced, gets the same port."""
    known = evidence(
        START_EVENT, opened(5, 2), login(5.1), closed(7), login(9, pointer="0x2"), closed(30)
    )
    assert named(known, 6, pooled=True) == ["alice"]
    assert set(named(known, 10, pooled=True)) == {None}


def test_a_stale_open_of_the_logins_own_millisecond_names_it_only() -> None:
    known = evidence(
        START_EVENT,
        opened(5.1004, 2),
        login(5.1007),
        closed(7),
        login(9, pointer="0x2"),
        closed(30),
    )
    assert named(known, 6, pooled=True) == ["alice"]
    assert set(named(known, 10, pooled=True)) == {None}


def test_a_stale_open_never_names_the_next_direct_session_of_a_reused_port() -> None:
    first, second, late = (
        Session(name, begun, begun)
        for name, begun in (
            (name, int(at(seconds).timestamp() * 1_000_000))
            for name, seconds in (("a", 5.1), ("b", 9), ("c", 300))
        )
    )
    second.begun_before_us = first.begun_until_us
    opened_us = int(at(5).timestamp() * 1_000_000)
    assert first.announced_by(opened_us)
    assert not second.announced_by(opened_us)
    assert not late.announced_by(opened_us)


def test_a_pooled_endpoint_names_no_direct_session() -> None:
    """Whoever binds the port of a pooler's client and goes to PostgreSQL is somebody else."""
    known = evidence(START_EVENT, opened(5, 2), login(5.1), closed(30), *BEATS)
    assert named(known, 10, pooled=False) == []


def test_a_failed_login_is_nobody() -> None:
    known = evidence(
        START_EVENT, opened(5, 2), login(5.1), closed(5.2, why="SASL authentication failed")
    )
    assert named(known, 5.15, pooled=True) == []


def test_an_event_of_another_database_is_not_this_client() -> None:
    known = evidence(START_EVENT, opened(5, 2, database="other"), login(5.1), closed(9))
    assert named(known, 6, pooled=True) == [None]


def test_identify_changes_the_actor_from_then_on() -> None:
    changed = said("identify", 8, 3, connection="c2", actor="bob")
    known = evidence(START_EVENT, opened(5, 2), login(5.1), changed, closed(20))
    assert named(known, 7.9, pooled=True) == ["alice"]
    assert named(known, 8.1, pooled=True) == ["bob"]


def test_a_sidecar_that_counts_anew_is_not_taken_for_a_repeat() -> None:
    known = evidence(
        START_EVENT,
        opened(5, 2),
        login(5.1),
        closed(9),
        said("start", 20, 1),
        opened(21, 2, port=BOB, actor="bob"),
        login(21.1, port=BOB),
        closed(25, port=BOB),
    )
    assert named(known, 6, pooled=True) == ["alice"]
    assert named(known, 22, BOB, pooled=True) == ["bob"]


def test_clients_of_one_process_over_a_unix_socket_live_side_by_side() -> None:
    here = {"client_addr": "unix(7)", "client_port": 6432}
    known = evidence(
        START_EVENT,
        opened(5, 2) | here,
        login(5.1) | here,
        opened(6, 3, actor="bob") | here,
        login(6.1, pointer="0x2") | here,
        closed(20) | here,
        closed(21, pointer="0x2") | here,
    )
    moment = int(at(10).timestamp() * 1_000_000)
    alive = [
        known.client_actor[n]
        for n in range(known.clients.num_rows)
        if known.client_since_us[n] <= moment <= known.client_until_us[n]
        and known.client_pool[n] >= 0
    ]
    assert sorted(map(str, alive)) == ["alice", "bob"]


IDENTIFIED = (
    START_EVENT,
    opened(5, 2),
    opened(5, 3, port=BOB, actor="bob"),
    login(5.1),
    login(5.1, port=BOB, pointer="0x2"),
    said("heartbeat", 7, 4),
    said("identify", 8, 5, connection="c2", actor="carol"),
    said("heartbeat", 9, 6),
    said("identify", 11, 7, connection="c2", actor="dora"),
    said("close", 19, 8, connection="c2"),
    closed(20),
    closed(20, port=BOB, pointer="0x2"),
)


def lacking(seq: int) -> Evidence:
    """The same without the event of that number."""
    return as_numbered(*(one for one in IDENTIFIED if one.get("sidecar_seq") != seq))


@pytest.mark.parametrize("seq", [5, 6])
def test_a_missing_event_ends_what_was_said_before_it(seq: int) -> None:
    whole, cut = evidence(*IDENTIFIED), lacking(seq)
    last = 7 if seq == 5 else 8
    for known, later in ((whole, ["carol"]), (cut, [None])):
        assert named(known, last + 1.5, pooled=True) == later
        assert named(known, 6.9, pooled=True) == ["alice"]
        assert named(known, 11.1, pooled=True) == ["dora"]
    assert named(whole, 12, BOB, pooled=True) == ["bob"]
    assert named(cut, last - 0.1, BOB, pooled=True) == ["bob"]
    assert named(cut, last + 0.1, BOB, pooled=True) == [None]
    assert (whole.identity_holes, cut.identity_holes) == (0, 1)


def test_a_missing_event_ends_direct_identities_too() -> None:
    events = [START_EVENT, opened(5, 2), said("heartbeat", 7, 3), said("heartbeat", 9, 5)]
    known = as_numbered(*events)
    assert named(known, 6.9, pooled=False) == ["alice"]
    assert named(known, 7.1, pooled=False) == []


def test_repeats_files_in_any_order_and_a_new_count_are_no_holes() -> None:
    again = (said("start", 30, 1), opened(31, 2, port=BOB + 1, actor="eve"))
    assert as_numbered(*IDENTIFIED, *again).identity_holes == 0
    assert as_numbered(*again, *IDENTIFIED[::-1], *IDENTIFIED).identity_holes == 0


def test_numbers_of_any_size_are_read() -> None:
    events = [START_EVENT | {"sidecar_seq": 0}, opened(5, 2) | {"sidecar_seq": 2**63 - 1}]
    assert as_numbered(*events).identity_holes == 1


MOVES = st.lists(
    st.tuples(st.sampled_from(["alice", "bob", None]), st.floats(0.01, 3), st.floats(0.01, 3)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=examples(6), deadline=None)
@given(MOVES, st.permutations(range(20)))
def test_one_port_used_again_and_again(
    moves: list[tuple[str | None, float, float]], order: list[int]
) -> None:
    """None is a client that comes unannounced; no open is ever closed; files come in any order."""
    events, spans, now = [START_EVENT], [], 1.0
    for n, (actor, pause, length) in enumerate(moves):
        now += pause + 0.01
        if actor is not None:
            # The pooler's milliseconds are cut off: its login may seem older than the open.
            events.append(opened(now - 0.0001, 2 + n, actor=actor))
        events += [login(now, pointer=f"0x{n}"), closed(now + length, pointer=f"0x{n}")]
        spans.append((actor, now, now + length))
        now += length
    shuffled = sorted(events, key=lambda event: order[events.index(event) % len(order)])
    for known in (evidence(*events), evidence(*shuffled)):
        for actor, begin, end in spans:
            assert named(known, (begin + end) / 2, pooled=True) == [actor]


# -- lines of the pooler's log that are missing ---------------------------------------------------


def link(seconds: float, port: int = ALICE, pointer: str = "0x1") -> Event:
    """A line at `verbose=2` that says whom the pooler serves."""
    return pooler("link", seconds, port, connection=pointer, detail="0x9")


def test_another_pointer_at_an_endpoint_ends_the_client_whose_end_is_missing() -> None:
    """Alice's closing line and the next one's login are both lost; the next one is still served."""
    known = evidence(
        START_EVENT, opened(5, 2), login(5.1), link(6), link(9, pointer="0x2"), closed(30)
    )
    assert named(known, 5.9, pooled=True) == ["alice"]
    # Somewhere after her last line another one came.
    assert set(named(known, 7, pooled=True)) == {None}
    assert set(named(known, 9, pooled=True)) == {None}


def test_an_endpoint_s_pointer_at_another_endpoint_ends_the_client_whose_end_is_missing() -> None:
    known = evidence(START_EVENT, opened(5, 2), login(5.1), link(6), link(9, port=50))
    assert named(known, 7, pooled=True) == [None]
    assert named(known, 9, 50, pooled=True) == [None]


def test_a_stale_open_never_names_one_who_came_after_somebody_whose_login_is_missing() -> None:
    known = evidence(
        START_EVENT, opened(5, 2), link(6), closed(7), login(9, pointer="0x2"), closed(30)
    )
    assert set(named(known, 10, pooled=True)) == {None}


@pytest.mark.parametrize("line", [link(9), closed(9)])
def test_a_client_whose_login_is_missing_is_a_stranger(line: Event) -> None:
    up = pooler("process-up", 0.5, detail="1.18.0")
    others = [up, login(1, port=50, pointer="0x3"), closed(2, port=50, pointer="0x3")]
    known = evidence(START_EVENT, *others, line)
    assert named(known, 8.9, pooled=True) == [None]
    assert known.closed.why_open(*(np.array([n]) for n in (0, *[_us(8.9)] * 3))) == [UNANNOUNCED]


def test_a_port_check_and_a_cancel_request_are_no_strangers() -> None:
    check = pooler("client-close", 9, ALICE, connection="0x1", db_role="(nouser)", detail="x")
    known = evidence(START_EVENT, login(1, port=50, pointer="0x3"), check)
    assert named(known, 8.9, pooled=True) == []


def _us(seconds: float) -> int:
    return int(at(seconds).timestamp() * 1_000_000)


# -- clocks that differ --------------------------------------------------------------------------


def skewed(skew_ms: int, *events: Event) -> Evidence:
    """What follows where clocks may differ by so much."""
    table = numbered([pa.Table.from_pylist(counted(events), schema=EVENT_SCHEMA)])
    return Evidence(table, Rules(clocks=Clocks(skew_ms)))


def test_a_sidecar_whose_clock_is_ahead_is_understood_once_that_is_declared() -> None:
    events = (START_EVENT, opened(6, 2), login(5.1), closed(60))
    assert named(skewed(0, *events), 10, pooled=True) == [None]
    assert "alice" in named(skewed(1000, *events), 10, pooled=True)
    assert skewed(0, *events).opens_late_ms == [pytest.approx(900)]


def test_an_event_that_may_have_spoken_of_either_of_two_clients_names_nobody() -> None:
    """The sidecar's clock is behind: it spoke of the second, and stands before the first."""
    events = (
        START_EVENT,
        opened(5, 2),
        login(5.5),
        closed(5.6),
        login(6.1, pointer="0x2"),
        closed(60),
    )
    assert set(named(skewed(1500, *events), 5.5, pooled=True)) == {None}
    assert set(named(skewed(1500, *events), 10, pooled=True)) == {None}


# -- several poolers, lines twice or swapped, ports used again --------------------------------------


def closed_pool(known: Evidence, seconds: float) -> int:
    """Why the only pool isn't closed at that time, or CLOSED."""
    moment = np.array([_us(seconds)])
    (why,) = known.closed.why_open(np.array([0]), moment, moment, moment)
    return int(why)


def test_another_pooler_s_start_ends_nobody() -> None:
    silent = [pooler("process-up", 0.5, detail="1.24.0"), login(1)]
    later = pooler("process-up", 5, detail="1.24.0") | {"sidecar": "901"}
    stats = [pooler("alive", 60), pooler("alive", 120)]
    known = evidence(START_EVENT, *silent, later, *stats)
    assert closed_pool(known, 10) == UNANNOUNCED


def test_a_pooler_whose_beginning_isn_t_in_the_log_may_have_clients_that_nobody_knows() -> None:
    first = [pooler("process-up", 0.5, detail="1.24.0"), login(1), closed(2)]
    other = [pooler("alive", n) | {"sidecar": "901"} for n in (3, 63, 123)]
    assert closed_pool(evidence(START_EVENT, *first, pooler("alive", 63)), 30) == CLOSED
    assert closed_pool(evidence(START_EVENT, *first, *other), 30) == UNSEEN


@pytest.mark.parametrize("lines", ["swapped", "doubled"])
def test_a_close_behind_the_next_login_of_its_socket_hides_nobody(lines: str) -> None:
    """PgBouncer uses a socket's memory again at once, in the same millisecond."""
    end, begin = closed(2, port=50), login(2)
    both = {"swapped": [begin, end], "doubled": [end, begin, end, begin]}[lines]
    up = pooler("process-up", 0.5, detail="1.24.0")
    known = evidence(START_EVENT, up, login(1, port=50), *both, pooler("alive", 60))
    assert closed_pool(known, 10) == UNANNOUNCED


def test_a_server_port_used_again_by_another_pool_names_nobody_of_the_first() -> None:
    def connect(seconds: float, database: str, role: str) -> Event:
        names = {"connection": f"0x{seconds}", "database": database, "db_role": role}
        return pooler("server-connect", seconds, 30001, **names)

    known = evidence(connect(1, "app", "app_user"), connect(3, "other", "mallory"))
    endpoint, begun = ("10.0.0.5", 30001), _us(3.001)
    app, other = known.pools["app", "app_user"], known.pools["other", "mallory"]
    assert known.pools_of_server_connection(endpoint, begun, "mallory") == [other]
    assert known.pools_of_server_connection(endpoint, begun, "app_user") == [app]
    # The pooler noted some, none of that role: not a session without a pooler.
    assert known.pools_of_server_connection(endpoint, begun, "root") == []
    assert known.pools_of_server_connection(("10.0.0.5", 1), begun, "mallory") is None
