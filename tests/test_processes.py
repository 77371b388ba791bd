"""Sessions of a log that names only the process: whatever is missing, no session inherits a name."""

from pathlib import Path

import pytest

from scalple.correlate.rules import Actors, Pooler, Rules
from scalple.ingest.container import ReadOptions
from tests.attribute_logs import Attributed, attribute_files
from tests.log_forms import to_stderr

POOR = "%m [%p] "
RULES = Rules(
    actors=Actors(roles={"jmueller": "jm", "awagner": "aw"}, identities={"boss": "boss"}),
    pooler=Pooler(kind="none"),
)
COME = "connection received: host=127.0.0.1 port=50000"
GONE = "disconnection: session time: 0:00:01.0 user=x database=app host=127.0.0.1 port=50000"


def let_in(role: str) -> str:
    return f"connection authorized: user={role} database=app"


def audit(number: int, author: str, extra: str = "") -> str:
    return f"AUDIT: SESSION,{number},1,READ,SELECT,,,SELECT {number}{extra} /* truth:{author} */,<none>"


def attributed(
    tmp_path: Path,
    *files: list[str],
    prefix: str = POOR,
    pid: int = 77,
    block_bytes: int | None = None,
) -> Attributed:
    """Files of messages of one process, one after the other; `SEV|text` has another severity."""
    paths, second = [], 0
    for number, messages in enumerate(files):
        lines = []
        for message in messages:
            severity, bar, text = message.partition("|")
            severity, text = (severity, text) if bar else ("LOG", message)
            head = prefix.replace("%m", f"2026-11-25 10:{second // 60:02}:{second % 60:02}.000 UTC")
            lines.append(f"{head.replace('%p', str(pid))}{severity}:  {text}\n")
            second += 1
        paths.append(tmp_path / f"{number}.log")
        paths[-1].write_text("".join(lines))
    options = ReadOptions("UTC", (prefix,))
    return attribute_files(paths, rules=RULES, options=options, block_bytes=block_bytes)


def names(done: Attributed) -> list[object]:
    return [row["session_user_id"] for row in done.dicts()]


def test_a_session_has_the_role_that_was_let_in(tmp_path: Path) -> None:
    first = [COME, let_in("jmueller"), audit(1, "jm"), audit(2, "jm"), GONE]
    second = [COME, let_in("awagner"), audit(1, "aw"), audit(2, "aw"), audit(2, "aw")]
    assert names(attributed(tmp_path, first + second)) == ["jm", "jm", "aw", "aw", "aw"]
    assert names(attributed(tmp_path, first, second)) == ["jm", "jm", "aw", "aw", "aw"]
    for size in (100, 300):
        done = attributed(tmp_path, first, second, block_bytes=size)
        assert names(done) == ["jm", "jm", "aw", "aw", "aw"]


@pytest.mark.parametrize(
    "between",
    [
        [],
        ['parameter "log_connections" changed to "off"'],
        ["database system is shut down", "starting PostgreSQL 15.18 on x86_64-pc-linux-gnu"],
        ["server process (PID 77) was terminated by signal 9: Killed"],
        ["all server processes terminated; reinitializing"],
    ],
)
@pytest.mark.parametrize("first", [1, 2, 4, 5])
@pytest.mark.parametrize("apart", [False, True])
def test_a_process_id_that_is_used_again_inherits_nobody(
    between: list[str], first: int, apart: bool, tmp_path: Path
) -> None:
    before = [COME, let_in("jmueller"), audit(1, "jm")]
    after = [audit(first, "other", " + 1"), audit(first + 1, "other")]
    if first == 2 and not between:
        return  # goes on exactly where the other ended: nothing in the log tells them apart
    files = (before, between + after) if apart else (before + between + after,)
    assert names(attributed(tmp_path, *files)) == ["jm", None, None]


def test_whoever_is_let_in_twice_is_two(tmp_path: Path) -> None:
    """PostgreSQL 18 may log authorizations alone."""
    first, second = [let_in("jmueller"), audit(1, "jm")], [let_in("awagner"), audit(1, "aw", " ")]
    for files in ((first + second,), (first, second)):
        assert names(attributed(tmp_path, *files)) == ["jm", "aw"]


@pytest.mark.parametrize(
    "claim", [let_in("jmueller"), 'connection authenticated: identity="boss" method=cert (x:1)']
)
@pytest.mark.parametrize("severity", ["WARNING", "NOTICE", "INFO"])
def test_a_clients_own_message_lets_nobody_in(claim: str, severity: str, tmp_path: Path) -> None:
    """In terse logs a raised warning bears no mark but its severity."""
    lines = [COME, let_in("awagner"), audit(1, "aw"), f"{severity}|{claim}", audit(2, "aw")]
    assert names(attributed(tmp_path, lines)) == ["aw", "aw"]
    app = [COME, let_in("app_user"), f"{severity}|{claim}", audit(1, "none")]
    assert names(attributed(tmp_path, app, prefix="%m [%p] app_user@app ")) == [None]


