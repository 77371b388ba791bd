"""Input that can't be used: one clear message, a documented exit code, and an unharmed store."""

import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commandline import (
    SAMPLE,
    Said,
    manifests,
    reprocess_sample,
    scalple,
)
from tests.unprivileged import scalple_as_nobody

INPUT, CONFIG, STORE, DAMAGED = 3, 4, 5, 7
RANDOM_CSV = "id,name,city\n" + "".join(f"{n},somebody,somewhere\n" for n in range(200))


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good store; tests work on copies."""
    store = tmp_path_factory.mktemp("intact") / "store"
    said = reprocess_sample(store)
    assert said.code == 0, said.err
    return store


@pytest.fixture
def store(intact: Path, tmp_path: Path) -> Path:
    """A good store of one's own, with its keys."""
    copy = tmp_path / "kept" / "store"
    shutil.copytree(intact, copy)
    shutil.copytree(intact.with_name("store.keys"), copy.with_name("store.keys"))
    return copy


def assert_refused(said: Said, code: int, *words: str) -> None:
    """One message on stderr, nothing on stdout, and the code."""
    assert said.code == code, said
    assert said.out == ""
    lines = said.err.rstrip("\n").split("\n")
    assert lines[0].startswith("error: "), said.err
    assert all(line.startswith("  hint: ") for line in lines[1:]), said.err
    assert len(lines) <= 2
    for word in words:
        assert word in said.err, said.err


def assert_unharmed(store: Path, commits: int) -> None:
    """Everything is still there and nothing else is."""
    assert manifests(store) == commits
    said = scalple("verify", "--store", store)
    assert said.code == 0, said.err
    assert "uncommitted" not in said.out


