"""A schema's text -> the catalog that it describes: DDL such as pg_dump writes, or a snapshot.

In: text. Out: a `Catalog`, and what time the text itself says it is of. Knows no files.
"""

import datetime as dt
import re

from scalple.correlate import ddl, resolving, schemachanges, snapshot
from scalple.correlate.catalog import Catalog, without_literals
from scalple.correlate.lineage import Lineages

_TAKEN_AT = re.compile(r"^\s*--\s*taken_at:\s*(\S+)\s*$", re.MULTILINE)
_HEAD = 4096
"""Characters in which a text may say its time."""


def catalog_of(text: str | None) -> Catalog:
    """The catalog that a text describes; empty without text."""
    if text is None:
        return Catalog()
    if snapshot.is_snapshot(text):
        return snapshot.read(text).catalog()
    catalog = Catalog()
    for definition in ddl.read(without_literals(text)):
        for change in definition.changes:
            schemachanges.apply(catalog, resolving.resolved(change, catalog), 0)
    catalog.lineages = Lineages()  # the text says what there is, not what became of it
    for table in catalog.tables.values():
        table.exact = False  # unless it is told of what time the text is
    return catalog


def defines_anything(text: str) -> bool:
    """Whether a table or view can be read from the text."""
    found = catalog_of(text)
    return bool(found.views) or any(table.complete for table in found.tables.values())


def taken_at(text: str) -> dt.datetime | None:
    """The time that a snapshot, or a comment `-- taken_at: 2026-04-01T00:00:00Z`, says.

    Raises:
        ValueError: it says something else than a time.
    """
    if snapshot.is_snapshot(text):
        return snapshot.read(text).taken_at
    found = _TAKEN_AT.search(text[:_HEAD])
    if found is None:
        return None
    time = dt.datetime.fromisoformat(found[1])
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
