"""What became of a statement, as the log of a real server tells it, with and without `pgaudit.log_rows`.

Enters: nothing. Leaves: nothing. Any cut of the log is in test_rollbacks.py.
"""

import contextlib
from pathlib import Path

import psycopg
import pytest

from tests.commandline import rows, scalple
from tests.stack import Stack, StackOptions

pytestmark = pytest.mark.stack

MESSAGES = {
    "well": "UPDATE users SET region = 'im' WHERE id = 1 /* well */",
    "taken-back": "UPDATE users SET region = 'im' WHERE id = 2 /* taken-back */; SELECT 1 / 0",
    "fails": "UPDATE users SET id = 1 / (id - 3) WHERE id = 3 /* fails */",
    "does": "DO $$ BEGIN RAISE EXCEPTION 'no'; END $$ /* does */",
    "makes": "CREATE TEMP TABLE made (n int) /* makes */; SELECT 1 / 0",
}
NOTHING = (None, False)
BACK = (True, True)


@pytest.mark.parametrize("log_rows", ["on", "off"])
def test_what_failed_beside_a_statement_took_it_back(tmp_path: Path, log_rows: str) -> None:
    options = StackOptions(pooler=False, users=10, eu_users=2, pgaudit={"log_rows": log_rows})
    with Stack(options) as stack:
        with psycopg.connect(stack.dsn_direct(user="jmueller"), autocommit=True) as client:
            for text in MESSAGES.values():
                with contextlib.suppress(psycopg.Error):
                    client.execute(text.encode())
            left = client.execute("SELECT id FROM users WHERE region = 'im' AND id < 4").fetchall()
            assert left == [(1,)]
        logs = stack.csvlog_paths()
        given = [arg for path in logs for arg in ("--postgres-log", path)]
        said = scalple("reprocess", "--store", tmp_path / "store", *given)
    assert said.code == 0, said.err
    sql = (
        "SELECT regexp_extract(query, '/\\* (\\S+) \\*/', 1) AS mark, success, "
        "list_contains(coalesce(findings, []), 'rolled-back') AS back "
        "FROM audit WHERE command IN ('UPDATE', 'DO', 'CREATE TABLE')"
    )
    found = {one["mark"]: (one["success"], one["back"]) for one in rows(tmp_path / "store", sql)}
    if log_rows == "on":
        assert "fails" not in found  # it never ended
        assert found["well"] == (True, False)
        assert found["taken-back"] == BACK
    else:
        assert found["well"] == NOTHING
        # One of the two failed, and the log doesn't say which.
        assert found["taken-back"][0] is not True
        assert found["fails"] == (False, False)
    assert found["does"] == (False, False)
    assert found["makes"] == BACK
