"""What clients say of themselves is read where it holds, and nowhere else.

Logs are written as PostgreSQL writes them, line by line; what is expected follows from the story.
"""

from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.rules import Actors, Claims, Pooler, Rules
from scalple.correlate.sqlcomments import CommentReader, is_prepared
from scalple.ingest.sqltokens import read_comments
from tests.attribute_logs import attribute_files
from tests.examples import examples
from tests.stack import Stack, StackOptions

DIRECT = Pooler(kind="none")

COMMENTS = {
    "SELECT 1 /*action='show',user='jane',traceparent='00-5b-01'*/": "jane",
    "SELECT 1 /*user='jane%20o%27hara'*/": "jane o'hara",
    "SELECT 1; /*db_driver='psycopg',user_id='7'*/": "7",
    "SELECT 1 /*user_id='7',username='jane'*/": None,
    "SELECT 1 /*route='/orders'*/": None,
    "-- Metabase:: userID: 5 queryType: native queryHash: 0a\nSELECT 1": "metabase:5",
    "-- Metabase\nSELECT 1": None,
    "/* Username: bob@example.org, query_id: 4, Queue: queries, Query ID: 15, Query Hash: ab */ SELECT 1": (
        "bob@example.org"
    ),
    "/* Username: Scheduled, Task ID: 66c2, Query ID: 15, Query Hash: 59ad */ SELECT 1": None,
    """SELECT 1 -- Looker Query Context '{"user_id":123,"history_slug":"a9"}'""": "looker:123",
    "SELECT 1 -- Looker Query Context '{\"user_id\":'": None,
    "SELECT 1\n-- source: dashboard\n-- user: 7b1b02d2-1c9b\n-- date: 2026-03-14": (
        "supabase:7b1b02d2-1c9b"
    ),
    "SELECT 1\n-- user: 7b1b02d2-1c9b": None,
    '/* {"app": "dbt", "dbt_version": "1.10", "target_name": "dev", "user": "jane"} */ SELECT 1': (
        "jane"
    ),
    '/* {"app": "dbt", "dbt_version": "1.10", "target_name": "dev"} */ SELECT 1': None,
    # What stands in a string, in the middle, or in two voices, is nobody's word.
    "SELECT '/*user=''boss''*/'": None,
    "SELECT E'\\'/*' /*user='boss'*/": None,
    "SELECT $$ /*user='boss'*/ $$": None,
    "SELECT /*user='boss'*/ 1": None,
    "SELECT 1 /*user='jane'*/ /*user='boss'*/": None,
    "SELECT 1 /* /*user='boss'*/": None,
    "SELECT 1 -- /*user='boss'*/": None,
}


@pytest.mark.parametrize(("text", "actor"), COMMENTS.items())
def test_comments_of_the_known_forms_name_their_author(text: str, actor: str | None) -> None:
    said = CommentReader(Claims()).read(text)
    assert (said.actor if said else None) == actor


def test_a_form_that_is_not_asked_for_is_not_read() -> None:
    reader = CommentReader(Claims(comments=("redash",), comment_patterns=(r"by (?P<actor>\w+)",)))
    assert reader.read("SELECT 1 /*user='jane'*/") is None
    said = reader.read("SELECT 1 -- by jane")
    assert said is not None
    assert said.actor == "jane"


@given(st.text("/*-'\"$E\\ab\n;", max_size=40))
def test_no_text_makes_the_reader_of_comments_fail(text: str) -> None:
    for one in read_comments(text) or ():
        assert one.text in text
    is_prepared(text)


# -- logs -----------------------------------------------------------------------------------------


