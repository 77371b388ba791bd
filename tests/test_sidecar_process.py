"""The sidecar as a process: TLS, tokens, revocation, drain, faults of the file and of the peer, floods.

Enters: a shared stack with a SCRAM login, and sidecars with all kinds of configuration. Leaves: nothing.
Attacks by name: slow-loris, floods, malformed and oversized packets, data before TLS, dead upstreams.
"""

import contextlib
import itertools
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.certificates import AUDIENCE, Authority, Issuer
from tests.commandline import scalple
from tests.rawclient import RawClient
from tests.sidecars import SidecarProcess, before_pooler
from tests.stack import HOST, SHARED_ROLE, Stack, free_port, password_of
from tests.wire_model import message, simple

pytestmark = pytest.mark.stack

COPY_MB = int(os.environ.get("SIDECAR_COPY_MB", "100"))
"""How much is copied; `make prove` asks for a gigabyte."""


@pytest.fixture
def sidecar(stack: Stack, tmp_path: Path) -> Iterator[SidecarProcess]:
    """A sidecar with the defaults."""
    with before_pooler(stack, tmp_path) as running:
        yield running


def ask(dsn: str, text: str = "SELECT 1") -> object:
    """The one value that comes back."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        row = connection.execute(text.encode()).fetchone()
        return row and row[0]


def refused(dsn: str) -> str:
    """What the client is told."""
    with pytest.raises(psycopg.OperationalError) as error:
        psycopg.connect(dsn, connect_timeout=10)
    return str(error.value)


# -- who ----------------------------------------------------------------------------------------


def test_the_open_event_says_all_and_no_secret(stack: Stack, sidecar: SidecarProcess) -> None:
    more = "-c scalple.purpose=audit -c scalple.email=anna@x.org"
    assert ask(sidecar.dsn(stack, "anna", name="billing 'x' – y", options=more)) == 1
    name = ask(sidecar.dsn(stack, "bert", name="crm"), "SELECT current_setting('application_name')")
    first, second = sidecar.said("open")
    assert first["actor"] == "anna"
    assert first["application_name"] == "billing 'x' – y"
    assert first["purpose"] == "audit"
    assert first["authn"] == "asserted"
    assert str(name).startswith(f"{second['tag']} crm - 127.0.0.1:{second['client_port']}")
    everything = sidecar.events.read_text() + sidecar.log.read_text()
    assert password_of(SHARED_ROLE) not in everything
    assert "SCRAM" not in everything


def test_require_identity_says_how_to_mend_the_connection_string(
    stack: Stack, tmp_path: Path
) -> None:
    with before_pooler(stack, tmp_path, require_identity=True) as sidecar:
        told = refused(sidecar.dsn(stack, None))
        assert "doesn't say who its user is" in told
        assert "scalple.user" in told
        assert ask(sidecar.dsn(stack, "anna")) == 1
        assert "refused" in sidecar.log.read_text()
        assert 'refused_total{sqlstate="28000"} 1.0' in sidecar.page("metrics")


def test_the_unidentified_pass_as_nobody(stack: Stack, sidecar: SidecarProcess) -> None:
    assert ask(sidecar.dsn(stack, None)) == 1
    (event,) = sidecar.said("open")
    assert event["actor"] is None
    assert event["tag"]


def test_tls_tokens_and_client_certificates(stack: Stack, tmp_path: Path) -> None:
    authority, issuer = Authority(tmp_path), Issuer(tmp_path)
    certificate, key = authority.issue("server")
    person, person_key = authority.issue("cert_anna")
    tables = f"""
