"""The process that writes the log of questions: it ends with whoever began it, and says what went wrong."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scalple.store.views import connect

QUESTION = """
import os, signal, sys, time
from pathlib import Path
from scalple.cli import scribe
scribe.begin()
from scalple.ingest.errors import ScalpleError
from scalple.store.access import AccessLog, Asked
pid = scribe._begun[-1].pid
log = AccessLog(Path(sys.argv[1]), None)
asked = Asked("me (1)", "here", "query", {"actor": "x"}, (("customer_id", 7),), None)
def record(directory=None):
    try:
        one = log if directory is None else AccessLog(Path(directory), None)
        print("told", scribe.recorder(one)(asked, ["sample 1 00"], "answered", 3), flush=True)
    except ScalpleError as error:
        print(type(error).__name__, error.exit_code, error, flush=True)
"""


def run(store: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A process that begins a scribe and does something with it."""
    command = [sys.executable, "-c", QUESTION + code, str(store)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def questions(store: Path) -> list[tuple[object, ...]]:
    """What the log holds."""
    with connect(store, "_access") as con:
        sql = "SELECT seq, verb, outcome, rows, subjects, heads FROM access ORDER BY seq"
        return con.execute(sql).fetchall()


def ends(pid: int) -> bool:
    """Whether the process is gone within seconds."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_each_question_that_a_scribe_is_told_is_logged_once(tmp_path: Path) -> None:
    done = run(tmp_path, "record(); record()\nprint(pid)")
    assert done.stdout.count("told") == 2
    row = ("query", "answered", 3, ["customer_id 0000000000000007"], ["sample 1 00"])
    assert questions(tmp_path) == [(0, *row), (1, *row)]
    assert ends(int(done.stdout.split()[-1]))


def test_an_error_of_the_scribe_is_said_where_the_question_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    done = run(tmp_path, f"record({str(tmp_path / 'file')!r}); record()")
    first, *rest = done.stdout.splitlines()
    assert first.startswith("StoreError 5 ")
    assert "Not a directory" in first
    assert rest[-1].startswith("told")  # it goes on
    assert len(questions(tmp_path)) == 1


def test_a_scribe_that_is_killed_leaves_the_question_unanswered(tmp_path: Path) -> None:
    done = run(tmp_path, "os.kill(pid, signal.SIGKILL); record()")
    assert done.stdout.startswith("StoreError 5 ")
    assert "before it said" in done.stdout
    assert not (tmp_path / "_access").exists()


def test_a_scribe_ends_with_a_question_that_is_killed(tmp_path: Path) -> None:
    code = "record(); print(pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    command = [sys.executable, "-c", QUESTION + code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert ends(int(done.stdout.split()[-1]))


def test_a_question_whose_stdout_is_closed_begins_no_scribe(tmp_path: Path) -> None:
    code = (
        "import sys; sys.stdout = None\nfrom scalple.cli import scribe\nscribe.begin()\n"
        "sys.exit(scribe.is_there())"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_a_question_leaves_no_process_and_no_lock_behind(
    sample_store: Path, tmp_path: Path
) -> None:
    # `flock -n FILE scalple-ingest query …`, under a parent that reaps what its children leave.
    lock = tmp_path / "lock"
    program = str(Path(sys.executable).with_name("scalple-ingest"))
    told = ["query", "--store", str(sample_store), "--subject", "customer_id=4711"]
    for command in ([program, *told], [program, "query", "--help"], [program, "query"]):
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            process = subprocess.Popen(
                [sys.executable, "-c", REAPER, *command],
                pass_fds=[held.fileno()],
                stdout=subprocess.PIPE,
                text=True,
            )
            fcntl.flock(held, fcntl.LOCK_EX)
        said, _ = process.communicate(timeout=60)
        assert said.splitlines()[-1] == "no child left"
        with lock.open("w") as free:
            fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


REAPER = """
import ctypes, os, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False)
try:
    os.waitpid(-1, os.WNOHANG)
    print("a child is left")
except ChildProcessError:
    print("no child left")
"""


def test_a_scribe_that_is_stopped_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    code = "scribe.ANSWER_SECONDS = 0.3; os.kill(pid, signal.SIGSTOP); record(); scribe.end()"
    done = run(tmp_path, code)
    assert done.stdout.startswith("StoreError 5 ")
    assert not (tmp_path / "_access").exists()


def test_with_few_descriptors_questions_are_logged_where_they_are_asked(tmp_path: Path) -> None:
    code = (
        "import os, resource\nfrom scalple.cli import scribe\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))\n"
        "scribe.begin()\nassert not scribe.is_there()\nprint(sorted(os.pipe()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, timeout=60, check=False
    )
    assert done.stdout == "[3, 4]\n", done.stderr
