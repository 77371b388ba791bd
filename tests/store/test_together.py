"""Small commits that are checked together: nothing passes that wouldn't pass alone, and none is read twice.

Enters: digests of neighbouring commits, an index whose files begin anywhere. Leaves: nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalple.ingest.errors import VerificationError
from scalple.store import commitpool, compaction, merging, rowcheck
from scalple.store.chain import read_chain
from scalple.store.commitcheck import CommitChecker, digests_of, tasks_of
from scalple.store.digest import Numbering
from scalple.store.digestcheck import Checker
from scalple.store.digestnames import FACTS, ROWS, SUBJECTS
from scalple.store.index import open_index
from scalple.store.layout import origin_layout
from scalple.store.note import VerifierKey
from scalple.store.verify import Options, examine, verify
from tests.store.sample import make_store, open_writer, other_kinds, signing_key, statements
from tests.store.test_compaction import compacted

COUNTS = (3, 1, 4, 2)
Commit = tuple[int, dict[str, bytes], pa.Table]


def commits() -> list[Commit]:
    """Digests of two openings of the writer, in which later commits bring facts of their own."""
    found: list[Commit] = []
    openings, at = [Numbering(), Numbering()], 0
    for n, count in enumerate(COUNTS):
        numbering = openings[n // 3]
        rows = statements(at, count)
        person = pa.array([f"employee_id_{n}"] * count)
        place = rows.schema.get_field_index("session_user_id")
        rows = rows.set_column(place, "session_user_id", person)
        found.append((n, numbering.digest(n, rows), rows))
        at += count
    return found


def moved(holds: str, rows: int) -> Callable[[list[Commit]], None]:
    """The last so many lines of a file of commit 1 stand first in that of commit 2."""

    def change(given: list[Commit]) -> None:
        tables = [pq.read_table(pa.BufferReader(given[n][1][holds])) for n in (1, 2)]
        cut = tables[0].num_rows - rows
        assert cut >= 0
        put(given[1], holds, tables[0].slice(0, cut))
        put(given[2], holds, pa.concat_tables([tables[0].slice(cut), tables[1]]))

    return change


def put(commit: Commit, holds: str, table: pa.Table) -> None:
    said = pq.read_metadata(pa.BufferReader(commit[1][holds])).metadata
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(said), sink, store_schema=False)
    commit[1][holds] = bytes(sink.getvalue().to_pybytes())


def swapped(holds: str) -> Callable[[list[Commit]], None]:
    """Two commits have each other's file."""

    def change(given: list[Commit]) -> None:
        given[1][1][holds], given[2][1][holds] = given[2][1][holds], given[1][1][holds]

    return change


def unnumbered(given: list[Commit]) -> None:
    """A row has no statement."""
    table = pq.read_table(pa.BufferReader(given[2][1][ROWS]))
    numbers = pa.array([None, *table["statement"].to_pylist()[1:]], pa.int32())
    put(given[2], ROWS, table.set_column(0, "statement", numbers))


def is_refused(check: Callable[[], Any]) -> bool:
    try:
        check()
    except (VerificationError, pa.ArrowException, ValueError, KeyError, TypeError):
        return True
    return False


def one_by_one(given: list[Commit]) -> None:
    checker = Checker()
    for n, objects, rows in given:
        checker.check(n, objects, rows)


def together(given: list[Commit]) -> None:
    rows = pa.concat_tables([one[2] for one in given])
    Checker().check_together([(n, objects, x.num_rows) for n, objects, x in given], rows)


@pytest.mark.parametrize("holds", [SUBJECTS, ROWS, FACTS])
@pytest.mark.parametrize("how", ["moved", "swapped"])
def test_what_a_neighbours_digest_says_is_refused(holds: str, how: str) -> None:
    given = commits()
    one_by_one(given)
    together(given)
    (moved(holds, 1) if how == "moved" else swapped(holds))(given)
    assert is_refused(lambda: one_by_one(given))
    assert is_refused(lambda: together(given))


def test_a_row_without_a_number_is_refused() -> None:
    given = commits()
    unnumbered(given)
    assert is_refused(lambda: one_by_one(given))
    assert is_refused(lambda: together(given))


