"""`retention` and `hold` at the command line: what they say, refuse, and leave behind."""

import datetime as dt
import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scalple.cli.declarations import to_objects
from scalple.correlate.rules import Rules
from scalple.store import keys
from scalple.store.writer import StoreWriter
from tests.commandline import SAMPLE, Said, scalple
from tests.store.sample import other_kinds, signing_key, table
from tests.unprivileged import scalple_as_nobody

NOW = dt.datetime.now(dt.UTC)
CONFIG = '[retention]\nprofiles = ["gdpr", "cnil"]\n'
OLD, NEW = NOW - dt.timedelta(days=500), NOW - dt.timedelta(days=3)


def made(store: Path) -> Path:
    """Two commits: one of statements that are too old, one of others."""
    key = signing_key(store)
    with StoreWriter.open(store, "db1", key, create=True) as writer:
        for n, when in enumerate((OLD, NEW)):
            rows = [
                {
                    "log_time": when,
                    "query": "SELECT 1",
                    "session_user_id": "ann",
                    "attribution_grade": "proven",
                    "affected_tables": ["public.users"],
                    "attribution_evidence": ["db1/evidence#0"] if n else None,
                }
            ] * 3
            tables = {"audit": table("audit", 3 * n, rows), **other_kinds(n)}
            tables["evidence"] = table("evidence", n, [{"source": "identity", "ts": when}])
            tables["denied"] = table("denied", n, [{"sqlstate": "42501", "log_time": when}])
            tables["gaps"] = table("gaps", n, [{"reason": "session-hole", "log_time": when}])
            writer.commit(tables, [], {})
    return store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    return made(tmp_path / "store")


def retention(store: Path, *options: str) -> Said:
    config = store.with_name("config.toml")
    return scalple("retention", "--store", store, "--config", config, *options)


def test_what_would_expire_is_said_and_nothing_is_written(store: Path) -> None:
    before = sorted(store.rglob("*"))
    said = retention(store, "--dry-run", "--format", "json")
    assert said.code == 0, said.err
    answer = said.json()
    assert answer["keep_at_most"]["age"] == "1 year"
    assert "CNIL" in answer["keep_at_most"]["source"]
    rows = {row["kind"]: (row["state"], row["rows"]) for row in answer["origins"][0]["rows"]}
    assert rows == {
        "audit": ("expires", 3),
        "denied": ("expires", 1),
        "gaps": ("expires", 1),
        "unparsed": ("expires", 1),
        "evidence": ("cited", 1),
    }
    assert sorted(store.rglob("*")) == before
    assert "6 rows would expire" in retention(store, "--dry-run").out


def test_an_answer_says_what_expired_if_the_period_touches_it(store: Path) -> None:
    proof = store.with_name("row.proof")
    assert scalple("prove", "db1#0", "db1#4", "--store", store, "--output", proof).code == 0
    said = retention(store)
    assert said.code == 0, said.err
    assert "db1: 6 rows expired with manifest 2; 5 files removed" in said.out
    assert "nothing expired" in retention(store).out
    actor = ("query", "--store", store, "--actor", "ann", "--disclosure", "controller")
    whole = scalple(*actor, "--format", "json")
    assert [row["seq"] for row in whole.json()["direct"]] == [3, 4, 5]
    (told,) = whole.json()["coverage"]["expired"]
    assert (told["origin"], told["statements"], told["rows"]) == ("db1", 3, 5)
    assert "kept at most 1 year" in told["reason"]
    assert "expired, not in this answer: 3 statements of db1" in whole.err
    since = ("--since", str(NEW.date()))
    assert scalple(*actor, *since, "--format", "json").json()["coverage"]["expired"] == []
    assert "expired" not in scalple(*actor, *since).out
    for form in ("table", "html"):
        assert "expired, not in this answer" in scalple(*actor, "--format", form).out
    coverage = scalple("coverage", "--store", store)
    assert "expired, not in this answer" in coverage.out
    sql = scalple("sql", "--store", store, "SELECT kind, profiles FROM expired ORDER BY 1")
    assert "cnil" in sql.out
    assert "expired, not in this answer" in sql.err
    report = scalple("verify", "--store", store)
    assert report.code == 0
    assert "6 rows have expired" in report.out
    assert scalple("verify", "--store", store, "--format", "json").json()["expired_rows"] == 6
    gone = scalple("prove", "db1#0", "--store", store, "--output", proof.with_name("p"))
    assert gone.code == 3
    assert "row db1#0 has expired (kept at most 1 year" in gone.err
    again = scalple("prove", "db1#4", "--store", store, "--output", proof.with_name("q"))
    assert again.code == 0, again.err
    key = store / "db1" / "public-key"
    assert scalple("check-proof", proof, "--public-key", key).code == 0
    bundle = store.with_name("answer.zip")
    assert scalple(*actor, "--bundle", bundle).code == 0
    assert scalple("check-proof", bundle, "--public-key", key).code == 0