def test_names_that_look_like_the_rest_of_the_line(tmp_path: Path) -> None:
    message = "connection authorized: user=jmueller database=app application_name=x database=app"
    assert names(attributed(tmp_path, [COME, message, audit(1, "none")])) == [None]


def test_another_form_of_the_log_in_between_ends_what_was_known(tmp_path: Path) -> None:
    csvlog = tmp_path / "between.csv"
    lines = [
        f'2026-11-25 10:00:0{n}.000 UTC,"awagner","app",77,"127.0.0.1:50001",69257c10.4d,{n},'
        f'"SELECT",2026-11-25 10:00:00 UTC,3/{n},0,LOG,00000,"{audit(n - 2, "aw")}",,,,,,,,,"x",'
        '"client backend",,0\n'
        for n in (3, 4)
    ]
    csvlog.write_text("".join(lines))
    assert to_stderr(csvlog, tmp_path / "check.log", POOR).read_text().count("AUDIT") == 2
    before, after = tmp_path / "a.log", tmp_path / "z.log"
    head = "2026-11-25 10:00:0{} UTC [77] LOG:  ".format
    before.write_text(
        f"{head('0.000')}{COME}\n{head('1.000')}{let_in('jmueller')}\n{head('2.000')}{audit(1, 'jm')}\n"
    )
    after.write_text(f"{head('8.000')}{audit(2, 'aw')}\n")
    done = attribute_files(
        [before, csvlog, after], rules=RULES, options=ReadOptions("UTC", (POOR,))
    )
    assert names(done) == ["jm", "aw", "aw", None]


# -- logs that wouldn't show what a client raised ---------------------------------------------------

HINT = "HINT|whatever: a log with hints isn't terse"


def graded(done: Attributed) -> list[tuple[object, object]]:
    return [(row["attribution_grade"], row["session_user_id"]) for row in done.dicts()]


def test_without_marks_messages_are_no_more_than_a_claim(tmp_path: Path) -> None:
    """A trigger that fires at the end of a transaction raises without CONTEXT and STATEMENT."""
    forged = [COME, let_in("awagner"), audit(1, "aw"), COME, let_in("jmueller"), audit(2, "aw")]
    assert graded(attributed(tmp_path, forged)) == [("claimed", "aw"), ("claimed", "jm")]
    honest = [COME, HINT, let_in("awagner"), audit(1, "aw")]
    assert graded(attributed(tmp_path, honest)) == [("proven", "aw")]


def test_an_external_identity_in_a_terse_log_is_a_claim(tmp_path: Path) -> None:
    prefix = "%m [%p] 69257c10.4d app_user@app 127.0.0.1(50000) "
    (tmp_path / "x").mkdir()
    lines = ['connection authenticated: identity="boss" method=cert (x:1)', audit(1, "none")]
    stated = prefix.replace("69257c10.4d", "%c").replace("app_user@app", "%u@%d")
    stated = stated.replace("127.0.0.1(50000)", "%r")
    for hint, grade in ((False, "claimed"), (True, "proven")):
        path = tmp_path / "x" / f"{hint}.log"
        head = prefix.replace("%m", "2026-11-25 10:00:00.000 UTC").replace("%p", "77")
        path.write_text("".join(f"{head}LOG:  {one}\n" for one in lines))
        if hint:
            path.write_text(path.read_text() + f"{head}LOG:  x\n{head}HINT:  y\n")
        done = attribute_files([path], rules=RULES, options=ReadOptions("UTC", (stated,)))
        assert graded(done) == [(grade, "boss")]


def test_a_refused_connection_leaves_nothing_to_the_next_of_its_process(tmp_path: Path) -> None:
    refused = [COME, HINT, let_in("jmueller"), 'FATAL|database "nosuch" does not exist']
    assert names(attributed(tmp_path, [*refused, audit(1, "other")])) == [None]


def test_a_role_whose_name_looks_like_the_rest_is_that_role(tmp_path: Path) -> None:
    line = "connection authorized: user=jmueller application_name=x database=app"
    done = attributed(tmp_path, [COME, HINT, line, audit(1, "none")])
    assert names(done) == [None]
    assert done.dicts()[0]["user_name"] == "jmueller application_name=x"
