"""The schema over time: what it was like at any moment, as far as files and DDL tell.

In: schemas with the time from which they hold, changes with their times, and what became of these.
Out: the catalog of a time. Keeps the changes, bounded: the oldest are folded into a catalog that
stands for all that was before. Knows no logs and no transactions.
"""

import bisect
import itertools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from scalple.correlate import resolving, schemachanges
from scalple.correlate.catalog import Catalog, parted
from scalple.correlate.change import Change
from scalple.correlate.lineage import Lineages

BEGINNING = -(2**63)
"""A time before all others, in microseconds since 1970."""
_CHANGES = 512
"""So many changes are kept; a row from before them is read with what holds when they begin."""
_CATALOGS = 8
_marks = itertools.count(1)


@dataclass(frozen=True, slots=True)
class DatedSchema:
    """A schema and the time from which it holds.

    Attributes:
        catalog: what it says.
        time_us: microseconds since 1970; BEGINNING if it always held.
        reaches_back: it is used for what was earlier too, if nothing older is known.
        is_whole: relations that it doesn't have weren't there; otherwise only in its schemas.
        database: None for all of them.
    """

    catalog: Catalog
    time_us: int = BEGINNING
    reaches_back: bool = False
    is_whole: bool = False
    database: str | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """Changes that were made together, or a schema that takes the place of what was before."""

    number: int
    time_us: int
    changes: tuple[Change, ...] = ()
    is_certain: bool = True
    schema: DatedSchema | None = None
    is_open: bool = False
    """What became of it isn't settled."""
    is_fold: bool = False
    """Its schema stands for changes that are no longer kept one by one."""
    mark: int = field(default_factory=lambda: next(_marks))
    """No other entry of this process has it, whichever timeline it is of."""

    @property
    def stamp(self) -> int:
        """Marks the state of what it touches."""
        return 2 * self.mark + self.is_certain


