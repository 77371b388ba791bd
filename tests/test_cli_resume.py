"""Files given again, grown, renamed, cut or copied: nothing is read twice, and nothing is lost."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from scalple.cli import warmup
from tests.commandline import SAMPLE, Said, manifests, reprocess_sample, rows, scalple

# With a method that names people, so that sessions are evidence of their own.
POSTGRES = (SAMPLE / "postgresql.csv").read_bytes().replace(b"method=scram-sha-256", b"method=ldap")
IDENTITIES = 'identities = { jmueller = "employee_id_2291", awagner = "employee_id_6001" }'
EVERYTHING = "SELECT * FROM audit ORDER BY seq"
# Kept outside: they name the file that the record was read from, or are the key's doing.
ELSEWHERE = {"source_file", "source_offset", "subjects", "query", "parameters"}
# Nor is it known what a record repeats that an earlier run has read.
ELSEWHERE |= {"repeat_of"}


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, read in one go."""
    directory = tmp_path_factory.mktemp("once")
    read(directory / "store", copied(directory))
    return directory / "store"


@pytest.fixture(scope="module")
def whole(at_once: Path) -> list[dict[str, Any]]:
    """What the sample says, read in one go."""
    return known(at_once)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """The sample's files, to be changed."""
    return copied(tmp_path)


def copied(directory: Path) -> Path:
    """The sample with sessions that PostgreSQL authenticated by name."""
    copy = directory / "samples"
    shutil.copytree(SAMPLE, copy)
    (copy / "postgresql.csv").write_bytes(POSTGRES)
    config = copy / "config.toml"
    config.write_text(config.read_text().replace("\n[actors]\n", f"\n[actors]\n{IDENTITIES}\n"))
    return copy


def read(store: Path, samples: Path, *more: str | Path) -> Said:
    """One successful run."""
    said = reprocess_sample(store, *more, samples=samples)
    assert said.code == 0, said.err
    return said


def record_end(near: int) -> int:
    """Where the record ends that holds this offset of the sample."""
    return POSTGRES.index(b"\n2026-", near) + 1


WHO = {
    "session_user_id",
    "session_email",
    "actor_kind",
    "on_behalf_of",
    "peer_addr",
    "peer_port",
    "session_authn",
    "attribution_grade",
    "attribution_method",
    "attribution_reason",
    "attribution_evidence",
    "attribution_candidates",
}


def known(store: Path) -> list[dict[str, Any]]:
    """What is comparable between stores with keys of their own.

    Who a parallel worker served is known from its leader's next record only; where reading stopped
    between the two, the worker's row stays without a name (docs/LIMITS.md).
    """
    return [
        {
            name: value
            for name, value in row.items()
            if name not in ELSEWHERE and (row["db_role"] is not None or name not in WHO)
        }
        for row in rows(store, EVERYTHING)
    ]


def evidence(store: Path) -> list[dict[str, Any]]:
    """The evidence, comparable likewise."""
    found = rows(store, "SELECT * FROM evidence ORDER BY seq")
    return [{k: v for k, v in row.items() if k not in ELSEWHERE} for row in found]


def test_the_same_input_twice_adds_nothing(tmp_path: Path, samples: Path) -> None:
    store = tmp_path / "s"
    read(store, samples)
    before = manifests(store)
    said = read(store, samples)
    assert manifests(store) == before
    assert "3 file(s) hold nothing that isn't in the store" in said.err
    assert "nothing new" in said.err


def test_a_renamed_file_is_the_same_file(tmp_path: Path, samples: Path) -> None:
    store = tmp_path / "s"
    read(store, samples)
    before = manifests(store)
    for name in ("postgresql.csv", "pgbouncer.log", "identity.jsonl"):
        (samples / name).rename(samples / f"{name}.1")
    read(
        store,
        samples,
        *("--postgres-log", samples / "postgresql.csv.1"),
        *("--pgbouncer-log", samples / "pgbouncer.log.1"),
        *("--identity-events", samples / "identity.jsonl.1"),
    )
    assert manifests(store) == before


@pytest.mark.parametrize("part", [0.045, 0.5])
def test_a_grown_file_goes_on_where_it_ended_and_says_the_same(
    part: float, tmp_path: Path, samples: Path, at_once: Path, whole: list[dict[str, Any]]
) -> None:
    store = tmp_path / "s"
    log = samples / "postgresql.csv"
    log.write_bytes(POSTGRES[: record_end(int(len(POSTGRES) * part)) + 100])
    said = read(store, samples)
    assert "bytes are no complete record; they are read when the file has grown" in said.err
    some = rows(store, "SELECT count(*) AS n FROM audit")[0]["n"]
    log.write_bytes(POSTGRES)
    read(store, samples)
    assert 0 < some < len(known(store))
    assert known(store) == whole
    assert evidence(store) == evidence(at_once)
    assert rows(store, "FROM gaps") == rows(at_once, "FROM gaps")
    assert scalple("verify", "--store", store).code == 0


def test_the_sample_has_sessions_that_are_evidence(at_once: Path) -> None:
    methods = rows(at_once, "SELECT attribution_method AS m, count(*) AS n FROM audit GROUP BY 1")
    assert {"external-identity", "application-name-suffix"} <= {row["m"] for row in methods}
    assert rows(at_once, "FROM evidence WHERE event = 'session-authenticated'")


