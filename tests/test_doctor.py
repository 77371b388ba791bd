"""`doctor` on files: it reads them as the servers do, each of its lines mends what it is for, nothing leaks."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from scalple.cli.doctorreport import Report
from scalple.cli.findings import SEVERITIES, Finding, Fix
from scalple.correlate.reachable import ORDER, Means, reachable
from scalple.ingest import logtail
from scalple.ingest.container import ReadOptions
from scalple.ingest.poolersettings import read_ini
from scalple.ingest.records import Lacks
from scalple.ingest.serversettings import read_files
from tests.barestack import apply
from tests.cluster import POSTGRES_BIN, server_account
from tests.commandline import SAMPLE, Said, scalple
from tests.stack import missing_programs

ROOT = Path(__file__).resolve().parent.parent
GOOD_SERVER = """
shared_preload_libraries = 'pgaudit'
logging_collector = on
log_destination = csvlog
log_connections = on
log_disconnections = on
log_file_mode = 0640
log_timezone = 'UTC'
pgaudit.log = 'all'
pgaudit.log_parameter = on
pgaudit.log_relation = on
"""
GOOD_POOLER = """
[databases]
app = host=127.0.0.1 port=5432 user=app_user password='s3cr3t word'

[pgbouncer]
logfile = {logfile}
pool_mode = transaction
application_name_add_host = 1
"""
GOOD_CONFIG = """
store = "store"
[pooler]
mode = "transaction"
[sources]
timezone = "UTC"
"""


class World:
    """A server's files, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.data.mkdir()
        (self.data / "log").mkdir()
        (self.data / "PG_VERSION").write_text("15\n")
        self.conf = self.data / "postgresql.conf"
        self.conf.write_text(GOOD_SERVER)
        self.ini = directory / "pgbouncer.ini"
        self.ini.write_text(GOOD_POOLER.format(logfile=directory / "pgbouncer.log"))
        self.config = directory / "config.toml"
        self.config.write_text(GOOD_CONFIG)

    def said(self, *more: str | Path) -> Said:
        where = ("--postgres-conf", self.conf, "--pgbouncer-ini", self.ini)
        return scalple("doctor", *where, *more)

    def report(self, *more: str | Path) -> dict[str, Any]:
        said = self.said("--json", *more)
        found: dict[str, Any] = said.json()
        worst = next(iter(one["severity"] for one in found["findings"]), None)
        assert said.code == {"error": 9, "warning": 8, "note": 0, None: 0}[worst]
        return found

    def found(self, code: str, *more: str | Path) -> dict[str, Any] | None:
        return next((one for one in self.report(*more)["findings"] if one["code"] == code), None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_good_settings_have_no_more_than_notes(world: World) -> None:
    report = world.report("--config", world.config)
    assert [one for one in report["findings"] if one["severity"] != "note"] == []
    assert report["possible"] == "proven"
    assert {one.name for one in fields(Report)} >= {"reach", "findings", "volume", "lookup"}


BAD_SERVER = {
    "shared_preload_libraries = 'pg_stat_statements, auto_explain'": "pgaudit-not-loaded",
    "shared_preload_libraries = ''": "pgaudit-not-loaded",
    "pgaudit.log = 'read, write'": "pgaudit-classes",
    "pgaudit.log = 'all, -misc'": "pgaudit-classes",
    "PGAUDIT.Log = none # x": "pgaudit-classes",
    "pgaudit.log_parameter off": "no-parameters",
    "pgaudit.log_relation = 0": "no-relations",
    "pgaudit.log_catalog = f": "no-catalog",
    "pgaudit.log_statement=no": "no-statement",
    "pgaudit.log_statement_once = 'ON'": "statement-once",
    "pgaudit.log_client = true": "log-client",
    "pgaudit.log_rows = on": "rows-blind-spot",
    "pgaudit.log_rows = off": "no-row-counts",
    "pgaudit.log_parameter_max_size = 100": "parameters-cut",
    "logging_collector = off": "no-collector",
    "log_destination = 'stderr'": "no-csvlog",
    "log_destination = 'syslog'": "no-csvlog",
    "log_destination = 'stderr, csvlog'": "written-twice",
    "log_statement = 'all'": "statements-twice",
    "log_min_duration_statement = 0": "statements-twice",
    "log_min_messages = fatal": "messages-suppressed",
    "log_min_error_statement = panic": "denied-without-text",
    "log_connections = off": "no-connections",
    "log_connections = 'receipt'": "no-connections",
    "log_disconnections = off": "no-disconnections",
    "lc_messages = 'de_DE.UTF-8'": "language",
    "log_timezone = 'Europe/Berlin'": "timezone",
}
BAD_POOLER = {
    "logfile =": "pooler-no-logfile",
    "log_connections = 0": "pooler-no-connections",
    "log_disconnections = 0": "pooler-no-disconnections",
    "log_stats = 0": "pooler-no-stats",
    "stats_period = 3600": "pooler-rare-stats",
    "application_name_add_host = 0": "no-add-host",
    "verbose = 2": "pooler-secrets",
    "server_check_query = select 2": "pooler-check-query",
    "server_reset_query_always = 1": "pooler-reset-always",
    "ignore_startup_parameters = extra_float_digits, options": "pooler-options-ignored",
    "pool_mode = session\nserver_reset_query =": "pooler-reset-query",
}


def mended(world: World, code: str, *more: str | Path) -> None:
    """The finding is there, its line is put in, it is gone."""
    found = world.found(code, *more)
    assert found is not None
    assert len(found["fix"]["lines"]) == 1
    apply(found["fix"])
    assert world.found(code, *more) is None


@pytest.mark.parametrize("line", BAD_SERVER)
def test_a_line_of_postgresql_conf_mends_what_it_is_for(world: World, line: str) -> None:
    world.conf.write_text(f"{GOOD_SERVER}{line}\n")
    mended(world, BAD_SERVER[line])


@pytest.mark.parametrize("line", BAD_POOLER)
def test_a_line_of_pgbouncer_ini_mends_what_it_is_for(world: World, line: str) -> None:
    world.ini.write_text(f"{world.ini.read_text()}{line}\n")
    mended(world, BAD_POOLER[line])


def test_a_line_for_stderr_lacks_nothing_afterwards(world: World) -> None:
    world.conf.write_text(f"{GOOD_SERVER}log_destination = stderr\nlog_error_verbosity = terse\n")
    assert world.report()["possible"] == "confirmed"
    mended(world, "prefix-lacks")
    mended(world, "terse")
    assert world.report()["possible"] == "proven"


def test_a_wrong_mode_and_zone_of_the_configuration_are_mended(world: World) -> None:
    world.conf.write_text(f"{GOOD_SERVER}log_timezone = 'Europe/Berlin'\n")
    world.ini.write_text(world.ini.read_text().replace("= transaction", "= session"))
    world.config.write_text(GOOD_CONFIG.replace('timezone = "UTC"', ""))
    mended(world, "mode-differs", "--config", world.config)
    mended(world, "timezone", "--config", world.config)


def test_shared_prepared_statements_that_are_called_private_are_an_error(world: World) -> None:
    world.config.write_text(GOOD_CONFIG + '[sidecar]\nprepared_statements = "private"\n')
    world.ini.write_text(world.ini.read_text() + "max_prepared_statements = 0\n")
    found = world.found("statements-shared", "--config", world.config)
    assert found is not None and found["severity"] == "error"
    mended(world, "statements-shared", "--config", world.config)


def test_what_alter_system_said_is_mended_by_alter_system(world: World) -> None:
    auto = world.data / "postgresql.auto.conf"
    auto.write_text("shared_preload_libraries = 'pg_stat_statements'\nlog_connections = 'off'\n")
    found = world.found("pgaudit-not-loaded")
    assert found is not None
    assert found["where"] == f"{auto}:1"
    # One text with a comma in it would be one library, and the server wouldn't start.
    assert found["fix"]["sql"] == [
        "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements', 'pgaudit';"
    ]
    assert found["fix"]["lines"] == []
    found = world.found("no-connections")
    assert found is not None
    assert found["fix"]["sql"] == ["ALTER SYSTEM SET log_connections = 'on';"]


def test_a_password_in_pgbouncer_ini_is_never_repeated(world: World) -> None:
    text = world.ini.read_text().replace("host=127.0.0.1 ", "pool_mode=session ")
    world.ini.write_text(text + "server_check_query = select 2\n")
    for form in ((), ("--json",)):
        said = world.said(*form)
        assert "pooler-unix-socket" in said.out
        assert "pools-differ" in said.out
        assert "s3cr3t" not in said.out + said.err


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://app:s3cr3t@db:5432/app pool_mode=session",
        "s3cr3t host=/run",
        "host=h,password=s3cr3t",
    ],
)
def test_nor_is_one_that_no_option_holds(value: str, tmp_path: Path) -> None:
    ini = tmp_path / "pgbouncer.ini"
    ini.write_text(f"[databases]\napp = {value}\n")
    (entry,) = read_ini(ini).databases
    assert entry.text is None or "s3cr3t" not in entry.text


