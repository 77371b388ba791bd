"""The facts of rows that no digest tells of: of commits of earlier versions, and of rows revised since.

Enters: such rows. Leaves: what their facts stand for, and the rows with the numbers of their facts. Most
stores have none: whoever asks a question loads this only if there are any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from scalple.correlate.record import AUDIT
from scalple.store.bare import bare
from scalple.store.digest import Digester
from scalple.store.digestnames import MEASURES
from scalple.store.namesobject import Codes

_COLUMNS = pa.schema(
    [
        ("statement", pa.int32()),
        ("person", pa.int32()),
        *((name, AUDIT.field(name).type) for name in MEASURES),
        ("place", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns NEEDED and MEASURES, and where each row is (`quick.Places`)."""

    rows: pa.Table
    places: list[int]


class AddedFacts:
    """The facts of rows that were read themselves, numbered after those of digests."""

    def __init__(self) -> None:
        self._digester = Digester()
        self._tables: list[pa.Table] = []
        self._texts: dict[str, dict[str, int]] = {"statement": {}, "person": {}}

    def add(self, given: Rows) -> None:
        """More rows."""
        facts = self._digester.facts(given.rows)
        columns = {
            of: self._codes(of, coded)
            for of, coded in (("statement", facts.statement), ("person", facts.person))
        }
        measures = {name: given.rows.column(name) for name in MEASURES}
        table = {**columns, **measures, "place": pa.array(given.places, pa.int64())}
        self._tables.append(pa.table(table).cast(_COLUMNS))

    def _codes(self, of: str, coded: pa.DictionaryArray) -> pa.Array:
        known = self._texts[of]
        numbers = [known.setdefault(text, len(known)) for text in coded.dictionary.to_pylist()]
        return pa.array(numbers, pa.int32()).take(coded.indices)

    def texts(self, of: str) -> list[str]:
        """What the numbers of a `statement` or `person` stand for, from 0 on."""
        return list(self._texts[of])

    def facts(self, begins: Mapping[str, int], names: Sequence[Codes] | None) -> pa.Table:
        """The rows, numbered from `begins` on; with `names`, the numbers of all rows by commit, theirs."""
        table = pa.concat_tables([_COLUMNS.empty_table(), *self._tables])
        for at, of in enumerate(("statement", "person")):
            moved = np.asarray(table[of]) + np.int32(begins[of])
            table = table.set_column(at, of, bare(moved))
        if names is None:
            return table
        places = table["place"].to_pylist()
        of_rows = [names[place >> 32][place & 0xFFFFFFFF] for place in places]
        return table.append_column("names", pa.array(of_rows, pa.int32()))