[sidecar.tls]
certificate_file = "{certificate}"
key_file = "{key}"
client_ca_file = "{authority.certificate}"
required = true
[sidecar.jwt]
jwks_file = "{issuer.jwks}"
audience = ["{AUDIENCE}"]
"""
    keys = {"identity": ["jwt", "mtls"], "require_identity": True}
    upstream = f"{HOST}:{stack.pooler_port}"
    with SidecarProcess(tmp_path, upstream, keys, tables) as sidecar:
        secure = {"sslmode": "verify-full", "sslrootcert": str(authority.certificate)}
        token = issuer.token("token_bert")
        by_token = sidecar.dsn(stack, None, options=f"-c scalple.token={token}", **secure)
        assert ask(by_token) == 1
        by_certificate = secure | {"sslcert": str(person), "sslkey": str(person_key)}
        assert ask(sidecar.dsn(stack, None, **by_certificate)) == 1
        assert "without TLS" in refused(sidecar.dsn(stack, None))
        assert "who its user is" in refused(sidecar.dsn(stack, None, **secure))
        late = f"-c scalple.token={issuer.token('late', seconds=-60)}"
        assert "expired" in refused(sidecar.dsn(stack, None, options=late, **secure))
        _direct_tls(sidecar, authority)
        opens = sidecar.said("open")
        assert [(one["actor"], one["authn"]) for one in opens] == [
            ("token_bert", "jwt"),
            ("cert_anna", "mtls"),
        ]
        assert all(one["tls"] for one in opens)
        assert token not in sidecar.events.read_text() + sidecar.log.read_text()


def _direct_tls(sidecar: SidecarProcess, authority: Authority) -> None:
    """TLS from the first byte on, as libpq 17 does with sslnegotiation=direct."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    for protocols, answer in ((["postgresql"], b"who its user is"), ([], b"ALPN")):
        if protocols:
            context.set_alpn_protocols(protocols)
        else:
            context = ssl.create_default_context(cafile=str(authority.certificate))
        raw = socket.create_connection((HOST, sidecar.port), 10)
        with context.wrap_socket(raw, server_hostname=HOST) as secured:
            body = b"user\0app_user\0database\0app\0\0"
            with contextlib.suppress(OSError):
                secured.sendall(struct.pack(">II", len(body) + 8, 196608) + body)
            assert answer in secured.recv(4096)


def test_data_before_tls_is_taken_for_an_attack(stack: Stack, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    tables = f'[sidecar.tls]\ncertificate_file = "{certificate}"\nkey_file = "{key}"'
    with SidecarProcess(tmp_path, f"{HOST}:{stack.pooler_port}", {}, tables) as sidecar:
        with socket.create_connection((HOST, sidecar.port), 10) as raw:
            raw.sendall(struct.pack(">II", 8, 80877103) + b"smuggled")
            assert b"unencrypted data" in raw.recv(4096)
        assert ask(sidecar.dsn(stack, "anna", sslmode="require")) == 1


def test_tls_to_the_pooler(tmp_path: Path) -> None:
    from tests.stack import StackOptions

    authority = Authority(tmp_path)
    certificate, key = authority.issue("pooler")
    for path in (certificate, key):
        path.chmod(0o644)
    tmp_path.chmod(0o755)
    lines = [
        "client_tls_sslmode = require",
        f"client_tls_cert_file = {_readable(certificate)}",
        f"client_tls_key_file = {_readable(key)}",
    ]
    tables = f'[sidecar.upstream_tls]\nca_file = "{authority.certificate}"'
    with _stack_with_tls(StackOptions(), lines) as stack:
        upstream = f"{HOST}:{stack.pooler_port}"
        with SidecarProcess(tmp_path, upstream, {}, tables) as sidecar:
            assert ask(sidecar.dsn(stack, "anna")) == 1
        with SidecarProcess(tmp_path, upstream) as plain:
            assert "SSL required" in refused(plain.dsn(stack, "anna"))


def _readable(path: Path) -> Path:
    """A copy that the servers' account can read, wherever the test's directory is."""
    import tempfile

    place = Path(tempfile.mkdtemp(prefix="tls-"))
    place.chmod(0o755)
    copy = place / path.name
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o644)
    return copy


