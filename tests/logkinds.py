"""Records of each kind of log that is followed, numbered, and how they are read back."""

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass

from scalple.ingest import csvlog, identity, pgbouncer, stderrlog
from scalple.ingest.container import ReadOptions
from scalple.ingest.logtime import LogTimes
from scalple.ingest.pairinglines import PairingLines
from scalple.ingest.rejects import Block
from scalple.ingest.sourcefile import Parse
from tests.test_csvlog import record

BEGAN = dt.datetime(2026, 11, 23, 3, 49, 12)
STDERR = ReadOptions("UTC", ("%m [%p] ",))


@dataclass(frozen=True)
class LogKind:
    """How one kind of log writes its nth record, and how it is read."""

    name: str
    write: Callable[[int], bytes]
    parse: Callable[[], Parse]
    """A reader for one generation."""
    numbers: Callable[[Block], list[int]]
    """Of the records in a block, in order."""


def _time(n: int) -> str:
    return (BEGAN + dt.timedelta(milliseconds=7 * n)).isoformat(" ", "milliseconds")


def _csv(n: int) -> bytes:
    text = f'AUDIT: SESSION,{n},1,READ,SELECT,,,"SELECT ""a\n{_time(n)} UTC,""\n  b",<none>'
    message = (
        text if n % 3 else f"AUDIT: SESSION,{n},1,READ,SELECT,,,SELECT {'x' * (n % 90)},<none>"
    )
    return record(n, log_time=f"{_time(n)} UTC", message=message)


def _stderr(n: int) -> bytes:
    rest = f"\n\tFROM t\n\n{_time(n)} UTC [1] LOG:  x".replace("\n", "\n\t") if n % 3 else ""
    return (
        f"{_time(n)} UTC [4711] LOG:  AUDIT: SESSION,{n},1,READ,SELECT,,,SELECT 1{rest}\n".encode()
    )


def _pooler(n: int) -> bytes:
    names = "app/us\n\ter" if n % 3 else "app/user"
    text = f"C-0x55d0c0: {names}@10.0.0.5:{n} closing because: client close request (age=0s)"
    return f"{_time(n)} UTC [812] LOG {text}\n".encode()


def _event(n: int) -> bytes:
    said = {
        "v": 1,
        "event": "identify",
        "ts": _time(n) + "Z",
        "sidecar": "app1",
        "seq": n,
        "connection": f"app1/{n}",
        "actor": "employee_id_2291" if n % 3 else None,
    }
    return json.dumps(said).encode() + b"\n"


def _of_messages(block: Block) -> list[int]:
    return [int(text.split(",")[1]) for text in block.table.column("message").to_pylist()]


def _read_csv() -> Parse:
    times = LogTimes("UTC", "test")
    return lambda data, at, final: csvlog.parse_block(data, at, times, final=final)


def _read_stderr() -> Parse:
    reader = stderrlog.CONTAINER.open(_stderr(1), "test", STDERR)
    return lambda data, at, final: reader.parse(data, at, final=final)


def _read_pooler() -> Parse:
    times, pairing = LogTimes("UTC", "test"), PairingLines()
    return lambda data, at, final: pgbouncer.parse_log(
        data, at, "test", times, final=final, pairing=pairing
    )


def _read_events() -> Parse:
    return lambda data, at, final: identity.parse_events(data, at, "test")


KINDS = (
    LogKind("csvlog", _csv, _read_csv, _of_messages),
    LogKind("stderr", _stderr, _read_stderr, _of_messages),
    LogKind(
        "pgbouncer",
        _pooler,
        _read_pooler,
        lambda block: block.table.column("client_port").to_pylist(),
    ),
    LogKind(
        "identity",
        _event,
        _read_events,
        lambda block: block.table.column("sidecar_seq").to_pylist(),
    ),
)
CSVLOG, STDERRLOG, PGBOUNCER, IDENTITY = KINDS
