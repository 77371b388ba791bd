"""Each way in which a known log reader has lost or doubled lines, tried on ours: one test a fault.

The numbers are those of the projects' issues: Vector, Filebeat, Fluent Bit, Promtail (Loki), rsyslog and
the OpenTelemetry collector. `Reader` commits as a daemon would, to a chain that checks positions.
"""

import errno
import glob
import gzip
import os
import shutil
import time
from pathlib import Path

import pytest

from scalple.ingest.errors import InputError
from scalple.ingest.follower import Follower
from scalple.ingest.heldfile import UNTERMINATED, HeldFile
from scalple.ingest.sourcegap import DAMAGED, MISSING, REPLACED, TRUNCATED
from tests.logkinds import CSVLOG, IDENTITY, KINDS, PGBOUNCER, STDERRLOG, LogKind
from tests.tailing import Clock, Reader


def lines(first: int, last: int, kind: LogKind = CSVLOG) -> bytes:
    """Records first … last."""
    return b"".join(map(kind.write, range(first, last + 1)))


def upto(last: int) -> list[int]:
    """1 … last."""
    return list(range(1, last + 1))


def append(path: Path, data: bytes) -> None:
    """As a server writes."""
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with ten records."""
    path = tmp_path / "app.log"
    path.write_bytes(lines(1, 10))
    return path


@pytest.fixture
def reader(log: Path) -> Reader:
    """One that has read and committed them."""
    found = Reader(CSVLOG, [f"{log}*"])
    found.scan()
    assert found.store.numbers == upto(10)
    return found


def reasons(reader: Reader) -> list[str]:
    """Of the gaps so far."""
    return [gap.reason for gap in reader.store.gaps]


# -- Vector -------------------------------------------------------------------------------------


def test_vector_23076_offset_beyond_size(log: Path, reader: Reader) -> None:
    # The file is shorter than the offset that was stored: it isn't skipped, and the cut is a gap.
    log.write_bytes(lines(11, 12))
    reader.crash()
    reader.settle()
    assert reader.store.numbers == upto(12)
    assert reasons(reader) == [TRUNCATED]


def test_vector_25079_the_same_inode_and_another_beginning(log: Path, reader: Reader) -> None:
    # Neither the inode nor the first lines alone say which file it is: it was written anew in place.
    inode = log.stat().st_ino
    log.write_bytes(lines(11, 40))
    assert log.stat().st_ino == inode
    reader.settle()
    assert reader.store.numbers == upto(40)
    assert reasons(reader) == [TRUNCATED]


def test_vector_22954_rotated_while_down(log: Path, reader: Reader) -> None:
    # What was written to the old file after the last commit is still read.
    append(log, lines(11, 15))
    reader.follower.close()
    log.rename(f"{log}.1")
    log.write_bytes(lines(16, 18))
    reader.start()
    reader.settle()
    assert reader.store.numbers == upto(18)
    assert not reader.store.gaps


@pytest.mark.parametrize("while_down", [False, True])
def test_vector_7990_compressed_after_it_was_read(
    log: Path, reader: Reader, while_down: bool
) -> None:
    # The same records in a .gz are the same records.
    append(log, lines(11, 12))
    if not while_down:
        reader.settle(2)
    Path(f"{log}.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    log.write_bytes(lines(13, 14))
    if while_down:
        reader.crash()
    reader.settle()
    reader.crash()
    reader.settle()
    assert reader.store.numbers == upto(14)
    assert not reader.store.gaps


def test_vector_23619_truncated_and_written_anew(log: Path, reader: Reader) -> None:
    # A file that grows past the old offset between two looks isn't read from its middle, nor twice.
    os.truncate(log, 0)
    append(log, lines(11, 60))
    reader.settle()
    assert reader.store.numbers == upto(60)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_vector_2701_small_files_are_seen(tmp_path: Path, kind: LogKind) -> None:
    # One record is enough; no fingerprint of 256 bytes or 1 KiB is waited for.
    (tmp_path / "a.log").write_bytes(kind.write(1))
    reader = Reader(kind, [tmp_path / "a.log"])
    reader.settle(2)
    assert reader.store.numbers == [1]


# -- Filebeat -----------------------------------------------------------------------------------


def test_filebeat_1341_inode_reuse(log: Path, reader: Reader) -> None:
    # Deleted, and the next file gets its inode at once: it is read from its beginning.
    reader.follower.close()
    old = log.stat().st_ino
    log.unlink()
    for n in range(50):  # until the file system gives the same number again
        log.write_bytes(lines(11, 30))
        if log.stat().st_ino == old:
            break
        log.rename(log.parent / f"other-{n}")
    reader.start()
    reader.settle()
    assert reader.store.numbers == upto(30)
    assert reasons(reader) in ([REPLACED], [TRUNCATED])


def test_filebeat_45300_copytruncate_and_restart(log: Path, reader: Reader) -> None:
    # 100 lines read, 50 more, copied and cut while down: the copy is read on, not anew, and a gap says
    # that nobody can know what was written in between.
    append(log, lines(11, 15))
    shutil.copy(log, f"{log}.1")
    reader.follower.close()
    os.truncate(log, 0)
    append(log, lines(16, 20))
    reader.start()
    reader.settle()
    assert reader.store.numbers == upto(20)
    assert reasons(reader) == [TRUNCATED]


def test_filebeat_38070_reuse_is_not_taken_for_truncation(log: Path, reader: Reader) -> None:
    # The descriptor that is held keeps the inode from being given away: two files, no gap.
    append(log, lines(11, 12))
    log.unlink()
    log.write_bytes(lines(13, 14))
    reader.settle()
    assert reader.store.numbers == upto(14)
    assert not reader.store.gaps


def test_filebeat_36541_reuse_by_a_shorter_file_is_read_from_its_beginning(
    log: Path, reader: Reader
) -> None:
    # Rotated away and deleted again and again: whatever numbers the file system gives, each short file is
    # read from 0, and no old offset is applied to it.
    last = 10
    for _ in range(6):
        Path(f"{log}.1").unlink(missing_ok=True)
        log.rename(f"{log}.1")
        log.write_bytes(lines(last + 1, last + 2))
        last += 2
        reader.settle(3)
    assert reader.store.numbers == upto(last)
    assert not reader.store.gaps


@pytest.mark.parametrize("state", [b"", b"{}", b'{"v":2,"unfinished":[]}', b"\0" * 100])
def test_filebeat_3537_a_registry_of_zero_bytes_is_refused(state: bytes, log: Path) -> None:
    # There is no registry on disk; what the store gives in its place is read strictly.
    with pytest.raises(InputError, match="isn't what a follower remembered"):
        Follower([log], state=state)


# -- Fluent Bit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_fluentbit_11265_partial_line_lost_on_restart(tmp_path: Path, kind: LogKind) -> None:
    # Half a record was read, the reader starts anew: positions end at whole records.
    log = tmp_path / "a.log"
    whole = kind.write(2)
    log.write_bytes(kind.write(1) + whole[: len(whole) - 9])
    reader = Reader(kind, [log])
    reader.settle(3, seconds=0.1)
    reader.crash()
    append(log, whole[len(whole) - 9 :])
    reader.settle()
    assert reader.store.numbers == [1, 2]
    assert not reader.store.rejects


def test_fluentbit_8025_deleted_while_down(log: Path, reader: Reader) -> None:
    # It wasn't known to be over: that something may be missing is said, once.
    append(log, lines(11, 12))
    reader.follower.close()
    log.unlink()
    reader.start()
    for _ in range(3):
        reader.settle(4)
        reader.crash()
    assert reasons(reader) == [MISSING]
    assert reader.store.gaps[0].path == log
    assert reader.store.gaps[0].after == len(lines(1, 10))


def test_fluentbit_11455_an_offset_that_is_too_large_is_not_waited_for(
    log: Path, reader: Reader
) -> None:
    # Not a day of silence until the new file has grown to the old size.
    os.truncate(log, 0)
    reader.scan()
    append(log, lines(11, 11))
    reader.settle(2)
    assert reader.store.numbers == upto(11)


def test_fluentbit_5382_no_reading_from_the_middle_of_a_line(log: Path, reader: Reader) -> None:
    # After a rotation the old offset is applied to no other file.
    log.rename(f"{log}.1")
    log.write_bytes(lines(11, 40))
    reader.settle()
    assert reader.store.numbers == upto(40)
    assert not reader.store.rejects


@pytest.mark.parametrize("while_down", [False, True])
def test_fluentbit_1875_lines_around_a_rotation(
    log: Path, reader: Reader, while_down: bool
) -> None:
    # Written after the last look and before the name was taken, after that, and to the new file at once.
    append(log, lines(11, 12))
    if while_down:
        reader.follower.close()
    with log.open("ab") as old:
        log.rename(f"{log}.1")
        old.write(lines(13, 14))
    log.write_bytes(lines(15, 16))
    if while_down:
        reader.start()
    reader.settle()
    assert reader.store.numbers == upto(16)
    assert not reader.store.gaps


def test_fluentbit_2960_a_rotated_file_is_read_to_its_end_before_it_is_let_go(
    log: Path, reader: Reader
) -> None:
    # More is outstanding than one look reads, and the file is rotated and deleted meanwhile.
    append(log, lines(11, 60))
    reader.follower.scan()  # seen, not read
    log.rename(f"{log}.1")
    log.write_bytes(lines(61, 62))
    reader.follower.scan()  # seen, not read
    Path(f"{log}.1").unlink()
    reader.settle()
    assert reader.store.numbers == upto(62)
    assert not reader.store.gaps


# -- Promtail -----------------------------------------------------------------------------------


def test_promtail_924_regrown_after_truncation(log: Path, reader: Reader) -> None:
    # The new size is the old offset, to the byte: what stands before it tells.
    data = lines(101, 130)
    size = log.stat().st_size
    os.truncate(log, 0)
    append(log, data[:size])
    reader.scan()
    append(log, data[size:])
    reader.settle()
    assert reader.store.numbers == [*upto(10), *range(101, 131)]
    assert reasons(reader) == [TRUNCATED]


def test_promtail_1457_a_torn_positions_file_cannot_be(log: Path, reader: Reader) -> None:
    # Positions are in the commit of their rows: whatever was read and not committed is read again.
    append(log, lines(11, 20))
    reader.scan(commits=0)
    assert reader.store.numbers == upto(10)
    reader.settle()
    assert reader.store.numbers == upto(20)


@pytest.mark.parametrize("rotations", [1, 3])
def test_promtail_3108_rotations_between_two_looks(
    log: Path, reader: Reader, rotations: int
) -> None:
    # Several rotations at once: each file is found, in order.
    last = 10
    for _ in range(rotations):
        append(log, lines(last + 1, last + 3))
        for n in range(rotations, 0, -1):
            if Path(f"{log}.{n}").exists():
                Path(f"{log}.{n}").rename(f"{log}.{n + 1}")
        log.rename(f"{log}.1")
        log.write_bytes(lines(last + 4, last + 5))
        last += 5
    reader.settle()
    assert reader.store.numbers == upto(last)
    assert not reader.store.gaps


def test_promtail_3985_a_rotation_under_the_same_name_and_size(log: Path, reader: Reader) -> None:
    # The new file is as long as the old one: size and name say that nothing has happened.
    size = log.stat().st_size
    fresh = lines(11, 30)
    log.rename(f"{log}.1")
    log.write_bytes(fresh[:size])
    reader.scan()
    append(log, fresh[size:])
    reader.settle()
    assert reader.store.numbers == upto(30)
    assert not reader.store.gaps


def test_promtail_8039_rotated_and_compressed_between_two_looks(log: Path, reader: Reader) -> None:
    append(log, lines(11, 12))
    Path(f"{log}.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    log.write_bytes(lines(13, 14))
    reader.crash()
    reader.settle()
    assert reader.store.numbers == upto(14)
    assert not reader.store.gaps


# -- rsyslog ------------------------------------------------------------------------------------


def test_rsyslog_4875_the_offset_is_not_inherited_after_a_rename(log: Path, reader: Reader) -> None:
    # The new file of the old name begins at its own beginning.
    log.rename(f"{log}.1")
    log.write_bytes(lines(11, 11))
    reader.crash()
    reader.settle()
    assert reader.store.numbers == upto(11)


def test_rsyslog_3758_the_first_lines_after_a_rotation(log: Path, reader: Reader) -> None:
    # The writer goes on in the renamed file for a while, and the new one has lines already.
    with log.open("ab") as old:
        log.rename(f"{log}.1")
        old.write(lines(11, 12))
    log.write_bytes(lines(13, 40))
    reader.settle()
    assert reader.store.numbers == upto(40)


def test_rsyslog_1417_copytruncate_loses_and_says_so(log: Path, reader: Reader) -> None:
    # Written between the copy and the cut, and seen there: at least so many bytes are known to be gone.
    append(log, lines(11, 12))
    shutil.copy(log, f"{log}.1")
    append(log, lines(13, 14))
    reader.follower.scan()  # seen, not read
    os.truncate(log, 0)
    append(log, lines(15, 15))
    reader.settle()
    assert reader.store.numbers == [*upto(12), 15]
    (gap,) = reader.store.gaps
    assert (gap.reason, gap.bytes_min) == (TRUNCATED, len(lines(13, 14)))
    assert "copytruncate" in gap.detail


def test_rsyslog_1090_a_cut_that_left_something(log: Path, reader: Reader) -> None:
    # Cut in the middle, as by a power cut, and written on: from the last known place below it.
    half = len(lines(1, 5))
    store = Reader(CSVLOG, [log])
    log.write_bytes(lines(1, 5))
    store.scan()
    append(log, lines(6, 10))
    store.scan()
    os.truncate(log, half)
    append(log, lines(11, 12))
    store.crash()
    store.settle()
    assert store.store.numbers == upto(12)
    assert reasons(store) == [TRUNCATED]


def test_rsyslog_3918_truncated_while_it_was_read(log: Path, reader: Reader) -> None:
    # Cut between the look and the reads: nothing of the old file and the new one is joined.
    append(log, lines(11, 20))

    def cut() -> None:
        os.truncate(log, 0)
        append(log, lines(21, 40))

    acts = [cut]
    reader.scan(meanwhile=lambda: acts.pop()() if acts else None)
    reader.settle()
    assert reader.store.numbers == [*upto(10), *range(21, 41)]
    assert not reader.store.rejects
    assert reasons(reader) == [TRUNCATED]


def test_rsyslog_4186_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    # A thousand rotations, and files that come and go: nothing piles up.
    reader = Reader(IDENTITY, [tmp_path / "e-*.jsonl"])
    reader.follower = Follower(reader.patterns, clock=reader.clock, finished_max=20)
    for n in range(1, 200):
        (tmp_path / f"e-{n:04}.jsonl").write_bytes(IDENTITY.write(n))
        if n > 3:
            (tmp_path / f"e-{n - 3:04}.jsonl").unlink()
        reader.scan()
        reader.clock.now += 6
    assert reader.store.numbers == upto(199)
    assert len(reader.follower.following) <= 5
    assert reader.open_files <= 5
    assert len(reader.follower._generations) <= 30
    assert len(reader.follower._placing._beginnings._whole) <= 250
    assert len(reader.follower.state()) < 1000


# -- OpenTelemetry ------------------------------------------------------------------------------


def test_otel_19767_the_same_beginning_across_a_rotation(tmp_path: Path) -> None:
    # Two files begin with the same 5 KiB: both are read, each to its end, also after a restart.
    same = lines(1, 40)
    old, new = tmp_path / "a-1.log", tmp_path / "a-2.log"
    old.write_bytes(same + lines(41, 42))
    reader = Reader(CSVLOG, [tmp_path / "a-*"])
    reader.scan()
    new.write_bytes(same + lines(51, 52))
    reader.settle(2)
    append(new, lines(53, 54))
    append(old, lines(43, 44))
    reader.crash()
    reader.settle()
    assert sorted(reader.store.numbers) == sorted(
        [*upto(40), *upto(40), *range(41, 45), *range(51, 55)]
    )
    assert {one.incarnation for one in reader.store.known} == {0, 1}


# -- PostgreSQL, PgBouncer ----------------------------------------------------------------------


def test_a_weekday_file_is_cut_a_week_later_without_a_gap(tmp_path: Path) -> None:
    # log_truncate_on_rotation: what was there has been read, and another day's file had grown.
    monday, tuesday = tmp_path / "postgresql-Mon.csv", tmp_path / "postgresql-Tue.csv"
    reader = Reader(CSVLOG, [tmp_path / "*.csv"])
    monday.write_bytes(lines(1, 5))
    reader.settle(2)
    tuesday.write_bytes(lines(6, 7))
    reader.settle()
    monday.write_bytes(lines(8, 20))
    reader.settle()
    assert reader.store.numbers == upto(20)
    assert not reader.store.gaps


def test_a_weekday_file_that_was_cut_unread_is_a_gap(tmp_path: Path) -> None:
    # The same a week late: what had not been read was seen, and is gone.
    monday = tmp_path / "postgresql-Mon.csv"
    monday.write_bytes(lines(1, 5))
    reader = Reader(CSVLOG, [tmp_path / "*.csv"])
    reader.scan()
    append(monday, lines(6, 7))
    reader.follower.scan()
    monday.write_bytes(lines(8, 9))
    reader.settle()
    (gap,) = reader.store.gaps
    assert (gap.reason, gap.after, gap.bytes_min) == (
        TRUNCATED,
        len(lines(1, 5)),
        len(lines(6, 7)),
    )
    assert reader.store.numbers == [*upto(5), 8, 9]


@pytest.mark.parametrize("how", ["cut", "deleted", "replaced"])
def test_what_was_read_to_its_end_before_it_went_is_called_perhaps_lost(
    log: Path, reader: Reader, how: str
) -> None:
    # All that was seen is committed. Whether more was written before the cut, nobody can tell: it stays a
    # gap, and says just that.
    reader.follower.close()
    if how == "cut":
        os.truncate(log, 0)
    else:
        log.unlink()
    if how == "replaced":
        log.write_bytes(lines(50, 60))
    reader.start()
    reader.settle(4)
    (gap,) = reader.store.gaps
    read = len(lines(1, 10))
    assert (gap.after, gap.bytes_min) == (read, 0)
    assert f"all {read:,} bytes that were seen of it had been read: only what was" in gap.detail


def test_what_was_seen_and_not_read_before_it_went_is_called_lost(
    log: Path, reader: Reader
) -> None:
    append(log, lines(11, 12))
    reader.follower.scan()
    os.truncate(log, 0)
    reader.settle(4)
    (gap,) = reader.store.gaps
    assert gap.bytes_min == len(lines(11, 12))
    assert f"; {gap.bytes_min:,} bytes that were seen hadn't been read" in gap.detail
    assert "if anything" not in gap.detail


def test_current_logfiles_names_only_the_newest(tmp_path: Path) -> None:
    # Rotated twice while down: the server names one file, and all of them are read; the stderr form of
    # the same records isn't.
    (tmp_path / "log").mkdir()
    names = [f"log/postgresql-2026-11-23_0{hour}0000.csv" for hour in range(3)]
    listing = tmp_path / "current_logfiles"
    listing.write_text(f"stderr log/postgresql-2026-11-23_000000.log\ncsvlog {names[0]}\n")
    (tmp_path / "log" / "postgresql-2026-11-23_000000.log").write_bytes(lines(1, 3, STDERRLOG))
    (tmp_path / names[0]).write_bytes(lines(1, 3))
    reader = Reader(CSVLOG, [listing])
    reader.scan()
    reader.crash()
    append(tmp_path / names[0], lines(4, 4))
    (tmp_path / names[1]).write_bytes(lines(5, 6))
    (tmp_path / names[2]).write_bytes(lines(7, 8))
    listing.write_text(f"csvlog {names[2]}\n")
    reader.settle()
    assert reader.store.numbers == upto(8)
    listing.unlink()  # the server is down; what it wrote last is still read
    append(tmp_path / names[2], lines(9, 9))
    reader.settle(2)
    assert reader.store.numbers == upto(9)


def test_pgbouncer_reopens_its_log_after_a_signal(tmp_path: Path) -> None:
    log = tmp_path / "pgbouncer.log"
    log.write_bytes(lines(1, 3, PGBOUNCER))
    reader = Reader(PGBOUNCER, [f"{log}*"])
    reader.settle(2)
    with log.open("ab") as old:
        log.rename(f"{log}.1")
        reader.settle(2, seconds=0.2)
        old.write(lines(4, 5, PGBOUNCER))
    log.write_bytes(lines(6, 7, PGBOUNCER))
    reader.settle()
    assert reader.store.numbers == upto(7)


# -- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_torn_end_is_kept_and_never_joined_with_the_next_file(
    tmp_path: Path, kind: LogKind
) -> None:
    log = tmp_path / "a.log"
    torn = kind.write(3)[:60]
    log.write_bytes(lines(1, 2, kind) + torn)
    reader = Reader(kind, [f"{log}*"])
    reader.settle(3)
    assert not reader.store.rejects
    log.rename(f"{log}.1")
    log.write_bytes(lines(4, 5, kind))
    reader.settle()
    assert reader.store.numbers == [1, 2, 4, 5]
    assert (reader.store.reasons, reader.store.rejects) == ([UNTERMINATED], [torn])


def test_a_torn_end_waits_as_long_as_it_may_be_completed(log: Path, reader: Reader) -> None:
    half = CSVLOG.write(11)
    append(log, half[:50])
    reader.settle(20, seconds=60)
    assert not reader.store.rejects
    append(log, half[50:])
    reader.scan()
    assert reader.store.numbers == upto(11)


def test_zero_bytes_after_a_power_cut_are_cut_out(log: Path, reader: Reader) -> None:
    # The record before them is torn, the one behind them is whole, though it begins in mid-line.
    append(log, CSVLOG.write(11)[:70] + bytes(3000))
    reader.settle(4)
    assert not reader.store.rejects  # they may be written yet
    append(log, lines(12, 13))
    reader.settle()
    assert reader.store.numbers == [*upto(10), 12, 13]
    assert reader.store.reasons == [
        "broken off: zero bytes follow",
        "3,000 zero bytes: what was to stand there never reached the disk",
    ]


def test_a_damaged_archive_is_read_as_far_as_it_goes_and_is_a_gap(tmp_path: Path) -> None:
    whole = gzip.compress(lines(1, 200))
    archive = tmp_path / "a.log.1.gz"
    archive.write_bytes(whole[: len(whole) * 2 // 3])
    reader = Reader(CSVLOG, [tmp_path / "a.log*"])
    reader.settle()
    last = reader.store.numbers[-1]
    assert reader.store.numbers == upto(last) and last < 200
    assert reasons(reader) == [DAMAGED]
    archive.write_bytes(whole)
    reader.settle()
    assert reader.store.numbers[: last + 1] == upto(last + 1)


def test_what_is_left_of_a_deleted_file_is_read_through_the_descriptor(
    log: Path, reader: Reader
) -> None:
    with log.open("ab", buffering=0) as old:
        log.unlink()
        old.write(lines(11, 12))
        reader.settle(1)
        old.write(lines(13, 13))
        reader.settle()
    assert reader.store.numbers == upto(13)
    assert not reader.store.gaps
    assert reader.open_files == 0


def test_two_names_of_one_file_are_one_file(log: Path, reader: Reader) -> None:
    os.link(log, f"{log}.hard")
    Path(f"{log}.soft").symlink_to(log)
    append(log, lines(11, 12))
    reader.settle()
    assert reader.store.numbers == upto(12)


def test_a_file_that_is_no_file_is_passed_over(log: Path, reader: Reader) -> None:
    # A pipe would wait for a writer, a folder can't be read, a link may lead nowhere.
    os.mkfifo(f"{log}.pipe")
    Path(f"{log}.folder").mkdir()
    Path(f"{log}.nowhere").symlink_to(log.parent / "missing")
    Path(f"{log}.empty").write_bytes(b"")
    append(log, lines(11, 11))
    reader.settle()
    assert reader.store.numbers == upto(11)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(log: Path) -> None:
    log.chmod(0)
    follower = Follower([log])
    assert follower.scan() == []
    assert "Permission denied" in follower.problems[log]


def forbid(patch: pytest.MonkeyPatch, *forbidden: Path) -> None:
    """As for an account that isn't root's."""
    opened, access = os.open, os.access

    def may(path: str | Path, how: int) -> bool:
        return Path(path) not in forbidden and access(path, how)

    patch.setattr(os, "access", may)

    def asked(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path) in forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, mode)

    patch.setattr(os, "open", asked)


def test_a_right_that_was_taken_away_is_no_cut_and_no_loss(
    log: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once was called source-truncated, when the daemon began anew and the file was there unreadable."""
    other = log.with_name("app.log.new")
    append(log, lines(11, 12))
    reader.follower.close()
    with monkeypatch.context() as patch:
        forbid(patch, log)
        reader.start()
        other.write_bytes(lines(50, 55))
        reader.settle(5)
        assert reader.follower.problems == {
            log: "permission denied: let this account, or its group, read it"
        }
        assert reader.store.numbers == [*upto(10), *range(50, 56)]
        append(log, lines(13, 14))
        reader.settle(5)
    assert not reader.store.gaps
    reader.settle(3)
    assert sorted(reader.store.numbers) == [*upto(14), *range(50, 56)]
    assert not reader.store.gaps and not reader.follower.problems