def test_a_database_behind_a_socket_is_mended_where_its_line_may_be_shown(world: World) -> None:
    text = world.ini.read_text().replace(" password='s3cr3t word'", "")
    world.ini.write_text(text.replace("host=127.0.0.1", "host='/run/postgresql'"))
    assert world.report()["possible"] == "confirmed"
    mended(world, "pooler-unix-socket")
    assert world.report()["possible"] == "proven"


def test_a_file_that_the_server_refuses_is_an_error_with_its_line(world: World) -> None:
    world.conf.write_text(f"{GOOD_SERVER}log_filename = plain-%Y.log\ninclude 'missing.conf'\n")
    found = [one for one in world.report()["findings"] if one["code"] == "settings-torn"]
    count = GOOD_SERVER.count("\n")
    assert [one["where"] for one in found] == [
        f"{world.conf}:{count + 1}",
        f"{world.conf}:{count + 2}",
    ]


def test_files_that_include_themselves_end(world: World) -> None:
    world.conf.write_text(f"{GOOD_SERVER}include 'postgresql.conf'\n")
    world.ini.write_text(f"{world.ini.read_text()}%include {world.ini}\n")
    codes = [one["code"] for one in world.report()["findings"]]
    assert codes.count("settings-torn") == codes.count("pooler-torn") == 1


