"""A second question beside the first: its answer, its error, and an end when nobody waits for it."""

import signal
import threading

import duckdb
import pytest

from scalple.store.meanwhile import Meanwhile

ENDLESS = (
    "SELECT count(*) FROM range(10_000_000_000) a, range(1_000_000) b WHERE a.range + b.range = 1"
)


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    """A session of two cores."""
    return duckdb.connect(config={"threads": 2})


def test_both_are_answered(con: duckdb.DuckDBPyConnection) -> None:
    with Meanwhile(con, lambda: con.execute("SELECT 1").fetchall()) as second:
        first = con.cursor().execute("SELECT 2").fetchall()
    assert (first, second.result()) == ([(2,)], [(1,)])


def test_an_error_is_raised_where_the_answer_is_needed(con: duckdb.DuckDBPyConnection) -> None:
    with Meanwhile(con, lambda: con.execute("SELECT no_such_column")) as second:
        pass
    with pytest.raises(duckdb.BinderException):
        second.result()


def test_who_fails_does_not_wait_for_the_other(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ZeroDivisionError), Meanwhile(con, lambda: con.execute(ENDLESS)) as second:
        raise ZeroDivisionError
    with pytest.raises(duckdb.InterruptException):
        second.result()


def test_nor_does_who_is_interrupted_while_waiting(con: duckdb.DuckDBPyConnection) -> None:
    me, others = threading.get_ident(), set(threading.enumerate())
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(me, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), Meanwhile(con, lambda: con.execute(ENDLESS)):
        timer.start()
    timer.join()
    assert set(threading.enumerate()) <= others
