"""Real recordings behind PgBouncer 1.18, 1.24 and 1.26: every statement is joined with its client.

Enters: tests/data/pgbouncer_*_run, as record_poolers.py made them on real servers. Leaves: nothing. The
true author of each statement stands in a mark that only tests read.
"""

import gzip
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attribute_logs import Attributed, attribute_files, read_evidence
from tests.examples import examples

DATA = Path(__file__).parent / "data"
VERSIONS = ("1.18", "1.24", "1.26")
EVERY_LINE = bool(os.environ.get("EVERY_LINE"))
"""`make prove`: leave out each line in turn, not a sample of them."""
NAMES = ("postgresql.csv", "pgbouncer.log", "sidecar.jsonl", "relay.jsonl")
POOLER = NAMES.index("pgbouncer.log")


@dataclass(frozen=True)
class Recording:
    """Lines of each file of NAMES."""

    files: tuple[tuple[bytes, ...], ...]

    def without(self, file: int, line: int) -> "Recording":
        lines = self.files[file]
        kept = (*lines[:line], *lines[line + 1 :])
        return Recording((*self.files[:file], kept, *self.files[file + 1 :]))

    def write(self, directory: Path) -> list[Path]:
        paths = [directory / name for name in NAMES]
        for path, lines in zip(paths, self.files, strict=True):
            path.write_bytes(b"".join(lines))
        return paths

    def attributed(self) -> Attributed:
        with TemporaryDirectory() as scratch:
            server, pooler, *events = self.write(Path(scratch))
            return attribute_files([server], [pooler], events)

    def events(self) -> object:
        """What its pooler's log tells, wherever it stands."""
        with TemporaryDirectory() as scratch:
            table, rejects = read_evidence([self.write(Path(scratch))[POOLER]], [])
        placed = [name for name in table.column_names if name.startswith("source_o")]
        return table.drop_columns(placed).to_pylist(), len(rejects)


@cache
def recording(version: str) -> Recording:
    """One version's."""
    directory = DATA / f"pgbouncer_{version}_run"
    files = [gzip.decompress((directory / f"{name}.gz").read_bytes()) for name in NAMES]
    return Recording(tuple(tuple(one.splitlines(keepends=True)) for one in files))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_statement_is_joined_with_its_client_in_sequence(version: str) -> None:
    done = recording(version).attributed()
    assert done.wrong(["proven", "confirmed", "claimed"]) == []
    rows = [row for row in done.dicts() if row["truth"] is not None]
    assert len(rows) > 50
    for row in rows:
        announced = str(row["truth"]).startswith(("tagged", "relayed"))
        assert row["session_user_id"] == row["truth"] if announced else True, row
        # The others are joined with a client of whom nothing is known but its own words.
        method, reason = row["attribution_method"], row["attribution_reason"]
        assert method == "link" or (method, reason) == ("sql-comment", "unidentified-client"), row
    assert done.gaps.num_rows == 0
    assert done.rejects == []


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(VERSIONS), st.lists(st.floats(0, 1), min_size=1, max_size=3), st.booleans())
def test_a_pooler_s_log_in_several_files_names_nobody_wrongly(
    version: str, cuts: list[float], backwards: bool
) -> None:
    whole = recording(version)
    lines = whole.files[POOLER]
    places = [0, *sorted(int(one * len(lines)) for one in cuts), len(lines)]
    with TemporaryDirectory() as scratch:
        server, _, *events = whole.write(Path(scratch))
        parts: list[Path] = []
        for begin, end in itertools.pairwise(places):
            parts.append(Path(scratch) / f"pgbouncer.{len(parts)}.log")
            parts[-1].write_bytes(b"".join(lines[begin:end]))
        done = attribute_files([server], parts[::-1] if backwards else parts, events)
    assert done.wrong(["proven", "confirmed", "claimed"]) == []
    rows = [row for row in done.dicts() if row["truth"] is not None]
    joined = [row for row in rows if row["attribution_method"] in ("link", "sql-comment")]
    # What is lost is what stands around a cut.
    assert len(cuts) > 1 or len(joined) > 0.3 * len(rows)


def wrong_without(version: str, file: int, line: int) -> list[dict[str, object]]:
    """Who is named wrongly when a line is missing."""
    left = recording(version).without(file, line)
    if file == POOLER and left.events() == _events(version):
        return []  # the line told of nothing that is read: the answer is the same
    return left.attributed().wrong(["proven", "confirmed", "claimed"])


@cache
def _events(version: str) -> object:
    return recording(version).events()


@settings(deadline=None, max_examples=examples(20))
@given(st.sampled_from(VERSIONS), st.sampled_from(range(len(NAMES))), st.data())
def test_no_line_or_event_names_anybody_wrongly_by_being_lost(
    version: str, file: int, data: st.DataObject
) -> None:
    lines = recording(version).files[file]
    line = data.draw(st.sampled_from(range(len(lines))))
    assert wrong_without(version, file, line) == [], lines[line]


@pytest.mark.parametrize(
    ("version", "lost"),
    [
        # The end of one transaction and the beginning of the next on that server connection.
        ("1.18", range(2100, 2124)),
        # A link, and the ReadyForQuery of its transaction, in one millisecond.
        ("1.26", (3844, 3969)),
    ],
)
def test_lines_lost_together_name_nobody_wrongly(version: str, lost: Sequence[int]) -> None:
    left = recording(version)
    for line in sorted(lost, reverse=True):
        left = left.without(POOLER, line)
    assert left.attributed().wrong(["proven", "confirmed", "claimed"]) == []


@pytest.mark.skipif(not EVERY_LINE, reason="make prove")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", range(len(NAMES)), ids=NAMES)
def test_not_one_of_all_lines_names_anybody_wrongly_by_being_lost(version: str, file: int) -> None:
    lines = range(len(recording(version).files[file]))
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(partial(wrong_without, version, file), lines, chunksize=20))
    assert [line for line, wrong in zip(lines, found, strict=True) if wrong] == []