def test_many_files_that_include_each_other_end_as_well(tmp_path: Path) -> None:
    for n in range(7):
        (tmp_path / f"{n}.conf").write_text("include_dir '.'\n")
    (main := tmp_path / "postgresql.conf").write_text("include_dir '.'\n")
    assert any("200 files" in one.why for one in read_files(main).torn)
    (tmp_path / "loop.ini").write_text("%include loop.ini\n" * 6)
    assert any("200 files" in one.why for one in read_ini(tmp_path / "loop.ini").torn)
    (tmp_path / "long.ini").write_text(f"[pgbouncer]\npool_mode = x{' ' * 60_000}y\n")
    assert any("characters" in one.why for one in read_ini(tmp_path / "long.ini").torn)


TRICKY = {
    "log_line_prefix": "'%m ''x'' \\'y\\' \\\\ \\101 # no comment '   # a comment",
    "log_directory": "'a#b'#c",
    "log_filename": "plain-Y.log",
    "syslog_ident": "'é %Y'",
    "bonjour_name": "_a:b/c-d.e#x",
    "log_connections": "'on'",
    "application_name": "'lost'\napplication_name 'kept'",
    "seq_page_cost": "1.5",
    "log_timezone": "'Europe/Berlin'\r",
}


@pytest.mark.skipif(bool(missing_programs()), reason="needs PostgreSQL")
def test_settings_are_read_as_postgresql_reads_them(memory: Path) -> None:
    data = memory / "data"
    (data / "conf.d").mkdir(parents=True)
    lines = [f"{name} = {value}" for name, value in TRICKY.items()]
    (data / "postgresql.conf").write_text(
        "include_dir 'conf.d'\ninclude_if_exists = 'none.conf'\n"
        + "\n".join(lines)
        + "\nport = 1\n"
    )
    (data / "conf.d" / "10.conf").write_text("port = 7\nwork_mem = 5120\nlog_duration = on\n")
    (data / "conf.d" / "9.conf").write_text("work_mem = 6144\nlog_min_messages= log\n")
    (data / "conf.d" / ".hidden.conf").write_text("work_mem = 8192\n")
    (data / "conf.d" / "x.txt").write_text("work_mem = 9216\n")
    (data / "postgresql.auto.conf").write_text("log_duration = 'off'\nPort = '5999'\n")
    for path in (data, data / "conf.d"):
        path.chmod(0o755)
    found = read_files(data / "postgresql.conf")
    assert found.torn == ()
    names = [*TRICKY, "port", "work_mem", "log_duration", "log_min_messages"]
    as_server = ["setpriv", f"--reuid={server_account().pw_uid}", "--clear-groups", "--"]
    prefix = as_server if os.geteuid() == 0 else []
    for name in names:
        told = subprocess.run(
            [*prefix, POSTGRES_BIN / "postgres", "-D", data, "-C", name],
            capture_output=True,
            cwd="/",
            check=False,
        )
        assert told.returncode == 0, told.stderr.decode()
        assert told.stdout.decode().removesuffix("\n") == found.value(name, "?"), name


