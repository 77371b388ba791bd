"""Evidence that comes late ends in the answer that it would have given in time; the earlier one stays."""

import itertools
import random
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commandline import SAMPLE, rows, scalple
from tests.examples import examples

ANSWER = (
    "SELECT source_offset, session_user_id, session_email, actor_kind, peer_port, session_authn, "
    "attribution_grade, attribution_method, attribution_reason, attribution_candidates, findings "
    "FROM audit ORDER BY source_offset"
)
LOGS = {
    "postgres": ("--postgres-log", SAMPLE / "postgresql.csv"),
    "pgbouncer": ("--pgbouncer-log", SAMPLE / "pgbouncer.log"),
    "identity": ("--identity-events", SAMPLE / "identity.jsonl"),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's configuration without its sources."""
    text = (SAMPLE / "config.toml").read_text()
    begin = text.index("[sources]")
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(text[:begin] + text[text.index("\n[", begin + 5) :])
    return path


@pytest.fixture(scope="module")
def at_once(config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What everything says, read in one go."""
    store = tmp_path_factory.mktemp("once") / "store"
    read(store, config, *LOGS)
    return rows(store, ANSWER)


def read(store: Path, config: Path, *sources: str, more: tuple[str, ...] = ()) -> str:
    """One run over some sources; what it said."""
    arguments = [one for source in sources for one in LOGS[source]]
    said = scalple("reprocess", "--store", store, "--config", config, *arguments, *more)
    assert said.code == 0, said.err
    return said.err


@pytest.mark.parametrize("order", list(itertools.permutations(LOGS)))
def test_any_order_of_sources_ends_in_the_same_answer(
    tmp_path: Path, config: Path, at_once: list[dict[str, Any]], order: tuple[str, ...]
) -> None:
    store = tmp_path / "store"
    for source in order:
        # The server's log is given along: what the store has of it is revised.
        known = order.index("postgres") < order.index(source)
        read(store, config, source, *(("postgres",) if known else ()))
    assert rows(store, ANSWER) == at_once
    assert scalple("verify", "--store", store).code == 0
    twice = rows(store, "SELECT source_offset FROM audit GROUP BY 1 HAVING count(*) > 1")
    assert twice == []


def test_what_was_known_before_is_still_there(
    tmp_path: Path, config: Path, at_once: list[dict[str, Any]]
) -> None:
    store = tmp_path / "store"
    read(store, config, "postgres", "pgbouncer")
    before = rows(store, ANSWER)
    then = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    said = read(store, config, "identity", "postgres")
    assert "revisions" in said
    assert "not revised" not in said
    assert rows(store, ANSWER) == at_once != before
    question = "SELECT attribution_grade AS grade, count(*) AS n FROM audit GROUP BY 1 ORDER BY 1"
    now = scalple("sql", "--store", store, "--format", "json", question).json()
    old = scalple("sql", "--store", store, "--as-of", then, "--format", "json", question).json()
    assert {row["grade"]: row["n"] for row in old} == {
        grade: sum(row["attribution_grade"] == grade for row in before)
        for grade in {row["attribution_grade"] for row in before}
    }
    assert now != old
    for verb in (("coverage",), ("query", "--actor", "j.muller@company.com")):
        found = scalple(*verb, "--store", store, "--as-of", then, "--format", "json")
        assert found.code == 0, found.err
    # No revision repeats what was known.
    changes = rows(store, "SELECT changes FROM revisions")
    assert len(changes) > 4000
    read(store, config, "identity", "postgres")
    assert len(rows(store, "SELECT changes FROM revisions")) == len(changes)


def test_without_the_old_logs_late_evidence_is_named_and_nothing_changes(
    tmp_path: Path, config: Path
) -> None:
    store = tmp_path / "store"
    read(store, config, "postgres", "pgbouncer")
    before = rows(store, ANSWER)
    assert "run again with --revise and the server logs" in read(store, config, "identity")
    assert rows(store, ANSWER) == before


def test_a_map_of_people_found_later_is_applied_when_asked_for(
    tmp_path: Path, config: Path
) -> None:
    store = tmp_path / "store"
    text = config.read_text()
    without = tmp_path / "without.toml"
    begin = text.index("[actors]")
    following = text.find("\n[", begin + 3)
    # [actors] and the sections of it that follow.
    while following >= 0 and text.startswith("\n[actors.", following):
        following = text.find("\n[", following + 3)
    without.write_text(text[:begin] + (text[following:] if following >= 0 else ""))
    read(store, without, *LOGS)
    question = "SELECT count(*) AS n FROM audit WHERE attribution_grade = 'proven'"
    assert rows(store, question) == [{"n": 0}]
    read(store, config, "postgres", more=("--revise",))
    assert rows(store, question)[0]["n"] > 200


def test_files_of_one_name_are_told_apart_or_left_alone(tmp_path: Path, config: Path) -> None:
    store = tmp_path / "store"
    data = (SAMPLE / "postgresql.csv").read_bytes()
    half = data.index(b"\n2026-", len(data) // 2) + 1
    paths = [tmp_path / day / "postgresql.csv" for day in ("monday", "tuesday")]
    for path, part in zip(paths, (data[:half], data[half:]), strict=True):
        path.parent.mkdir()
        path.write_bytes(part)
    arguments: list[str | Path] = ["reprocess", "--store", store, "--config", config]
    arguments += ["--postgres-log", *paths]
    assert scalple(*arguments, *LOGS["pgbouncer"]).code == 0
    said = scalple(*arguments, *LOGS["identity"])
    assert said.code == 0, said.err
    assert "several files of that name" in said.err
    assert rows(store, "SELECT count(*) AS n FROM revisions") == [{"n": 0}]


# -- any order of files -----------------------------------------------------------------------------

WHO = (
    "SELECT session_id, session_line_num, session_user_id, attribution_grade, attribution_method, "
    "attribution_reason, attribution_candidates, findings, success, sqlstate "
    "FROM audit ORDER BY session_id, session_line_num, statement_id, substatement_id"
)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    """The sample's logs, each cut between records into several files, with their options."""
    directory = tmp_path_factory.mktemp("pieces")
    found = []
    for (option, path), begins in zip(
        LOGS.values(),
        (rb'\n(?=\d{4}-\d\d-\d\d [\d:.]+ UTC,(?:,|"))', rb"\n(?=\d{4}-)", rb"\n"),
        strict=True,
    ):
        data = path.read_bytes()
        places = [0, *(one.end() for one in re.finditer(begins, data)), len(data)]
        bounds = [places[len(places) * n // 3] for n in range(3)] + [len(data)]
        for n, (begin, end) in enumerate(itertools.pairwise(bounds)):
            piece = directory / f"{n}-{path.name}"
            piece.write_bytes(data[begin:end])
            found.append((option, piece))
    return found


@settings(max_examples=examples(4), deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_any_order_of_files_gives_the_same_attribution(
    chance: random.Random,
    pieces: list[tuple[str, Path]],
    config: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("shuffled")
    whole = [one for pair in LOGS.values() for one in pair]
    shuffled = list(pieces)
    chance.shuffle(shuffled)
    cut = [one for pair in shuffled for one in pair]
    for name, arguments in (("whole", whole), ("cut", cut)):
        said = scalple("reprocess", "--store", directory / name, "--config", config, *arguments)
        assert said.code == 0, said.err
    assert rows(directory / "cut", WHO) == rows(directory / "whole", WHO)