@dataclass
class Log:
    """A csvlog being written: one record per call, its session's numbers kept."""

    rows: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0
    _lines: dict[str, int] = field(default_factory=dict)
    _ids: dict[str, int] = field(default_factory=dict)

    def _record(self, session: str, transaction: int, message: str, **more: str) -> None:
        self._lines[session] = line = self._lines.get(session, 0) + 1
        self.seconds += 0.001
        time = f"2026-03-14 11:{int(self.seconds) // 60:02}:{self.seconds % 60:06.3f} UTC"
        self.rows.append(
            [
                *(time, "app", "shop", "100", "10.0.0.5:4000", session, str(line)),
                *("SELECT", "2026-03-14 11:00:00 UTC", f"3/{transaction}" if transaction else ""),
                *("0", more.get("severity", "LOG"), more.get("state", "00000"), message),
                *("", "", "", "", "", more.get("query", ""), "", ""),
                *(more.get("name", "web"), "client backend", "", "0"),
            ]
        )

    def says(
        self,
        session: str,
        transaction: int,
        text: str,
        command: str = "SELECT",
        parameters: tuple[str, ...] = (),
        name: str = "web",
    ) -> None:
        """One pgAudit record."""
        self._ids[session] = number = self._ids.get(session, 0) + 1
        group = "READ" if command == "SELECT" else "MISC"
        bound = _csv(list(parameters)) if parameters else "<none>"
        fields = ["SESSION", str(number), "1", group, command, "", "", text, bound]
        self._record(session, transaction, "AUDIT: " + _csv(fields), name=name)

    def fails(self, session: str, transaction: int) -> None:
        """An error."""
        self._record(session, transaction, "division by zero", severity="ERROR", state="22012")

    def write(self, path: Path) -> Path:
        """The file."""
        lines = [
            ",".join(_quoted(one) if at in TEXTS else one for at, one in enumerate(row))
            for row in self.rows
        ]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path


TEXTS = {1, 2, 4, 7, 13, 14, 15, 16, 18, 19, 21, 22, 23}
"""The columns that csvlog.c quotes."""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if text else ""


def _csv(fields: list[str]) -> str:
    """As pgAudit's append_valid_csv() writes them."""
    return ",".join(_quoted(one) if any(c in one for c in ',"\n\r') else one for one in fields)


A = "69b2a1c0.64"
JANE = "SET app.user = 'jane'"


def named(log: Log, tmp_path: Path, rules: Rules | None = None) -> list[object]:
    """Who is named, per record; the same for every size of block."""
    path = log.write(tmp_path / "postgresql.csv")
    rules = rules or Rules(pooler=DIRECT)
    whole = attribute_files([path], rules=rules).dicts()
    pieces = attribute_files([path], rules=rules, block_bytes=300).dicts()
    keys = ("session_user_id", "attribution_grade", "attribution_method", "findings")
    assert [[row[key] for key in keys] for row in whole] == [
        [row[key] for key in keys] for row in pieces
    ]
    assert {row["attribution_grade"] for row in whole if row["session_user_id"]} <= {"claimed"}
    return [row["session_user_id"] for row in whole]


def test_a_setting_holds_until_it_is_reset_where_no_pooler_is(tmp_path: Path) -> None:
    log = Log()
    log.says(A, 1, "SELECT 0")
    log.says(A, 2, JANE, "SET")
    log.says(A, 3, "SELECT 1")
    log.says(A, 4, "RESET app.user", "RESET")
    log.says(A, 5, "SELECT 2")
    assert named(log, tmp_path) == [None, "jane", "jane", None, None]


def test_behind_a_pooler_a_setting_holds_for_its_transaction(tmp_path: Path) -> None:
    log = Log()
    log.says(A, 1, "BEGIN", "BEGIN")
    log.says(A, 1, JANE, "SET")
    log.says(A, 1, "SELECT 1")
    log.says(A, 2, "SELECT 2")
    assert named(log, tmp_path, Rules()) == [None, "jane", "jane", None]


def test_a_local_setting_ends_with_its_transaction(tmp_path: Path) -> None:
    log = Log()
    log.says(A, 1, "SELECT set_config($1, $2, true)", parameters=("app.user", "ja,ne"))
    log.says(A, 1, "SELECT 1")
    log.says(A, 2, "SELECT 2")
    assert named(log, tmp_path) == ["ja,ne", "ja,ne", None]


