"""The same log in every form that PostgreSQL writes: the same store, nothing twice, nothing lost."""

import gzip
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from scalple.ingest import stderrlog
from scalple.ingest.container import ReadOptions
from scalple.ingest.sourcefile import SourceFile
from tests.commandline import SAMPLE, Said, reprocess_sample, rows, scalple
from tests.log_forms import STDERR_PREFIX, to_jsonlog, to_stderr
from tests.test_stderrlog import FIRST, SECOND

COLUMNS = (
    "log_time, database, db_role, backend_pid, client_addr, client_port, application_name, "
    "audit_type, statement_id, substatement_id, class, command, object_name, query_fingerprint, "
    "rows_returned, success, sqlstate, session_user_id, session_email, attribution_grade, "
    "attribution_method, attribution_reason, affected_tables, columns_accessed, access_shape, "
    "masked_fields, findings"
)
# A default of many packages: role, endpoint and session come from the connection's own lines.
POOR = "%m [%p] "


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample in every form."""
    directory = tmp_path_factory.mktemp("forms")
    csvlog = SAMPLE / "postgresql.csv"
    made = {
        "csvlog": csvlog,
        "jsonlog": to_jsonlog(csvlog, directory / "pg.json"),
        "stderr": to_stderr(csvlog, directory / "pg.log"),
        "poor stderr": to_stderr(csvlog, directory / "poor.log", POOR),
    }
    for name, path in list(made.items()):
        packed = directory / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes(), 1))
        made[f"{name} in gzip"] = packed
    return made


def read(store: Path, *logs: Path, prefix: str | None = None, code: int = 0) -> Said:
    """One run over the sample's evidence and these server logs."""
    stated = ("--log-line-prefix", prefix) if prefix is not None else ()
    said = reprocess_sample(store, *stated, "--postgres-log", *logs)
    assert said.code == code, said.err
    return said


def audit(store: Path, columns: str = COLUMNS) -> list[dict[str, Any]]:
    return rows(store, f"SELECT {columns} FROM audit ORDER BY seq")