def written(path: Path, data: bytes | str) -> Path:
    """A file of these bytes."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def missing(directory: Path) -> Path:
    return directory / "nothing.csv"


def folder(directory: Path) -> Path:
    (directory / "logs").mkdir()
    return directory / "logs"


def empty(directory: Path) -> Path:
    return written(directory / "empty.csv", b"")


def garbage(directory: Path) -> Path:
    return written(directory / "garbage.csv", b"\0" + random.Random(1).randbytes(100_000))


def text_garbage(directory: Path) -> Path:
    return written(directory / "text.csv", "lorem ipsum\n" * 1000)


def compressed_garbage(directory: Path) -> Path:
    return written(directory / "garbage.csv.gz", gzip.compress(b"lorem ipsum\n" * 1000))


def damaged_gzip(directory: Path) -> Path:
    return written(directory / "damaged.csv.gz", gzip.compress(b"lorem ipsum\n")[:8] + b"\xff" * 9)


def stderr_of_unknown_prefix(directory: Path) -> Path:
    line = (
        "<<2026-03-14 11:22:08.123 UTC>> #8841# u=app_user LOG:  AUDIT: SESSION,1,1,MISC,x,,,x,\n"
    )
    return written(directory / "postgresql.log", line * 50)


def random_csv(directory: Path) -> Path:
    return written(directory / "people.csv", RANDOM_CSV)


def pooler_log(_directory: Path) -> Path:
    return SAMPLE / "pgbouncer.log"


def fifo(directory: Path) -> Path:
    os.mkfifo(directory / "pipe")
    return directory / "pipe"


def half_a_record(directory: Path) -> Path:
    data = (SAMPLE / "postgresql.csv").read_bytes()
    return written(directory / "torn.csv", data[: data.index(b"\n") // 2])


def local_times(directory: Path) -> Path:
    data = (SAMPLE / "postgresql.csv").read_bytes()[:100_000]
    return written(directory / "local.csv", data.replace(b" UTC,", b" CST,"))


BAD_LOGS: list[tuple[Callable[[Path], Path], tuple[str, ...]]] = [
    (missing, ("nothing.csv", "no such file")),
    (folder, ("logs", "is a directory", "*.csv")),
    (empty, ("empty.csv", "is empty")),
    (garbage, ("garbage.csv", "isn't a PostgreSQL log", "binary")),
    (text_garbage, ("text.csv", "isn't a PostgreSQL log", "csvlog, jsonlog or stderr")),
    (compressed_garbage, ("garbage.csv.gz", "isn't a PostgreSQL log")),
    (damaged_gzip, ("damaged.csv.gz", "isn't a PostgreSQL log", "damaged")),
    (stderr_of_unknown_prefix, ("postgresql.log", "--log-line-prefix '<<%m>> #%p# u=%u '")),
    (random_csv, ("people.csv", "isn't a PostgreSQL log")),
    (pooler_log, ("pgbouncer.log", "isn't a PostgreSQL log", "--pgbouncer-log")),
    (fifo, ("pipe", "not a regular file")),
    (half_a_record, ("torn.csv", "no complete record")),
    (local_times, ("local.csv", "CST", "--timezone")),
]


@pytest.mark.parametrize(("make", "words"), BAD_LOGS, ids=[one.__name__ for one, _ in BAD_LOGS])
def test_a_log_that_is_none_is_refused_and_leaves_nothing(
    make: Callable[[Path], Path], words: tuple[str, ...], tmp_path: Path, store: Path
) -> None:
    bad = make(tmp_path)
    fresh = tmp_path / "fresh"
    said = scalple("reprocess", "--store", fresh, "--postgres-log", bad)
    assert_refused(said, INPUT, *words)
    assert not fresh.exists()
    assert not fresh.with_name("fresh.keys").exists()

    before = manifests(store)
    said = scalple("reprocess", "--store", store, "--postgres-log", bad)
    assert_refused(said, INPUT, *words)
    assert_unharmed(store, before)


def test_a_good_log_beside_a_bad_one_is_not_read(tmp_path: Path) -> None:
    bad = text_garbage(tmp_path)
    fresh = tmp_path / "fresh"
    said = scalple("reprocess", "--store", fresh, "--postgres-log", SAMPLE / "postgresql.csv", bad)
    assert_refused(said, INPUT, "text.csv")
    assert not fresh.exists()


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    said = scalple("reprocess", "--store", tmp_path / "s", "--postgres-log", tmp_path / "*.csv")
    assert_refused(said, INPUT, "no file matches")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("option", "file", "words"),
    [
        ("--pgbouncer-log", "postgresql.csv", ("isn't a PgBouncer log", "--postgres-log")),
        ("--pgbouncer-log", "identity.jsonl", ("isn't a PgBouncer log", "--identity-events")),
        ("--identity-events", "pgbouncer.log", ("isn't a file of identity", "--pgbouncer-log")),
        ("--identity-events", "schema.sql", ("isn't a file of identity", "JSON Lines")),
    ],
)
def test_a_file_given_as_another_kind_is_recognised(
    option: str, file: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    said = scalple("reprocess", "--store", tmp_path / "s", option, SAMPLE / file)
    assert_refused(said, INPUT, file, *words)
    assert not (tmp_path / "s").exists()


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if not parent.stat().st_mode & 0o001:
            shared = Path("/tmp") / f"scalple-unreadable-{os.getpid()}"
            break
    else:
        shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    try:
        log = written(shared / "secret.csv", (SAMPLE / "postgresql.csv").read_bytes()[:9000])
        log.chmod(0o000)
        said = scalple_as_nobody("reprocess", "--store", shared / "s", "--postgres-log", log)
        assert_refused(said, INPUT, "secret.csv", "permission denied")
        assert not (shared / "s").exists()

        log.chmod(0o444)
        shared.chmod(0o755)
        if os.geteuid() == 0:  # otherwise the directory is our own
            said = scalple_as_nobody("reprocess", "--store", shared / "s", "--postgres-log", log)
            assert_refused(said, STORE, str(shared), "can't be written")
            assert sorted(path.name for path in shared.iterdir()) == ["secret.csv"]
    finally:
        shutil.rmtree(shared)


# -- store ---------------------------------------------------------------------------------------


def test_a_store_of_another_origin_is_not_mixed(store: Path) -> None:
    said = reprocess_sample(store, "--origin", "db2")
    assert_refused(said, STORE, "sample", "db2", "--new-origin")
    assert_unharmed(store, manifests(store))
    assert not (store / "db2").exists()


def test_an_origin_that_can_be_none_is_refused_before_keys_are_made(tmp_path: Path) -> None:
    said = reprocess_sample(tmp_path / "s", "--origin", "Not A Name")
    assert_refused(said, CONFIG, "Not A Name")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["query", "sql", "coverage", "verify", "reprocess"])
def test_a_file_is_no_store(verb: str, tmp_path: Path) -> None:
    file = written(tmp_path / "file", "no store")
    said = call(verb, file)
    assert_refused(said, CONFIG, str(file), "is a file")


@pytest.mark.parametrize("verb", ["query", "sql", "coverage", "verify"])
def test_no_store_is_said_to_be_none(verb: str, tmp_path: Path) -> None:
    said = call(verb, tmp_path / "nowhere")
    assert_refused(said, CONFIG, "nowhere", "--store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["query", "sql", "coverage", "verify", "reprocess"])
def test_which_store_must_be_said(verb: str) -> None:
    assert_refused(call(verb, None), CONFIG, "which store", "--store")


def call(verb: str, store: Path | None) -> Said:
    """A verb with the arguments that it needs beside the store."""
    more: dict[str, list[str | Path]] = {
        "query": ["--actor", "somebody"],
        "sql": ["SELECT 1"],
        "reprocess": ["--postgres-log", SAMPLE / "postgresql.csv"],
    }
    where: list[str | Path] = ["--store", store] if store else []
    return scalple(verb, *where, *more.get(verb, []))


@pytest.mark.parametrize("verb", ["query", "sql", "coverage", "verify", "reprocess"])
@pytest.mark.parametrize("name", ["s" * 300, os.fsdecode(b"/tmp/\xff")], ids=["long", "no text"])
def test_a_name_that_no_store_can_have_is_refused(verb: str, name: str) -> None:
    assert_refused(call(verb, Path(name)), CONFIG)


@pytest.mark.parametrize("name", ["s" * 300, os.fsdecode(b"/tmp/\xff")], ids=["long", "no text"])
def test_a_name_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    for option in ("--postgres-log", "--pgbouncer-log", "--identity-events"):
        assert_refused(scalple("reprocess", "--store", tmp_path / "s", option, name), INPUT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["query", "sql", "coverage", "verify", "reprocess"])
@pytest.mark.parametrize("locked", [".", "sample", "sample/objects"])
def test_a_store_that_may_not_be_read_is_refused(verb: str, locked: str, intact: Path) -> None:
    shared = Path(tempfile.mkdtemp(prefix="scalple-unreadable-", dir="/tmp"))
    try:
        shared.chmod(0o755)
        log = shutil.copy(SAMPLE / "postgresql.csv", shared)
        shutil.copytree(intact, shared / "store")
        (shared / "store" / locked).chmod(0o000)
        more: dict[str, list[str | Path]] = {
            "query": ["--actor", "x"],
            "sql": ["SELECT 1"],
            "reprocess": ["--postgres-log", log],
        }
        said = scalple_as_nobody(verb, "--store", shared / "store", *more.get(verb, []))
        assert_refused(said, STORE, "can't be read", "ermission denied")
    finally:
        (shared / "store" / locked).chmod(0o755)
        shutil.rmtree(shared)


@pytest.mark.parametrize("verb", ["query", "verify"])
def test_a_pipe_in_a_store_keeps_nobody_waiting(verb: str, store: Path) -> None:
    checkpoint = store / "sample" / "checkpoint"
    checkpoint.unlink()
    os.mkfifo(checkpoint)
    said = call(verb, store)
    assert said.code == DAMAGED, said
    assert "not a regular file" in said.err + said.out


@pytest.mark.parametrize("verb", ["query", "verify"])
def test_declarations_that_were_changed_are_not_used(verb: str, store: Path) -> None:
    (rules,) = (
        path for path in store.glob("*/objects/*") if path.read_bytes().startswith(b'{"actors"')
    )
    rules.chmod(0o644)
    rules.write_bytes(
        rules.read_bytes().replace(b"public.orders.user_id", b"public.orders.user_ix")
    )
    said = call(verb, store)
    assert said.code == DAMAGED
    assert "object differs" in said.err + said.out or rules.name in said.err + said.out


def test_what_nobody_foresaw_is_one_line(intact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("scalple.cli.sql.connect_reader", fail)
    monkeypatch.delenv("SCALPLE_DEBUG", raising=False)
    said = call("sql", intact)
    assert_refused(said, 1, "unexpected RuntimeError: first second", "please report")
    monkeypatch.setenv("SCALPLE_DEBUG", "1")
    with pytest.raises(RuntimeError, match="first"):
        call("sql", intact)


def test_a_store_where_no_directory_can_be_made_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "file", "in the way")
    said = reprocess_sample(file / "store")
    assert_refused(said, STORE, str(file))
    assert file.read_text() == "in the way"


# -- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('orign = "db1"\n', ("config.toml:1", "'orign'", "origin, personal_data")),
        (
            '[pooler]\nkind = "pgbouncer"\nmod = "x"\n',
            ("config.toml:3", "pooler.mod", "kind, mode"),
        ),
        ('[pooler]\nkind = "odyssey"\n', ("config.toml:2", "pooler.kind")),
        (
            '[personal_data]\n"public.users.email" = "hide"\n',
            ("config.toml:2", "'hide'", "keep-last-4"),
        ),
        ('[identifiers]\nemail = ["users.email"]\n', ("config.toml:2", "schema.table.column")),
        ('[functions]\n"get" = ["x"]\n', ("config.toml:2", "'get'", "schema.name")),
        (
            '[identifiers]\nx = []\n[functions]\n"public.get" = ["", "y"]\n',
            ("config.toml:4", "'y'", "[identifiers]", "known there: x"),
        ),
        ("origin = \n", ("config.toml", "not valid TOML", "line 1")),
        ('origin = "Not A Name"\n', ("config.toml:1", "origin")),
        ('[sources]\ntimezone = "Mars/Olympus"\n', ("Mars/Olympus", "IANA")),
        ('[keys]\nsubject_key_file = "subject.key"\n', ("subject.key", "key file")),
        ('[keys]\nsigning_key_file = "signing.key"\n', ("signing.key", "key file")),
        pytest.param(
            f"origin = {'[' * 100_000}{']' * 100_000}\n",
            ("config.toml", "not valid TOML", "nested too deeply"),
            id="nested",
        ),
        pytest.param(f"[sidecar]\nheartbeat_s = {'9' * 6000}\n", ("not valid TOML",), id="digits"),
    ],
)
def test_a_wrong_configuration_is_refused_and_leaves_nothing(
    text: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    config = written(tmp_path / "config.toml", text)
    said = scalple(
        "reprocess",
        *("--store", tmp_path / "s", "--config", config),
        *("--postgres-log", SAMPLE / "postgresql.csv"),
    )
    assert_refused(said, CONFIG, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml"]


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    said = scalple("query", "--config", tmp_path / "no.toml", "--actor", "x")
    assert_refused(said, CONFIG, "no.toml", "--config")


def test_a_schema_that_is_not_there_is_refused(tmp_path: Path) -> None:
    said = reprocess_sample(tmp_path / "s", "--schema", tmp_path / "no.sql")
    assert_refused(said, INPUT, "no.sql", "--schema")
    assert list(tmp_path.iterdir()) == []


def test_a_schema_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    deep = written(tmp_path / "deep.json", '{"v":' + "[" * 100_000 + "]" * 100_000 + "}")
    said = reprocess_sample(tmp_path / "s", "--schema", deep)
    assert_refused(said, INPUT, "deep.json", "no snapshot of a schema")
    assert list(tmp_path.iterdir()) == [deep]


# -- questions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--subject", "custmer=4711"],
            INPUT,
            ("custmer", "customer_id (public.users.id, public.orders.user_id)", "email ("),
        ),
        (["--subject", "customer_id"], INPUT, ("NAME=VALUE",)),
        (["--subject", "customer_id="], INPUT, ("NAME=VALUE",)),
        ([], INPUT, ("--subject", "--actor", "--table")),
        (["--actor", "x", "--since", "last tuesday"], CONFIG, ("--since", "last tuesday")),
        (["--actor", "x", "--until", "2026-13-01"], CONFIG, ("--until", "2026-13-01")),
        (["--actor", "x", "--output", "/nonexistent/answer"], CONFIG, ("--output", "answer")),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    arguments: list[str], code: int, words: tuple[str, ...], intact: Path
) -> None:
    assert_refused(scalple("query", "--store", intact, *arguments), code, *words)


def test_a_subject_is_not_looked_up_without_its_key(store: Path) -> None:
    shutil.rmtree(store.with_name("store.keys"))
    said = scalple("query", "--store", store, "--subject", "customer_id=4711")
    assert_refused(said, CONFIG, "subject.key", "[keys]")
    assert not store.with_name("store.keys").exists()


NOT_UTF8 = os.fsdecode(b"a\xff")


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["sql", f"SELECT '{NOT_UTF8}'"], "sql"),
        (["query", "--actor", NOT_UTF8], "actor"),
        (["query", "--table", NOT_UTF8], "table"),
        (["query", "--subject", f"customer_id={NOT_UTF8}"], "--subject"),
        (["query", "--subject", f"{NOT_UTF8}=1"], "--subject"),
    ],
)
def test_a_question_that_is_no_text_is_refused(
    arguments: list[str], place: str, intact: Path
) -> None:
    said = scalple(arguments[0], "--store", intact, *arguments[1:])
    assert_refused(said, INPUT, place, "isn't valid UTF-8")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("TIMESTAMPTZ 'infinity'", "infinity"),
        ("DATE '-infinity'", "-infinity"),
        ("TIMESTAMP '290000-01-01'", "290000-01-01 00:00:00"),
        ("TIMESTAMP_S '290000-01-01'", "290000-01-01 00:00:00"),
        ("TIMESTAMP '0044-03-15 (BC)'", "0044-03-15 (BC) 00:00:00"),
        ("TIMESTAMP_NS '2026-03-14 11:22:08.123456789'", "2026-03-14 11:22:08.123456789"),
        ("[DATE 'infinity']", "[infinity]"),
        ("{'a': TIMESTAMP 'infinity'}", "{'a': infinity}"),
        ("TIMESTAMP '2026-03-14'", "2026-03-14T00:00:00.000000Z"),
        ("TIMESTAMPTZ '0044-03-15 00:00:00+00'", "0044-03-15T00:00:00.000000Z"),
    ],
)
def test_times_that_python_cannot_hold_are_text(value: str, shown: str, intact: Path) -> None:
    question = f"SELECT v FROM (VALUES (NULL), ({value})) AS t(v)"
    said = scalple("sql", "--store", intact, "--format", "json", question)
    assert said.code == 0, said.err
    assert said.json() == [{"v": None}, {"v": shown}]
    for form in ("table", "csv", "jsonl"):
        said = scalple("sql", "--store", intact, "--format", form, question)
        assert said.code == 0, said.err
        assert shown in said.out


def test_wrong_usage_is_code_2(intact: Path) -> None:
    for arguments in (["nonsense"], ["query", "--nonsense"], ["sql", "--store", str(intact)]):
        said = scalple(*arguments)
        assert (said.code, said.out) == (2, "")
        assert "Usage: " in said.err


# -- interrupted ---------------------------------------------------------------------------------


def test_an_interrupted_run_says_so_and_the_next_one_ends_it(tmp_path: Path) -> None:
    log = written(tmp_path / "long.csv", (SAMPLE / "postgresql.csv").read_bytes() * 16)
    script = Path(sys.executable).with_name("scalple-ingest")
    store = tmp_path / "s"
    arguments = ["--store", str(store), "--postgres-log", str(log)]
    arguments += ["--pgbouncer-log", str(SAMPLE / "pgbouncer.log")]
    command = [str(script), "reprocess", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not manifests(store) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == b""
    assert b"interrupted; what was committed stays" in err
    assert b"Traceback" not in err
    said = scalple("verify", "--store", store)
    assert said.code == 0, said.err
    said = scalple("reprocess", *arguments)
    assert said.code == 0, said.err
    counted = scalple(
        "sql", "--store", store, "--format", "json", "SELECT count(*) AS n FROM audit"
    )
    assert counted.json() == [{"n": 16 * 7119}]


# -- keys that don't fit --------------------------------------------------------------------------


def test_a_lost_key_is_not_made_anew_for_a_store_that_has_rows(tmp_path: Path) -> None:
    store, keys = tmp_path / "s", tmp_path / "s.keys"
    assert reprocess_sample(store).code == 0
    for name in ("subject.key", "signing.key"):
        kept = (keys / name).read_bytes()
        (keys / name).unlink()
        assert_refused(reprocess_sample(store), CONFIG, name, "put it back")
        assert not (keys / name).exists()
        (keys / name).write_bytes(kept)
    assert reprocess_sample(store).code == 0


def test_another_subject_key_is_refused_instead_of_finding_nobody(tmp_path: Path) -> None:
    store = tmp_path / "s"
    assert reprocess_sample(store).code == 0
    (tmp_path / "s.keys" / "subject.key").write_text("ab" * 32 + "\n")
    subject = ("--subject", "customer_id=4711")
    assert_refused(scalple("query", "--store", store, *subject), CONFIG, "subject key", "sample")
    assert_refused(reprocess_sample(store), CONFIG, "subject key")


# -- answers that nobody takes --------------------------------------------------------------------


def test_a_period_that_encloses_nothing_is_refused(intact: Path) -> None:
    swapped = ("--since", "2026-12-01", "--until", "2026-11-01")
    for verb in (("query", "--table", "users"), ("coverage",)):
        said = scalple(*verb, "--store", intact, *swapped)
        assert_refused(said, CONFIG, "--since", "not before")


def test_a_schema_that_defines_nothing_is_refused(tmp_path: Path) -> None:
    empty = written(tmp_path / "none.sql", RANDOM_CSV)
    said = reprocess_sample(tmp_path / "s", "--schema", empty)
    assert_refused(said, INPUT, "CREATE TABLE", "pg_dump")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("target", "code"), [("head -c 10", 141), ("cat > /dev/full", 141)])
def test_a_reader_that_goes_is_no_fault(intact: Path, target: str, code: int) -> None:
    script = Path(sys.executable).with_name("scalple-ingest")
    command = f"'{script}' query --store '{intact}' --table users --format jsonl"
    if "full" in target:
        command, code = f"{command} > /dev/full", 1
    else:
        command = f"{command} | {target}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"report" not in done.stderr
