"""What a segment of a client's messages is taken for, and whose the statements after it are.

The stories are those of an attack or of an honest mistake; what PostgreSQL makes of them is known.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest

from scalple.correlate.closedpool import CLOSED, DRIFTED, ClosedPools, spans_of
from scalple.ingest.segment import Reader, Segment
from scalple.ingest.variables import Variables
from scalple.ingest.whose import NOBODY, STATUS_FAILED, STATUS_IDLE, STATUS_OPEN, Identity, Whose

NAMES = ("app.user", "app.current_user")
FORM = b"SET application_name='victim';"


def parse(name: bytes, text: bytes) -> bytes:
    return name + b"\0" + text + b"\0\0\0"


def bind(name: bytes, portal: bytes = b"") -> bytes:
    return portal + b"\0" + name + b"\0" + b"\0" * 6


def executed(reader: Reader, name: bytes, portal: bytes = b"") -> Segment:
    """The segment of a Bind and an Execute."""
    segment = Segment()
    reader.bind(bind(name, portal))
    reader.execute(segment, portal + b"\0" + b"\0" * 4)
    return segment


def test_a_statement_that_another_client_prepared_may_be_anything() -> None:
    reader = Reader(Variables(NAMES))
    segment = executed(reader, b"s0")
    assert segment.formed
    assert segment.unclear


def test_in_transaction_pooling_a_name_means_another_statement_once_the_transaction_is_over() -> (
    None
):
    for private in (False, True):
        reader = Reader(Variables(NAMES), private=private)
        reader.parse(parse(b"s0", b"SELECT 1"))
        assert not executed(reader, b"s0").formed
        reader.answered(failed=False, idle=True)
        assert executed(reader, b"s0").formed is not private


@pytest.mark.parametrize("cut", [63, 64, 100])
def test_names_are_cut_as_postgresql_cuts_them(cut: int) -> None:
    reader = Reader(Variables(NAMES))
    reader.parse(parse(b"n" * cut + b"A", FORM))
    assert executed(reader, b"n" * cut + b"B").formed
    assert executed(reader, b"n" * 63).formed
    reader.parse(parse(b"i" * cut + b"A", b"SELECT set_config('app.user', 'bob', false)"))
    assert executed(reader, b"i" * 63).settings


def test_what_the_server_refuses_to_prepare_anew_may_be_the_old_one() -> None:
    reader = Reader(Variables(NAMES))
    reader.parse(parse(b"s0", b"SELECT set_config('app.user', 'bob', false)"))
    reader.answered(failed=False, idle=False)
    reader.parse(parse(b"s0", b"SELECT set_config('app.user', 'anna', false)"))
    reader.answered(failed=True, idle=False)
    assert executed(reader, b"s0").unclear


@pytest.mark.parametrize("text", [b"EXECUTE s0", b"EXPLAIN ANALYZE EXECUTE s0", b"/**/execute s0"])
def test_executing_by_sql_may_run_what_another_client_prepared(text: bytes) -> None:
    segment = Segment()
    Reader(Variables(NAMES)).query(segment, text)
    assert segment.formed


def test_a_cursor_may_set_a_variable_when_it_is_read() -> None:
    reader = Reader(Variables(NAMES))
    segment = Segment()
    reader.query(segment, b"DECLARE c CURSOR FOR SELECT set_config('app.user', 'bob', false)")
    assert segment.unclear
    reader.query(Segment(), b"SET app.current_user = 'anna'")
    later = Segment()
    reader.query(later, b"FETCH c")
    assert later.unclear


def test_names_without_end_are_given_up_and_not_kept() -> None:
    reader = Reader(Variables(NAMES))
    for number in range(6000):
        reader.parse(parse(str(number).encode() + b"x" * 1_000, FORM))
    assert executed(reader, b"anything").formed
    assert len(reader._known) + len(reader._marks) == 0


@pytest.mark.parametrize(
    "text",
    [
        b"SET app.current_user = " + b"9" * 5000,
        b"SELECT set_config('app.user', $" + b"9" * 5000 + b", false)",
        "SET app.current_user = 'jos\xe9'".encode("latin1"),
    ],
)
def test_what_cannot_be_read_as_a_name_is_unclear(text: bytes) -> None:
    assert Variables(NAMES).read(text).unclear


def test_bytes_of_another_encoding_name_nobody() -> None:
    reader = Reader(Variables(NAMES))
    reader.reads_utf8 = False
    for value, unclear in (("anna", False), ("josé", True)):
        segment = Segment()
        reader.query(segment, f"SET app.current_user = '{value}'".encode())
        assert segment.unclear is unclear


# -- whose -----------------------------------------------------------------------------------------

BASE, ANNA, BOB = (Identity(name) for name in ("svc", "anna", "bob"))


@dataclass
class Session:
    """Plays statements as a server would answer them."""

    whose: Whose = field(default_factory=lambda: Whose(BASE, Identity))
    reader: Reader = field(default_factory=lambda: Reader(Variables(NAMES)))
    status: int = STATUS_IDLE

    def run(self, *texts: str) -> Identity:
        for text in texts:
            segment = Segment(scoped=self.whose.in_scope)
            word = text.split()[0]
            if word == "fail":
                segment.failed = True
                self.status = STATUS_FAILED if self.status != STATUS_IDLE else STATUS_IDLE
            else:
                self.reader.query(segment, text.encode())
            if word == "BEGIN":
                self.status = STATUS_OPEN
            elif text.startswith("ROLLBACK TO"):
                segment.ended, self.status = {b"ROLLBACK"}, STATUS_OPEN
            elif word in ("COMMIT", "ROLLBACK"):
                ends = b"ROLLBACK" if self.status == STATUS_FAILED else word.encode()
                segment.ended, self.status = {ends}, STATUS_IDLE
            assert self.whose.settle(segment, self.status)
        return self.whose.now


A, B = "SET app.user = 'anna'".replace("app.user", 'app."user"'), "SET app.\"current_user\" = 'bob'"
UNSET_A, UNSET_B = 'RESET app."user"', 'RESET app."current_user"'


@pytest.mark.parametrize(
    ("story", "who"),
    [
        ([A], ANNA),
        ([A, UNSET_A], BASE),
        ([A, B], BOB),
        ([A, B, UNSET_B], ANNA),
        ([A, "RESET ALL"], BASE),
        ([A, "BEGIN", "RESET ALL", "ROLLBACK"], ANNA),
        ([A, "BEGIN", "RESET ALL", "ROLLBACK", UNSET_A], BASE),
        ([A, "BEGIN", "RESET ALL", "fail", "ROLLBACK", UNSET_A], BASE),
        ([A, "BEGIN", "RESET ALL", B, "ROLLBACK", UNSET_B], ANNA),
        (["BEGIN", B, "SAVEPOINT x", UNSET_B, "ROLLBACK TO x", "COMMIT"], NOBODY),
        ([A, "BEGIN", B, "SAVEPOINT x", A, "ROLLBACK TO x", "COMMIT"], NOBODY),
        (["BEGIN", A, "SAVEPOINT x", "ROLLBACK TO x"], NOBODY),
        (["BEGIN", A, "ROLLBACK TO x", "ROLLBACK"], BASE),
        ([A, "BEGIN", "SET LOCAL app.\"user\" = 'bob'", "COMMIT"], ANNA),
        ([A, "BEGIN", "SET LOCAL app.\"user\" = 'bob'"], BOB),
        ([A, "BEGIN", "SET LOCAL app.\"user\" = 'bob'", "ROLLBACK TO x", "COMMIT"], ANNA),
        ([A, "SELECT set_config('app.' || x, 'bob', false)", UNSET_A], NOBODY),
        ([A, "SELECT set_config('app.' || x, 'bob', false)", "RESET ALL"], BASE),
        ([A, "SELECT set_config('app.' || x, 'bob', false)", B], BOB),
        (["BEGIN", A, "COMMIT"], ANNA),
        (["BEGIN", A, "fail", "ROLLBACK"], BASE),
        (["BEGIN", A, "fail", "COMMIT"], BASE),
    ],
)
def test_a_variables_story_ends_with_whoever_postgresql_would_name(
    story: list[str], who: Identity
) -> None:
    assert Session().run(*story) == who


# -- pools -----------------------------------------------------------------------------------------


def test_a_drifted_client_that_ended_goes_on_in_the_sessions_that_were_there() -> None:
    pools = ClosedPools({}, spans_of([(0, 10, 20)]), {0: np.array([20])}, (0, 1000))
    times = np.array([5, 15, 25, 25, 500])
    sessions = np.array([1, 1, 1, 22, 20])
    found = pools.why_open(np.zeros(5, np.int64), times, times, sessions)
    assert found.tolist() == [CLOSED, DRIFTED, DRIFTED, CLOSED, DRIFTED]