@contextlib.contextmanager
def _stack_with_tls(options: object, lines: list[str]) -> Iterator[Stack]:
    """A stack whose pooler begins to demand TLS once it runs."""
    with Stack(options) as stack:  # type: ignore[arg-type]
        ini = stack.root / "pgbouncer.ini"
        text = ini.read_text()
        ini.write_text(text + "\n".join(lines) + "\n")
        os.kill(stack.pids()["pgbouncer"], signal.SIGHUP)
        time.sleep(0.3)
        yield stack


def test_a_removed_line_ends_the_connection_and_the_next_is_refused(
    stack: Stack, tmp_path: Path
) -> None:
    people = tmp_path / "people.csv"
    people.write_text("actor,email\nanna,anna@x.org\nbert,\n")
    keys = {"identity_file": str(people), "end_revoked": True}
    with (
        before_pooler(stack, tmp_path, **keys) as sidecar,
        psycopg.connect(sidecar.dsn(stack, "anna"), autocommit=True) as anna,
        psycopg.connect(sidecar.dsn(stack, "bert"), autocommit=True) as bert,
    ):
        people.write_text("actor,email\nbert,\n")
        assert anna.execute("SELECT 1").fetchone() == (1,)  # nothing changes before the reload
        sidecar.hup()
        with pytest.raises(psycopg.OperationalError):
            anna.execute("SELECT 1")
        assert bert.execute("SELECT 1").fetchone() == (1,)
        assert "identity file" in refused(sidecar.dsn(stack, "anna"))
        people.write_text("nonsense\n")
        sidecar.hup()
        assert "reload-failed" in sidecar.log.read_text()
        assert bert.execute("SELECT 1").fetchone() == (1,)  # the rules from before hold
        assert {one["actor"]: one.get("email") for one in sidecar.said("open")} == {
            "anna": "anna@x.org",
            "bert": None,
        }


def test_whoever_a_variable_names_is_ended_when_the_line_goes(stack: Stack, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("actor,email\nanna,\nbert,\n")
    keys = {"identity_file": str(people), "end_revoked": True}
    with (
        before_pooler(stack, tmp_path, **keys) as sidecar,
        psycopg.connect(sidecar.dsn(stack, "anna"), autocommit=True) as web,
        psycopg.connect(sidecar.dsn(stack, "anna"), autocommit=True) as other,
    ):
        web.execute("SELECT set_config('app.user', 'bert', false)")
        people.write_text("actor,email\nanna,\n")
        sidecar.hup()
        with pytest.raises(psycopg.OperationalError):
            web.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match=r"identity file|closed the connection"):
            other.execute("SELECT set_config('app.user', 'bert', false)")
            other.execute("SELECT 1")
        assert sidecar.metric("revoked_total") == 1
        assert sidecar.metric("ended_total") == 1
        assert '"why": "revoked"' in sidecar.log.read_text()


def test_a_reload_says_which_keys_only_a_restart_changes(stack: Stack, tmp_path: Path) -> None:
    with before_pooler(stack, tmp_path, max_connections=20, require_identity=False) as sidecar:
        sidecar.configure(max_connections=30, require_identity=True)
        sidecar.hup()
        lines = [json.loads(line) for line in sidecar.log.read_text().splitlines()]
        (said,) = [line for line in lines if line["event"] == "reloaded"]
        assert said["needs_restart"] == ["max_connections"]
        assert "doesn't say who" in refused(sidecar.dsn(stack, None))


# -- life ---------------------------------------------------------------------------------------


def test_a_stop_lets_transactions_end_and_says_so(stack: Stack, sidecar: SidecarProcess) -> None:
    with (
        psycopg.connect(sidecar.dsn(stack, "busy")) as busy,
        psycopg.connect(sidecar.dsn(stack, "idle"), autocommit=True) as idle,
    ):
        busy.execute("SELECT 1")
        idle.execute("SELECT 1")
        process = sidecar.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(sidecar.dsn(stack, "late"), connect_timeout=5)
        with pytest.raises(psycopg.OperationalError, match="is stopping"):
            idle.execute("SELECT 1")
        assert busy.execute("SELECT 2").fetchone() == (2,)
        busy.commit()
        assert process.wait(10) == 0
    assert [one["event"] for one in sidecar.said()[-3:]] == ["close", "close", "stop"]


