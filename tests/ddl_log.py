"""A csvlog with pgAudit's records of DDL, written line by line, and what is read from it.

Enters: what sessions run. Leaves: the bytes of a csvlog, and the enriched rows of it, read in batches
of any size.
"""

import csv
import datetime as dt
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from scalple.cli.reading import RecordReader
from scalple.correlate import schemastate
from scalple.correlate.enrichment import Enricher
from scalple.correlate.rules import Rules
from scalple.correlate.schematimeline import DatedSchema
from scalple.correlate.schemawatch import SchemaWatch
from scalple.ingest.csvlog import parse_block
from scalple.ingest.logtime import LogTimes
from scalple.ingest.rejects import Block

KEY = b"k" * 32
_BARE = (0, 3, 5, 6, 8, 9, 10, 11, 12)
"""Fields that the server writes without quotes."""
START = dt.datetime(2026, 3, 14, 11, 22, tzinfo=dt.UTC)


@dataclass
class DdlLog:
    """Statements in the order in which the server logged them, a second apart."""

    rows: list[list[str]] = field(default_factory=list)
    now: dt.datetime = START
    _lines: dict[str, int] = field(default_factory=dict)
    _statements: dict[str, int] = field(default_factory=dict)

    def says(
        self,
        session: str,
        transaction: int,
        text: str,
        command: str = "SELECT",
        relation: str | None = None,
        *,
        kind: str = "TABLE",
        database: str = "app",
        context: str = "",
        sub: int = 1,
        same: bool = False,
    ) -> None:
        """A pgAudit record. The session is a name; `relation` is the object, if there is one."""
        classes = {"SELECT": "READ", "DO": "FUNCTION"}
        ddl = command.startswith(("CREATE", "ALTER", "DROP ", "SELECT INTO"))
        cls = "DDL" if ddl else classes.get(command, "MISC")
        number = self._statements[session] = self._statements.get(session, 0) + (not same)
        payload = io.StringIO()
        named = (kind, relation) if relation else ("", "")
        csv.writer(payload, lineterminator="").writerow(
            ["SESSION", number, sub, cls, command, *named, text, "<none>"]
        )
        self._line(
            session, transaction, "LOG", "00000", f"AUDIT: {payload.getvalue()}", database, context
        )

    def fails(self, session: str, transaction: int, text: str = "SELECT 1/0") -> None:
        """An error."""
        self._line(session, transaction, "ERROR", "22012", "division by zero", "app", "", text)

    def leaves(self, session: str) -> None:
        """The session ends."""
        said = "disconnection: session time: 0:00:01.000 user=u database=app host=[local]"
        self._line(session, 0, "LOG", "00000", said, "app", "")

    def _line(
        self,
        session: str,
        transaction: int,
        severity: str,
        state: str,
        message: str,
        database: str,
        context: str,
        query: str = "",
    ) -> None:
        self._lines[session] = number = self._lines.get(session, 0) + 1
        time = self.now.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
        self.now += dt.timedelta(seconds=1)
        pid = int.from_bytes(session.encode(), "big") % 30_000 + 1
        virtual = f"{pid % 50}/{transaction}" if transaction else ""
        self.rows.append(
            [
                *[time, "u", database, str(pid), "127.0.0.1:5", f"6b043fa3.{pid:x}", str(number)],
                *["SELECT", time[:19] + " UTC", virtual, "0", severity, state, message],
                *["", "", "", "", context, query, "", "", "app", "client backend", "", "0"],
            ]
        )

    def text(self) -> str:
        """The file."""
        text = io.StringIO()
        for row in self.rows:
            cells = [
                f'"{cell.replace(chr(34), chr(34) * 2)}"' if cell and at not in _BARE else cell
                for at, cell in enumerate(row)
            ]
            text.write(",".join(cells) + "\n")
        return text.getvalue()

    def block(self) -> Block:
        """All of it, parsed."""
        found = parse_block(self.text().encode(), 0, LogTimes(None, "log"), final=True)
        assert found.table.num_rows == len(self.rows), found.rejects
        return found


def read(
    block: Block,
    schemas: tuple[DatedSchema, ...] = (),
    rules: Rules = Rules(),  # noqa: B008 (immutable)
    cuts: Sequence[int] = (),
    *,
    restarting: bool = False,
    watch: SchemaWatch | None = None,
) -> list[dict[str, Any]]:
    """The enriched rows with their objects; cut into batches, each read by a new run if asked."""
    bounds = sorted({0, *(cut % (block.table.num_rows + 1) for cut in cuts), block.table.num_rows})
    rows: list[dict[str, Any]] = []
    reader = RecordReader(Enricher(rules, None, KEY), watch or SchemaWatch(schemas))
    for begin, end in itertools.pairwise(bounds):
        part = Block(block.table.slice(begin, end - begin), [], 0)
        records = reader.read(b"", 0, part)
        objects = pa.table({"object_name": records.payload.column("object_name").cast(pa.string())})
        for row, named in zip(records.enriched.to_pylist(), objects.to_pylist(), strict=True):
            rows.append(row | named)
        if restarting:
            reader = RecordReader(Enricher(rules, None, KEY), SchemaWatch(schemas))
            if records.schema is not None:
                schemastate.restore(reader.schema, records.schema)
                assert schemastate.to_bytes(reader.schema) == records.schema
    return rows


def columns_of(rows: list[dict[str, Any]], query: str) -> list[list[str] | None]:
    """Per row of that query its columns, without their schema `public`; None where unknown."""
    return [
        None
        if row["columns_basis"] == "unknown"
        else [one.removeprefix("public.") for one in row["columns_accessed"]]
        for row in rows
        if row["query"] == query
    ]