def test_the_last_line_of_pgbouncer_ini_wins_and_comments_are_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("verbose = 1\n[databases]\nx = pool_mode=session\n")
    (tmp_path / "pgbouncer.ini").write_text(
        "[pgbouncer]\nlogfile = /a;b #c\n;verbose = 9\n# verbose = 8\n%include more.ini\n"
        '[users]\n"a b" = pool_mode=statement\n[pgbouncer]\nverbose=2\n'
    )
    found = read_ini(tmp_path / "pgbouncer.ini")
    assert found.value("logfile", "") == "/a;b #c"
    assert found.number("verbose", 0) == 2
    assert [(one.name, one.options) for one in found.pools_of_another_mode()] == [
        ("a b", {"pool_mode": "statement"})
    ]


def test_events_that_the_account_cannot_read_are_told(memory: Path) -> None:
    world, events = World(memory), memory / "events.jsonl"
    events.touch(mode=0o600)
    world.config.write_text(GOOD_CONFIG + f'identity = ["{events}*"]\n')
    given = ("--config", world.config, "--account", "nobody")
    found = world.found("log-unreadable", *given)
    assert found is not None and found["where"].startswith(f"{events} (")
    events.chmod(0o644)
    assert world.found("log-unreadable", *given) is None


def test_another_account_that_cannot_read_is_told_what_refuses(memory: Path) -> None:
    world, account = World(memory), ("--account", "nobody")
    log = world.data / "log" / "postgresql.csv"
    shutil.copy(SAMPLE / "postgresql.csv", log)
    world.data.chmod(0o755)
    (world.data / "log").chmod(0o755)
    log.chmod(0o600)
    found = world.found("log-unreadable", *account)
    assert found is not None
    assert found["where"].startswith(f"{log} (")
    assert world.report(*account)["possible"] == "nothing"
    # What chmod made of this file, the next one isn't.
    log.chmod(0o644)
    assert world.found("log-unreadable", *account) is None
    world.conf.write_text(f"{GOOD_SERVER}log_file_mode = 0600\n")
    found = world.found("log-file-mode", *account)
    assert found is not None
    assert found["fix"]["lines"] == ["log_file_mode = '0640'"]
    assert any(one.startswith("usermod -aG ") for one in found["fix"]["commands"])
    world.data.chmod(0o700)
    found = world.found("log-unreadable", *account)
    assert found is not None
    assert found["fix"]["lines"] == ["log_directory = '/var/log/postgresql'"]


