"""When, after the log began, who may do what can have changed: GRANT, REVOKE, roles, DDL.

Enters: batches of log records, in the order of the log; what earlier runs recorded. Leaves: for each
change what it touched, when it was logged, and when its transaction was over. What it changed isn't
worked out: between a change and the next snapshot taken after the end of its transaction the rights
that it touched are unknown (`rightstimeline`). Reading the same records twice changes nothing.
"""

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    dictionary_encoded,
    session_names,
)
from scalple.correlate.rightsscope import EVERYTHING, may_tell, scopes_of
from scalple.ingest.errors import VerificationError
from scalple.ingest.pgaudit import NOT_LOGGED, PREVIOUSLY_LOGGED

CHANGES_MAX = 2_000
"""Of more, the older half is put together by what was touched, then forgotten."""
_SAID = ("class", "command", "object_type", "object_name", "statement")


@dataclass(slots=True, eq=False)
class Changed:
    """What one statement may have changed.

    Attributes:
        database: None for all of them.
        scope: `rightsscope.EVERYTHING`, `schema.table`, or `.table`.
        begin_us: when it was logged, microseconds since 1970.
        end_us: a record of its session from when its transaction was over; None: none was seen.
        session, transaction: whose it was.
    """

    database: str | None
    scope: str
    begin_us: int
    end_us: int | None
    session: str
    transaction: str | None

    @property
    def key(self) -> tuple[object, ...]:
        """The same for the same statement, read again."""
        return (self.database, self.scope, self.begin_us, self.session)


@dataclass(slots=True)
class RightsChanges:
    """All changes of one origin's log."""

    since_us: int | None = None
    """From when on the log was read; what changed before isn't known."""
    changes: list[Changed] = field(default_factory=list)
    naming: set[str | None] = field(default_factory=set)
    """Databases whose records of DDL name their objects."""
    revision: int = 0
    """Grows with everything that is to be kept."""
    _keys: set[tuple[object, ...]] = field(default_factory=set)

    def note(self, batch: LogBatch, left: Bools) -> None:
        """A batch. `left`: records with which their session ended."""
        known = batch.time_us[batch.time_us > 0]
        if len(known) and (self.since_us is None or int(known.min()) < self.since_us):
            self.since_us = int(known.min())
            self.revision += 1
        told = _telling(batch)
        unended = {one.session for one in self.changes if one.end_us is None}
        if not len(told) and not unended:
            return
        encoded = session_names(batch.log)
        names = [*encoded.dictionary.to_pylist(), None]
        session_of = codes_of(encoded, null=len(names) - 1)
        places: dict[Changed, int] = {}
        for place in told.tolist():
            position = int(batch.audit_rows[place])
            for one in self._read(batch, place, position, names[session_of[position]] or ""):
                places[one] = position
        self._end(batch, left, session_of, names, places, unended)
        self.fold()

    def _read(self, batch: LogBatch, place: int, position: int, session: str) -> list[Changed]:
        kind, command, object_type, object_name, text = (
            batch.payload.column(name)[place].as_py() for name in _SAID
        )
        database = batch.log.column("database_name")[position].as_py()
        scopes, is_everywhere = scopes_of(
            kind,
            command or "",
            object_type,
            object_name,
            None if text in (NOT_LOGGED, PREVIOUSLY_LOGGED) else text,
            is_naming=database in self.naming,
        )
        if kind == "DDL" and object_type and database not in self.naming:
            self.naming.add(database)
            self.revision += 1
        transaction = batch.log.column("virtual_transaction_id")[position].as_py()
        of = None if is_everywhere else database
        found = [
            Changed(of, scope, int(batch.time_us[position]), None, session, transaction)
            for scope in sorted(scopes)
        ]
        new = [one for one in found if one.key not in self._keys]
        self._keys.update(one.key for one in new)
        self.changes += new
        self.revision += len(new)
        return new

    def _end(
        self,
        batch: LogBatch,
        left: Bools,
        session_of: Ints,
        names: list[str | None],
        places: dict[Changed, int],
        unended: set[str],
    ) -> None:
        """The next record of the session in another transaction comes after the end of this one."""
        mine = unended | {one.session for one in places}
        codes = [code for code, name in enumerate(names) if name in mine]
        encoded = dictionary_encoded(batch.log.column("virtual_transaction_id"))
        ids = [*encoded.dictionary.to_pylist(), None]
        of_ids = codes_of(encoded, null=len(ids) - 1)
        is_told = np.array([bool(one) for one in ids])[of_ids]
        for code in codes:
            at = np.flatnonzero(session_of == code)
            for one in self.changes:
                if one.session != names[code] or one.end_us is not None:
                    continue
                own = ids.index(one.transaction) if one.transaction in ids else -1
                over = left[at] | ((of_ids[at] != own) & is_told[at] & bool(one.transaction))
                # Where a batch is read again, the session's earlier records come once more.
                over &= (at > places.get(one, -1)) & (batch.time_us[at] > one.begin_us)
                if over.any():
                    one.end_us = int(batch.time_us[at[int(np.argmax(over))]])
                    self.revision += 1

    def fold(self) -> None:
        """Keep no more than CHANGES_MAX: of the older half what was touched, and from when to when."""
        if len(self.changes) <= CHANGES_MAX:
            return
        by_time = sorted(self.changes, key=lambda one: one.begin_us)
        half = CHANGES_MAX // 2
        older: dict[tuple[object, ...], Changed] = {}
        unended = []
        for one in by_time[:-half]:
            if one.end_us is None:
                unended.append(one)
                continue
            first = older.setdefault((one.database, one.scope), one)
            assert first.end_us is not None
            first.end_us = max(first.end_us, one.end_us)
        if len(unended) > half // 2:
            # Whose ends nobody will see, perhaps: from there on nothing is known any more.
            unended = [Changed(None, EVERYTHING, unended[0].begin_us, None, "", None)]
        kept = [*older.values(), *unended, *by_time[-half:]]
        if len(kept) > CHANGES_MAX:
            ends = [one.end_us for one in older.values() if one.end_us is not None]
            kept = [*unended, *by_time[-half:]]
            self.since_us = max(by_time[-half].begin_us, *ends)
        self.changes = kept
        self._keys = {one.key for one in kept}

    def to_bytes(self) -> bytes:
        """For the store."""
        value = {
            "since_us": self.since_us,
            "naming": sorted(self.naming, key=str),
            "changes": [asdict(one) for one in self.changes],
        }
        return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> "RightsChanges":
        """The inverse; of nothing, nothing was read.

        Raises:
            VerificationError: the object holds something else.
        """
        if data is None:
            return cls()
        try:
            value = json.loads(data)
            changes = [Changed(**one) for one in value["changes"]]
            return cls(
                value["since_us"],
                changes,
                set(value["naming"]),
                0,
                {one.key for one in changes},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VerificationError(
                f"the recorded changes of rights can't be read: {error}"
            ) from error


def _telling(batch: LogBatch) -> Ints:
    """Places among pgAudit's records of those that can change rights; not those that a client raised."""
    codes = []
    for name in ("class", "command"):
        encoded = dictionary_encoded(batch.payload.column(name))
        codes.append(([*encoded.dictionary.to_pylist(), None], codes_of(encoded)))
    (kinds, kind_of), (commands, command_of) = codes
    telling = np.array([[may_tell(kind, command) for command in commands] for kind in kinds], bool)
    found: Ints = np.flatnonzero(telling[kind_of, command_of] & ~batch.forged)
    return found
