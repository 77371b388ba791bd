"""The log of questions: who asked what of a store, when, and how much the answer held.

Enters: one question at a time, its subjects as tokens. Leaves: a committed row of the origin
`_access`, whose chain and signed head are those of any origin, under a key of its own. The row is
durable before the call returns, so that an answer can wait for it. It doesn't ask anything itself,
and doesn't know who the user is: the caller says.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import RaceError, StoreError
from scalple.store import keys
from scalple.store.layout import ACCESS_ORIGIN, origin_layout
from scalple.store.reader import StoreReader
from scalple.store.software import software

if TYPE_CHECKING:  # a question needn't load what writes it down
    import pyarrow as pa

LOCK_SECONDS = 30.0
"""How long a question waits for others that are being logged; each takes milliseconds."""

RACES_MAX = 5
"""How often another reader of the same bucket may be faster."""

ANSWERED = "answered"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question.

    Attributes:
        by: the user who asked, `name (uid)`.
        host: where.
        verb: `query`, `sql`, `coverage`, …
        question: what was asked, as JSON can hold it; without values that name a subject.
        tokens: (identifier, token) of the subject.
        purpose: why, in the words of whoever asked.
    """

    by: str
    host: str
    verb: str
    question: Mapping[str, Any]
    tokens: Sequence[tuple[str, int]] = ()
    purpose: str | None = None


@dataclass(frozen=True, slots=True)
class AccessLog:
    """Where questions are logged.

    Attributes:
        directory: a store; its origin `_access` takes the rows.
        key_file: the signing key of that origin; by default one is made beside the store.
    """

    directory: Path
    key_file: Path | None = None

    def record(
        self, asked: Asked, heads: Sequence[str], outcome: str, rows: int | None
    ) -> tuple[str, ...]:
        """Commit one question; returns what the operator should be told.

        Args:
            asked: who asks what.
            heads: what of (`heads_of`).
            outcome: `answered` or `failed`.
            rows: how many the answer has.

        Raises:
            StoreError: it can't be written; then the question must not be answered.
            ConfigError: the key is missing or another one.
        """
        try:
            # Of a log that exists the key must not be made anew: it would not fit.
            exists = origin_layout(self.directory, ACCESS_ORIGIN).checkpoint.exists()
            key = keys.signing_key(
                self.directory, self.key_file, name="access", may_create=not exists
            )
            for _ in range(RACES_MAX):
                with contextlib.suppress(RaceError):  # others ask the same bucket from elsewhere
                    return (*key.warnings, *self._commit(key.private, asked, heads, outcome, rows))
            return (*key.warnings, *self._commit(key.private, asked, heads, outcome, rows))
        except OSError as error:
            raise StoreError(
                f"questions are logged, and the log can't be written: {error.strerror}",
                place=str(error.filename or self.directory),
                hint="name a directory that you may write: --access-log DIR",
            ) from error

    def _commit(
        self,
        private: Ed25519PrivateKey,
        asked: Asked,
        heads: Sequence[str],
        outcome: str,
        rows: int | None,
    ) -> tuple[str, ...]:
        from scalple.store.writer import StoreWriter

        with StoreWriter.open(
            self.directory,
            ACCESS_ORIGIN,
            private,
            create=True,
            lock_seconds=LOCK_SECONDS,
            resumes=True,
        ) as writer:
            row = _row(writer.next_seq["access"], asked, heads, outcome, rows)
            writer.commit({"access": row}, [], {})
            return writer.notes


def heads_of(reader: StoreReader) -> list[str]:
    """What is asked of: origin, size and root of each log."""
    heads = [reader.chain(origin).head for origin in reader.origins]
    return [f"{head.origin} {head.size} {head.root.hex()}" for head in heads]


def get_ready() -> None:
    """Load what writing a row needs, while the question is answered."""

    import cryptography.hazmat.primitives.serialization  # noqa: F401

    import scalple.store.writer  # noqa: F401  # with it Arrow's kernels and the digester

    software()


def _row(
    seq: int, asked: Asked, heads: Sequence[str], outcome: str, rows: int | None
) -> "pa.Table":
    import pyarrow as pa

    from scalple.correlate.record import ACCESS

    row = {
        "seq": seq,
        "origin": ACCESS_ORIGIN,
        "asked_at": datetime.now(UTC),
        "asked_by": asked.by,
        "host": asked.host,
        "purpose": asked.purpose,
        "verb": asked.verb,
        "question": json.dumps(asked.question, ensure_ascii=False, sort_keys=True),
        "subjects": [f"{name} {token:016x}" for name, token in asked.tokens] or None,
        "heads": list(heads),
        "outcome": outcome,
        "rows": rows,
        "software": software(),
    }
    return pa.Table.from_pylist([row], schema=ACCESS)
