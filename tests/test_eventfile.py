"""The sidecar's event file: numbers without holes, whatever happens to the file or the process.

Faults by name: a crash in mid-line, a full disk, rotation by rename, by size, removal, a second writer.
"""

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.eventfile import EventFile
from scalple.ingest.identity import parse_events

HEARTBEAT = {"event": "heartbeat"}


def during(path: Path, work: Callable[[EventFile], Awaitable[None]], **options: Any) -> None:
    """One life of a writer."""

    async def life() -> None:
        events = EventFile(path, **options)
        events.start()
        try:
            await work(events)
        finally:
            await events.stop()

    asyncio.run(life())


def written(directory: Path) -> list[dict[str, Any]]:
    """All events, by number."""
    files = [one for one in directory.glob("events*") if one.is_file()]
    lines = [line for file in files for line in file.read_bytes().splitlines() if line]
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return sorted(found, key=lambda event: int(event["seq"]))


def numbers(directory: Path) -> list[int]:
    """The events' numbers."""
    return [event["seq"] for event in written(directory)]


async def three(events: EventFile) -> None:
    """Three events, in two calls."""
    events.write([HEARTBEAT])
    await events.written_down([HEARTBEAT, HEARTBEAT])


def test_numbers_go_on_across_restarts_and_so_does_the_name(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(3):
        during(path, three)
    assert numbers(tmp_path) == list(range(9))
    assert len({event["sidecar"] for event in written(tmp_path)}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    block = parse_events(path.read_bytes(), 0, "events")
    assert block.table.num_rows == 9
    assert block.rejects == []


def test_a_crash_in_mid_line_loses_that_line_and_no_number(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    during(path, three)
    with path.open("ab") as file:
        file.write(b'{"v":1,"event":"open","seq":3,"side')
    during(path, three)
    assert numbers(tmp_path) == list(range(6))
    block = parse_events(path.read_bytes(), 0, "events")
    assert len(block.rejects) == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["rename", "size", "remove", "restart", "write"]), max_size=12))
def test_no_rotation_makes_a_hole(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("rotation")
    path = directory / "events.jsonl"
    kept: list[dict[str, Any]] = []

    async def life(events: EventFile) -> None:
        while acts:
            act = acts.pop(0)
            if act == "restart":
                return
            if act == "rename":
                path.rename(directory / f"events.jsonl.{len(acts)}x{os.urandom(3).hex()}")
                events.reopen()
            elif act == "remove":
                kept.extend(json.loads(line) for line in path.read_bytes().splitlines())
                path.unlink()
                events.reopen()
            await three(events)
        acts.append("done")

    while acts != ["done"]:
        during(path, life, rotate_bytes=700)
    kept += written(directory)
    assert sorted(event["seq"] for event in kept) == list(range(len(kept)))


def test_a_full_disk_uses_no_number_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    write = os.write
    room = [10_000]

    def scarce(file: int, data: Any) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        some = min(len(data), room[0])
        room[0] -= some
        return write(file, bytes(data)[:some])

    async def life(events: EventFile) -> None:
        await three(events)
        monkeypatch.setattr(os, "write", scarce)
        room[0] = 150  # one line and a half
        with pytest.raises(OSError, match="No space"):
            await events.written_down([HEARTBEAT, HEARTBEAT, HEARTBEAT])
        assert events.failing is not None
        room[0] = 10_000
        await three(events)
        assert events.failing is None

    during(path, life)
    assert numbers(tmp_path) == list(range(6))
    assert parse_events(path.read_bytes(), 0, "events").rejects == []


def test_what_could_not_be_written_down_leaves_a_hole(tmp_path: Path) -> None:
    async def life(events: EventFile) -> None:
        await three(events)
        events.skip()
        await three(events)

    during(tmp_path / "events.jsonl", life)
    assert numbers(tmp_path) == [0, 1, 2, 4, 5, 6]


def test_a_directory_that_is_away_for_a_while_fails_writes_and_ends_nothing(tmp_path: Path) -> None:
    place, away = tmp_path / "place", tmp_path / "away"
    place.mkdir()

    async def life(events: EventFile) -> None:
        await three(events)
        place.rename(away)
        events.reopen()
        with pytest.raises(OSError, match="No such file"):
            await events.written_down([HEARTBEAT])
        away.rename(place)
        await three(events)

    during(place / "events.jsonl", life)
    assert numbers(place) == list(range(6))


def test_a_symbolic_link_is_no_second_file(tmp_path: Path) -> None:
    path, link = tmp_path / "events.jsonl", tmp_path / "link.jsonl"

    async def life(events: EventFile) -> None:
        await three(events)
        link.symlink_to(path)
        with pytest.raises(ConfigError, match="another sidecar"):
            EventFile(link)

    during(path, life)


def test_a_close_that_could_not_be_written_leaves_a_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(_file: int, _data: Any) -> int:
        raise OSError(28, "No space left on device")

    async def life(events: EventFile) -> None:
        await three(events)
        monkeypatch.setattr(os, "write", full)
        events.write([{"event": "close", "connection": "c"}])
        await asyncio.sleep(0.1)
        monkeypatch.setattr(os, "write", write)
        await three(events)

    during(tmp_path / "events.jsonl", life)
    assert numbers(tmp_path) == [0, 1, 2, 4, 5, 6]


def test_two_writers_on_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    async def life(events: EventFile) -> None:
        await three(events)
        with pytest.raises(ConfigError, match="another sidecar"):
            EventFile(path)

    during(path, life)
    with pytest.raises(ConfigError, match="written by the sidecar"):
        during(path, three, sidecar="somebody-else")


def test_a_file_whose_name_begins_alike_is_another_sidecars(tmp_path: Path) -> None:
    during(tmp_path / "app1-replica.jsonl", three, sidecar="replica")
    (tmp_path / "app1.jsonl.gz").write_bytes(b"")
    during(tmp_path / "app1.jsonl", three)
    lines = (tmp_path / "app1.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [0, 1, 2]
    assert {json.loads(line)["sidecar"] for line in lines}.isdisjoint({"replica"})


@pytest.mark.parametrize(
    "older", ["app1.jsonl.1", "app1.jsonl-20261125", "app1-000000000002.jsonl"]
)
def test_a_file_that_was_rotated_away_is_gone_on_from(tmp_path: Path, older: str) -> None:
    path = tmp_path / "app1.jsonl"
    during(path, three, sidecar="app1")
    path.rename(tmp_path / older)
    during(path, three, sidecar="app1")
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [3, 4, 5]


def test_a_directory_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        during(tmp_path / "none" / "events.jsonl", three)