def test_gaps_that_expired_before_their_statements_arent_told_as_none(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    store = tmp_path / "store"
    with StoreWriter.open(store, "db1", signing_key(store), create=True) as writer:
        both = table("audit", 0, [{"log_time": OLD}, {"log_time": NEW}])  # waits for the newer one
        gap = table("gaps", 0, [{"reason": "session-hole", "log_time": OLD}])
        writer.commit({"audit": both, "gaps": gap}, [], {})
    assert "1 rows expired" in retention(store).out
    said = scalple("coverage", "--store", store).out
    assert "0 gaps" in said
    assert "not in this answer: 1 rows of refusals, gaps or evidence of db1" in said


def test_without_a_maximum_nothing_expires(store: Path) -> None:
    for text in (
        "",
        '[retention]\nprofiles = ["hipaa"]\n',
        '[retention]\nkeep_at_least = "1 day"\n',
    ):
        store.with_name("config.toml").write_text(text)
        said = retention(store)
        assert (said.code, said.err) == (0, "")
        assert "nothing expires" in said.out
        assert "db1: nothing expired" in said.out


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ('profiles = ["cnil", "garante-192"]', ["garante-192 (Garante", "cnil (CNIL"]),
        ('profiles = ["hipaa"]\nkeep_at_most = "71 months"', ["HIPAA", "keep_at_most"]),
        ('profiles = ["pci-dss"]\nkeep_at_most = "365 days"', ["PCI DSS", "keep_at_most"]),
        ('keep_at_least = "32 days"\nkeep_at_most = "1 month"', ["keep_at_least", "1 month"]),
        ('profiles = ["gdpr", "hipaa"]', ["gdpr (GDPR", "HIPAA"]),
        ('profiles = ["dsgvo"]', ["dsgvo", "known: gdpr"]),
        ('keep_at_most = "soon"', ["soon", "6 months"]),
        ('keep_at_most = "0 days"', ["no age"]),
        ('keep_at_most = "99999 years"', ["200 years"]),
    ],
)
def test_a_contradiction_is_refused_and_names_both_sides(
    store: Path, text: str, sources: list[str]
) -> None:
    store.with_name("config.toml").write_text(f"[retention]\n{text}\n")
    said = retention(store)
    assert said.code == 4
    assert "config.toml:" in said.err
    assert all(one in said.err for one in sources), said.err


def test_what_is_held_stays_until_the_hold_is_released(store: Path) -> None:
    period = ("--since", str((OLD - dt.timedelta(days=1)).date()), "--until", str(NEW.date()))
    hold = ("hold", "add", "case-17", "--store", store, "--reason", "court", *period)
    assert scalple(*hold).code == 0
    assert "has it already" in scalple(*hold).out
    other = scalple("hold", "add", "case-17", "--store", store, "--reason", "another")
    assert other.code == 3
    trial = retention(store, "--dry-run", "--format", "json").json()
    assert {row["hold"] for row in trial["origins"][0]["rows"]} == {"case-17"}
    assert "db1: nothing expired" in retention(store).out
    listed = scalple("hold", "list", "--store", store, "--format", "json").json()["holds"]
    assert [(one["id"], one["released_at"]) for one in listed] == [("case-17", None)]
    assert " on " in listed[0]["placed_by"]
    for wrong in (("hold", "release", "case-18", "--reason", "x"), ("hold", "release", "case-17")):
        assert scalple(*wrong, "--store", store).code == 3
    released = scalple("hold", "release", "case-17", "--store", store, "--reason", "closed")
    assert released.code == 0, released.err
    assert scalple(*hold).code == 3
    assert "6 rows expired" in retention(store).out
    assert scalple("verify", "--store", store).code == 0


