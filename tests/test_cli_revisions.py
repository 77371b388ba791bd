"""Evidence that comes late ends in the answer that it would have given in time; the earlier one stays."""

import bz2
import gzip
import itertools
import lzma
import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
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


def test_a_log_that_was_renamed_or_compressed_after_it_was_read_is_revised(
    tmp_path: Path, config: Path, at_once: list[dict[str, Any]]
) -> None:
    store = tmp_path / "store"
    # Of one name, too: rows are told apart by what they are.
    logs = [tmp_path / str(n) / "postgresql.csv" for n in range(len(PACKED))]
    for log, part in zip(logs, parts_of(LOGS["postgres"][1], len(PACKED)), strict=True):
        log.parent.mkdir()
        log.write_bytes(part)
    arguments: list[str | Path] = ["reprocess", "--store", store, "--config", config]
    assert scalple(*arguments, *LOGS["pgbouncer"], "--postgres-log", *logs).code == 0
    packed = [log.with_name(log.name + ending) for log, ending in zip(logs, PACKED, strict=True)]
    for log, path, pack in zip(logs, packed, PACKED.values(), strict=True):
        data = log.read_bytes()
        log.unlink()
        path.write_bytes(pack(data))
    said = scalple(*arguments, *LOGS["identity"], "--revise", "--postgres-log", *packed)
    assert said.code == 0, said.err
    assert "aren't revised" not in said.err
    assert without_places(rows(store, ANSWER)) == without_places(at_once)


def test_the_same_records_at_the_same_places_of_two_files_are_left_alone_and_counted(
    tmp_path: Path, config: Path
) -> None:
    store = tmp_path / "store"
    log, other = tmp_path / "postgresql.csv", tmp_path / "edited.csv"
    part = parts_of(LOGS["postgres"][1], 40)[0]
    log.write_bytes(part)
    place = part.index(b"starting PostgreSQL")
    other.write_bytes(part[:place] + b"S" + part[place + 1 :])
    arguments: list[str | Path] = ["reprocess", "--store", store, "--config", config]
    assert scalple(*arguments, "--postgres-log", log, other).code == 0
    count = rows(store, "SELECT count(*) AS n FROM audit")[0]["n"] // 2
    assert count > 50
    arguments += [*LOGS["pgbouncer"], *LOGS["identity"], "--postgres-log", log]
    said = scalple(*arguments)
    assert said.code == 0, said.err
    assert f"{count:,} statements aren't revised: the store has the same records" in said.err
    assert rows(store, "SELECT count(*) AS n FROM revisions") == [{"n": 0}]


def test_statements_that_the_store_has_no_rows_of_are_counted(tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "postgresql.log"
    line = "2026-03-14 11:22:08.123 UTC [77] {} LOG:  {}\n"
    audit = "AUDIT: SESSION,{},1,READ,SELECT,,,SELECT 1,<none>"
    log.write_text("".join(line.format("65f2e0a0.4d", audit.format(n)) for n in range(1, 9)))
    arguments: list[str | Path] = ["reprocess", "--store", store, "--postgres-log", log]
    arguments.append("--log-line-prefix")
    assert scalple(*arguments, "%m [%p] %a ").code == 0
    said = scalple(*arguments, "%m [%p] %c ", "--revise")
    assert said.code == 0, said.err
    assert "8 statements aren't revised: the store has no rows of them" in said.err
    assert "aren't revised" not in scalple(*arguments, "%m [%p] %a ", "--revise").err


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".1": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
"""Ways in which logs are put away."""


def parts_of(log: Path, number: int) -> list[bytes]:
    """A csvlog cut between records."""
    data = log.read_bytes()
    begins = rb'\n(?=\d{4}-\d\d-\d\d [\d:.]+ UTC,(?:,|"))'
    places = [0, *(one.end() for one in re.finditer(begins, data)), len(data)]
    bounds = [*(places[len(places) * n // number] for n in range(number)), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(bounds)]


def without_places(found: list[dict[str, Any]]) -> list[str]:
    """Answers without their offsets, which are those of files."""
    return sorted(repr({**one, "source_offset": None}) for one in found)


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