def test_what_was_learned_of_a_refused_digest_is_forgotten() -> None:
    given, checker = commits(), Checker()
    checker.check(*given[0])
    before = checker.known
    wrong = commits()
    moved(ROWS, 1)(wrong)
    rows = pa.concat_tables([one[2] for one in given[1:]])
    with pytest.raises(VerificationError):
        checker.check_together([(n, o, x.num_rows) for n, o, x in wrong[1:]], rows)
    checker.known = before
    for n, objects, x in given[1:]:
        checker.check(n, objects, x)


def test_intact_commits_are_read_together_and_a_fault_is_found_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", 2)
    with open_writer(store) as writer:
        for n in range(2, 5):
            writer.commit({"audit": statements(4 * n, 4), **other_kinds(n)}, [], {})
    layout = origin_layout(store, "db1")
    manifests = read_chain(layout, 5).manifests
    tasks, digests = tasks_of(manifests, 0), digests_of(manifests)

    def checker() -> CommitChecker:
        return CommitChecker(layout, digests, files_only=False)

    alone = [one.check(task) for one in [checker()] for task in tasks]
    with monkeypatch.context() as patched:
        patched.setattr(rowcheck, "rows_of", None)  # nobody is asked alone
        assert list(checker().check_all(tasks)) == alone
        patched.setattr(rowcheck, "ROWS_MAX", 24)  # three, and two
        assert list(checker().check_all(tasks)) == alone
        patched.setattr(rowcheck, "SMALL_ROWS", 1)
        assert all(one.faults for one in checker().check_all(tasks))
    for record in manifests[3].segments:
        path = layout.segments / record.file
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        found = list(checker().check_all(tasks))
        assert [one.n for one in found if one.faults] == [3]
        path.write_bytes(whole)
    path.write_bytes(whole[:-1])
    found = list(checker().check_all(tasks))
    assert found == [one.check(task) for one in [checker()] for task in tasks]


def indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> Path:
    """Five commits of four statements in files of so many rows."""
    monkeypatch.setattr(merging, "FILE_ROWS_MAX", rows)
    store = make_store(tmp_path / "store", 5)
    compacted(store, "db1", signing_key(store))
    return store


@pytest.mark.parametrize("rows", [3, 7])
def test_rows_of_an_index_are_known_by_their_roots_wherever_its_files_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    store = indexed(tmp_path, monkeypatch, rows)
    monkeypatch.setattr(compaction, "add_logged", None)  # no segment is read for it
    verify(store)


def test_an_index_whose_rows_are_not_the_logs_is_compared_with_the_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = indexed(tmp_path, monkeypatch, 7)
    key = VerifierKey.of("db1", signing_key(store))
    layout = origin_layout(store, "db1")
    index = open_index(layout.index_head.read_bytes(), [key])[0]
    names = [one.name for one in index.files if one.holds == "audit"]
    assert len(names) == 3
    asked = []
    right = compaction.add_logged

    def add_logged(*given: Any) -> None:
        asked.append(given[2].n)
        right(*given)

    monkeypatch.setattr(compaction, "add_logged", add_logged)
    swap = (layout.index / names[0]).read_bytes()
    (layout.index / names[0]).write_bytes((layout.index / names[1]).read_bytes())
    (layout.index / names[1]).write_bytes(swap)
    faults = examine(store).faults
    assert [Path(one.place).name for one in faults] == names[:2]
    assert {one.what for one in faults} == {"SHA-256 differs"}
    assert asked == list(range(5))


def test_processes_find_the_same_of_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", 2)
    compacted(store, "db1", signing_key(store))
    monkeypatch.setattr(commitpool, "PROCESS_BYTES_MIN", 1)
    path = next(iter(origin_layout(store, "db1").index.glob("gaps-*")))
    path.write_bytes(path.read_bytes()[:-1])
    for files_only in (False, True):
        one = examine(store, options=Options(files_only=files_only))
        assert examine(store, options=Options(files_only=files_only, workers=2)) == one
        assert [Path(fault.place).name for fault in one.faults] == [path.name]


def test_a_damaged_index_of_a_damaged_log_hides_no_fault_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = indexed(tmp_path, monkeypatch, 100)
    layout = origin_layout(store, "db1")
    next(iter(layout.index.glob("audit-[0-9a-f]*"))).write_bytes(b"")
    gone = sorted(layout.segments.iterdir())[::7]
    for path in gone:
        path.unlink()
    report = examine(store)
    assert [Path(one.place.split(" (")[0]) for one in report.faults] == gone
    assert "db1: the index wasn't compared with a log that has faults" in report.notes
