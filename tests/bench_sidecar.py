"""What the sidecar costs: pgbench through it, beside PgBouncer alone and a second PgBouncer.

Enters: nothing. Leaves: lines on stdout. Runs alternate, so that ratios hold where seconds don't. Three
ways to the same PostgreSQL with pgAudit on: PgBouncer; PgBouncer behind a second PgBouncer; PgBouncer
behind the sidecar. And the memory that idle connections take.
"""

import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cluster import POSTGRES_BIN, SUPERUSER, server_account
from tests.rawclient import RawClient
from tests.sidecars import SidecarProcess, before_pooler
from tests.stack import PGBOUNCER, SHARED_ROLE, Stack, StackOptions, free_port

ROUNDS = 5
SECONDS = 4
CLIENTS = 8
IDLE = 2000
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def main() -> None:
    """Measure and print."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * IDLE)), hard))
    options = StackOptions(
        application_name_add_host=False,
        pool_size=CLIENTS,
        auth="trust",
        pgbouncer_conf=(f"max_client_conn = {2 * IDLE}",),
    )
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(options) as stack,
        second_pooler(stack) as second,
        before_pooler(stack, Path(directory)) as sidecar,
    ):
        _fill(stack)
        ways = {"PgBouncer": stack.pooler_port, "two PgBouncers": second, "sidecar": sidecar.port}
        print(f"sidecar: pgbench -S, {CLIENTS} clients, {ROUNDS} alternating runs of {SECONDS} s")
        for protocol in ("simple", "extended"):
            _compare(stack, ways, protocol)
        _idle(stack, sidecar)


@contextmanager
def second_pooler(stack: Stack) -> Iterator[int]:
    """A PgBouncer before the stack's own; its port."""
    port = free_port()
    text = (stack.root / "pgbouncer.ini").read_text()
    text = text.replace(f"listen_port = {stack.pooler_port}", f"listen_port = {port}")
    text = text.replace(f"port={stack.postgres_port}", f"port={stack.pooler_port}")
    ini = stack.root / "second.ini"
    ini.write_text(text.replace("pgbouncer.log", "second.log"))
    command = [str(PGBOUNCER), "-q", str(ini)]
    account = server_account()
    who = ["setpriv", "--pdeathsig", "TERM", "--reuid", str(account.pw_uid), "--clear-groups", "--"]
    process = subprocess.Popen([*who, *command], env=_ENVIRONMENT, stdin=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _fill(stack: Stack) -> None:
    place = ["-h", str(stack.socket_directory), "-p", str(stack.postgres_port), "-U", SUPERUSER]
    command = [str(POSTGRES_BIN / "pgbench"), "-i", "-s", "5", "-q", *place, stack.options.database]
    subprocess.run(command, check=True, env=_ENVIRONMENT, capture_output=True)
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as connection:
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO staff")


def _compare(stack: Stack, ways: dict[str, int], protocol: str) -> None:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, port in ways.items():
            found[name].append(_transactions(stack, port, protocol, tell=name == "sidecar"))
    middle = {name: statistics.median(values) for name, values in found.items()}
    for name, rate in middle.items():
        share = rate / middle["PgBouncer"]
        print(f"  {protocol:<9} {name:<15} {rate:>9,.0f} tps  -> {share:.2f} of PgBouncer alone")
    second = middle["sidecar"] / middle["two PgBouncers"]
    print(f"  {protocol:<9} the sidecar leaves {second:.2f} of what a second PgBouncer leaves")


def _transactions(stack: Stack, port: int, protocol: str, *, tell: bool) -> float:
    place = ["-h", "127.0.0.1", "-p", str(port), "-U", SHARED_ROLE]
    load = ["-S", "-n", "-c", str(CLIENTS), "-T", str(SECONDS), "-M", protocol]
    said = {"PGOPTIONS": "-c scalple.user=bench"} if tell else {}
    done = subprocess.run(
        [str(POSTGRES_BIN / "pgbench"), *load, *place, stack.options.database],
        check=True,
        env=_ENVIRONMENT | said,
        capture_output=True,
        text=True,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def _idle(stack: Stack, sidecar: SidecarProcess) -> None:
    """Memory per connection that does nothing."""
    before = _memory(sidecar)
    who = {"user": SHARED_ROLE, "database": stack.options.database, "scalple.user": "idle"}
    clients = [RawClient(sidecar.port, who) for _ in range(IDLE)]
    each = (_memory(sidecar) - before) / IDLE
    for client in clients:
        client.socket.close()
    print(f"  {IDLE:,} idle connections: {each / 1000:.1f} kB each")


def _memory(sidecar: SidecarProcess) -> int:
    """Bytes in memory."""
    assert sidecar.process is not None
    pages = Path(f"/proc/{sidecar.process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


if __name__ == "__main__":
    main()