def test_a_setting_that_a_rollback_or_an_error_may_have_taken_back_holds_no_longer(
    tmp_path: Path,
) -> None:
    log = Log()
    log.says(A, 1, "SAVEPOINT a", "SAVEPOINT")
    log.says(A, 1, JANE, "SET")
    log.says(A, 1, "ROLLBACK TO a", "ROLLBACK")
    log.says(A, 1, "SELECT 1")
    log.says(A, 2, "SELECT 2")
    log.says(A, 3, JANE, "SET")
    log.says(A, 3, "SELECT 3")
    log.fails(A, 3)
    log.says(A, 4, "SELECT 4")
    assert named(log, tmp_path) == [None, "jane", None, None, None, "jane", "jane", None]


def test_a_setting_that_cannot_be_read_ends_the_one_before(tmp_path: Path) -> None:
    log = Log()
    log.says(A, 1, JANE, "SET")
    log.says(A, 2, "SELECT set_config('app.' || 'user', x, false) FROM t")
    log.says(A, 3, "SELECT 1")
    log.says(A, 4, JANE, "SET")
    log.says(A, 5, "SELECT set_config($1, $2, $3)", parameters=("<not logged>",))
    log.says(A, 6, "SELECT 1")
    assert named(log, tmp_path) == ["jane", None, None, "jane", None, None]


def test_an_executed_statement_keeps_the_comment_of_its_preparation(tmp_path: Path) -> None:
    log = Log()
    text = "PREPARE q AS SELECT 1 /*user='jane'*/"
    log.says(A, 1, text, "PREPARE")
    log.says(A, 2, text)
    log.says(A, 2, "EXECUTE q", "EXECUTE")
    assert named(log, tmp_path) == ["jane", None, None]
    rows = attribute_files([tmp_path / "postgresql.csv"], rules=Rules(pooler=DIRECT)).dicts()
    assert [row["findings"] for row in rows] == [None, ["stale-comment"], None]


def test_a_request_that_comes_back_long_after_is_a_prepared_statement(tmp_path: Path) -> None:
    log = Log()
    text = "SELECT 1 /*traceparent='00-5b8a-b7ad-01',user='jane'*/"
    other = "SELECT 1 /*traceparent='00-77aa-0001-01',user='joe'*/"
    log.says(A, 1, text)
    log.says(A, 2, text)
    log.seconds += 60
    log.says(A, 3, other)
    log.says(A, 4, text)
    assert named(log, tmp_path) == ["jane", "jane", "joe", None]


def test_words_that_contradict_each_other_name_nobody(tmp_path: Path) -> None:
    log = Log()
    log.says(A, 1, JANE, "SET")
    log.says(A, 2, "SELECT 1 /*user='joe'*/")
    log.says(A, 3, "SELECT 1 /*user='jane'*/")
    assert named(log, tmp_path) == ["jane", None, "jane"]
    rows = attribute_files([tmp_path / "postgresql.csv"], rules=Rules(pooler=DIRECT)).dicts()
    assert rows[1]["attribution_reason"] == "claims-disagree"
    assert rows[1]["attribution_candidates"] == ["jane", "joe"]
    assert rows[2]["attribution_method"] == "sql-comment"


def test_names_go_through_the_operators_map(tmp_path: Path) -> None:
    log = Log()
    log.says(A, 1, "-- Metabase:: userID: 5 queryType: native queryHash: 0a\nSELECT 1")
    log.says(A, 2, "SELECT 1 /*user='J.Muller%40Company.com'*/")
    log.says(A, 3, "SELECT 1 /*user='new@company.com'*/")
    log.says(A, 4, "SELECT 1", name="tool/jmueller")
    actors = Actors(
        identities={"metabase:5": "e1"}, emails={"e1": "a@b.org", "e2": "j.muller@company.com"}
    )
    rules = Rules(
        actors=actors, pooler=DIRECT, claims=Claims(name_patterns=(r"^tool/(?P<actor>\w+)$",))
    )
    assert named(log, tmp_path, rules) == ["e1", "e2", "new@company.com", "jmueller"]
    rows = attribute_files([tmp_path / "postgresql.csv"], rules=rules).dicts()
    emails = [row["session_email"] for row in rows]
    assert emails == ["a@b.org", "j.muller@company.com", "new@company.com", None]
    assert {row["session_authn"] for row in rows} == {"asserted"}