def _names(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the name of a parallel worker, which stderr's prefix can't show."""
    return [row | ({} if row["db_role"] else {"application_name": None}) for row in found]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the csvlog says."""
    store = tmp_path_factory.mktemp("csvlog") / "store"
    read(store, SAMPLE / "postgresql.csv")
    return audit(store)


@pytest.mark.parametrize(
    "form", ["csvlog in gzip", "jsonlog", "jsonlog in gzip", "stderr", "stderr in gzip"]
)
def test_every_form_gives_the_same_rows(
    form: str, forms: dict[str, Path], expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    prefix = STDERR_PREFIX if form.startswith("stderr") else None
    read(tmp_path / "s", forms[form], prefix=prefix)
    assert _names(audit(tmp_path / "s")) == _names(expected)
    assert scalple("verify", "--store", tmp_path / "s").code == 0


def test_a_prefix_that_says_little_still_names_the_same_people(
    forms: dict[str, Path], expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    read(tmp_path / "s", forms["poor stderr"])  # recognised
    found = audit(tmp_path / "s")
    assert len(found) == len(expected)
    said = ("session_user_id", "attribution_grade", "db_role", "client_port", "query_fingerprint")
    differing = [
        (mine, theirs)
        for mine, theirs in zip(found, expected, strict=True)
        if [mine[name] for name in said] != [theirs[name] for name in said]
    ]
    for mine, theirs in differing:  # fewer are named, never another
        assert mine["session_user_id"] in (None, theirs["session_user_id"])
    # Without %v nothing stands right behind a replay: clients of unknown name cost more there.
    assert len(differing) < len(expected) / 10


def test_several_forms_in_one_call(
    forms: dict[str, Path], expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    data = (SAMPLE / "postgresql.csv").read_bytes()
    cut = data.index(b"\n2026-", len(data) // 2) + 1
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_bytes(data[:cut])
    second.write_bytes(data[cut:])
    packed = tmp_path / "second.json.gz"
    packed.write_bytes(gzip.compress(to_jsonlog(second, tmp_path / "second.json").read_bytes()))
    read(tmp_path / "s", packed, first)
    found = audit(tmp_path / "s")
    assert [row for row in found if row["attribution_reason"] != "parallel-worker"] == [
        theirs
        for mine, theirs in zip(found, expected, strict=True)
        if mine["attribution_reason"] != "parallel-worker"
    ]


@pytest.mark.parametrize("other", ["jsonlog", "stderr", "poor stderr", "csvlog in gzip"])
def test_one_log_in_two_forms_counts_once(
    other: str, forms: dict[str, Path], tmp_path: Path
) -> None:
    prefix = STDERR_PREFIX if other == "stderr" else None
    same = other.startswith("csvlog")  # a compressed copy
    said = read(tmp_path / "s", forms["csvlog"], forms[other], prefix=prefix, code=0 if same else 3)
    assert ("read once" if same else "in another form") in said.err
    assert (tmp_path / "s").exists() is same


def test_a_stderr_log_that_grows_is_read_on_where_it_ended(
    forms: dict[str, Path], expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    data = forms["stderr"].read_bytes()
    log, store = tmp_path / "growing.log", tmp_path / "s"
    for part in (0.2, 0.5, 0.7, 1.0):
        log.write_bytes(data[: int(len(data) * part)])
        read(store, log, prefix=STDERR_PREFIX)
    found = audit(store)
    said = [name for name in found[0] if name not in ("attribution_grade", "attribution_reason")]
    for mine, theirs in zip(_names(found), _names(expected), strict=True):
        if mine["attribution_reason"] != "parallel-worker":
            assert [mine[name] for name in said] == [theirs[name] for name in said]
    assert rows(store, "SELECT * FROM unparsed") == []


def test_a_log_that_was_compressed_since_is_not_read_twice(
    forms: dict[str, Path], tmp_path: Path
) -> None:
    store = tmp_path / "s"
    for form in ("jsonlog", "jsonlog in gzip"):
        said = read(store, forms[form])
    assert "file(s) hold nothing that isn't in the store" in said.err
    assert len(audit(store)) == 7119


def test_a_compressed_log_that_breaks_off_is_read_on_when_it_is_whole(
    forms: dict[str, Path], expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A copy may be met while it is being written."""
    whole = forms["csvlog in gzip"].read_bytes()
    log, store = tmp_path / "cut.csv.gz", tmp_path / "s"
    log.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        said = read(store, log)
        assert "cut short or damaged" in said.err
        assert "no complete record" in said.err
        assert 0 < len(audit(store)) < 7119
    log.write_bytes(whole)
    read(store, log)
    assert rows(store, "SELECT * FROM unparsed") == []
    names = [name for name in expected[0] if not name.startswith("attribution")]
    for mine, theirs in zip(audit(store), expected, strict=True):
        assert [mine[name] for name in names] == [theirs[name] for name in names] or (
            mine["attribution_reason"] == "parallel-worker"
        )


def test_lines_of_an_unknown_prefix_are_told_with_the_option_to_give(tmp_path: Path) -> None:
    log = tmp_path / "two.log"
    known = to_stderr(SAMPLE / "postgresql.csv", tmp_path / "a", "%m [%p] %q%u@%d ").read_text()
    other = to_stderr(SAMPLE / "postgresql.csv", tmp_path / "b", "%m #%p# {%c} u=%u ").read_text()
    log.write_text(known + "".join(other.splitlines(keepends=True)[:50]))
    said = read(tmp_path / "s", log)
    assert "--log-line-prefix '%m #%p# {%c} u=%u '" in said.err
    assert f"at byte {len(known.encode()):,}" in said.err
    both = ("--log-line-prefix", "%m [%p] %q%u@%d ", "%m #%p# {%c} u=%u ")
    assert reprocess_sample(tmp_path / "again", *both, "--postgres-log", log).code == 0
    assert rows(tmp_path / "again", "SELECT * FROM unparsed") == []


def test_a_wrong_prefix_is_refused_with_the_right_one(
    forms: dict[str, Path], tmp_path: Path
) -> None:
    said = read(tmp_path / "s", forms["poor stderr"], prefix="%t <%p> ", code=3)
    assert "no line begins with log_line_prefix '%t <%p> '" in said.err
    assert "'%m [%p] '" in said.err
    assert not (tmp_path / "s").exists()


def test_a_forged_line_whose_mark_is_still_being_written_is_not_taken_for_genuine(
    tmp_path: Path,
) -> None:
    """CONTEXT and STATEMENT follow the line that a client raised; a reader may come in between."""
    head = "2026-03-14 11:22:08.123 UTC [8841] app_user@app "
    audit_line = f"{head}LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,SELECT 1,<none>\n"
    mark = f"{head}CONTEXT:  PL/pgSQL function\n\tline 2\n{head}STATEMENT:  DO $$ $$\n"
    log = tmp_path / "live.log"
    log.write_text(audit_line * 3 + audit_line)
    file = SourceFile(log)

    def go_on() -> None:
        time.sleep(0.2)
        with log.open("a") as writer:
            writer.write(mark)
        time.sleep(0.2)
        with log.open("a") as writer:
            writer.write(audit_line)

    writer = threading.Thread(target=go_on)
    writer.start()
    reader = stderrlog.CONTAINER.open(file.head(), "live", ReadOptions("UTC"))
    file.settle(reader.record_end)
    writer.join()
    (piece,) = file.pieces(lambda data, at, final: reader.parse(data, at, final=final))
    assert piece.block.table["context"].to_pylist() == [None] * 3 + ["PL/pgSQL function\nline 2"]
    assert file.end == len(audit_line * 4 + mark)


def test_a_quiet_log_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "quiet.log"
    log.write_text("2026-03-14 11:22:08.123 UTC [8841] LOG:  x\n")

    os.utime(log, (1, 1))
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    file = SourceFile(log)
    reader = stderrlog.CONTAINER.open(file.head(), "quiet", ReadOptions("UTC"))
    file.settle(reader.record_end)
    assert file.size == log.stat().st_size


def test_the_entries_of_the_brief_say_who_once_their_sessions_are_known(tmp_path: Path) -> None:
    first, second = "2026-03-14 11:22:07 UTC [8841]: ", "2026-03-15 14:23:10 UTC [12847]: "
    log = tmp_path / "brief.log"
    log.write_text(
        f"{first}[1-1] user=[unknown],db=[unknown],app=[unknown] LOG:  "
        "connection received: host=10.0.0.5 port=51234\n"
        f"{first}[2-1] user=app_user,db=production,app=[unknown] LOG:  "
        "connection authorized: user=app_user database=production application_name=psql\n"
        f"{first}[3-1] user=app_user,db=production,app=psql HINT:  of something before\n"
        f"{FIRST}{second}LOG:  connection received: host=10.0.0.6 port=40000\n"
        f"{second}LOG:  connection authorized: user=app_user database=production\n"
        + SECOND.replace("SESSION,42,", "SESSION,1,")
        + SECOND
    )
    events = tmp_path / "events.jsonl"
    people = (("2026-03-14T11:22:06.9Z", "10.0.0.5", 51234, "employee_id_2291", "j.muller@company.com"),
              ("2026-03-15T14:23:09.9Z", "10.0.0.6", 40000, "employee_id_1044", "k.weber@company.com"))  # fmt: skip
    events.write_text(
        "".join(
            f'{{"v":1,"event":"open","ts":"{ts}","sidecar":"s{port}","seq":1,"connection":"c{port}",'
            f'"client_addr":"{address}","client_port":{port},"actor":"{actor}","email":"{email}",'
            '"authn":"jwt"}\n'
            f'{{"v":1,"event":"heartbeat","ts":"{ts[:16]}:20Z","sidecar":"s{port}","seq":2}}\n'
            for ts, address, port, actor, email in people
        )
    )
    config = tmp_path / "config.toml"
    config.write_text(
        '[pooler]\nkind = "none"\n[personal_data]\n"public.users.email" = "email"\n'
        '[identifiers]\ncustomer_id = ["public.users.id"]\n'
    )
    schema = tmp_path / "schema.sql"
    schema.write_text(
        "CREATE TABLE users (id int, email text, subscription_tier text, region text);\n"
    )
    store = tmp_path / "s"
    said = scalple(
        "reprocess", "--store", store, "--config", config, "--schema", schema,
        "--postgres-log", log, "--identity-events", events,
    )  # fmt: skip
    assert said.code == 0, said.err
    one, other, hole = rows(store, "SELECT * FROM audit ORDER BY seq")
    assert (one["session_user_id"], one["session_email"]) == people[0][3:]
    assert (one["db_role"], one["attribution_grade"]) == ("app_user", "proven")
    asked = "SELECT id, email, subscription_tier FROM users WHERE region = 'EU';"
    assert one["query"] == asked
    assert one["affected_tables"] == ["public.users"]
    assert set(one["columns_accessed"]) >= {"public.users.email", "public.users.id"}
    assert one["masked_fields"] == ["public.users.email"]
    assert one["findings"] == ["nonstandard-line"]
    assert (other["session_user_id"], other["findings"]) == ("employee_id_1044", None)
    # Statement 42 right behind statement 1: what is missing may be another session's beginning.
    assert hole["session_user_id"] is None