def test_the_volume_is_that_of_the_log(world: World) -> None:
    sample = (SAMPLE / "postgresql.csv").read_bytes()
    log = world.data / "log" / "postgresql.csv"
    log.write_bytes(sample)
    assert world.report()["volume"] is None  # nine seconds tell nothing about a day
    # The first tenth an hour earlier.
    lines = sample.split(b"\n2026-11-23 13:")
    head = b"\n2026-11-23 12:".join(
        [lines[0].replace(b"2026-11-23 13:", b"2026-11-23 12:", 1), *lines[1:700]]
    )
    log.write_bytes(b"\n2026-11-23 13:".join([head, *lines[700:]]))
    volume = world.report()["volume"]
    assert volume["basis"] == "log"
    assert 3600 < volume["measured_s"] < 3620
    days = 86_400 / volume["measured_s"]
    assert volume["bytes_per_day"] == pytest.approx(len(sample) * days, rel=0.01)
    assert volume["audits_per_day"] == pytest.approx(7119 * days, rel=0.02)


def test_a_volume_to_come_is_guessed_from_the_pooler(world: World, tmp_path: Path) -> None:
    line = (
        "2026-11-23 03:49:26.687 UTC [28846] LOG stats: 10 xacts/s, 20 queries/s, "
        "in 3000 B/s, out 100 B/s, xact 1 us, query 1 us, wait 0 us\n"
    )
    (tmp_path / "pgbouncer.log").write_text(line * 3)
    volume = world.report()["volume"]
    assert volume["basis"] == "pooler-statistics"
    assert volume["records_per_day"] == 30 * 86_400
    assert volume["bytes_per_day"] > 3000 * 86_400


def test_a_log_from_the_future_and_one_without_records_are_told(world: World) -> None:
    log = world.data / "log" / "postgresql.csv"
    text = (SAMPLE / "postgresql.csv").read_text()
    log.write_text(text.replace("2026-11-23 ", "2076-11-23 "))
    assert world.found("clock-ahead") is not None
    log.write_text("".join(line for line in text.splitlines(True)[:400] if "AUDIT" not in line))
    assert world.found("no-records-yet") is not None
    log.write_text("nothing of ours\n" * 50)
    assert world.found("log-unknown") is not None
    assert world.report()["possible"] == "nothing"


def test_a_question_costs_what_the_store_holds(
    world: World, tmp_path: Path, sample_store: Path
) -> None:
    for name in ("store", "store.keys"):
        shutil.copytree(sample_store.with_name(name), tmp_path / name)
    lookup = world.report("--config", world.config)["lookup"]
    assert lookup["basis"] == "store"
    assert lookup["statements"] == 7119
    assert lookup["loose"] == len(list((tmp_path / "store" / "sample" / "manifests").iterdir()))
    assert scalple("compact", "--store", tmp_path / "store").code == 0
    compacted = world.report("--config", world.config)["lookup"]
    assert (compacted["statements"], compacted["loose"]) == (7119, 0)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--postgres-conf", "/nowhere/postgresql.conf"], 3),
        (["--postgres-conf", "/etc"], 3),
        (["--postgres-conf", "{conf}", "--dsn", "host=127.0.0.1 port=1"], 3),
        (["--postgres-conf", "{conf}", "--account", "nobody-of-that-name"], 4),
        (["--postgres-conf", "{conf}", "--no-pooler", "--pgbouncer-ini", "{conf}"], 4),
        (["--postgres-conf", "{conf}", "--pgbouncer-ini", "/nowhere/pgbouncer.ini"], 3),
        (["--dsn", "host"], 4),
    ],
)
def test_wrong_options_are_told_apart_from_findings(
    world: World, arguments: Sequence[str], code: int
) -> None:
    said = scalple("doctor", *(one.format(conf=world.conf) for one in arguments))
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith("error: ")


def test_text_fits_a_terminal_but_for_lines_to_copy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    world.conf.write_text("log_destination = stderr\n")
    said = world.said()
    assert said.code == 9
    for line in said.out.splitlines():
        kept = line.startswith((" " * 11, "   where "))
        assert len(line) <= 80 or kept or str(world.conf) in line or str(world.ini) in line, line
    assert "           shared_preload_libraries = 'pgaudit'\n" in said.out


