"""What passes a relayed conversation and under which name: properties over any cutting of the bytes.

Enters: conversations of a toy client with a model server (wire_model). Leaves: nothing. Real servers
and drivers are in test_sidecar_stack.py and test_drivers.py.
"""

import itertools
import re
import select

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.ingest.exchange import Exchange
from scalple.ingest.owner import Ending, Word
from scalple.ingest.variables import Variables
from tests.recorder import Recorder
from tests.stack import Stack
from tests.wire_model import BASE, TAG, Bench, extended, message, simple

OWN = re.compile(rb"Q....SET application_name='tag\d{10} app';\0", re.DOTALL)

SET_A = """set app."current_user" = 'anna'"""
SET_B = """set app."current_user" = 'bert'"""
LOCAL_C = """set local app."current_user" = 'cleo'"""
RESET = """set app."current_user" = ''"""
TEXTS = ("row", "fail", "begin", "commit", "rollback", "drift evil", SET_A, SET_B, LOCAL_C, RESET)

segments = st.one_of(
    st.sampled_from(TEXTS).map(simple),
    st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(lambda texts: extended(*texts)),
    st.lists(st.sampled_from(TEXTS), min_size=2, max_size=3).map("; ".join).map(simple),
    st.just(simple("copy stdin") + message("d", b"x" * 20) + message("c")),
    st.just(extended("copy stdin") + message("d", b"x" * 20) + message("c") + message("S")),
    st.just(message("S")),
)


def without_syncs(data: bytes) -> bytes:
    """The messages but Sync and Flush: one that follows a COPY is sent otherwise than it came."""
    kept, at = [], 0
    while at < len(data):
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5])
        kept += [] if data[at : at + 1] in (b"S", b"H") else [data[at:end]]
        at = end
    return b"".join(kept)


def cutter(points: list[int]) -> "object":
    """Cuts bytes at these points, counted over the whole conversation."""
    wanted = sorted(set(points))
    at = [0]

    def cut(data: bytes) -> list[bytes]:
        begin, end = at[0], at[0] + len(data)
        at[0] = end
        edges = [0, *(one - begin for one in wanted if begin < one < end), len(data)]
        return [data[a:b] for a, b in itertools.pairwise(edges) if b > a]

    return cut


def seen_by(actor: str | None) -> str:
    """How the model's variable says that."""
    return "" if actor in (None, BASE.actor) else actor