def test_the_file_is_rotated_by_rename_and_hup(stack: Stack, sidecar: SidecarProcess) -> None:
    for turn in range(3):
        ask(sidecar.dsn(stack, "anna"))
        sidecar.events.rename(sidecar.directory / f"events-{turn}.jsonl")
        sidecar.hup()
    ask(sidecar.dsn(stack, "anna"))
    sidecar.stop()
    numbers = sorted(event["seq"] for event in sidecar.said())
    assert numbers == list(range(len(numbers)))
    assert len(sidecar.said("open")) == 4


@pytest.mark.parametrize("policy", ["refuse", "pass"])
def test_a_file_that_cannot_be_written_refuses_or_leaves_a_hole(
    stack: Stack, tmp_path: Path, policy: str
) -> None:
    with before_pooler(stack, tmp_path, on_event_failure=policy) as sidecar:
        ask(sidecar.dsn(stack, "anna"))
        process = sidecar.process
        assert process is not None
        sidecar.wait_for("close")
        # As a full disk does it: no byte more than there is.
        size = sidecar.events.stat().st_size
        subprocess.run(["prlimit", f"--pid={process.pid}", f"--fsize={size}:"], check=True)
        if policy == "refuse":
            assert "can't record" in refused(sidecar.dsn(stack, "bert"))
            assert _unready(sidecar)
        else:
            assert ask(sidecar.dsn(stack, "bert")) == 1
        subprocess.run(["prlimit", f"--pid={process.pid}", "--fsize=unlimited:"], check=True)
        assert ask(sidecar.dsn(stack, "carl")) == 1
        assert sidecar.ready()
    numbers = [event["seq"] for event in sidecar.said()]
    holes = sum(b - a - 1 for a, b in itertools.pairwise(numbers))
    assert (holes > 0) == (policy == "pass")
    assert [one["actor"] for one in sidecar.said("open")] == ["anna", "carl"]


def _unready(sidecar: SidecarProcess) -> bool:
    try:
        sidecar.page("ready")
    except OSError as error:
        return "503" in str(error)
    return False


def test_metrics_count_what_happens(stack: Stack, sidecar: SidecarProcess) -> None:
    with psycopg.connect(sidecar.dsn(stack, "anna"), autocommit=True) as connection:
        connection.execute("SET application_name = 'x'")
        connection.execute("SELECT 1")
        assert sidecar.metric("connections") == 1
        assert sidecar.metric("drift_total") == 1
        assert sidecar.metric("identify_total") == 1
    assert sidecar.metric("opened_total") == 1
    assert sidecar.page("live") == "alive\n"
    lines = [json.loads(line) for line in sidecar.log.read_text().splitlines()]
    assert lines[0]["event"] == "listening"


def test_a_strict_sidecar_ends_a_connection_that_drifts(stack: Stack, tmp_path: Path) -> None:
    with (
        before_pooler(stack, tmp_path, strict=True) as sidecar,
        psycopg.connect(sidecar.dsn(stack, "anna"), autocommit=True) as connection,
    ):
        connection.execute("SET application_name = 'x'")
        with pytest.raises(
            psycopg.OperationalError, match=r"changed its application_name|closed the conn"
        ):
            connection.execute("SELECT 1")
    sidecar.stop()
    assert sidecar.said("drift")


# -- relaying -----------------------------------------------------------------------------------