def test_a_file_that_grew_many_times_says_the_same(
    tmp_path: Path, samples: Path, whole: list[dict[str, Any]]
) -> None:
    store = tmp_path / "s"
    log = samples / "postgresql.csv"
    for end in range(600_000, len(POSTGRES) + 600_000, 600_000):
        log.write_bytes(POSTGRES[:end])
        read(store, samples)
    assert known(store) == whole


def test_sessions_go_on_in_the_next_file_of_a_rotation(
    tmp_path: Path, samples: Path, whole: list[dict[str, Any]]
) -> None:
    store = tmp_path / "s"
    cut = record_end(len(POSTGRES) // 2)
    first, second = samples / "postgresql-1.csv", samples / "postgresql-2.csv"
    first.write_bytes(POSTGRES[:cut])
    read(store, samples, "--postgres-log", first)
    second.write_bytes(POSTGRES[cut:])
    read(store, samples, "--postgres-log", first, second)
    assert known(store) == whole


def test_a_session_further_back_than_is_looked_is_not_guessed(
    tmp_path: Path, samples: Path, whole: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warmup, "BYTES_MAX", 20_000)
    store = tmp_path / "s"
    log = samples / "postgresql.csv"
    log.write_bytes(POSTGRES[: record_end(len(POSTGRES) // 2)])
    read(store, samples)
    log.write_bytes(POSTGRES)
    read(store, samples)
    pairs = list(zip(known(store), whole, strict=True))
    for found, complete in pairs:
        if found.get("attribution_grade") in ("proven", "confirmed"):
            assert found["session_user_id"] == complete["session_user_id"]
    lost = [found for found, complete in pairs if found != complete]
    assert len(lost) < 200


def test_a_torn_last_record_is_reported_and_read_later(tmp_path: Path, samples: Path) -> None:
    store = tmp_path / "s"
    log = samples / "postgresql.csv"
    end = record_end(100_000)
    log.write_bytes(POSTGRES[: end + 60])
    said = read(store, samples)
    assert f"{log}: its last 60 bytes are no complete record" in said.err
    before = rows(store, "SELECT count(*) AS n FROM audit")[0]["n"]
    assert rows(store, "FROM unparsed") == []
    log.write_bytes(POSTGRES[: record_end(end + 60)])
    said = read(store, samples)
    assert "no complete record" not in said.err
    assert rows(store, "SELECT count(*) AS n FROM audit")[0]["n"] == before + 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (POSTGRES[:500_000], "is shorter now: 500,000 bytes"),
        (POSTGRES[:-300] + b"x" * 300, "what follows isn't what was read"),
        (POSTGRES[:1_000_000] + POSTGRES[1_100_000:] * 2, "what follows isn't what was read"),
    ],
    ids=["shrunk", "end-rewritten", "middle-cut-out"],
)
def test_a_file_that_was_changed_behind_us_is_refused(
    changed: bytes, words: str, tmp_path: Path, samples: Path
) -> None:
    store = tmp_path / "s"
    read(store, samples)
    before = manifests(store)
    (samples / "postgresql.csv").write_bytes(changed)
    said = reprocess_sample(store, samples=samples)
    assert (said.code, said.out) == (3, "")
    assert words in said.err
    assert manifests(store) == before
    assert scalple("verify", "--store", store).code == 0


def test_copies_of_a_file_are_read_once(
    tmp_path: Path, samples: Path, whole: list[dict[str, Any]]
) -> None:
    store = tmp_path / "s"
    (samples / "copy.csv").write_bytes(POSTGRES)
    (samples / "older.csv").write_bytes(POSTGRES[:300_000])
    (samples / "link.csv").symlink_to(samples / "postgresql.csv")
    said = read(store, samples, "--postgres-log", samples / "*.csv")
    assert said.err.count("read once") == 3
    assert known(store) == whole


def test_files_that_begin_alike_and_go_on_otherwise_are_refused(
    tmp_path: Path, samples: Path
) -> None:
    other = samples / "other.csv"
    other.write_bytes(POSTGRES[: record_end(9000)] + POSTGRES[record_end(90_000) :])
    said = reprocess_sample(tmp_path / "s", "--postgres-log", samples / "*.csv", samples=samples)
    assert (said.code, said.out) == (3, "")
    assert "begins like" in said.err
    assert not (tmp_path / "s").exists()


def test_an_empty_file_beside_others_is_said_and_passed_over(tmp_path: Path, samples: Path) -> None:
    (samples / "empty.csv").write_bytes(b"")
    said = read(tmp_path / "s", samples, "--postgres-log", samples / "*.csv")
    assert "empty.csv: is empty" in said.err


def test_evidence_that_comes_late_revises_what_was_read_before(
    tmp_path: Path, samples: Path
) -> None:
    store = tmp_path / "s"
    events = (samples / "identity.jsonl").read_bytes()
    (samples / "identity.jsonl").write_bytes(events[: events.index(b"\n") + 1])
    said = read(store, samples)
    assert "not revised" not in said.err
    before = known(store)
    (samples / "identity.jsonl").write_bytes(events)
    said = read(store, samples)
    assert "revisions" in said.err
    assert known(store) != before