def test_less_evidence_never_gives_a_better_grade() -> None:
    flags = [one.name for one in fields(Means) if one.name not in ("lacks", "has_pooler")]
    harmful = {"pooler_is_local"}

    def best(values: dict[str, bool], lacks: Lacks) -> list[int]:
        means = Means(**values, lacks=lacks, has_pooler=True)
        return [ORDER.index(one.grade) for one in reachable(means)]

    for number in range(1 << len(flags)):
        values = {name: bool(number >> at & 1) for at, name in enumerate(flags)}
        for lacks in (Lacks(0), Lacks.NAME, Lacks.MARKS, Lacks.USER | Lacks.SESSION):
            here = best(values, lacks)
            assert all(
                more <= less for more, less in zip(here, best(values, Lacks(0)), strict=True)
            )
            for name in flags:
                better = values | {name: name not in harmful}
                assert all(a <= b for a, b in zip(here, best(better, lacks), strict=True)), name
    assert best(dict.fromkeys(flags, True) | {"pooler_is_local": False}, Lacks(0))[0] == 5


def test_the_document_lists_every_code_and_key() -> None:
    text = (ROOT / "docs" / "DOCTOR.md").read_text()
    table = text.partition("## Codes\n")[2].partition("\n## ")[0]
    listed = set(
        re.findall(
            r"`([a-z][a-z-]+)`",
            "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `")),
        )
    )
    source = "".join(path.read_text() for path in (ROOT / "cli").glob("*findings.py"))
    source += (ROOT / "cli" / "doctor.py").read_text() + (
        ROOT / "cli" / "lookupcost.py"
    ).read_text()
    assert all(f'"{code}"' in source for code in listed)
    used = set(re.findall(r'(?:ERROR|WARNING|NOTE|harm|None),\s*"([a-z]+(?:-[a-z]+)+)"', source))
    assert used - listed == set()
    assert len(used) > 40
    for model in (Finding, Fix):
        section = text.partition(f"### {model.__name__.upper()}\n")[2].partition("\n#")[0]
        assert {one.name for one in fields(model)} == set(re.findall(r"(?m)^\| `(\w+)`", section))
    assert all(f"| `{one}` |" in text for one in SEVERITIES)


def test_the_document_lists_every_key_of_the_report(world: World) -> None:
    text = (ROOT / "docs" / "DOCTOR.md").read_text()
    section = text.partition("### DOCTOR\n")[2].partition("\n#")[0]
    assert set(re.findall(r"(?m)^\| `(\w+)`", section)) == set(json.loads(world.said("--json").out))