def test_a_cancel_reaches_the_statement(stack: Stack, sidecar: SidecarProcess) -> None:
    with psycopg.connect(sidecar.dsn(stack, "anna"), autocommit=True) as connection:
        threading.Timer(0.3, connection.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(20)")
    assert sidecar.metric("cancels_total") == 1


def test_a_reader_that_does_not_read_costs_no_memory(stack: Stack, sidecar: SidecarProcess) -> None:
    rows = 1000 * COPY_MB
    before = _memory(sidecar)
    sizes: list[int] = []
    with psycopg.connect(sidecar.dsn(stack, "anna"), autocommit=True) as connection:
        with connection.cursor().copy(
            f"COPY (SELECT repeat('x', 1000) FROM generate_series(1, {rows})) TO STDOUT".encode()
        ) as copy:
            time.sleep(0.5)  # the server could send all of it meanwhile
            sizes.append(_memory(sidecar))
            total = sum(len(bytes(data)) for data in copy)
            sizes.append(_memory(sidecar))
        assert total == rows * 1001

    assert max(sizes) - before < 16 << 20


def _memory(sidecar: SidecarProcess) -> int:
    """Bytes in memory."""
    assert sidecar.process is not None
    pages = Path(f"/proc/{sidecar.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_copy_in_the_extended_protocol_may_fail_at_any_time(
    stack: Stack, sidecar: SidecarProcess
) -> None:
    setting = """
        CREATE TEMP TABLE t (i int); CREATE TEMP TABLE refusing (i int);
        CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN PERFORM pg_sleep(0.1); RAISE EXCEPTION ''no''; END';
        CREATE TRIGGER r BEFORE INSERT ON refusing EXECUTE FUNCTION pg_temp.refuse();
    """
    # A transaction keeps one backend, and with it the temporary tables.
    with psycopg.connect(sidecar.dsn(stack, "anna")) as connection:
        connection.execute(setting.encode())
        for table, data in (("t", b"1\n"), ("t", b"x\n"), ("refusing", b"1\n"), ("t", b"2\n")):
            connection.execute("SAVEPOINT s")
            said = _copy_extended(connection, f"COPY {table} FROM STDIN".encode(), data)
            assert (said == "") == (table == "t" and data != b"x\n"), said
            connection.execute("ROLLBACK TO s" if said else "RELEASE s")
        assert connection.execute("SELECT sum(i) FROM t").fetchone() == (3,)
    assert "out-of-step" not in sidecar.events.read_text()


def _copy_extended(connection: psycopg.Connection[object], copy: bytes, data: bytes) -> str:
    """COPY as libpq does it by PQexecParams; the error, if any."""
    wire = connection.pgconn
    result = wire.exec_params(copy, None)
    assert result.status == psycopg.pq.ExecStatus.COPY_IN, result.error_message
    wire.put_copy_data(data)
    wire.put_copy_end()
    said = ""
    while (ended := wire.get_result()) is not None:
        said += ended.error_message.decode()
    return said


def test_an_upstream_that_dies_in_the_middle_ends_that_connection_only(
    stack: Stack, tmp_path: Path
) -> None:
    with socket.create_server((HOST, 0)) as fake:
        port = fake.getsockname()[1]
        with SidecarProcess(tmp_path, f"{HOST}:{port}") as sidecar:
            client = RawClient(sidecar.port)
            body = b"user\0app_user\0\0"
            client.socket.sendall(struct.pack(">II", len(body) + 8, 196608) + body)
            server, _ = fake.accept()
            assert b"application_name" in server.recv(4096)
            server.sendall(message("R", b"\0\0\0\0") + b"S\0\0\0")
            server.close()
            assert client.receive() == ("R", b"\0\0\0\0")
            with pytest.raises(EOFError):
                while True:
                    client.receive()
            client.socket.close()
            assert sidecar.ready()
            deadline = time.monotonic() + 30
            while len(sidecar.said()) < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert [one["event"] for one in sidecar.said()][:3] == ["start", "open", "close"]


def test_a_slow_client_is_shown_the_door_and_others_are_served(
    stack: Stack, tmp_path: Path
) -> None:
    with before_pooler(stack, tmp_path, startup_timeout_s=0.5) as sidecar:
        slow = [socket.create_connection((HOST, sidecar.port), 10) for _ in range(50)]
        for one in slow:
            one.sendall(b"\0\0\0")
        assert ask(sidecar.dsn(stack, "anna")) == 1
        for one in slow:
            assert b"timed out" in one.recv(4096)
            one.close()


def test_a_flood_is_turned_away_with_an_error(stack: Stack, tmp_path: Path) -> None:
    with before_pooler(stack, tmp_path, max_connections=20) as sidecar:
        crowd = [socket.create_connection((HOST, sidecar.port), 10) for _ in range(60)]
        assert "connections already" in refused(sidecar.dsn(stack, "anna"))
        for one in crowd:
            one.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                assert ask(sidecar.dsn(stack, "anna")) == 1
                break
        assert sidecar.metric("connections") <= 20


@pytest.fixture(scope="module")
def target(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """A sidecar to be shot at."""
    with before_pooler(stack, tmp_path_factory.mktemp("target"), startup_timeout_s=1) as running:
        yield running


_PACKETS = st.one_of(
    st.binary(min_size=1, max_size=60),
    st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=40)).map(
        lambda two: struct.pack(">I", two[0]) + two[1]
    ),
    st.tuples(
        st.sampled_from([196608, 196610, 131072, 80877102, 80877103, 80877104, 1 << 30]),
        st.binary(max_size=60),
    ).map(lambda two: struct.pack(">II", len(two[1]) + 8, two[0]) + two[1]),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_PACKETS, min_size=1, max_size=3))