@settings(max_examples=400, deadline=None)
@given(
    st.lists(segments, min_size=1, max_size=8),
    st.lists(st.integers(1, 2500), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_any_cutting_gives_the_same_bytes_and_never_anothers_name(
    parts: list[bytes], points: list[int], pipelined: bool, slow_disk: bool
) -> None:
    bench = Bench(cutter(points), slow_disk=slow_disk)  # type: ignore[arg-type]
    sent = b"".join(parts)
    for data in [sent] if pipelined else parts:
        bench.client(data)
    # Upstream: what the client sent, and nothing else but our own SETs (the model left them out).
    assert without_syncs(bytes(bench.server.received)) == without_syncs(sent)
    if extended("copy stdin") not in sent:
        assert bytes(bench.server.received) == sent
    # To the client: all that the server said, but the answers to those.
    plain = Bench(variables=())
    _compare_replies(bench, plain, parts)
    for text, name, value in bench.server.log:
        if text.startswith("SET application_name='tag"):
            continue
        actor = "evil" if name == "evil" else bench.who(name)
        if actor in ("evil", None):
            continue  # of a drifted name nobody is named; of a tag of nobody neither
        assert seen_by(actor) == value or _is_setting(text), (text, name, value)


def _is_setting(text: str) -> bool:
    """The setting itself runs before it holds."""
    return text.startswith("set ")


def _compare_replies(bench: Bench, plain: Bench, parts: list[bytes]) -> None:
    """The client's view, without names, is the one without a sidecar."""
    for part in parts:
        plain.server.feed(part)
    status = re.compile(rb"S....application_name\0[^\0]*\0", re.DOTALL)
    rows = message("D", message("S", b"application_name\0evil\0") + message("Z", b"I"))
    login = message("Z", b"I")

    def view(data: bytes) -> bytes:
        return status.sub(b"", data.replace(rows, b"<row>"))

    assert view(bytes(bench.to_the_client)) == view(login + bytes(plain.server.out))


def test_nothing_runs_between_a_drift_and_the_next_tag() -> None:
    bench = Bench()
    bench.client(simple("drift evil") + simple("row") + extended("row") + simple("row"))
    names = [name for text, name, _ in bench.server.log if text == "row"]
    assert all(name.startswith("tag") for name in names)
    assert [word.event for word in bench.words] == ["drift", "identify"]
    assert bench.words[0].application_name == "evil"
    assert bench.words[1].identity == BASE


def test_a_drift_inside_a_transaction_is_mended_inside_it() -> None:
    bench = Bench()
    for text in ("begin", "drift evil", "row", "rollback", "row"):
        bench.client(simple(text))
    rows = [name for text, name, _ in bench.server.log if text == "row"]
    assert rows[0].startswith("tag")
    assert bench.who(rows[1]) == "base"


def test_the_pooler_s_own_form_is_on_record_before_it_is_sent() -> None:
    bench = Bench(slow_disk=True)
    bench.exchange.client_data(simple("SET application_name='stolen app';"))
    assert [word.reason for word in bench.words] == ["replay-form"]
    assert bench.server.log == []  # not sent before it is on disk
    bench.settle()
    bench.client(simple("row"))
    assert bench.server.log[0][0].startswith("SET application_name='stolen")
    assert [word.event for word in bench.words][:2] == ["drift", "drift"]
    assert bench.server.log[-1][1].startswith("tag")


def test_a_setting_with_company_runs_under_a_tag_of_nobody() -> None:
    bench = Bench()
    bench.client(simple(f"{SET_A}; row"))
    bench.client(simple("row"))
    rows = [bench.who(name) for text, name, _ in bench.server.log if text == "row"]
    assert rows == [None, "anna"]


def test_a_failed_transaction_takes_no_tag_and_a_rollback_gives_one() -> None:
    bench = Bench()
    for text in ("begin", SET_A, "row", "fail", "rollback", "row"):
        bench.client(simple(text))
    rows = [bench.who(name) for text, name, _ in bench.server.log if text == "row"]
    assert rows == ["anna", "base"]


def test_a_client_that_may_not_drift_is_ended() -> None:
    bench = Bench(strict=True)
    bench.client(simple("drift evil"))
    assert bench.endings == [Ending.DRIFT]
    bench.client(simple("row"))
    assert all(text != "row" for text, *_ in bench.server.log)


def test_the_reset_of_another_variable_changes_nobody() -> None:
    bench = Bench(variables=("app.current_user", "app.other"))
    bench.client(simple(SET_A))
    bench.client(simple("select set_config('app.other', '', false)"))
    bench.client(simple("row"))
    assert bench.who(bench.server.log[-1][1]) == "anna"


def test_a_query_of_megabytes_passes() -> None:
    # Minutes, where reading it takes quadratic time.
    for text in (
        "select set_config(" * 100_000,
        "row /* " + "set_config" * 60_000,
        "insert into t values " + ",".join(["(1)"] * 400_000) + ";row",
        "select '" + "x" * 4_000_000 + "';row",
    ):
        bench = Bench()
        bench.client(simple(text))
        assert bytes(bench.server.received) == simple(text)


def test_a_flush_behind_a_setting_is_sent(  # libpq: PQsendFlushRequest, then PQsendPrepare
) -> None:
    bench = Bench()
    bench.client(extended(SET_A, sync=False) + message("H") + message("P", b"\0row\0\0\0"))
    assert [text for text, *_ in bench.server.log] == [SET_A]


def test_a_name_is_prepared_anew_only_where_the_server_took_it() -> None:
    form = "SET application_name='stolen app';"
    bench = Bench()
    bench.client(message("P", b"s1\0" + form.encode() + b"\0\0\0") + message("S"))
    # The second Parse is skipped, because the segment has failed before.
    bench.client(extended("fail", sync=False) + message("P", b"s1\0row\0\0\0") + message("S"))
    bench.client(
        message("B", b"\0s1\0" + b"\0" * 6) + message("E", b"\0" + b"\0" * 4) + message("S")
    )
    assert "replay-form" in [word.reason for word in bench.words]


@pytest.mark.parametrize("text", ["DO $$ x $$", "call p()", "/**/Call p()", "row; do 'x'"])
def test_code_that_may_commit_is_on_record(text: str) -> None:
    bench = Bench()
    bench.client(simple(text))
    assert [word.reason for word in bench.words][:1] == ["replay-form"]
    bench = Bench()
    bench.client(simple("insert into t values (1) on conflict do nothing"))
    assert bench.words == []


def test_a_copy_that_fails_before_its_data_keeps_the_count() -> None:
    bench = Bench()
    # All at once: what follows the COPY may be sent only when the COPY is over.
    copy = extended("copy stdin fail") + message("c") + message("S")
    bench.client(copy + simple("drift evil") + simple("row") + simple("row"))
    rows = [name for text, name, _ in bench.server.log if text == "row"]
    assert len(rows) == 2
    assert all(name.startswith("tag") for name in rows)
    assert "out-of-step" not in [word.reason for word in bench.words]


def test_a_text_that_only_speaks_of_copies_is_answered() -> None:
    bench = Bench()
    for text in ("row/*copy stdin*/", "fail"):
        bench.client(extended(text))
    bench.client(extended("row/*copy stdin*/", "row/**/") + simple("begin"))
    assert bytes(bench.to_the_client).count(message("Z", b"I")) == 4
    assert bytes(bench.to_the_client).endswith(message("Z", b"T"))


def test_a_call_for_data_that_nobody_foresaw_ends_the_conversation_when_it_fails() -> None:
    bench = Bench()
    bench.exchange.client_data(extended("row"))
    bench.exchange.server_data(message("G", b"\0\0\0") + message("E", b"SERROR\0\0"))
    assert bench.endings == [Ending.OUT_OF_STEP]


def test_a_revoked_name_ends_the_connection() -> None:
    bench = Bench()
    bench.client(simple("""set app."current_user" = 'revoked'"""))
    assert bench.endings == [Ending.REVOKED]


def test_a_length_that_cannot_be_ends_the_connection() -> None:
    bench = Bench()
    bench.client(b"Q\0\0\0\3")
    assert bench.endings == [Ending.MALFORMED]


def test_a_large_query_arrives_whole_and_its_room_is_given_back() -> None:
    pieces = 40
    bench = Bench(lambda data: [data[i : i + 65536] for i in range(0, len(data), 65536)])
    text = "row /* " + "x" * (pieces * 65536) + " */"
    bench.client(simple(text) + simple("row"))
    assert bytes(bench.server.received) == simple(text) + simple("row")
    assert bench.holding == 0


@pytest.mark.parametrize("length", [0, 1, 4, 5, 70_000])
def test_rows_of_any_length_pass(length: int) -> None:
    bench = Bench(lambda data: [data[i : i + 7] for i in range(0, len(data), 7)])
    before = len(bench.to_the_client)
    data = message("D", b"Z" * length) + message("C", b"SELECT 1\0")
    for at in range(0, len(data), 7):
        bench.exchange.server_data(data[at : at + 7])
    bench.exchange.server_data(message("N", b"notice"))
    assert bytes(bench.to_the_client[before:]).startswith(data)


# -- recorded sessions --------------------------------------------------------------------------


def play(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """A session with a bit of everything."""
    connection.execute("SELECT id, email FROM users ORDER BY id LIMIT 5")
    connection.execute("SELECT name FROM users WHERE id = %s", [7])
    with connection.transaction():
        cursor = connection.cursor("c")
        cursor.execute("SELECT id FROM users ORDER BY id LIMIT 20")
        cursor.fetchmany(5)
        cursor.close()
    with connection.cursor().copy("COPY (SELECT id FROM users LIMIT 9) TO STDOUT") as out:
        list(out)
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TEMP TABLE recorded (i int)")
        with connection.cursor().copy("COPY recorded FROM STDIN") as into:
            into.write(b"1\n2\n")
        copy_extended(connection.pgconn)
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1/0")
    with connection.pipeline():
        for number in range(3):
            connection.execute("SELECT %s::int", [number])
    connection.execute("SELECT repeat('Z', 300)")


def copy_extended(wire: psycopg.pq.abc.PGconn) -> None:
    """A COPY by Parse, Bind and Execute. It waits here: libpq would with the interpreter's lock."""
    for act in (
        lambda: wire.send_query_params(b"COPY recorded FROM STDIN", None),
        lambda: (wire.put_copy_data(b"3\n"), wire.put_copy_end()),
    ):
        act()
        wire.flush()
        while wire.is_busy():
            select.select([wire.socket], [], [], 10)
            wire.consume_input()
        result = wire.get_result()
    while result is not None:
        result = wire.get_result()


@pytest.mark.stack
def test_every_split_point_of_a_recorded_session_relays_the_same_bytes(stack: Stack) -> None:
    with Recorder(stack.pooler_port) as recorder:
        dsn = stack.dsn_pooler(port=recorder.port, application_name=f"{TAG} app")
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
            play(connection)
    turns = recorder.turns
    said = {side: b"".join(data for name, data in turns if name == side) for side in SIDES}
    assert len(said["client"]) > 500
    assert len(said["server"]) > 1500
    whole = sum(len(data) for _, data in turns)
    for point in range(whole + 1):
        relayed = Relayed()
        at = 0
        for side, data in turns:
            cut = min(max(point - at, 0), len(data))
            relayed.feed(side, data[:cut])
            relayed.feed(side, data[cut:])
            at += len(data)
        assert without_syncs(bytes(relayed.upstream)) == without_syncs(said["client"]), point
        assert bytes(relayed.downstream) == said["server"], point
        assert relayed.words == [], point


SIDES = ("client", "server")


class Relayed(Bench):
    """An exchange between recorded bytes; nothing answers but the recording."""

    def __init__(self) -> None:
        self.upstream, self.downstream = bytearray(), bytearray()
        self.words = []
        self.holding = 0
        self.exchange = Exchange(
            self, BASE, TAG, TAG + " app", lambda suffix: (TAG, TAG + suffix), Variables(())
        )

    def feed(self, side: str, data: bytes) -> None:
        """Bytes of the recording."""
        if data and side == "client":
            self.exchange.client_data(data)
        elif data:
            self.exchange.server_data(data)

    def to_server(self, data: bytes) -> None:
        self.upstream += data

    def to_client(self, data: bytes) -> None:
        self.downstream += data

    def record(self, words: list[Word]) -> None:
        self.words += words

    def cancel_key(self, key: bytes) -> None:
        assert len(key) == 8
