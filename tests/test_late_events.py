"""Events that come late end, while logs are followed, in the answer that they would have given in time."""

import random
import time
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scalple.cli.following import Following
from tests.commandline import SAMPLE, rows, scalple
from tests.examples import examples
from tests.lateworld import LateWorld

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
    """What everything says, read in one go."""
    store = tmp_path_factory.mktemp("once") / "store"
    said = scalple("reprocess", "--config", SAMPLE / "config.toml", "--store", store)
    assert said.code == 0, said.err
    return rows(store, ANSWER)


def settle(following: Following) -> None:
    """Rounds until nothing waits for being attributed anew."""
    deadline = time.monotonic() + 60
    following.round()
    while following.revisions.is_waiting:
        assert time.monotonic() < deadline
        following.round()
        time.sleep(0.02)


def nobody_is_wrong(found: list[dict[str, Any]], whole: list[dict[str, Any]]) -> None:
    """Who is surely somebody is who he is."""
    truth = {(row["session_id"], row["session_line_num"]): row["session_user_id"] for row in whole}
    for row in found:
        if row["attribution_grade"] in SURE and row["session_user_id"] is not None:
            assert truth[row["session_id"], row["session_line_num"]] == row["session_user_id"], row


@settings(max_examples=examples(2), deadline=None, phases=WITHOUT_SHRINKING)
@given(seed=st.integers(0, 2**32))
def test_events_that_come_in_any_order_at_any_time_end_in_the_same_answer(
    seed: int,
    at_once: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    chance = random.Random(seed)
    world = LateWorld(tmp_path_factory.mktemp("late"))
    store = world.directory / "store"
    moments = world.moments(4)
    parts = world.split(chance, 3, moments)
    chance.shuffle(parts)
    pooler_behind = chance.choice([0, 0, 1])
    following = world.following()
    current = following.__enter__()
    for turn, moment in enumerate(moments):
        is_last = turn == len(moments) - 1
        world.write("pgbouncer.log", moment if is_last else moments[max(0, turn - pooler_behind)])
        for due, into, lines in parts:
            if due == turn:
                world.ship(into, lines)
        world.write("postgresql.csv", moment)
        current.round()
        event = chance.choice(["nothing", "rotate", "restart", "revise"])
        if event == "rotate" and not is_last:
            log = world.logs / "postgresql.csv"
            log.rename(log.with_name(f"postgresql.csv.{turn}"))
            log.touch()
        elif event == "restart":
            following.__exit__(None, None, None)
            following = world.following()
            current = following.__enter__()
        elif event == "revise":
            settle(current)
        nobody_is_wrong(rows(store, ANSWER), at_once)
    settle(current)
    following.__exit__(None, None, None)
    assert rows(store, ANSWER) == at_once
    assert rows(store, "SELECT * FROM gaps WHERE reason LIKE 'log-%'") == []
    assert scalple("verify", "--store", store).code == 0
