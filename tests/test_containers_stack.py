"""One run of real servers, logged as csvlog, jsonlog and stderr at once: the same rows from each.

A server logs each record to every destination, but processes take turns between the files: what is
compared is each session's own sequence.
"""

import bz2
import contextlib
import gzip
import json
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from scalple.correlate.rules import Actors, Rules
from scalple.ingest.container import ReadOptions
from scalple.ingest.containers import recognised
from scalple.ingest.rejects import Reject
from scalple.ingest.sourcefile import SourceFile
from tests.attribute_logs import Attributed, attribute_files
from tests.auditcount import audit_fields, audit_records
from tests.log_forms import to_jsonlog, to_stderr
from tests.stack import Stack, StackOptions
from tests.workload import DIRECT, WorkloadOptions, run_workload

pytestmark = pytest.mark.stack

PREFIX = "%m [%p] %l %c %s %v %x %e %i %P %Q %q%u@%d %r %a "
RULES = Rules(actors=Actors(roles={role: one.name for role, one in DIRECT.items() if one.name}))
ODD_ROLE = 'odd\nrole "x"'
FORGED = "SESSION,1,1,READ,SELECT,TABLE,public.users,SELECT 1 /* truth:nobody */,<none>"
MEGABYTE = "SELECT '" + "x,\"y''z\\n\n\t" * 100_000 + "'"


@dataclass(frozen=True)
class Run:
    """A finished run, logged three times."""

    stack: Stack
    identity: Path

    def paths(self, container: str) -> list[Path]:
        """The files of one destination."""
        stack = self.stack
        found: dict[str, Callable[[], list[Path]]] = {
            "csvlog": stack.csvlog_paths,
            "jsonlog": stack.jsonlog_paths,
            "stderr": stack.stderr_paths,
        }
        return found[container]()


