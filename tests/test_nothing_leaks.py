"""No personal value of a log is anywhere in what is written and said of it: every byte is searched.

The log holds one unique value per statement, in every way that SQL has to write one (tests/leaks.py).
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scalple.correlate import masking
from tests.commandline import Said, rows, scalple
from tests.leaks import BIRTHDAYS, KINDS, SECRET, Case, cases, spelled
from tests.log_forms import STDERR_PREFIX, to_jsonlog, to_stderr

SCHEMA = """
CREATE TABLE public.users (
    id bigint PRIMARY KEY, name text DEFAULT '{name}', email text, iban text, phone text,
    born date CHECK (born <> '{born}'), ssn text, region text
);
CREATE TABLE public.orders (id bigint PRIMARY KEY, user_id bigint DEFAULT {id}, note text);
CREATE VIEW public.famous AS SELECT users.id FROM public.users WHERE users.email = '{email}';
COMMENT ON TABLE public.users IS 'ask {name}';  -- or {email}
COPY public.users (id, name) FROM stdin;
{id}\t{name}
\\.
"""
CONFIG = r"""
[pooler]
kind = "none"
[identifiers]
customer_id = ["public.users.id", "public.orders.user_id"]
[personal_data]
"public.users.name"  = "redact"
"public.users.email" = "email"
"public.users.iban"  = "keep-last-4"
"public.users.phone" = { keep = '^\+\d{2}' }
"public.users.born"  = "date-year"
"public.users.ssn"   = "hash"
"""
ROTATION = 1 if os.environ.get("EVERY_LEAK") else 6
"""So many times fewer statements than there are; each template and each kind stays."""


def record(line: int, message: str, **more: str) -> list[str]:
    """One record of a csvlog, of one session."""
    seconds = f"{line // 60 % 60:02}:{line % 60:02}.000"
    return [
        *(f"2026-03-14 1{line // 3600}:{seconds} UTC", "app", "shop", "100", "10.0.0.5:4000"),
        *("69b2a1c0.64", str(line), "SELECT", "2026-03-14 10:00:00 UTC", f"3/{line}", "0"),
        *(more.get("severity", "LOG"), more.get("state", "00000"), message),
        *(more.get("detail", ""), "", "", "", more.get("context", ""), more.get("query", "")),
        *("", "", more.get("name", "web"), "client backend", "", "0"),
    ]


def audited(line: int, case: Case, **more: str) -> list[str]:
    """A record of pgAudit."""
    bound = row_of(list(case.bound)) if case.bound else "<none>"
    fields = ["SESSION", str(line), "1", "READ", "SELECT", "", "", case.text, bound]
    return record(line, "AUDIT: " + row_of(fields), **more)


def row_of(fields: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(fields)
    return out.getvalue().removesuffix("\n")


def refused() -> Iterator[dict[str, str]]:
    """Errors, whose messages, details and statements repeat what the client wrote."""
    for column, make in KINDS.items():
        value = make()
        statement = f"SELECT id FROM users WHERE {column} = '{value}'"
        detail = f"Key ({column})=({value}) already exists."
        for state, message in (
            ("42601", f'syntax error at or near "{value}"'),
            ("42703", f'column "{value}" does not exist'),
            ("42501", f"permission denied for {value} by {value}"),
            ("42501", "permission denied for table users"),
            ("42883", f"function {value} doesn't work"),
            ("23505", 'duplicate key value violates unique constraint "k"'),
            ("22P02", f'invalid input syntax for type bigint: "{value}"'),
            ("28000", f"no entry for {value}"),
        ):
            yield {"state": state, "message": message, "detail": detail, "query": statement}
        unquoted = f'SELECT id FROM users WHERE {column} = "{value}" AND'
        yield {"state": "42601", "message": "syntax error at end of input", "query": unquoted}
        yield {"state": "42P05", "message": f'prepared statement "{value}" already exists'}


def log() -> Iterator[list[str]]:
    """Every record."""
    line = 0
    for i, case in enumerate(cases()):
        if (i + i // 16) % ROTATION == 0:
            yield audited(line := line + 1, case)
    for error in refused():
        more = {**error, "severity": "ERROR", "context": f"SQL function {error.get('query')}"}
        yield record(line := line + 1, **more)
    yield audited(line := line + 1, Case("SELECT 1", (), ""), name=KINDS["email"]())
    for said in (
        "connection authorized: user=app database=shop application_name={email}",
        "duration: 5 ms  statement: SELECT '{name}'",
        "execute s1: UPDATE users SET name = '{name}'",
        "process 5 still waiting for ShareLock on transaction {id} after 1000 ms",
        'logical replication of "{name}" has started',
        "disconnection: session time: 0:00:01 user=app database=shop host={email}",
    ):
        message = said.format_map({column: make() for column, make in KINDS.items()})
        yield record(line := line + 1, message, detail=f"Key (id)=({KINDS['id']()})")


def torn() -> Iterator[str]:
    """What is no record, or none of pgAudit's; each piece would be in a file of its own."""
    for column in ("name", "email", "id"):
        make = KINDS[column]
        text = f"SELECT id FROM users WHERE {column} = '{make()}' AND region = 'EU'"
        whole = row_of(audited(20_000, Case(text, (), "")))
        yield row_of(record(20_001, f"AUDIT: SESSION,1,1,READ,SELECT,,,{text}\n,{make()}"))
        yield whole[: whole.index("AUDIT") + 60]
        yield whole[whole.index("WHERE") :]
        yield f"2026-03-14 10:00:00.000 UTC STATEMENT:  {text}"
        yield f"{text} "


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A store of the log, and what the command said."""
    directory = tmp_path_factory.mktemp("leaks")
    values = {column: make() for column, make in KINDS.items()}
    (directory / "schema.sql").write_text(SCHEMA.format_map(values))
    (directory / "config.toml").write_text(CONFIG)
    text = "".join(row_of(one) + "\n" for one in log())
    (directory / "postgresql.csv").write_text(text)
    good = row_of(record(30_000, "checkpoint starting: time"))
    for i, piece in enumerate(torn()):
        (directory / f"torn{i}.csv").write_text(f"{good}\n{piece}\n{good}\n")
    assert len(SECRET.findall(text.encode())) > 1500
    said = scalple(
        *("reprocess", "--store", directory / "store", "--config", directory / "config.toml"),
        *("--schema", directory / "schema.sql", "--postgres-log", directory / "*.csv"),
    )
    assert said.code == 0, said.err
    return directory / "store", said


_HASHES = re.compile(
    rb"\bh:[0-9a-f]{16}\b|\bid:[0-9a-f]{12}\b|\b[0-9a-f]{32}(?:[0-9a-f]{32})?\b"
    rb"|\btoken['\"]: ?[0-9]{1,20}\b|#[0-9a-f]{16}\b"
)


def found_in(data: bytes) -> list[bytes]:
    """Personal values; keyed hashes, tokens and hashes of files may hold any digits by chance."""
    data = _HASHES.sub(b"", data)
    hits = SECRET.search(data) or BIRTHDAYS.search(data)
    return [data[max(0, hits.start() - 80) : hits.end() + 20]] if hits else []


def search(store: Path) -> None:
    """Every byte of every file; compressed columns as what they hold, not as what holds it."""
    files = [path for path in store.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".parquet", ".json"}
    for path in files:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for name in table.column_names:
                text = repr(table.column(name).to_pylist()).encode()
                assert not found_in(text), (path.name, name)
            assert not found_in(beside_pages(path)), path
        else:
            assert not found_in(path.read_bytes()), path


def beside_pages(path: Path) -> bytes:
    """A Parquet file without its pages, where pieces of other values stand side by side by chance."""
    data, kept, end = path.read_bytes(), [], 0
    metadata = pq.read_metadata(path)
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    for chunk in chunks:
        starts = [chunk.data_page_offset, chunk.dictionary_page_offset]
        start = min(one for one in starts if one is not None)
        kept.append(data[end:start])
        end = start + chunk.total_compressed_size
    return b"\0".join([*kept, data[end:]])


def test_no_byte_of_the_store_tells_a_personal_value(kept: tuple[Path, Said]) -> None:
    search(kept[0])


@pytest.mark.parametrize("convert", [to_stderr, to_jsonlog])
def test_nor_does_a_log_of_another_form(
    convert: Callable[[Path, Path], Path], kept: tuple[Path, Said], tmp_path: Path
) -> None:
    directory = kept[0].parent
    log = convert(directory / "postgresql.csv", tmp_path / "postgresql.log")
    options = ("--config", directory / "config.toml", "--schema", directory / "schema.sql")
    prefix = ("--log-line-prefix", STDERR_PREFIX) if convert is to_stderr else ()
    store = tmp_path / "store"
    said = scalple("reprocess", "--store", store, *options, "--postgres-log", log, *prefix)
    assert said.code == 0, said.err
    assert not found_in(said.err.encode())
    search(store)


def test_every_statement_is_in_the_store(kept: tuple[Path, Said]) -> None:
    store, _ = kept
    (counted,) = rows(store, "SELECT count(*) AS n FROM audit")
    assert counted["n"] == sum("AUDIT: " in one[13] for one in log())
    assert counted["n"] > 1500 / ROTATION
    (unparsed,) = rows(store, "SELECT count(*) AS n FROM unparsed")
    assert unparsed["n"] == len(list(torn())) - 3  # what ends within quotes may go on
    (denied,) = rows(store, "SELECT count(*) AS n, count(message) AS told FROM denied")
    assert denied["n"] == 8 * len(KINDS)
    assert denied["told"] == len(KINDS)
    (named,) = rows(store, "SELECT application_name AS n FROM audit WHERE query = 'SELECT 1'")
    assert named["n"] == "a***@***.org"


def test_nothing_that_is_said_tells_a_personal_value(kept: tuple[Path, Said]) -> None:
    store, said = kept
    assert not found_in((said.out + said.err).encode())
    for disclosure, form in (("subject", "json"), ("subject", "html"), ("controller", "csv")):
        asked = ("--table", "users", "--disclosure", disclosure, "--format", form)
        answer = scalple("query", "--store", store, *asked)
        assert answer.code == 0, answer.err
        assert not found_in((answer.out + answer.err).encode())
    for verb in (("coverage",), ("detect", "--format", "toml"), ("verify",)):
        answer = scalple(verb[0], "--store", store, *verb[1:])
        assert not found_in((answer.out + answer.err).encode())


def test_the_search_would_find_every_value() -> None:
    for make in KINDS.values():
        value = make()
        assert found_in(f"xx{value}yy".encode())
        assert not found_in(masking.keep_last_4("1234567890").encode())
        assert spelled("joined", value) == f"'{value[0]}' || '{value[1:]}'"


def test_what_is_not_personal_stays_as_it_was(kept: tuple[Path, Said]) -> None:
    store, _ = kept
    said = {row["query"] for row in rows(store, "SELECT query FROM audit")}
    compared = [one for one in said if one.startswith("SELECT region FROM users WHERE NOT (")]
    assert compared
    assert all(re.search(r"OR region = 'EU'\Z", one) for one in compared)
