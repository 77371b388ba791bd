"""Nobody is named wrongly, whatever clients and servers do at once; what the servers are is in bustle.py.

Enters: nothing. Leaves: nothing. Honest clients: no wrong name at any grade that names one; hostile
clients: none at `proven`, and every forged line marked. `make prove` runs 200,000 statements of each, and
the same with later PgBouncers.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from scalple.correlate.rules import Pooler, Rules
from tests.attribute_logs import Attributed, attribute_files
from tests.bustle import Logs, Mode, play

pytestmark = pytest.mark.stack

STATEMENTS = int(os.environ.get("STACK_STATEMENTS", "0"))
"""Of each kind of clients, over all modes; 0 plays the short version."""
SHARE: dict[Mode, float] = {"transaction": 0.6, "session": 0.2, "statement": 0.2}


def run(tmp_path: Path, mode: Mode, liars: int = 0) -> tuple[Attributed, Logs]:
    """What comes out of everything at once."""
    logs = play(tmp_path, mode, int((STATEMENTS or 2400) * SHARE[mode]), liars=liars)
    stack = logs.stack
    rules = Rules(pooler=Pooler(mode=mode))
    done = attribute_files(stack.csvlog_paths(), [stack.pgbouncer_log], logs.events, rules)
    if STATEMENTS:
        show(mode, done)
    return done, logs


def show(mode: str, done: Attributed) -> None:
    """The table: who was named how."""
    right = Counter(
        (*key, row["session_user_id"] == row["truth"], row["session_user_id"] is None)
        for key, row in zip(kinds(done), done.dicts(), strict=True)
    )
    print(file=sys.__stdout__)
    for (kind, grade, method, is_right, nobody), n in sorted(right.items(), key=str):
        verdict = "nobody" if nobody else "right" if is_right else "wrong"
        print(
            f"{mode:12} {kind:10} {grade:13} {method or '':24} {verdict:7} {n:>8,}",
            file=sys.__stdout__,
        )


def kinds(done: Attributed) -> list[tuple[str, object, object]]:
    """(kind of author, grade, method) of each row."""
    return [
        (
            str(row["truth"]).partition("_")[0],
            row["attribution_grade"],
            row["attribution_method"],
        )
        for row in done.dicts()
    ]


@pytest.mark.parametrize("mode", SHARE)
def test_honest_clients_of_all_kinds_are_never_taken_for_others(tmp_path: Path, mode: Mode) -> None:
    done, logs = run(tmp_path, mode)
    assert done.wrong(["proven", "confirmed", "claimed"]) == [], Counter(kinds(done))
    refused = [row for row in done.refused if row["truth"] is not None]
    assert [row for row in refused if row["session_user_id"] not in (None, row["truth"])] == []
    assert len([row for row in refused if row["session_user_id"]]) > 0.3 * len(refused) > 3
    rows = [row for row in done.dicts() if row["truth"] is not None]
    assert len(rows) >= 0.9 * logs.statements
    for kind in ("tagged", "relayed"):
        own = [row for row in rows if str(row["truth"]).startswith(kind)]
        top = [row for row in own if row["attribution_grade"] in ("proven", "confirmed")]
        assert len(top) > 0.5 * len(own), Counter(kinds(done))


@pytest.mark.parametrize("mode", SHARE)
def test_hostile_clients_of_all_kinds_are_never_proven_to_be_others(
    tmp_path: Path, mode: Mode
) -> None:
    done, _ = run(tmp_path, mode, liars=4)
    assert done.wrong(["proven"]) == [], Counter(kinds(done))
    taken = [row for row in done.refused if row["session_user_id"] not in (None, row["truth"])]
    assert "proven" not in {row["attribution_grade"] for row in taken if row["truth"] is not None}
    forged = [row for row in done.dicts() if row["truth"] == "nobody"]
    assert forged
    assert {row["session_user_id"] for row in forged} == {None}
    assert all("forged-line" in (row["findings"] or ()) for row in forged)  # type: ignore[operator]