class SchemaTimeline:
    """One database's schema over time."""

    def __init__(self, schemas: Iterable[DatedSchema] = ()) -> None:
        self._next = 1
        self.entries: list[Entry] = []
        """By time; of the same time, as they came."""
        dated = sorted(schemas, key=lambda one: one.time_us)
        if dated and dated[0].reaches_back:
            self._insert(Entry(0, BEGINNING, schema=replace(dated[0], time_us=BEGINNING)))
        for one in dated:
            self._insert(Entry(0, one.time_us, schema=one))
        self._kept: OrderedDict[int, Catalog] = OrderedDict()
        """Number of entries -> the catalog after these."""

    @property
    def newest_us(self) -> int:
        """From this time on the newest catalog holds."""
        return self.entries[-1].time_us if self.entries else BEGINNING

    def place(self, time_us: int) -> int:
        """How many entries a time has behind it."""
        if time_us >= self.newest_us:
            return len(self.entries)
        return bisect.bisect_right(self.entries, time_us, key=lambda one: one.time_us)

    def at(self, place: int) -> Catalog:
        """The catalog after so many entries. It is shared: `copy` it to change it."""
        found = self._kept.get(place)
        if found is None:
            found = self._kept[place] = self._built(place)
            if len(self._kept) > _CATALOGS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(place)
        return found

    def newest(self) -> Catalog:
        """The catalog after everything that is known."""
        return self.at(len(self.entries))

    def add(self, time_us: int, changes: tuple[Change, ...], *, is_certain: bool) -> Entry:
        """Changes from that time on. What they take from other relations is settled now."""
        catalog = self.at(self.place(time_us)).copy()
        entry = Entry(0, time_us, is_certain=is_certain, is_open=True)
        entry.number = self._next
        done = []
        for change in changes:
            done.append(resolving.resolved(change, catalog))
            schemachanges.apply(catalog, done[-1], entry.stamp, is_certain=is_certain)
        entry.changes = tuple(done)
        at = self._insert(entry)
        self._forget_from(at)
        if at == len(self.entries) - 1:
            self._kept[len(self.entries)] = catalog
        self._fold()
        return entry

    def settle(self, entry: Entry, *, is_certain: bool) -> None:
        """It is known now, or never will be, that the changes lasted."""
        entry.is_open = False
        if is_certain != entry.is_certain and entry in self.entries:
            entry.is_certain = is_certain
            self._forget_from(self.entries.index(entry))

    def withdraw(self, entry: Entry) -> None:
        """The changes were taken back."""
        entry.is_open = False
        if entry in self.entries:
            at = self.entries.index(entry)
            self.entries.remove(entry)
            self._forget_from(at)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Entries of an earlier run, beside the schemas that are known now."""
        for entry in sorted(entries, key=lambda one: one.number):
            self._next = max(self._next, entry.number)
            self._insert(entry)
        self._kept.clear()

    def _insert(self, entry: Entry) -> int:
        entry.number = entry.number or self._next
        self._next = max(self._next, entry.number) + 1
        at = bisect.bisect_right(self.entries, entry.time_us, key=lambda one: one.time_us)
        self.entries.insert(at, entry)
        return at

    def _forget_from(self, at: int) -> None:
        for place in [place for place in self._kept if place > at]:
            del self._kept[place]

    def _built(self, place: int) -> Catalog:
        begin = max((known for known in self._kept if known < place), default=0)
        catalog = self._kept[begin].copy() if begin else Catalog()
        for entry in self.entries[begin:place]:
            if entry.schema is not None:
                catalog = _replaced(catalog, entry.schema, is_fold=entry.is_fold)
            for change in entry.changes:
                schemachanges.apply(catalog, change, entry.stamp, is_certain=entry.is_certain)
        return catalog

    def _fold(self) -> None:
        """The older half of too many changes becomes one catalog."""
        if len(self.entries) <= _CHANGES:
            return
        settled = next((i for i, one in enumerate(self.entries) if one.is_open), len(self.entries))
        count = min(settled, _CHANGES // 2)
        if count < 2:
            return
        last = self.entries[count - 1]
        whole = DatedSchema(self.at(count), last.time_us, is_whole=True)
        self.entries[:count] = [Entry(last.number, last.time_us, schema=whole, is_fold=True)]
        kept = {place - count + 1: one for place, one in self._kept.items() if place >= count}
        self._kept = OrderedDict(kept)


def _replaced(before: Catalog, schema: DatedSchema, *, is_fold: bool) -> Catalog:
    """The catalog that a schema makes of what was known before."""
    catalog = schema.catalog.copy()
    if not is_fold:
        catalog.lineages = _lineages(before, schema)
    if not schema.is_whole:
        told = {parted(name)[0] for name in (*catalog.tables, *catalog.views)}
        for relation in (*before.tables, *before.views):
            if parted(relation)[0] not in told:
                catalog.note(relation)
                if relation in before.tables:
                    catalog.tables[relation] = before.tables[relation]
                if relation in before.views:
                    catalog.views[relation] = before.views[relation]
                if relation in before.parents:
                    catalog.parents[relation] = before.parents[relation]
    # A fold goes on with the stamps that it has; any other schema may have changed everything.
    if not is_fold or not schema.catalog.stamps:
        catalog.epoch = schema.catalog.serial
    return catalog


def _lineages(before: Catalog, schema: DatedSchema) -> Lineages:
    """What is known of the names of relations that a schema still has, or says nothing about."""
    catalog = schema.catalog
    columns: dict[str, Iterable[str]] = {}
    told = {parted(name)[0] for name in (*catalog.tables, *catalog.views)}
    for relation in (*before.lineages.relations.of, *before.lineages.columns):
        if not schema.is_whole and parted(relation)[0] not in told:
            known = before.lineages.columns.get(relation)
            columns[relation] = known.of if known else ()
        elif (table := catalog.tables.get(relation)) is not None:
            columns[relation] = table.columns
        elif (view := catalog.views.get(relation)) is not None:
            columns[relation] = view.columns
    return before.lineages.kept(columns)
