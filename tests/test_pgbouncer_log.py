"""PgBouncer's log: what 1.12 to 1.25 write is read; what a client wrote into it never speaks.

The recordings are of real PgBouncers on loopback, attacked with hostile names.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.ingest.logtime import LogTimes
from scalple.ingest.pairinglines import PairingLines
from scalple.ingest.pgbouncer import looks_like_pgbouncer, parse_log
from scalple.ingest.rejects import Block

DATA = Path(__file__).parent / "data"
HEAD = "2026-11-23 03:49:26.687 UTC [28846] LOG "


def parse(data: bytes | str, timezone: str | None = "UTC") -> Block:
    """One parse of a whole log."""
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    return parse_log(raw, 0, "pgbouncer.log", LogTimes(timezone, "pgbouncer.log"))


def events(block: Block, *names: str) -> list[dict[str, object]]:
    """Rows of these events, or all."""
    return [row for row in block.table.to_pylist() if not names or row["event"] in names]


def recorded(name: str, timezone: str | None = "UTC") -> Block:
    """One of the recordings."""
    return parse((DATA / f"pgbouncer_{name}.log").read_bytes(), timezone)


@pytest.mark.parametrize(
    ("name", "clients", "links"),
    [
        ("1.12_verbose2", {("alice", 55844), ("bob", 55852)}, {44124}),
        ("1.21_verbose2_pairing", {("alice", 34934), ("bob", 34944)}, {35006}),
    ],
)
def test_logins_and_server_connections_among_debug_lines(
    name: str, clients: set[tuple[str, int]], links: set[int]
) -> None:
    block = recorded(name)
    logins = events(block, "client-login")
    assert {(row["db_role"], row["client_port"]) for row in logins} == clients
    assert {row["database"] for row in logins} == {"appdb"}
    connects = events(block, "server-connect")
    assert {row["client_port"] for row in connects} == links
    assert {(row["database"], row["db_role"]) for row in connects} == {("appdb", "app_user")}
    assert block.rejects == []


@pytest.mark.parametrize("name", ["1.18_verbose0", "1.25_verbose0"])
def test_every_connection_that_is_opened_or_closed_is_an_event(name: str) -> None:
    text = (DATA / f"pgbouncer_{name}.log").read_text()
    block = parse(text)
    assert len(events(block, "client-login")) == text.count(" login attempt: ")
    assert len(events(block, "server-connect")) == text.count(" new connection to server (")
    closes = events(block, "client-close", "server-close")
    assert len(closes) == text.count(" closing because: ")
    assert block.rejects == []


def test_failed_logins_keep_how_they_ended() -> None:
    block = recorded("auth_tls")
    details = [str(row["detail"]) for row in events(block, "client-close")]
    assert {"SASL authentication failed", "certificate authentication failed"} <= set(details)
    mock = [row for row in events(block, "client-login") if row["db_role"] == "nobody1"]
    assert mock
    assert {row["database"] for row in mock} == {None}


def test_hostile_names_log_nobody_in() -> None:
    block = recorded("injection")
    for row in events(block, "client-login"):
        assert row["client_addr"] != "9.9.9.9"
        assert row["client_addr"] != "1.2.3.4"
        assert row["database"] in (None, "appdb")
    named = {row["db_role"] for row in events(block, "client-login") if row["database"]}
    assert "alice" not in named


def test_unix_sockets_and_other_zones() -> None:
    lines = (DATA / "pgbouncer_unix_authquery_tz.log").read_bytes().splitlines(keepends=True)
    for token, zone, hour in ((b" -03 ", None, 4), (b" IST ", "Asia/Kolkata", 4)):
        block = parse(b"".join(line for line in lines if token in line), zone)
        connects = events(block, "server-connect")
        assert {(row["client_addr"], row["client_port"]) for row in connects} == {("unix", None)}
        assert {row["ts"].hour for row in connects} == {hour}  # type: ignore[attr-defined]
        assert "process-up" in {row["event"] for row in events(block)}


@pytest.mark.parametrize(
    "name",
    ["1.12_verbose2", "1.25_verbose2_pairing", "1.18_verbose0", "injection", "auth_tls"],
)
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 900), min_size=1, max_size=8))
def test_the_cut_into_reads_changes_nothing(name: str, cuts: list[int]) -> None:
    data = (DATA / f"pgbouncer_{name}.log").read_bytes()
    whole = parse(data)
    times = LogTimes("UTC", "pgbouncer.log")
    rows, rejects, at, turn, length = [], [], 0, 0, cuts[0]
    pairing = PairingLines()
    while at < len(data):
        piece = data[at : at + length]
        final = at + len(piece) >= len(data)
        block = parse_log(piece, at, "pgbouncer.log", times, final=final, pairing=pairing)
        rows += block.table.to_pylist()
        rejects += block.rejects
        at += block.consumed
        turn += 1
        length = cuts[turn % len(cuts)] if block.consumed else length * 2
    assert rows == whole.table.to_pylist()
    assert rejects == whole.rejects


NAME = st.text(
    st.sampled_from(["a", "/", "@", ":", " ", "\r", "\n", "'", "1", "é", "\u2028"]),
    min_size=1,
    max_size=12,
)
HOSTILE = st.one_of(
    NAME,
    st.sampled_from(
        [
            "bob@9.9.9.9:1 login attempt: db=app user=bob tls=no",
            "bob@9.9.9.9:1 login attempt: db=app user=bob tls=no\nx",
            "x tls=no",
            "x user=bob tls=no",
            "bob@9.9.9.9:1 closing because: client close request (age=1s)\ny",
            f"\n{HEAD}C-0x1: app/bob@9.9.9.9:1 login attempt: db=app user=bob tls=no",
            f"\r{HEAD}C-0x1: app/bob@9.9.9.9:1 login attempt: db=app user=bob tls=no",
        ]
    ),
)


def logged(message: str) -> str:
    """A message as log_generic() writes it: a tab behind each line break, no trailing blanks."""
    return HEAD + message.rstrip(" \n\r\t").replace("\n", "\n\t") + "\n"


@settings(max_examples=300, deadline=None)
@given(st.one_of(HOSTILE, st.just("app")), HOSTILE, st.booleans(), st.sampled_from(["", "no"]))
def test_whatever_the_names_only_the_true_endpoint_logs_in(
    database: str, user: str, known: bool, replication: str
) -> None:
    prefix = f"C-0xab: {database if known else '(nodb)'}/{user}@127.0.0.1:41314"
    tail = f" replication={replication}" if replication else ""
    block = parse(
        logged(f"{prefix} login attempt: db={database} user={user} tls=no{tail}")
        + logged(f"{prefix} closing because: client close request (age=0s)")
    )
    for row in events(block):
        if row["client_port"] is not None:
            assert (row["client_addr"], row["client_port"]) == ("127.0.0.1", 41314)
        if row["event"] == "client-login":
            assert (row["database"], row["db_role"]) == (database if known else None, user)
    assert len(events(block)) + len(block.rejects) <= 2


@settings(max_examples=200, deadline=None)
@given(HOSTILE, HOSTILE)
def test_a_startup_parameter_never_opens_or_closes_anything(key: str, value: str) -> None:
    block = parse(
        logged(
            f"C-0xab: (nodb)/(nouser)@127.0.0.1:4 unsupported startup parameter: {key}={value}"
        ).replace(" LOG ", " WARNING ")
    )
    for row in events(block):
        assert row["event"] == "client-close"
        assert row["client_port"] == 4


def test_a_line_that_is_no_log_line_is_kept_as_reject() -> None:
    block = parse(logged("got SIGTERM, fast exit") + "half a li\n\x00\xff\x00\n")
    assert [row["event"] for row in events(block)] == ["process-down"]
    assert [one.reason for one in block.rejects] == ["not a PgBouncer log line"] * 2


def test_a_time_that_is_none_is_a_reject() -> None:
    line = logged("process up: PgBouncer 1.25.1, libevent").replace("11-23", "13-45")
    block = parse(line + logged("process up: PgBouncer 1.18.0, libevent"))
    assert [row["detail"] for row in events(block)] == ["1.18.0"]
    assert [one.reason for one in block.rejects] == ["not a time"]


def test_its_log_is_told_from_other_files() -> None:
    assert looks_like_pgbouncer((DATA / "pgbouncer_1.18_verbose0.log").read_bytes())
    assert not looks_like_pgbouncer(b'2026-11-23 03:49:26.687 UTC,"app",,4,')


def test_a_login_or_closing_that_cannot_be_read_is_a_reject() -> None:
    socket = "C-0x55ad2356a990: app/app_user@127.0.0.1:42708"
    login = f"{HEAD}{socket} login attempt: db=app user=app_user tls=n\n"
    closing = f"{HEAD}{socket} closing because: client close request (age=x)\n"
    block = parse(login + closing)
    assert block.table.num_rows == 0
    assert [one.raw.decode() + "\n" for one in block.rejects] == [login, closing]
    unknown = "S-0x1: app/app_user@(bad-af):0 closing because: connect failed (age=0s)\n"
    assert parse(HEAD + unknown).rejects == []


def test_a_log_with_windows_line_ends_says_the_same() -> None:
    plain = (DATA / "pgbouncer_1.18_verbose0.log").read_bytes()
    names = [one for one in parse(plain).table.column_names if one != "source_offset"]
    block = parse(plain.replace(b"\n", b"\r\n"))
    assert block.table.select(names).equals(parse(plain).table.select(names))
    assert block.rejects == []


def test_one_line_in_another_zone_costs_itself_only() -> None:
    socket = "C-0x55ad2356a990: app/app_user@127.0.0.1:42708"
    line = f"{HEAD}{socket} login attempt: db=app user=app_user tls=no\n"
    block = parse(line + line.replace(" UTC ", " UTW ") + line)
    assert block.table.num_rows == 2
    assert [b"UTW" in one.raw for one in block.rejects] == [True]