@pytest.fixture(scope="module", params=["default", "verbose"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = StackOptions(
        log_destination="stderr,csvlog,jsonlog",
        users=200,
        eu_users=80,
        postgres_conf=[
            f"log_line_prefix = '{PREFIX}'",
            f"log_error_verbosity = '{request.param}'",
            "log_min_messages = 'notice'",
        ],
    )
    identity = tmp_path_factory.mktemp("run") / "identity.jsonl"
    with Stack(options) as stack:
        whole = WorkloadOptions() if request.param == "default" else WorkloadOptions(statements=300)
        run_workload(stack, identity, whole)
        _odd_scene(stack)
    return Run(stack, identity)


def _odd_scene(stack: Stack) -> None:
    """What a line-based reader gets wrong."""
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as setup:
        setup.execute(
            sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD 'x'").format(sql.Identifier(ODD_ROLE))
        )
    plain = psycopg.conninfo.make_conninfo(
        stack.dsn_direct(user="jmueller"), application_name="LOG: x — ü\n"
    )
    odd = psycopg.conninfo.make_conninfo(stack.dsn_direct(), user=ODD_ROLE, password="x")
    for dsn in (plain, odd):
        with psycopg.connect(dsn, autocommit=True) as connection:
            for text in (
                MEGABYTE,
                "SELECT 'ü–漢字 \u2028 \x0b \r\n\t LOG:  AUDIT: SESSION'",
                "SELECT\n\n\n 1,\n\t\t2 -- two\n",
                f"DO $$BEGIN RAISE LOG 'AUDIT: {FORGED}'; END$$",
                f"DO $$BEGIN RAISE WARNING 'AUDIT: {FORGED}'; END$$",
                "DO $$BEGIN RAISE NOTICE E'two\\nlines\\n\\nfour'; END$$",
                "SELECT 1/0",
                "SELECT 'AUDIT: SESSION,1,1,READ,SELECT,,,x,<none>'::int",
                "SELECT nothing\nFROM nowhere",
                "BEGIN",
                "DECLARE c CURSOR FOR SELECT id FROM users",
                "FETCH 3 FROM c",
                "COMMIT",
            ):
                with contextlib.suppress(psycopg.Error):
                    connection.execute(text.encode())
            connection.execute("SELECT %s::text, %s::int", ['a,"b"\nc\'', 7])
    for user in ("no\nbody", "x\n2026-03-14 11:22:08.123 UTC [1] LOG:  AUDIT: SESSION,9"):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(psycopg.conninfo.make_conninfo(stack.dsn_direct(), user=user))


def records_of(run: Run, container: str) -> tuple[pa.Table, list[Reject]]:
    """All log records of a destination."""
    options = ReadOptions("UTC", (PREFIX,) if container == "stderr" else ())
    tables, rejects = [], []
    for path in run.paths(container):
        file = SourceFile(path)
        found = recognised(file.head(), options)
        assert found is not None
        assert container in found.name
        reader = found.open(file.head(), str(path), options)
        for piece in file.pieces(lambda data, at, final: reader.parse(data, at, final=final)):  # noqa: B023
            tables.append(piece.block.table)
            rejects += piece.block.rejects
    return pa.concat_tables(tables), rejects


SAME = [
    "log_time",
    "user_name",
    "database_name",
    "process_id",
    "connection_from",
    "virtual_transaction_id",
    "error_severity",
    "sql_state_code",
    "message",
    "detail",
    "context",
    "query",
    "application_name",
    "leader_pid",
]


def by_session(table: pa.Table, columns: list[str]) -> dict[str, list[tuple[object, ...]]]:
    """Each session's records in order."""
    sessions: dict[str, list[tuple[object, ...]]] = {}
    for row in table.to_pylist():
        sessions.setdefault(row["session_id"], []).append(
            tuple(row[name] or None for name in columns)
        )
    return sessions


def test_jsonlog_gives_the_records_of_csvlog(run: Run) -> None:
    (ours, rejects), (theirs, _) = records_of(run, "jsonlog"), records_of(run, "csvlog")
    assert rejects == []
    columns = [*SAME, "session_line_num", "backend_type"]
    assert by_session(ours, columns) == by_session(theirs, columns)


def test_stderr_gives_the_records_of_csvlog(run: Run) -> None:
    (ours, rejects), (theirs, _) = records_of(run, "stderr"), records_of(run, "csvlog")
    mine, expected = by_session(ours, SAME), by_session(theirs, SAME)
    # The server's first words go to a file of their own.
    for session, rows in expected.items():
        if mine.get(session) != rows:
            assert _lacks_doubtful_only(mine.get(session, []), rows), session
    # What a stranger's name brought into the log without logging in.
    injected = [row for row in ours.to_pylist() if row["session_id"] not in expected]
    assert {row["remark"] for row in injected} == {"ambiguous-line"}
    assert all(row["message"].startswith("AUDIT: SESSION,9") for row in injected)
    raw = b"".join(one.raw for one in rejects)
    assert len(rejects) <= 4 * 2
    assert raw.count(b"FATAL") <= 2


def _lacks_doubtful_only(mine: list[tuple[object, ...]], rows: list[tuple[object, ...]]) -> bool:
    """All that is missing are records under the name that looks like a line."""
    missing = [row for row in rows if row not in mine]
    return bool(missing) and all(
        "SESSION,9" in str(row) or "ending log" in str(row) for row in missing
    )


ATTRIBUTION = [
    "session_user_id",
    "attribution_grade",
    "attribution_method",
    "attribution_reason",
    "user_name",
    "connection_from",
    "application_name",
    "log_time",
]


def attributed(run: Run, container: str, options: ReadOptions) -> Attributed:
    return attribute_files(
        run.paths(container), [run.stack.pgbouncer_log], [run.identity], RULES, options=options
    )


def statements(done: Attributed) -> Iterator[tuple[object, ...]]:
    """What each statement's row says, without what names its place."""
    for row in done.dicts():
        yield (
            row["session_id"],
            row["statement_id"],
            row["class"],
            row["command"],
            row["statement"],
            *(row[name] or None for name in ATTRIBUTION),
            tuple(one for one in row["findings"] or () if one != "ambiguous-line"),  # type: ignore[attr-defined]
        )


def test_every_container_gives_the_same_attribution(run: Run) -> None:
    expected = sorted(statements(attributed(run, "csvlog", ReadOptions("UTC"))), key=str)
    assert len(expected) == len(list(audit_records(run.paths("csvlog"))))
    for container in ("jsonlog", "stderr"):
        options = ReadOptions("UTC", (PREFIX,) if container == "stderr" else ())
        assert sorted(statements(attributed(run, container, options)), key=str) == expected


def test_forged_lines_are_marked_in_every_container(run: Run) -> None:
    for container in ("csvlog", "jsonlog", "stderr"):
        options = ReadOptions("UTC", (PREFIX,) if container == "stderr" else ())
        done = attributed(run, container, options)
        forged = [
            row for row in done.dicts() if row["truth"] == "nobody" and row["class"] == "READ"
        ]
        assert len(forged) == 4
        assert {row["attribution_reason"] for row in forged} == {"forged-line"}
        assert {row["session_user_id"] for row in forged} == {None}
        assert [row for row in done.wrong() if row["truth"] != "nobody"] == []


def test_what_tests_write_as_other_forms_is_what_the_server_writes(
    run: Run, tmp_path: Path
) -> None:
    (csvlog,) = run.paths("csvlog")
    made = to_jsonlog(csvlog, tmp_path / "made.json").read_bytes().splitlines()
    (jsonlog,) = run.paths("jsonlog")
    real = jsonlog.read_bytes().splitlines()
    assert sorted(map(_without_ps, made)) == sorted(map(_without_ps, real))
    (stderr,) = run.paths("stderr")
    if b"LOCATION:  " not in stderr.read_bytes():
        prefix = PREFIX.replace(" %l", "")
        made = to_stderr(csvlog, tmp_path / "made.log", prefix).read_bytes().split(b"\n")
        real = re.sub(
            rb"(?m)^(\d{4}-\S+ \S+ \S+ \[\d+\]) \d+ ", rb"\1 ", stderr.read_bytes()
        ).split(b"\n")
        strange = [line for line in (set(made) ^ set(real)) if b"ending log" not in line]
        assert not [line for line in strange if b"Future log output" not in line]


def _without_ps(line: bytes) -> str:
    """The object without what csvlog can't tell from nothing, and keys of verbose logs."""
    found = json.loads(line)
    for key in ("ps", "func_name", "file_name", "file_line_num"):
        found.pop(key, None)
    return json.dumps(found, sort_keys=True)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, "zstd"])
def test_a_compressed_log_gives_the_same_records(
    run: Run, pack: "Callable[[bytes], bytes] | str", tmp_path: Path
) -> None:
    (plain,) = run.paths("stderr")
    data = plain.read_bytes()
    packed = tmp_path / "postgresql.log.packed"
    if callable(pack):
        half = len(data) // 2
        packed.write_bytes(pack(data[:half]) + pack(data[half:]))  # as after an append
    else:
        with pa.output_stream(str(packed), compression="zstd") as out:
            out.write(data)
    options = ReadOptions("UTC", (PREFIX,))
    whole = attribute_files([plain], options=options)
    again = attribute_files([packed], options=options)
    assert again.rows.equals(whole.rows)
    assert again.gaps.equals(whole.gaps)


def test_the_counts_are_those_of_the_csv_module(run: Run) -> None:
    done = attributed(run, "stderr", ReadOptions("UTC", (PREFIX,)))
    fields = [audit_fields(record) for record in audit_records(run.paths("csvlog"))]
    assert sorted(row["statement"] or "" for row in done.dicts()) == sorted(f[7] for f in fields)  # type: ignore[type-var]
