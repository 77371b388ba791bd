"""Wake-ups: early when something happens, never later than the timeout, whatever becomes of watching."""

import threading
import time
from pathlib import Path

from watchdog.events import FileModifiedEvent, FileSystemEvent, FileSystemEventHandler

from scalple.ingest.wakeup import Wakeup
from tests.logkinds import CSVLOG
from tests.tailing import Reader


class Watching:
    """Stands in for watchdog: notes what is watched, and passes on events."""

    def __init__(self, refuses: bool = False) -> None:
        self.watched: list[str] = []
        self.handler: FileSystemEventHandler | None = None
        self.refuses = refuses
        self.stopped = False

    def start(self) -> None: ...

    def stop(self) -> None:
        self.stopped = True

    def schedule(
        self,
        event_handler: FileSystemEventHandler,
        path: str,
        *,
        event_filter: list[type[FileSystemEvent]] | None = None,
    ) -> object:
        if self.refuses:
            raise OSError(28, "inotify watch limit reached")
        self.watched.append(path)
        self.handler = event_handler
        return None

    def unschedule_all(self) -> None:
        self.watched.clear()


def waited(wakeup: Wakeup, timeout: float, *folders: Path) -> tuple[bool, float]:
    """Whether it was woken, and after how many seconds."""
    began = time.monotonic()
    noticed = wakeup.wait(timeout, folders)
    return noticed, time.monotonic() - began


def test_a_write_ends_the_wait(tmp_path: Path) -> None:
    wakeup = Wakeup()
    timer = threading.Timer(0.1, (tmp_path / "a.log").write_text, ["x"])
    timer.start()
    noticed, seconds = waited(wakeup, 20, tmp_path)
    timer.join()
    wakeup.close()
    assert noticed and seconds < 10


def test_reading_a_file_wakes_nobody(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("x")
    wakeup = Wakeup()
    timer = threading.Timer(0.05, log.read_text)
    timer.start()
    noticed, _ = waited(wakeup, 0.3, tmp_path)
    timer.join()
    wakeup.close()
    assert not noticed


def test_without_inotify_the_timeout_ends_it(tmp_path: Path) -> None:
    def none_left() -> Watching:
        raise OSError(24, "inotify instance limit reached")

    wakeup = Wakeup(none_left)
    assert wakeup.problem and "inotify instance limit reached" in wakeup.problem
    assert waited(wakeup, 0.01, tmp_path)[0] is False


def test_used_up_watches_are_told_and_tried_again(tmp_path: Path) -> None:
    watching = Watching(refuses=True)
    wakeup = Wakeup(lambda: watching)
    assert wakeup.wait(0.01, [tmp_path]) is False
    assert "inotify watch limit reached" in str(wakeup.problem)
    watching.refuses = False
    wakeup.wait(0.01, [tmp_path])
    assert wakeup.problem is None
    assert watching.watched == [str(tmp_path)]


def test_a_busy_folder_rings_once_for_each_wait(tmp_path: Path) -> None:
    watching = Watching()
    wakeup = Wakeup(lambda: watching)
    wakeup.wait(0, [tmp_path])
    handler = watching.handler
    assert handler is not None
    for _ in range(1000):
        handler.dispatch(FileModifiedEvent(str(tmp_path / "a.log")))
    assert wakeup.wait(0, [tmp_path]) is True
    assert watching.watched == []
    assert wakeup.wait(0, [tmp_path]) is False
    assert watching.watched == [str(tmp_path)]


def test_watchdog_654_an_overflow_of_events_loses_nothing(tmp_path: Path) -> None:
    # The queue of events overflows, and nobody is told: the look at the files decides, not events.
    watching = Watching()
    wakeup = Wakeup(lambda: watching)
    reader = Reader(CSVLOG, [tmp_path / "*.csv"])
    wakeup.wait(0, [tmp_path])
    for n in range(1, 31):
        (tmp_path / f"a-{n:03}.csv").write_bytes(CSVLOG.write(n))
    handler = watching.handler
    assert handler is not None
    handler.dispatch(FileModifiedEvent(str(tmp_path / "a-001.csv")))  # the others were dropped
    assert wakeup.wait(0, [tmp_path]) is True
    reader.scan()
    assert reader.store.numbers == list(range(1, 31))


def test_a_folder_that_comes_or_is_made_anew_is_watched(tmp_path: Path) -> None:
    watching, folder = Watching(), tmp_path / "log"
    wakeup = Wakeup(lambda: watching)
    wakeup.wait(0, [folder])
    assert watching.watched == []
    folder.mkdir()
    wakeup.wait(0, [folder])
    assert watching.watched == [str(folder)]
    folder.rename(tmp_path / "old")
    folder.mkdir()
    wakeup.wait(0, [folder])
    assert watching.watched == [str(folder)]
    wakeup.close()
    assert watching.stopped


def test_another_thread_can_end_the_wait() -> None:
    wakeup = Wakeup(Watching)
    wakeup.wake()
    assert waited(wakeup, 20)[0] is True