def test_what_a_client_says_never_replaces_what_is_proven(tmp_path: Path) -> None:
    log = Log()
    log.says(A, 1, "SELECT 1 /*user='joe'*/")
    path = log.write(tmp_path / "postgresql.csv")
    rules = Rules(actors=Actors(roles={"app": "jane"}), pooler=DIRECT)
    (row,) = attribute_files([path], rules=rules).dicts()
    assert (row["session_user_id"], row["attribution_grade"]) == ("jane", "proven")
    assert row["findings"] == ["claim-differs"]


STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["set", "local", "reset", "read", "rollback", "error", "next"]),
        st.sampled_from(["jane", "joe"]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=examples(8), deadline=None)
@given(STEPS)
def test_settings_hold_as_a_plain_walk_through_the_sessions_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, str]]
) -> None:
    log = Log()
    log.says(A, 9, "SELECT 0")
    expected: list[object] = [None]
    sessions = [[A, 1, None, None], ["69b2a1c0.65", 1, None, None]]
    for which, what, who in steps:
        one = sessions[which]
        session, transaction, lasting, _ = one
        assert isinstance(session, str)
        assert isinstance(transaction, int)
        if what == "next":
            one[1] = transaction + 1
            # What was only set in the transaction is over.
            one[3] = None
            continue
        if what == "error":
            log.fails(session, transaction)
            # Whatever the transaction did is taken back, once it is over.
            if isinstance(lasting, tuple) and lasting[1] == transaction:
                one[2] = None
            continue
        text, command = {
            "set": (f"SET app.user = '{who}'", "SET"),
            "local": (f"SET LOCAL app.user = '{who}'", "SET"),
            "reset": ("RESET app.user", "RESET"),
            "read": ("SELECT 1", "SELECT"),
            "rollback": ("ROLLBACK TO a", "ROLLBACK"),
        }[what]
        if what == "set":
            one[2], one[3] = (who, transaction), who
        elif what == "local":
            one[2], one[3] = None, who
        elif what == "reset":
            one[2] = one[3] = None
        elif what == "rollback":
            if isinstance(lasting, tuple) and lasting[1] == transaction:
                one[2] = None
            one[3] = None
        log.says(session, transaction, text, command)
        lasting = one[2]
        before = lasting[0] if isinstance(lasting, tuple) and lasting[1] != one[1] else None
        expected.append(one[3] or before)
    found = named(log, tmp_path_factory.mktemp("claims"))
    for got, wanted in zip(found, expected, strict=True):
        # Less may be known than was true; never more.
        assert got in (wanted, None)


@pytest.mark.stack
def test_a_client_that_said_something_else_on_another_backend_is_not_taken_at_its_old_word(
    tmp_path: Path,
) -> None:
    with Stack(StackOptions(pool_size=2, users=10, eu_users=2)) as stack:
        dsn = stack.dsn_pooler(application_name="web")
        with (
            psycopg.connect(dsn, autocommit=True) as one,
            psycopg.connect(dsn, autocommit=True) as other,
        ):
            other.execute("SELECT 'is served first, so that the next one is announced'")
            one.execute("SELECT set_config('app.user', 'jane', false)")
            one.execute("SELECT 'jane is in force'")
            with other.transaction():
                other.execute("SELECT 'holds the first backend'")
                one.execute("SELECT set_config('app.user', 'joe', false)")
                one.execute("SELECT 'joe is in force'")
            one.execute("SELECT 'back on the first backend'")
    found = {
        str(row["statement"]): (row["session_id"], row["session_user_id"])
        for row in attribute_files(stack.csvlog_paths(), [stack.pgbouncer_log]).dicts()
    }
    first, second = (found[f"SELECT '{who} is in force'"] for who in ("jane", "joe"))
    back = found["SELECT 'back on the first backend'"]
    assert (first[1], second[1]) == ("jane", "joe")
    assert first[0] == back[0] != second[0]
    assert back[1] is None