def test_malformed_packets_get_an_error_and_break_nothing(
    target: SidecarProcess, packets: list[bytes]
) -> None:
    with socket.create_connection((HOST, target.port), 10) as raw:
        for packet in packets:
            with contextlib.suppress(OSError):
                raw.sendall(packet)
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
    assert target.process is not None
    assert target.process.poll() is None


def test_after_all_that_the_target_still_serves(stack: Stack, target: SidecarProcess) -> None:
    assert ask(target.dsn(stack, "anna")) == 1
    assert "internal-error" not in target.log.read_text()
    assert target.metric("connections") <= 1


# -- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--upstream", "x:1", "--events", "e"], "--listen"),
        (["--listen", "x", "--upstream", "x:1", "--events", "e"], "HOST:PORT"),
        (["--listen", "127.0.0.1:1x", "--upstream", "x:1", "--events", "e"], "HOST:PORT"),
    ],
)
def test_what_is_missing_or_wrong_is_named(arguments: list[str], told: str) -> None:
    done = scalple("sidecar", *arguments)
    assert done.code == 4
    assert told in done.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('identity = ["jwt"]', "jwt"),
        ('identity = ["mtls"]', "client_ca_file"),
        ("identity = []", "identity"),
        ('application_name_pattern = "x"', "actor"),
        ('identity_file = "none.csv"', "none.csv"),
        ("heartbeat = 3", "unknown key"),
        ('variables = ["x"]', "variables"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "c.toml"
    port = free_port()
    path.write_text(
        f'[sidecar]\nlisten = "{HOST}:{port}"\nupstream = "{HOST}:1"\nevents = "e.jsonl"\n{text}\n'
    )
    done = scalple("sidecar", "--config", path)
    assert done.code == 4, done.err
    assert told in done.err


def test_an_address_in_use_is_named(stack: Stack, tmp_path: Path) -> None:
    taken = f"{HOST}:{stack.pooler_port}"
    done = scalple(
        "sidecar", "--listen", taken, "--upstream", taken, "--events", tmp_path / "e.jsonl"
    )
    assert done.code == 4
    assert taken in done.err


def test_a_query_of_nothing_passes(stack: Stack, sidecar: SidecarProcess) -> None:
    with psycopg.connect(sidecar.dsn(stack, "anna"), autocommit=True) as connection:
        connection.execute("")
        assert simple("") == b"Q\0\0\0\x05\0"
