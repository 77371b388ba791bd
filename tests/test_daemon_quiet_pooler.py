"""A daemon beside real servers whose pooler has nothing to say: whoever comes straight to PostgreSQL then.

Enters: nothing. Leaves: nothing. What the daemon says in the end is what `reprocess` says of the finished logs.
"""

import time
from pathlib import Path

import psycopg
import pytest

from tests.commandline import rows, scalple
from tests.daemons import DaemonProcess
from tests.followedstack import configuration
from tests.stack import PERSONAL_ROLES, Stack, StackOptions

pytestmark = pytest.mark.stack

ROLE = PERSONAL_ROLES[0]
ACTORS = f'[actors]\nroles = {{ {ROLE} = "employee_id_7777" }}\n'
FOUND = (
    "SELECT session_user_id, attribution_grade, attribution_reason FROM audit "
    f"WHERE db_role = '{ROLE}' AND query LIKE '%region%'"
)


def ask(dsn: str) -> None:
    """One statement of a session of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT email FROM users WHERE region = 'EU' LIMIT 1")


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_quiet_pooler_leaves_no_one_unnamed(tmp_path: Path, is_killed: bool) -> None:
    store = tmp_path / "store"
    with Stack(StackOptions(pgbouncer_conf=["stats_period = 6"])) as stack:
        config = configuration(stack, [], store) + ACTORS
        more = "revise_interval_s = 0.2\n"
        with DaemonProcess(tmp_path, config, more=more) as daemon:
            ask(stack.dsn_pooler())
            said = stack.pgbouncer_log.stat().st_size
            daemon.drain()
            time.sleep(1.1)  # ids of sessions have whole seconds
            ask(stack.dsn_direct(user=ROLE))
            daemon.wait_until(lambda: len(rows(store, FOUND)) == 1)
            is_quiet = stack.pgbouncer_log.stat().st_size == said
            first = rows(store, FOUND)
            if is_killed:
                daemon.kill()
                daemon.start()
            if is_quiet:  # nobody can know yet
                assert first[0]["attribution_reason"] == "pooling-unknown"
            daemon.wait_until(lambda: rows(store, FOUND)[0]["attribution_grade"] == "proven")
            assert daemon.stop() == 0
        told = rows(store, FOUND)
        whole = tmp_path / "whole"
        assert scalple("reprocess", "--config", daemon.config, "--store", whole).code == 0
    assert told == rows(whole, FOUND)
    assert told[0]["session_user_id"] == "employee_id_7777"
    assert scalple("verify", "--store", store).code == 0
