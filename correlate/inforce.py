"""Declarations in the names of one time: what `[identifiers]` and `[personal_data]` mean then.

In: declared columns, and what relations and columns were called before (`lineage`). Out: the same
declarations under the names that these have now. The rules (docs/SCHEMA.md, "Declarations"):

1. A declaration belongs to what bore the name first, and goes with it.
2. What takes a declared name that is another one's counts for it too if it was made to be that, and
   perhaps if nobody knows; not if it has declarations of its own, or has changed places with it.
3. Whatever bears a declared name is masked as declared.

Knows no values and no statements.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from scalple.correlate.lineage import Lineage, Lineages, Names
from scalple.correlate.rules import Rules

_HIDDEN = "redact"
"""An identifier that is one by its name alone shows no token: it would be another one's."""


@dataclass(slots=True)
class InForce:
    """Declarations; columns are `schema.table.column`."""

    names: dict[str, list[str]] = field(default_factory=dict)
    """Column -> the identifiers that it holds."""
    personal: dict[str, str] = field(default_factory=dict)
    """Column -> how it is masked."""
    harmless: set[str] = field(default_factory=set)
    perhaps: dict[str, list[str]] = field(default_factory=dict)
    """Column that perhaps is a declared one -> the identifiers that it then holds: it names nobody,
    and statements that read it could have shown anybody."""
    masked: dict[str, str] = field(default_factory=dict)
    """Column that is masked for its name, or perhaps -> how."""
    vacant: set[str] = field(default_factory=set)
    """Columns of these that nothing is known to bear now."""

    @classmethod
    def declared(cls, rules: Rules) -> "InForce":
        """As the configuration has them."""
        found = cls(personal=dict(rules.personal_data), harmless=set(rules.harmless))
        for name, columns in rules.identifiers.items():
            for column in columns:
                found.names.setdefault(column, []).append(name)
        return found

    @property
    def present(self) -> list[str]:
        """Columns that exist according to the declarations."""
        every = dict.fromkeys((*self.names, *self.personal))
        return [column for column in every if column not in self.vacant]

    @property
    def tables(self) -> set[str]:
        """Those whose columns are identifiers or personal data, or perhaps are."""
        return {_relation(column) for column in (*self.names, *self.personal, *self.perhaps)}

    def of_identifiers(self, wanted: Iterable[str]) -> set[str]:
        """The columns that hold one of the identifiers, or perhaps do."""
        asked = set(wanted)
        both = (*self.names.items(), *self.perhaps.items())
        return {column for column, names in both if not asked.isdisjoint(names)}

    def under(
        self, lineages: Lineages, knows: Callable[[str], bool] = lambda _relation: False
    ) -> "InForce":
        """These declarations, in the names that have come of the declared ones.

        Args:
            lineages: what was called otherwise before.
            knows: whether there is a relation of that name.
        """
        return _Carried(self, lineages, knows).found


def _relation(column: str) -> str:
    return column.rpartition(".")[0]


class _Carried:
    """Works out what is in force."""

    def __init__(self, declared: InForce, lineages: Lineages, knows: Callable[[str], bool]) -> None:
        self._declared = declared
        self._columns: dict[str, dict[str, None]] = {}
        for column in (*declared.names, *declared.personal, *declared.harmless):
            relation, _, name = column.rpartition(".")
            self._columns.setdefault(relation, {})[name] = None
        relations = lineages.relations.telling()
        changed = {
            one: None
            for one in (*relations, *lineages.columns)
            if self._concerns(one, lineages.relations.get(one))
        }
        if not changed:
            self.found = declared
            return
        self.found = InForce(
            {c: list(n) for c, n in declared.names.items() if _relation(c) not in changed},
            {c: r for c, r in declared.personal.items() if _relation(c) not in changed},
            {c for c in declared.harmless if _relation(c) not in changed},
        )
        for relation in changed:
            names = lineages.columns.get(relation, Names())
            self._carry(relation, lineages.relations.get(relation), names)
        left = {name for one in changed for name in lineages.relations.get(one).owned}
        for relation in left - changed.keys() - lineages.relations.of.keys():
            if not knows(relation):
                columns = self._columns.get(relation, ())
                self.found.vacant |= {f"{relation}.{column}" for column in columns}

    def _concerns(self, present: str, one: Lineage) -> bool:
        every = (present, *one.owned, *one.perhaps)
        return any(name in self._columns for name in every)

    def _carry(self, relation: str, one: Lineage, columns: Names) -> None:
        own = [name for name in one.names if name in self._columns]
        for name in own or [name for name in one.heir if name in self._columns]:
            for column, here, is_sure in self._present(name, columns):
                self._put(f"{name}.{column}", f"{relation}.{here}", is_sure=is_sure)
        for name in [] if own else [name for name in one.perhaps if name in self._columns]:
            for column, here, _ in self._present(name, columns):
                self._put(f"{name}.{column}", f"{relation}.{here}", is_sure=False)
        for column in self._columns.get(relation, ()):
            self._by_name(f"{relation}.{column}", relation in own and column not in columns.of)

    def _present(self, name: str, columns: Names) -> Iterator[tuple[str, str, bool]]:
        """(declared column, what it is called now, whether that is sure) of a declared relation."""
        declared = self._columns[name]
        for column in declared:
            is_trivial = column not in columns.of
            for now, one in columns.of.items():
                is_other = any(own in declared for own in one.names)
                if column in one.names or (column in one.heir and not is_other):
                    yield column, now, True
                elif column in one.perhaps and not is_other:
                    yield column, now, False
                is_trivial &= column not in one.names
            if is_trivial:
                yield column, column, True

    def _put(self, declared: str, present: str, *, is_sure: bool) -> None:
        found, rule = self.found, self._declared.personal.get(declared)
        names = self._declared.names.get(declared, [])
        if not is_sure:
            if names or rule:
                _add(found.perhaps, present, names)
                found.masked.setdefault(present, rule or _HIDDEN)
            return
        if names:
            _add(found.names, present, names)
        if rule:
            found.personal.setdefault(present, rule)
        if declared in self._declared.harmless:
            found.harmless.add(present)

    def _by_name(self, column: str, is_vacant: bool) -> None:
        """A column that bears a declared name, which may mean another one now."""
        found = self.found
        if column in found.names or column in found.personal or column in found.harmless:
            return
        rule = self._declared.personal.get(column)
        names = self._declared.names.get(column)
        if not is_vacant:
            if rule or names:
                found.masked.setdefault(column, rule or _HIDDEN)
            return
        # Nothing is known to bear the name; should something do so, it is what was meant.
        found.vacant.add(column)
        if rule:
            found.personal[column] = rule
        if names:
            found.names[column] = list(names)


def _add(names: dict[str, list[str]], column: str, more: Iterable[str]) -> None:
    known = names.setdefault(column, [])
    known += [name for name in more if name not in known]
