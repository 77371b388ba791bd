"""Under which names rows were written: declarations follow renamed tables and columns.

Enters: the objects `audit-names` of commits (docs/FORMAT.md). Leaves: per row a number, and what it
stands for; and for questions a source of rows that has beside each the declared columns in the names
of its time. Knows no rules: what is declared comes with the question.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.correlate import calledby
from scalple.ingest.errors import VerificationError
from scalple.store.bare import bare
from scalple.store.digestnames import CALLED
from scalple.store.question import AS_DECLARED, Meaning
from scalple.store.reader import AuditCommit
from scalple.store.sqlfile import sql_file

Codes = npt.NDArray[np.int32]

_LINEAGES = b"scalple.lineages"
_TEXTS = pa.list_(pa.string())
_CODE = pa.int32()
NUMBERED = "audit_numbered"
"""The rows of `audit` with `names`, the number of the names that each was written under."""
FEW_RUNS = 32


def to_bytes(called: pa.ChunkedArray) -> bytes:
    """The object of a commit.

    Args:
        called: per audit row, in order of seq, a JSON text, or NULL where there is nothing to say.
    """
    import pyarrow.compute as pc  # no question needs it

    texts = pa.chunked_array(called.chunks, called.type).cast(pa.string()).combine_chunks()
    coded = texts.dictionary_encode()
    codes = pc.add(pc.fill_null(coded.indices, -1), pa.scalar(1, pa.int32()))
    return written(codes, coded.dictionary.to_pylist())


def written(codes: pa.Array, lineages: Sequence[str]) -> bytes:
    """The object that gives each row its number; what the numbers from 1 on stand for, as JSON."""
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    table = pa.table({"names": codes})
    with pq.ParquetWriter(sink, table.schema, compression="zstd", store_schema=False) as writer:
        writer.add_key_value_metadata({_LINEAGES: f"[{','.join(lineages)}]"})
        writer.write_table(table)
    return bytes(sink.getvalue())


def check(
    source: Path | pa.NativeFile, rows: int, *, is_cut: bool = False
) -> tuple[Codes, list[str]]:
    """(per row its number, what the numbers from 1 on stand for), of a commit of so many rows.

    `is_cut`: it may speak of later ones as well, which are left out.

    Raises:
        VerificationError: it says nothing of these rows, or nothing that can be read.
    """
    codes, told = read(source)
    found = _elements(told)
    if is_cut:
        codes = codes[:rows]
    if len(codes) != rows or ((codes < 0) | (codes > len(found))).any():
        raise VerificationError(f"{CALLED} isn't about the rows of its commit")
    return codes, found


def read(source: Path | pa.NativeFile) -> tuple[Codes, str]:
    """(per row its number, a JSON list of what the numbers from 1 on stand for).

    Raises:
        VerificationError: it is no such object.
    """
    import pyarrow.parquet as pq  # most stores have no such object

    try:
        table = pq.read_table(source)
        told = (table.schema.metadata or {})[_LINEAGES].decode()
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise VerificationError(f"{CALLED}: it can't be read: {error}") from error
    if table.schema.names != ["names"] or table.schema.types != [pa.int32()]:
        raise VerificationError(f"{CALLED}: columns are {table.schema.names}")
    return np.asarray(table["names"], np.int32), told


class RowNames:
    """Those of all rows of a store.

    Args:
        commits: all that is asked of, by origin and seq.
    """

    def __init__(self, commits: Sequence[AuditCommit]) -> None:
        self._commits = commits
        self._codes: dict[int, Codes] = {}
        self.lineages: list[str] = []
        """What the numbers from 1 on stand for: JSON texts."""
        self._origins: list[set[str]] = []
        """Of each, the origins whose rows have it."""
        known: dict[str, int] = {}
        for at, commit in enumerate(commits):
            if commit.names is None:
                continue
            codes, told = check(commit.names, commit.rows, is_cut=commit.is_cut)
            if commit.is_cut:
                codes, told = _only_used(codes, told)
            numbers = np.array([AS_DECLARED, *self._numbers(told, known)], np.int32)
            self._codes[at] = numbers[codes]
            for number in np.unique(self._codes[at]).tolist():
                if number:
                    self._origins[number - 1].add(commit.origin)

    def _numbers(self, told: list[str], known: dict[str, int]) -> list[int]:
        numbers = []
        for text in told:
            if text not in known:
                self.lineages.append(text)
                self._origins.append(set())
                known[text] = len(self.lineages)
            numbers.append(known[text])
        return numbers

    def lineages_of(self, origin: str) -> list[str]:
        """Those that rows of one origin have."""
        pairs = zip(self.lineages, self._origins, strict=True)
        return [text for text, origins in pairs if origin in origins]

    def of(self, at: int) -> Codes:
        """The numbers of the rows of a commit, by its place."""
        found = self._codes.get(at)
        return np.zeros(self._commits[at].rows, np.int32) if found is None else found

    @property
    def source(self) -> str:
        """Where the rows of `audit` stand, with `names` beside them if they have several."""
        return NUMBERED if self.lineages else "audit"

    def called(self, rows: pa.Table) -> pa.Table:
        """Rows of that source with the column `called` instead of `names`."""
        if "names" not in rows.column_names:
            return rows
        codes = np.asarray(rows["names"], np.int32) - 1
        texts = pa.DictionaryArray.from_arrays(
            bare(codes, codes < 0), pa.array(self.lineages, pa.string())
        )
        return rows.drop_columns(["names"]).append_column(calledby.CALLED, texts)

    def register(self, con: duckdb.DuckDBPyConnection, few: int = FEW_RUNS) -> None:
        """Makes the view `audit_numbered` if rows have several names; of up to `few` runs quickly."""
        if not self.lineages:
            return
        runs = self._runs()
        con.register("told_runs", runs)
        con.execute("CREATE OR REPLACE TABLE name_runs AS FROM told_runs")  # for all cursors
        con.unregister("told_runs")
        made = "audit_numbered" if runs.num_rows <= few else "audit_numbered_often"
        con.execute(f"CREATE OR REPLACE VIEW {NUMBERED} AS {sql_file(f'{made}.sql')}")

    def _runs(self) -> pa.Table:
        """`origin`, `first`, `last`, `names`: rows that follow one another and have one number."""
        runs: list[tuple[str, int, int, int]] = []
        for at, commit in enumerate(self._commits):
            mine = self.of(at)
            begins = np.flatnonzero(np.diff(mine, prepend=np.int32(-1)))
            ends = np.append(begins[1:], len(mine))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                first, last = commit.first_seq + begin, commit.first_seq + end - 1
                if runs and (runs[-1][0], runs[-1][3]) == (commit.origin, int(mine[begin])):
                    first = runs.pop()[1]
                runs.append((commit.origin, first, last, int(mine[begin])))
        columns = list(zip(*runs, strict=True))
        types = {"origin": pa.string(), "first": pa.uint64(), "last": pa.uint64(), "names": _CODE}
        return pa.table(
            {
                name: pa.array(column, kind)
                for (name, kind), column in zip(types.items(), columns, strict=True)
            }
        )


def _only_used(codes: Codes, told: Sequence[str]) -> tuple[Codes, list[str]]:
    """Without what only rows that were left out have."""
    used = np.unique(codes[codes > 0])
    numbers = np.where(codes > 0, np.searchsorted(used, codes) + 1, 0)
    return numbers.astype(np.int32), [told[number - 1] for number in used.tolist()]


def _elements(told: str) -> list[str]:
    """The elements of a JSON list, each in one spelling."""
    try:
        found = [
            json.dumps(one, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            for one in json.loads(told)
        ]
        for text in found:
            calledby.from_text(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{CALLED}: what it stands for can't be read") from error
    return found


def register_meanings(con: duckdb.DuckDBPyConnection, meanings: Sequence[Meaning]) -> None:
    """Makes the relation `asked_names`: what is asked, by the numbers of rows."""
    columns = {
        "names": pa.array([one.names for one in meanings], pa.int32()),
        "of_tables": pa.array([one.tables for one in meanings], _TEXTS),
        "of_personal": pa.array([sorted(one.personal) for one in meanings], _TEXTS),
        "of_subjects": pa.array([sorted(one.subject_columns) for one in meanings], _TEXTS),
    }
    con.register("asked_names", pa.table(columns))


def audit_as_asked(con: duckdb.DuckDBPyConnection, meanings: Sequence[Meaning]) -> str:
    """A source of the rows of `audit` with `of_tables`, `of_personal` and `of_subjects` beside them.

    `meanings` has one for every number that rows have; `RowNames.register` was called.
    """
    register_meanings(con, meanings)
    return f"({sql_file('audit_as_asked.sql')})"
