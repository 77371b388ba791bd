"""What the declarations say about one form of statement, worked out once and remembered.

In: skeletons, `Rules`, the catalog. Out: `Form`: tables, columns, shape, and for each literal and
bind parameter that needs it a `Target`: how to mask it, whom it names. Sees no values.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from scalple.correlate import (
    credentials,
    keeping,
    maskingrules,
    personalnames,
    sqltext,
    statements,
    surroundings,
    templates,
)
from scalple.correlate.catalog import Catalog, read_schema, relation_name
from scalple.correlate.dependent import Dependent
from scalple.correlate.form import REDACT, STATEMENT, Form, Target
from scalple.correlate.functions import Functions
from scalple.correlate.inforce import InForce
from scalple.correlate.keptforms import KeptForms
from scalple.correlate.predicates import Binding
from scalple.correlate.rewriting import Unread
from scalple.correlate.rules import Rules
from scalple.ingest.errors import ConfigError

REMEMBERED = 8192
"""Forms, of one run and from one run to the next."""
_CATALOGS = 256
KeptUnder = Callable[[Catalog], KeptForms | None]
"""What earlier runs left for a catalog; None where nothing is kept."""


class FormReader:
    """Forms by skeleton and schema; the least recently used are forgotten.

    A form is worked out anew only if a relation that it names has changed, and only if no run before
    has left it.
    """

    def __init__(
        self,
        rules: Rules,
        schema_sql: str | None,
        functions_sql: str | None = None,
        kept: KeptUnder = lambda _catalog: None,
    ) -> None:
        self._kept = kept
        self._rules = InForce.declared(rules)
        for column, rule in self._rules.personal.items():
            if fault := maskingrules.fault(rule):
                raise ConfigError(fault, place=column, hint=maskingrules.RULES_HINT)
        self._in_force = self._rules
        """Under the catalog that was given last."""
        self._variables = frozenset(rules.claims.variables)
        bare = (c.rpartition(".")[2] for c in self._rules.present)
        self._telling = {*rules.identifiers, *(c for c in bare if "_" in c)}
        self._functions = Functions(rules.functions, functions_sql or schema_sql)
        self._arguments = {column: [name] for column, name in self._functions.columns.items()}
        self._forms: Dependent[Form] = Dependent(REMEMBERED)
        self._declared: OrderedDict[int, tuple[Catalog, InForce]] = OrderedDict()
        self._catalog = read_schema(schema_sql)
        self._words: tuple[int, frozenset[str]] = (0, frozenset())

    def table(self, name: str, catalog: Catalog | None = None) -> str:
        """`schema.table` of a name without a schema, and of one with."""
        schema, _, bare = name.rpartition(".")
        return self._with_declared(catalog)[0].stored(bare, schema or None)

    def whole(self, table: str, catalog: Catalog | None = None) -> str:
        """Of a partition that the schema knows, the partitioned table; else the table itself."""
        return self._with_declared(catalog)[0].whole(table)

    def declares(self, table: str, catalog: Catalog | None = None) -> bool:
        """A column of the table is an identifier or personal data, or perhaps is."""
        return table in self._with_declared(catalog)[1].tables

    def knows(self, word: str) -> bool:
        """A name (quoted or not) of a schema, table, view or column, or a word of SQL."""
        name = word.strip('"') if word.startswith('"') else word.lower()
        if self._words[0] != self._catalog.serial:
            self._words = (self._catalog.serial, _names(self._with_declared(None)[0]))
        return name in self._words[1] or (word[0] != '"' and sqltext.is_keyword(name))

    def read(self, skeleton: str, catalog: Catalog | None = None) -> Form:
        """The form of a skeleton under a schema; without one, under the last that was given."""
        if catalog is not None:
            self._catalog = catalog
        keep = len(skeleton) <= sqltext.LONGEST
        declared, self._in_force = self._with_declared(catalog)
        return self._forms.get(skeleton, declared, self._recalled, keep=keep)

    def _with_declared(self, catalog: Catalog | None) -> tuple[Catalog, InForce]:
        """A catalog with what the declarations add to it, and these in the names of its time."""
        catalog = catalog or self._catalog
        found = self._declared.get(catalog.serial)
        if found is None:
            in_force = self._rules.under(catalog.lineages, catalog.knows)
            found = self._declared[catalog.serial] = (catalog.copy(), in_force)
            found[0].declare(in_force.present)
            if len(self._declared) > _CATALOGS:
                self._declared.popitem(last=False)
        return found

    def _recalled(self, skeleton: str, catalog: Catalog) -> Form:
        kept = self._kept(self._catalog) if len(skeleton) <= sqltext.LONGEST else None
        if kept is None:
            return self._read(skeleton, catalog)
        asked = catalog.asked if catalog.asked is not None else set()
        if (found := kept.find(skeleton)) is not None:
            asked |= found[1]
            return found[0]
        form = self._read(skeleton, catalog)
        kept.add(skeleton, form, frozenset(asked))
        return form

    def _read(self, skeleton: str, catalog: Catalog) -> Form:
        markers = templates.MARKERS.findall(skeleton)
        comments = tuple(i for i, m in enumerate(markers) if m == templates.COMMENT)
        mark = templates.fingerprint(skeleton)
        try:
            names = self._in_force.names | self._arguments
            read = statements.analyse(skeleton, catalog, names, self._functions)
        except Unread:
            every = [i for i, m in enumerate(markers) if m != templates.COMMENT]
            literals = {REDACT: every} if every else {}
            return Form(mark, literals=literals, redacts_parameters=True, comments=comments)
        by_slot, parameters = self._targets(read)
        watched = self._watched(read, by_slot, parameters)
        is_loose = any(self._named(c) or self._rule(c) for c in read.carried)
        if is_loose or read.is_opaque:
            self._redact_loose(read, skeleton, markers, (by_slot, parameters))
        for slot, is_statement in read.handed:
            of = parameters if slot.is_parameter else by_slot
            if not (slot.number in of and of[slot.number].rule):
                of[slot.number] = STATEMENT if is_statement else REDACT
        for number in self._given_away(skeleton, read.tables):
            by_slot[number] = REDACT
        if read.is_opaque:
            literals, bound = _grouped(by_slot), _grouped(parameters)
            return Form(mark, literals=literals, parameters=bound, comments=comments)
        touched = dict.fromkeys([*read.columns, *(b.column for b in read.bindings)])
        masked = tuple(c for c in touched if self._rule(c))
        return Form(
            mark,
            read.tables,
            read.columns,
            read.basis,
            read.shape,
            masked,
            _grouped(by_slot),
            _grouped(parameters),
            False,
            comments,
            frozenset(sqltext.parameters(skeleton)),
            tuple(surroundings.set_configs(skeleton)),
            tuple(c for c in masked if not self._declared_rule(c)),
            *watched,
        )

    def _targets(self, read: statements.Statement) -> tuple[dict[int, Target], dict[int, Target]]:
        by_slot: dict[tuple[bool, int], list[Binding]] = {}
        for binding in read.bindings:
            by_slot.setdefault((binding.slot.is_parameter, binding.slot.number), []).append(binding)
        found: tuple[dict[int, Target], dict[int, Target]] = ({}, {})
        for (is_parameter, number), bindings in by_slot.items():
            target = self._target(sorted(bindings, key=lambda b: not b.is_value))
            if target.rule or target.subjects:
                found[is_parameter][number] = target
        return found

    def _rule(self, column: str) -> str | None:
        """The rule of a column that is declared personal, or personal by its name."""
        if rule := self._declared_rule(column):
            return rule
        if self._named(column) or not self._is_undeclared(column):
            return None
        kind = personalnames.kind_of(column)
        return personalnames.RULES[kind] if kind else None

    def _declared_rule(self, column: str) -> str | None:
        return self._in_force.personal.get(column) or self._in_force.masked.get(column)

    def _named(self, column: str) -> list[str]:
        """The identifiers that a column, or the argument of a function, holds."""
        return self._in_force.names.get(column) or self._arguments.get(column, [])

    def _is_undeclared(self, column: str) -> bool:
        """A table's column of which nothing is said; those of views are their tables'."""
        return not (
            column in self._in_force.harmless
            or column.rpartition(".")[0] in self._catalog.views
            or personalnames.is_system(column)
        )

    def _watched(
        self,
        read: statements.Statement,
        by_slot: dict[int, Target],
        parameters: dict[int, Target],
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Columns by the slots that are theirs and aren't masked."""
        watched: tuple[dict[int, str], dict[int, str]] = ({}, {})
        for binding in read.bindings:
            slot, column = binding.slot, binding.column
            is_free = slot.number not in (parameters if slot.is_parameter else by_slot)
            if is_free and self._is_undeclared(column):
                watched[slot.is_parameter].setdefault(slot.number, column)
        return watched

    def _given_away(self, skeleton: str, tables: Iterable[str]) -> list[int]:
        """Literals that the words around them give away."""
        found = [*credentials.slots(skeleton), *surroundings.payloads(skeleton)]
        for name, numbers in surroundings.settings(skeleton):
            found += numbers if self.is_personal_setting(name) else []
        holders = {*self._in_force.tables, *(c.rpartition(".")[0] for c in self._in_force.masked)}
        if parent := relation_name(surroundings.partitioned(skeleton)):
            tables = [*tables, self.table(parent)]
        return found + ([] if holders.isdisjoint(tables) else surroundings.bounds(skeleton))

    def is_personal_setting(self, name: str) -> bool:
        """A setting with a dot in its name that holds a person's data, and not who is at work."""
        if "." not in name or name in self._variables:
            return False
        last = name.rpartition(".")[2]
        return (
            last in self._telling
            or credentials.is_secret_name(last)
            or personalnames.kind_of(name) is not None
        )

    @staticmethod
    def _redact_loose(
        read: statements.Statement,
        skeleton: str,
        markers: list[str],
        targets: tuple[dict[int, Target], dict[int, Target]],
    ) -> None:
        """A personal column has its value from a constant that can't be told from the others."""
        slots = [(False, i) for i, m in enumerate(markers) if m != templates.COMMENT]
        slots += [(True, number) for number in sqltext.parameters(skeleton)]
        if read.defining:
            slots = [(slot.is_parameter, slot.number) for slot in read.defining]
        owned = {(b.slot.is_parameter, b.slot.number) for b in read.bindings if b.is_value}
        for is_parameter, number in slots:
            found = targets[is_parameter]
            if (is_parameter, number) not in owned and not (number in found and found[number].rule):
                found[number] = REDACT

    def _target(self, bindings: list[Binding]) -> Target:
        columns = [b.column for b in bindings]
        declared = [rule for c in columns if (rule := self._in_force.personal.get(c))]
        personal = declared or [rule for c in columns if (rule := self._rule(c))]
        named = [names[0] for c in columns if (names := self._named(c))]
        secret = any(credentials.is_secret_name(c.rpartition(".")[2]) for c in columns)
        rule = declared[0] if declared else "id" if named else "redact" if secret else None
        rule = rule or (personal[0] if personal else None)
        keeps = rule == "keep-last-4" or (rule or "").startswith(keeping.PREFIX)
        if keeps and not any(b.is_value for b in bindings):
            rule = "redact"  # the end of a pattern isn't the end of the value
        subjects: dict[str, str] = {}
        for binding in bindings:
            for name in self._named(binding.column) if binding.is_value else ():
                subjects.setdefault(name, binding.column)
        return Target(
            rule,
            named[0] if rule == "id" else "",
            tuple(subjects.items()),
            any(b.slot.is_array for b in bindings),
            any(b.slot.is_negative for b in bindings),
        )


def _names(catalog: Catalog) -> frozenset[str]:
    """Every schema, table, view and column."""
    found = {part for name in (*catalog.tables, *catalog.views) for part in name.split(".")}
    of_tables = (table.columns for table in catalog.tables.values())
    return frozenset(found.union(*of_tables, *(view.columns for view in catalog.views.values())))


def _grouped(targets: dict[int, Target]) -> dict[Target, list[int]]:
    grouped: dict[Target, list[int]] = {}
    for slot, target in targets.items():
        grouped.setdefault(target, []).append(slot)
    return grouped
