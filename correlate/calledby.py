"""Which names a batch's rows were under, where these aren't the names that all has had for ever.

In: the schema of each row. Out: a column of texts that say what relations and columns had been called
before (`Lineages.to_plain` as JSON, NULL for nothing); and what rules and questions need of such a
text.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from scalple.correlate.lineage import Lineage, Lineages, Names
from scalple.correlate.policyterms import fits_path
from scalple.correlate.rules import Rules

if TYPE_CHECKING:  # they bring the parser along, and questions read these texts
    import pyarrow as pa

    from scalple.correlate.catalog import Catalog
    from scalple.correlate.versions import Versions

CALLED = "called"
"""Name of the column, beside those of the record."""
_REMEMBERED = 512


class NamesReader:
    """Reads catalogs, and remembers what they say.

    Args:
        rules: what declares tables and columns; of others nothing is told.
    """

    def __init__(self, rules: Rules) -> None:
        columns = (*rules.personal_data, *rules.harmless, *chain(*rules.identifiers.values()))
        self._declared = {column.rpartition(".")[0] for column in columns}
        self._patterns: dict[str, None] = {}
        for one in rules.policies:
            self._patterns |= dict.fromkeys((*one.tables, *one.unless_tables))
            for column in (*one.columns, *one.unless_columns):
                self._patterns[column.rpartition(".")[0]] = None
        self._known: dict[int, str | None] = {}

    def column(self, versions: "Versions") -> "pa.DictionaryArray | None":
        """Per row what had been called otherwise; None where nothing had."""
        import numpy as np  # questions do without
        import pyarrow as pa

        texts = [self._text(catalog) for catalog in versions.catalogs]
        distinct = [one for one in dict.fromkeys(texts) if one is not None]
        if not distinct:
            return None
        code = {text: at for at, text in enumerate(distinct)}
        codes = np.array([-1 if one is None else code[one] for one in texts], np.int32)
        codes = codes[versions.codes]
        indices = pa.array(codes, mask=codes < 0)
        return pa.DictionaryArray.from_arrays(indices, pa.array(distinct, pa.string()))

    def _text(self, catalog: "Catalog") -> str | None:
        if catalog.serial not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[catalog.serial] = to_text(catalog.lineages, self._concerns)
        return self._known[catalog.serial]

    def _concerns(self, present: str, one: Lineage) -> bool:
        """It is declared, or a rule means it by one of its names and not by all."""
        names = _every(one, present)
        if not self._declared.isdisjoint(names):
            return True
        return any(len({fits_path(p, name) for name in names}) > 1 for p in self._patterns)


def to_text(lineages: Lineages, concerns: Callable[[str, Lineage], bool]) -> str | None:
    """JSON of what is to be told; None for nothing."""
    plain = lineages.to_plain(whole=False)
    found = {
        what: {now: told for now, told in of.items() if concerns(now, lineages.relations.get(now))}
        for what, of in (
            ("relations", plain["relations"].get("of", {})),
            ("columns", plain["columns"]),
        )
    }
    if not any(found.values()):
        return None
    found["relations"] = {"of": found["relations"]}
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def from_text(text: str | None) -> Lineages:
    """The inverse. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
    return Lineages() if text is None else Lineages.from_plain(json.loads(text))


@dataclass(frozen=True, slots=True)
class FormerNames:
    """What relations and columns are known by, beside their present names."""

    lineages: Lineages

    def of_table(self, table: str) -> tuple[str, ...]:
        """The names by which it may be meant: its own, those that it had, those that it may have."""
        return _every(self.lineages.relations.get(table), table)

    def of_column(self, column: str) -> tuple[str, ...]:
        """Likewise."""
        table, names, name = self._column(column)
        every = _every(names.get(name), name)
        return tuple(f"{one}.{other}" for one in self.of_table(table) for other in every)

    def sure_of_table(self, table: str) -> tuple[str, ...]:
        """The names that stand for it and for nothing else that is known."""
        return self.lineages.relations.get(table).owned

    def sure_of_column(self, column: str) -> tuple[str, ...]:
        """Likewise."""
        table, names, name = self._column(column)
        sure = names.get(name).owned
        return tuple(f"{one}.{other}" for one in self.sure_of_table(table) for other in sure)

    def _column(self, column: str) -> tuple[str, Names, str]:
        table, _, name = column.rpartition(".")
        return table, self.lineages.columns.get(table) or Names(), name


def _every(one: Lineage, present: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((present, *one.owned, *one.perhaps)))


@lru_cache(maxsize=64)
def former_names(text: str | None) -> FormerNames:
    """Of such a text; raises as `from_text`."""
    return FormerNames(from_text(text))