@contextmanager
def nobody() -> Iterator[None]:
    """This process may do what anybody may."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_account_that_may_not_read_what_alter_system_said_is_told_so(memory: Path) -> None:
    world = World(memory)
    (world.data / "postgresql.auto.conf").write_text("pgaudit.log = 'none'\n")
    (world.data / "postgresql.auto.conf").chmod(0o600)
    assert world.found("settings-unread") is None  # loads what has to be loaded
    with nobody():
        found = world.found("settings-unread")
    assert found is not None and found["severity"] == "warning"
    world.conf.chmod(0o600)
    with nobody():
        said = world.said()
    assert (said.code, said.out) == (3, "")
    assert "permission denied" in said.err


def test_a_log_that_is_written_meanwhile_is_read_up_to_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, pooler = tmp_path / "postgresql.csv", tmp_path / "pgbouncer.log"
    whole = {path: (SAMPLE / path.name).read_bytes() for path in (log, pooler)}
    really = logtail._bytes

    def growing(path: Path, at: int, count: int) -> bytes:
        found = really(path, at, count)
        path.write_bytes(whole[path])  # the server goes on
        return found

    for path, data in whole.items():
        end = data.index(b"\n", len(data) // 3) + 1
        path.write_bytes(data[:end])
    monkeypatch.setattr(logtail, "_bytes", growing)
    monkeypatch.setattr(logtail, "_TAIL", 100_000)
    sample = logtail.sample_server([log], ReadOptions())
    assert sample is not None and sample.problem is None
    assert 100 < sample.audits < 1000
    assert sample.sampled_bytes <= 100_000
    told = logtail.sample_pooler([pooler])
    assert told is not None and told.is_log


HOSTILE = "x\x1b[2J\x07\x9b1m\u202e\x7f\u2028z"


def test_names_in_settings_do_not_write_to_the_terminal(world: World, tmp_path: Path) -> None:
    lines = (
        f"log_destination = '{HOSTILE}'",
        f"lc_messages = '{HOSTILE}'",
        f"log_timezone = '{HOSTILE}'",
        f"log_line_prefix = '{HOSTILE}%m'",
        f"shared_preload_libraries = '{HOSTILE}'",
        f"log_directory = '{HOSTILE}'",
        f"pgaudit.log = '{HOSTILE}'",
    )
    world.conf.write_text(GOOD_SERVER + "\n".join(lines) + "\n")
    ini = GOOD_POOLER.format(logfile=tmp_path / HOSTILE)
    ini = ini.replace("app =", f"{HOSTILE} =") + (
        f"pool_mode = {HOSTILE}\nserver_check_query = {HOSTILE}\nverbose = {HOSTILE}\n"
        f"ignore_startup_parameters = {HOSTILE}\n{HOSTILE} = {HOSTILE}\n[users]\n{HOSTILE} = {HOSTILE}\n"
    )
    world.ini.write_text(ini)
    for form in ((), ("--json",)):
        said = world.said(*form)
        assert said.code in (8, 9)
        for text in (said.out, said.err):
            assert all(one.isprintable() for one in text.split("\n"))
    assert json.dumps(HOSTILE)[1:-1] in json.dumps(said.json())  # JSON still says what it was
    gone = scalple("doctor", "--pgbouncer-ini", tmp_path / f"{HOSTILE}.ini")
    assert gone.code != 0 and all(one.isprintable() for one in gone.err.split("\n"))


def test_a_pattern_that_misses_the_poolers_log_is_an_error(world: World, tmp_path: Path) -> None:
    world.config.write_text(GOOD_CONFIG + f'pgbouncer = ["{tmp_path}/elsewhere/pgbouncer.log*"]\n')
    report = world.report("--config", world.config)
    assert "pooler-log-missing" in [one["code"] for one in report["findings"]]
    assert report["possible"] != "proven"
    own = f'pgbouncer = ["{tmp_path}/pgbouncer.log*"]\n'
    world.config.write_text(GOOD_CONFIG + own)  # right, and it didn't run yet
    found = world.found("pooler-log-missing", "--config", world.config)
    assert found is not None and found["fix"]["do"].startswith("start PgBouncer")
    world.config.write_text(GOOD_CONFIG + own.replace("pgbouncer.log", "elsewhere/pgbouncer.log"))
    line = b"2026-03-14 11:22:07.913 UTC [7] LOG kernel file descriptor limit: 1024\n"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "pgbouncer.log").write_bytes(line)
    (tmp_path / "pgbouncer.log").write_bytes(line)
    assert world.found("pooler-log-elsewhere", "--config", world.config) is not None
    (tmp_path / "elsewhere" / "pgbouncer.log").unlink()
    (tmp_path / "elsewhere" / "pgbouncer.log").symlink_to(tmp_path / "pgbouncer.log")
    report = world.report("--config", world.config)
    assert not {one["code"] for one in report["findings"]} & {
        "pooler-log-elsewhere",
        "pooler-log-missing",
    }
    assert report["possible"] == "proven"


def test_a_log_that_begins_with_a_reload_does_not_tell_who_was_there(world: World) -> None:
    text = world.ini.read_text()
    world.ini.write_text("\n".join(x for x in text.splitlines() if not x.startswith("logfile")))
    found = world.found("pooler-no-logfile")
    assert found is not None and found["fix"]["needs"] == "restart"


def test_a_relative_path_of_the_settings_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(SAMPLE / "postgresql.csv", world.data / "log" / "postgresql.csv")
    whole = world.report()
    monkeypatch.chdir(world.data.parent)
    world.conf, world.ini = Path("data/postgresql.conf"), Path("pgbouncer.ini")
    relative = world.report()
    assert relative["log"] is not None
    assert relative["log"] == whole["log"]
