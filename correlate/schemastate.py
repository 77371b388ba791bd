"""What a log has told of the schema, as bytes that the store keeps, so that a later run goes on.

In: a `SchemaWatch`, or bytes. Out: canonical JSON, and back. Holds names and types, no values;
bounded by how many changes and sessions are remembered. What files say of the schema isn't in it:
that is kept by itself.
"""

import json
from typing import Any

from scalple.correlate.catalog import Catalog, Table, View
from scalple.correlate.change import from_json, to_json
from scalple.correlate.ddlsession import DdlSession, Item, Transaction
from scalple.correlate.lineage import Lineages
from scalple.correlate.schematimeline import DatedSchema, Entry, SchemaTimeline
from scalple.correlate.schemawatch import SchemaWatch
from scalple.ingest.errors import VerificationError

_VERSION = 1
_SESSIONS = 1000


class SchemaState:
    """Writes the state when there is a new one."""

    def __init__(self) -> None:
        self._revision = 0
        self._bytes: bytes | None = None

    def of(self, watch: SchemaWatch) -> bytes | None:
        """What is to be kept; None as long as the log has told nothing."""
        if watch.revision != self._revision:
            self._revision = watch.revision
            self._bytes = to_bytes(watch)
        return self._bytes


def to_bytes(watch: SchemaWatch) -> bytes:
    """What has to be known to go on."""
    value = {
        "v": _VERSION,
        "is_telling": watch.is_telling,
        "naming": sorted(watch.naming, key=lambda name: (name is not None, name or "")),
        "databases": [
            {"name": name, "entries": _entries(one)} for name, one in watch.timelines.items()
        ],
        "sessions": {
            name: _session(one, watch) for name, one in list(watch.sessions.items())[-_SESSIONS:]
        },
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def restore(watch: SchemaWatch, data: bytes) -> None:
    """Have a watch go on from there.

    Raises:
        VerificationError: the bytes are no such state.
    """
    try:
        value = json.loads(data)
        if value["v"] != _VERSION:
            raise ValueError(f"version {value['v']}")
        watch.is_telling = bool(value["is_telling"])
        watch.naming = set(value["naming"])
        entries: dict[tuple[str | None, int], Entry] = {}
        for one in value["databases"]:
            found = [_entry(entry) for entry in one["entries"]]
            entries |= {(one["name"], entry.number): entry for entry in found}
            watch.timeline(one["name"]).restore(found)
        for name, session in value["sessions"].items():
            watch.sessions[name] = _session_of(session, entries)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"the recorded schema changes can't be read: {error}") from error


def _entries(timeline: SchemaTimeline) -> list[dict[str, Any]]:
    return [
        {
            "number": one.number,
            "time_us": one.time_us,
            "is_certain": one.is_certain,
            "is_open": one.is_open,
            "changes": [to_json(change) for change in one.changes],
            "folded": catalog_to_plain(one.schema.catalog) if one.schema else None,
        }
        for one in timeline.entries
        if one.schema is None or one.is_fold
    ]


def _entry(value: dict[str, Any]) -> Entry:
    schema = None
    if value["folded"] is not None:
        schema = DatedSchema(_catalog_of(value["folded"]), int(value["time_us"]), is_whole=True)
    return Entry(
        int(value["number"]),
        int(value["time_us"]),
        tuple(from_json(change) for change in value["changes"]),
        bool(value["is_certain"]),
        schema,
        bool(value["is_open"]),
        is_fold=schema is not None,
    )


def catalog_to_plain(catalog: Catalog) -> dict[str, Any]:
    """All that is known of relations, as JSON can hold it."""
    return {
        "tables": {
            name: {
                "columns": list(table.columns),
                "keys": [sorted(key) for key in table.keys],
                "key_names": table.key_names,
                "types": table.types,
                "complete": table.complete,
                "exact": table.exact,
                "gone": sorted(table.gone),
            }
            for name, table in catalog.tables.items()
        },
        "views": {
            name: {"query": view.query, "columns": view.columns}
            for name, view in catalog.views.items()
        },
        "parents": catalog.parents,
        "lineages": catalog.lineages.to_plain(whole=True),
    }


def _catalog_of(value: dict[str, Any]) -> Catalog:
    # Older states have no lineages.
    lineages = Lineages.from_plain(value.get("lineages", {}))
    catalog = Catalog(parents=dict(value["parents"]), lineages=lineages)
    for name, one in value["tables"].items():
        catalog.note(name)
        catalog.tables[name] = Table(
            dict.fromkeys(one["columns"]),
            [frozenset(key) for key in one["keys"]],
            bool(one["complete"]),
            dict(one["types"]),
            list(one["key_names"]),
            bool(one["exact"]),
            frozenset(one["gone"]),
        )
    for name, one in value["views"].items():
        catalog.note(name)
        catalog.views[name] = View(one["query"], tuple(one["columns"]))
    return catalog


def _session(session: DdlSession, watch: SchemaWatch) -> dict[str, Any]:
    transaction = session.transaction
    return {
        "temporary": [_item(one, watch) for one in session.temporary],
        "transaction": transaction
        and {
            "name": transaction.name,
            "is_block": transaction.is_block,
            "is_sure": transaction.is_sure,
            "statement": transaction.statement,
            "has_company": transaction.has_company,
            "items": [_item(one, watch) for one in transaction.items],
            "marks": transaction.marks,
            "has_failed": transaction.has_failed,
            "is_done": transaction.is_done,
        },
    }


def _session_of(value: dict[str, Any], entries: dict[tuple[str | None, int], Entry]) -> DdlSession:
    session = DdlSession(temporary=[_item_of(one, entries) for one in value["temporary"]])
    if (told := value["transaction"]) is not None:
        session.transaction = Transaction(
            str(told["name"]),
            bool(told["is_block"]),
            bool(told["is_sure"]),
            told["statement"],
            bool(told["has_company"]),
            [_item_of(one, entries) for one in told["items"]],
            [(name and str(name), int(count)) for name, count in told["marks"]],
            bool(told["has_failed"]),
            bool(told["is_done"]),
        )
    return session


def _item(item: Item, watch: SchemaWatch) -> dict[str, Any]:
    places = [
        [name, item.entry.number]
        for name, timeline in watch.timelines.items()
        if item.entry is not None and item.entry in timeline.entries
    ]
    return {
        "changes": [to_json(change) for change in item.changes],
        "is_doubtful": item.is_doubtful,
        "is_published": item.is_published,
        "entry": places[0] if places else None,
        "sources": item.sources and catalog_to_plain(item.sources),
    }


def _item_of(value: dict[str, Any], entries: dict[tuple[str | None, int], Entry]) -> Item:
    entry = value["entry"]
    return Item(
        tuple(from_json(change) for change in value["changes"]),
        bool(value["is_doubtful"]),
        bool(value["is_published"]),
        entries.get((entry[0], int(entry[1]))) if entry else None,
        _catalog_of(value["sources"]) if value.get("sources") else None,
    )