def test_a_folder_that_may_not_be_listed_is_told_and_others_go_on(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    inside = tmp_path / "closed" / "a.log"
    inside.write_bytes(lines(50, 52))
    reader = Reader(CSVLOG, [log, tmp_path / "closed" / "*.log"])
    listed = glob.glob
    with monkeypatch.context() as patch:
        forbid(patch, tmp_path / "closed")
        patch.setattr(glob, "glob", lambda name, **more: [])
        reader.settle(3)
        assert reader.store.numbers == upto(10)
        (said,) = reader.follower.problems.items()
        assert said == (
            tmp_path / "closed",
            "its files can't be listed: permission denied: let this account, or its group, read it",
        )
    assert glob.glob is listed
    reader.settle(3)
    assert reader.store.numbers == [*upto(10), 50, 51, 52]
    reader.follower.close()
    with monkeypatch.context() as patch:  # nor is what was read of them missing
        forbid(patch, tmp_path / "closed")
        patch.setattr(glob, "glob", lambda name, **more: [])
        reader.start()
        reader.settle(3)
    reader.settle(2)
    assert not reader.store.gaps


def test_a_file_that_goes_while_it_is_looked_at_stops_no_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Beyond `open_max` files are closed after the first look, and opened again: some are gone by then.
    for n in range(1, 9):
        (tmp_path / f"a-{n}.csv").write_bytes(CSVLOG.write(n))
    reader = Reader(CSVLOG, [tmp_path / "a-*"], open_max=2)
    true_reopen = HeldFile.reopen

    def gone(self: HeldFile, path: Path) -> None:
        if path.name == "a-7.csv":
            path.unlink(missing_ok=True)
        true_reopen(self, path)

    monkeypatch.setattr(HeldFile, "reopen", gone)
    reader.settle(8)
    assert reader.store.numbers == [1, 2, 3, 4, 5, 6, 8]


def test_an_error_of_the_disk_is_told_and_nothing_is_lost(
    log: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, lines(11, 12))

    def failing(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing)
        reader.scan()
        assert "Input/output error" in reader.follower.problems[log]
    reader.settle()
    assert reader.store.numbers == upto(12)


def test_an_error_of_the_disk_hides_no_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file is cut after the look and before it is read, renamed, and the next look fails elsewhere.
    live, old, older = (tmp_path / f"app.log{end}" for end in ("", ".1", ".2"))
    old.write_bytes(b"\0")
    live.write_bytes(lines(1, 1))
    reader = Reader(CSVLOG, [tmp_path / "app*"], open_max=1)
    reader.scan(meanwhile=lambda: os.truncate(live, 0))
    old.rename(older)
    live.rename(old)
    live.write_bytes(lines(2, 3))
    works = iter([True])
    true_pread = os.pread

    def failing(descriptor: int, length: int, offset: int) -> bytes:
        if not next(works, False):
            raise OSError(5, "Input/output error")
        return true_pread(descriptor, length, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing)
        reader.scan()
    assert reader.follower.problems
    reader.settle()
    assert reader.store.numbers == [2, 3]
    assert reasons(reader) == ["source-truncated"]


def test_lag_counts_what_is_not_committed(log: Path, reader: Reader) -> None:
    append(log, lines(11, 12))
    reader.clock.now += 5
    (generation,) = reader.follower.scan()
    reader.clock.now += 7
    reader.follower.scan()
    lag = reader.follower.lag()
    assert (lag.bytes, lag.since_growth_s) == (len(lines(11, 12)), 7.0)
    for piece in generation.pieces(reader.parser(generation)):
        reader.commit(generation, piece)
    assert reader.follower.lag(generation).bytes == 0


def test_few_descriptors_for_many_files(tmp_path: Path) -> None:
    # 60 files in arrears and 4 descriptors: all is read, oldest first.
    for n in range(1, 61):
        (tmp_path / f"a-{n:04}.csv").write_bytes(CSVLOG.write(n))
    reader = Reader(CSVLOG, [tmp_path / "a-*"], open_max=4)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        reader.scan()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 6
    assert reader.store.numbers == upto(60)


def test_a_scan_of_a_thousand_unchanged_files_opens_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(1, 1001):
        (tmp_path / f"a-{n:04}.csv").write_bytes(CSVLOG.write(n))
    follower = Follower([tmp_path / "a-*"], clock=Clock(), open_max=1000)
    parse = CSVLOG.parse()

    def read() -> int:
        taken = 0
        for generation in follower.scan():
            for piece in generation.pieces(parse):
                generation.commit(piece.anchors)
                taken += 1
        return taken

    assert read() == 1000
    opened: list[Path] = []
    true_open = os.open

    def noting(path: Path, flags: int) -> int:
        opened.append(path)
        return true_open(path, flags)

    monkeypatch.setattr(os, "open", noting)
    began = time.perf_counter()
    assert read() == 0
    print(f"a scan of 1,000 unchanged files: {1000 * (time.perf_counter() - began):.1f} ms")
    assert opened == []
    append(tmp_path / "a-0007.csv", CSVLOG.write(1001))
    assert read() == 1
    assert len(opened) <= 1
    follower.close()


def test_without_state_a_file_that_is_gone_is_never_taken_for_complete(
    log: Path, reader: Reader
) -> None:
    log.rename(f"{log}.1")
    log.write_bytes(lines(11, 12))
    reader.settle()
    Path(f"{log}.1").unlink()
    reader.crash()
    reader.settle()
    assert not reader.store.gaps  # it had been read to its end, and the state says so
    reader.with_state = False
    reader.crash()
    reader.settle()
    assert reasons(reader) == [REPLACED]