def test_a_log_that_began_after_a_hold_is_held_as_well(store: Path) -> None:
    """The log of questions begins with the first one; its rows would have gone, for good."""
    hold = ("hold", "add", "case-17", "--store", store, "--reason", "court")
    assert scalple(*hold).code == 0
    key = keys.signing_key(store, None, name="access").private
    with StoreWriter.open(store, "_access", key, create=True) as writer:
        asked = table("access", 0, [{"asked_at": OLD, "asked_by": "ann (1000)"}], "_access")
        writer.commit({"access": asked}, [], {})
    trial = retention(store, "--dry-run", "--format", "json").json()["origins"]
    assert [row["hold"] for one in trial for row in one["rows"] if one["origin"] == "_access"] == [
        "case-17"
    ]
    assert "_access: nothing expired" in retention(store).out
    assert scalple("hold", "release", "case-17", "--store", store, "--reason", "x").code == 0
    assert "_access: 1 rows expired" in retention(store).out
    assert scalple("verify", "--store", store).code == 0


def test_what_expired_before_another_log_failed_is_told(store: Path) -> None:
    key = signing_key(store)
    with StoreWriter.open(store, "db2", key, create=True):  # at work
        said = retention(store)
    assert said.code == 5
    assert "another writer has this origin open" in said.err
    assert "note: db1: 6 rows expired with manifest 2; 5 files removed" in said.err


def test_an_index_is_made_anew_without_the_rows(store: Path) -> None:
    (path,) = (store / "db1" / "segments").glob(f"{0:020d}-audit-*")
    salt = bytes.fromhex(pq.read_metadata(path).metadata[b"scalple.salt_key"].decode())
    assert scalple("compact", "--store", store).code == 0
    assert "files removed" in retention(store).out
    (parts,) = (store / "db1" / "index").glob("parts-*")
    assert salt not in pq.read_table(parts)["salt_key"].to_pylist()
    said = scalple("coverage", "--store", store, "--format", "json")
    assert said.json()["statements"] == 3
    assert "the index" not in said.err
    report = scalple("verify", "--store", store)
    assert (report.code, "still" in report.out) == (0, False)


def test_an_index_that_is_a_link_or_a_file_loses_nothing_elsewhere(store: Path) -> None:
    assert scalple("compact", "--store", store).code == 0
    index, elsewhere = store / "db1" / "index", store.with_name("elsewhere")
    index.rename(elsewhere)
    there = sorted(elsewhere.iterdir())
    index.symlink_to(elsewhere)
    for _ in range(2):
        for said in (retention(store), scalple("compact", "--store", store)):
            assert said.code == 5
            assert "can't be opened as a directory" in said.err
        index.unlink()
        index.touch()
    assert [path for path in there if path.name != "resume"] == sorted(elsewhere.iterdir())


def test_questions_expire_as_well_under_their_own_key(store: Path) -> None:
    key = keys.signing_key(store, None, name="access").private
    with StoreWriter.open(store, "_access", key, create=True) as writer:
        asked = table("access", 0, [{"asked_at": OLD, "asked_by": "ann (1000)"}], "_access")
        writer.commit({"access": asked}, [], {})
    assert scalple("coverage", "--store", store).code == 0
    said = retention(store)
    assert "_access: 1 rows expired with manifest 2" in said.out
    assert scalple("compact", "--store", store).code == 0
    count = ("sql", "--store", store, "--format", "json", "SELECT seq FROM access")
    assert [row["seq"] for row in scalple(*count).json()] == [1]
    assert [row["seq"] for row in scalple(*count).json()] == [1, 2]
    said = scalple(*count[:-1], "SELECT origin FROM expired WHERE kind = 'access'")
    assert said.json() == [{"origin": "_access"}]
    assert "not in this answer: 1 questions of _access" in said.err
    gone = scalple("prove", "_access/access#0", "--store", store, "--output", store / "p")
    assert gone.code == 3
    assert scalple("verify", "--store", store).code == 0


def test_a_store_without_commits_for_a_month_needs_the_date(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    store, then = tmp_path / "store", NOW - dt.timedelta(days=420)
    with StoreWriter.open(
        store, "db1", signing_key(store), create=True, clock=lambda: then
    ) as writer:
        writer.commit({"audit": table("audit", 0, [{"log_time": OLD}])}, [], {})
    said = retention(store)
    assert said.code == 4
    assert "--today" in said.err
    assert retention(store, "--today", "2020-01-01").code == 4
    today = dt.datetime.now(dt.UTC).date()
    assert "1 rows expired" in retention(store, "--today", str(today)).out


def test_a_periods_key_goes_with_the_periods_rows(tmp_path: Path) -> None:
    config, store = tmp_path / "config.toml", tmp_path / "store"
    directory = tmp_path / "period keys"
    config.write_text(
        '[retention]\nkeep_at_most = "2 years"\n[keys]\nsubject_key_period = "year"\n'
        f'subject_key_directory = "{directory}"\n'
    )
    events = Path(__file__).parent.parent / "sample_logs" / "identity.jsonl"
    run = ("reprocess", "--store", store, "--config", config, "--identity-events", events)
    assert scalple(*run).code == 0
    year = dt.datetime.now(dt.UTC).year
    assert sorted(path.name for path in directory.iterdir()) == ["store", f"subject-{year}.key"]
    # Periods of before, by hand: one with rows that are left, one without.
    key = keys.signing_key(store, None).private
    ids = {}
    gone = OLD - dt.timedelta(days=900)
    for at, (name, when) in enumerate((("2000", gone), ("2001", gone), ("2002", NEW))):
        path = directory / f"subject-{name}.key"
        keys.create_subject_key(path)
        ids[name] = keys.subject_key_id(keys.subject_key(store, path).secret)
        with StoreWriter.open(store, "default", key, create=False) as writer:
            rows = table("audit", at, [{"log_time": when}], "default")
            writer.commit({"audit": rows}, [], {"subject-key": ids[name].encode()})
    unnamed = directory / "subject-2003.key"
    keys.create_subject_key(unnamed)
    linked = tmp_path / "linked"  # a key is named, however it is written
    linked.symlink_to(directory)
    mine = f'former_subject_key_files = ["{linked}/subject-2000.key"]\n'
    config.write_text(config.read_text() + mine)
    trial = retention(store, "--dry-run", "--format", "json").json()
    assert trial["keys_destroyed"] == []  # its rows are there still
    said = retention(store, "--format", "json")
    assert said.code == 0, said.err
    assert [one["key"] for one in said.json()["keys_destroyed"]] == [ids["2001"]]
    left = {path.name for path in directory.iterdir()}
    years = ("2000", "2002", "2003", year)  # named by the operator, in use, never used, of now
    assert left == {"store", *(f"subject-{one}.key" for one in years)}
    subject = ("query", "--store", store, "--config", config, "--actor", "ann")
    assert scalple(*subject).code == 0
    elsewhere = made(tmp_path / "other")
    refused = retention(elsewhere)
    assert refused.code == 4
    assert "one directory for each store" in refused.err


def test_where_all_rows_and_keys_are_gone_an_answer_says_so(tmp_path: Path) -> None:
    config, store = tmp_path / "config.toml", tmp_path / "store"
    config.write_text(f'{CONFIG}[keys]\nsubject_key_period = "year"\n')
    key, path = signing_key(store), store.with_name("store.keys") / "subject-2001.key"
    keys.create_subject_key(path)
    key_id = keys.subject_key_id(keys.subject_key(store, path).secret).encode()
    rules = to_objects(Rules(identifiers={"customer_id": ("public.users.id",)}))
    with StoreWriter.open(store, "db1", key, create=True) as writer:
        writer.commit(
            {"audit": table("audit", 0, [{"log_time": OLD}])}, [], rules | {"subject-key": key_id}
        )
    assert "subject-2001.key): destroyed" in retention(store).out
    for asked in (("--subject", "customer_id=7"), ("--actor", "ann")):
        said = scalple("query", "--store", store, "--config", config, *asked)
        assert said.code == 0, said.err
        assert "expired, not in this answer: 1 statements of db1" in said.out


def test_a_key_of_the_next_period_is_made_by_the_writer(tmp_path: Path) -> None:
    """The log names the key of before; the one of this month is made, unless that one is lost."""
    config, store = tmp_path / "config.toml", tmp_path / "store"
    config.write_text('[keys]\nsubject_key_period = "month"\n')
    events = Path(__file__).parent.parent / "sample_logs" / "identity.jsonl"
    run = ("reprocess", "--store", store, "--identity-events", events)
    assert scalple(*run).code == 0
    beside = store.with_name("store.keys")
    first = keys.subject_key_id(keys.subject_key(store, beside / "subject.key").secret)
    key = keys.signing_key(store, None).private
    with StoreWriter.open(store, "default", key, create=False) as writer:
        rows = table("audit", 0, [{"log_time": NEW}], "default")
        writer.commit({"audit": rows}, [], {"subject-key": first.encode()})
    more = tmp_path / "more.jsonl"
    more.write_text(events.read_text().replace('"seq":', '"seq":9'))
    again = ("reprocess", "--store", store, "--config", config, "--identity-events", more)
    (beside / "subject.key").rename(tmp_path / "lost")
    refused = scalple(*again)
    assert refused.code == 4
    assert first in refused.err
    assert not list(beside.glob("subject-*.key"))
    (tmp_path / "lost").rename(beside / "subject.key")
    assert scalple(*again).code == 0
    (made_key,) = beside.glob("subject-*.key")
    assert made_key.name == f"subject-{dt.datetime.now(dt.UTC):%Y-%m}.key"
    newest = max((store / "default" / "manifests").iterdir())
    named = json.loads(newest.read_text())["objects"]["subject-key"]
    said = (store / "default" / "objects" / named).read_text()
    assert said == keys.subject_key_id(keys.subject_key(store, made_key).secret)
    rotate = ("rotate-key", "subject", "--store", store, "--config", config)
    assert scalple(*rotate, "--new-key", made_key).code == 4


def test_keys_of_another_account_are_told_as_that() -> None:
    with tempfile.TemporaryDirectory() as place:  # others may come here, not so to tmp_path
        shared = Path(place)
        shared.chmod(0o755)
        (shared / "config.toml").write_text(CONFIG)
        store = made(shared / "store")
        store.with_name("store.keys").chmod(0)
        said = scalple_as_nobody("retention", "--store", store, "--config", shared / "config.toml")
        store.with_name("store.keys").chmod(0o700)
        assert said.code == 4, said.err
        assert "can't read key file: Permission denied" in said.err


def test_keys_of_periods_that_cant_be_looked_for_arent_told_as_none(store: Path) -> None:
    """They would outlive their rows, and nobody would know."""
    elsewhere = store.with_name("a file")
    elsewhere.touch()
    named = f'[keys]\nsubject_key_period = "year"\nsubject_key_directory = "{elsewhere}"\n'
    store.with_name("config.toml").write_text(CONFIG + named)
    said = retention(store)
    assert said.code == 4
    assert f"{elsewhere}/store: whose keys these are can't be read" in said.err
    assert "have expired" not in scalple("verify", "--store", store).out  # that would go untold


def test_a_trial_says_what_would_be_refused_and_takes_the_date(store: Path) -> None:
    early = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    with StoreWriter.open(
        store, "db1", signing_key(store), create=False, clock=lambda: NOW + dt.timedelta(days=9)
    ) as writer:
        writer.commit({"denied": table("denied", 2, [{"log_time": NEW}])}, [], {})
    trial = retention(store, "--dry-run")
    assert trial.code == 0
    assert "without --dry-run it would be refused: the clock says" in trial.err
    assert retention(store).code == 4
    said = retention(store, "--dry-run", "--today", str(early.date()))
    assert (said.code, "and you say 2000-01-01" in said.err) == (4, True)
    today = str(dt.datetime.now(dt.UTC).date())
    agreed = retention(store, "--dry-run", "--today", today)
    assert (agreed.code, "would be refused" in agreed.err) == (0, False)
    assert "rows would expire" in agreed.out


def test_broken_off_before_the_index_is_made_anew_it_says_so(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scalple("compact", "--store", store).code == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scalple.cli.retention.compact", interrupted)
    said = retention(store)
    assert said.code != 0
    assert "note: db1: the index was removed and isn't made anew" in said.err
    assert not (store / "db1" / "index" / "head").exists()
    assert retention(store).code == 0
    assert scalple("compact", "--store", store).code == 0
    assert scalple("verify", "--store", store).code == 0


def test_what_expiry_took_is_not_reported_as_missing_alone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "config.toml").write_text(CONFIG)
    events = tmp_path / "events.jsonl"

    def read(first: int, when: dt.datetime) -> Said:
        lines = [
            {
                "v": 1,
                "event": "open",
                "ts": when.isoformat(),
                "sidecar": "app1",
                "seq": seq,
                "connection": f"app1/{seq}",
                "client_addr": "127.0.0.1",
                "client_port": 40_000 + seq,
                "actor": "ann",
                "authn": "asserted",
            }
            for seq in range(first, first + 3)
        ]
        with events.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        log = SAMPLE / "postgresql.csv"
        return scalple(
            *("reprocess", "--store", store, "--postgres-log", log, "--identity-events", events)
        )

    assert "are missing" not in read(1, OLD).err
    said = retention(store)
    assert said.code == 0, said.err
    assert "3 rows expired" in said.out
    said = read(4, NEW)
    assert said.code == 0, said.err
    assert "app1 before its number 4 are missing: that may be those 3 rows of evidence" in said.err
