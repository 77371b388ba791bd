"""What the declarations say about one form of statement, worked out once and remembered.

In: skeletons, `Rules`, the catalog. Out: `Form`: tables, columns, shape, and for each literal and
bind parameter that needs it a `Target`: how to mask it, whom it names. Sees no values.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from scalple.correlate import masking, sqltext, statements, templates
from scalple.correlate.catalog import Catalog, read_schema
from scalple.correlate.dependent import Dependent
from scalple.correlate.queries import Binding
from scalple.correlate.rules import Rules
from scalple.ingest.errors import ConfigError

_REMEMBERED = 8192  # forms
_CATALOGS = 256

# A literal after such a name is a secret whether the statement can be parsed or not.
_SECRET_BEFORE = re.compile(
    r"""(?:passw(?:or)?d|passphrase|pwd|secret|token|api_?key|credential)(?!_encryption)[\w."]{0,64}+
        \s*+(?:=>?|:=|\bto\b|\()?\s*+[\x01\x02]""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Target:
    """What happens to a value. Values with equal targets are treated alike."""

    rule: str | None
    """A rule of `masking`, `id`, or None: not masked."""
    name: str = ""
    """Identifier whose token `id` shows."""
    subjects: tuple[tuple[str, str], ...] = ()
    """(identifier, column) pairs that the value names."""
    is_array: bool = False
    is_negative: bool = False


REDACT = Target("redact")


@dataclass(frozen=True, slots=True)
class Form:
    """One form of statement under the rules in force."""

    fingerprint: str
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    basis: str = "unknown"
    shape: str | None = None
    masked_fields: tuple[str, ...] | None = None
    literals: dict[Target, list[int]] = field(default_factory=dict)
    parameters: dict[Target, list[int]] = field(default_factory=dict)
    redacts_parameters: bool = False
    """The statement couldn't be read: any parameter may be personal."""
    comments: tuple[int, ...] = ()


class FormReader:
    """Forms by skeleton and schema; the least recently used are forgotten.

    A form is worked out anew only if a relation that it names has changed.
    """

    def __init__(self, rules: Rules, schema_sql: str | None) -> None:
        self._names: dict[str, list[str]] = {}
        for name, columns in rules.identifiers.items():
            for column in columns:
                self._names.setdefault(column, []).append(name)
        self._personal = dict(rules.personal_data)
        for column, rule in self._personal.items():
            if rule not in masking.RULES:
                raise ConfigError(
                    f"unknown masking rule {rule!r}",
                    place=column,
                    hint="one of " + ", ".join(masking.RULES),
                )
        self._identifiers = frozenset(self._names)
        self._forms: Dependent[Form] = Dependent(_REMEMBERED)
        self._declared: OrderedDict[int, Catalog] = OrderedDict()
        self._catalog = read_schema(schema_sql)
        self._words: tuple[int, frozenset[str]] = (0, frozenset())

    def table(self, name: str, catalog: Catalog | None = None) -> str:
        """`schema.table` of a name without a schema, and of one with."""
        schema, _, bare = name.rpartition(".")
        return self._with_declared(catalog).stored(bare, schema or None)

    def knows(self, word: str) -> bool:
        """A name (quoted or not) of a schema, table, view or column, or a word of SQL."""
        name = word.strip('"') if word.startswith('"') else word.lower()
        if self._words[0] != self._catalog.serial:
            self._words = (self._catalog.serial, _names(self._with_declared(None)))
        return name in self._words[1] or (word[0] != '"' and sqltext.is_keyword(name))

    def read(self, skeleton: str, catalog: Catalog | None = None) -> Form:
        """The form of a skeleton under a schema; without one, under the last that was given."""
        if catalog is not None:
            self._catalog = catalog
        keep = len(skeleton) <= sqltext.LONGEST
        return self._forms.get(skeleton, self._with_declared(catalog), self._read, keep=keep)

    def _with_declared(self, catalog: Catalog | None) -> Catalog:
        """A catalog with what the declarations add to it."""
        catalog = catalog or self._catalog
        found = self._declared.get(catalog.serial)
        if found is None:
            found = self._declared[catalog.serial] = catalog.copy()
            found.declare([*self._names, *self._personal])
            if len(self._declared) > _CATALOGS:
                self._declared.popitem(last=False)
        return found

    def _read(self, skeleton: str, catalog: Catalog) -> Form:
        markers = templates.MARKERS.findall(skeleton)
        comments = tuple(i for i, m in enumerate(markers) if m == templates.COMMENT)
        mark = templates.fingerprint(skeleton)
        try:
            read = statements.analyse(skeleton, catalog, self._identifiers)
        except sqltext.Unread:
            every = [i for i, m in enumerate(markers) if m != templates.COMMENT]
            literals = {REDACT: every} if every else {}
            return Form(mark, literals=literals, redacts_parameters=True, comments=comments)
        by_slot, parameters = self._targets(read)
        if not (self._personal.keys() | self._identifiers).isdisjoint(read.carried):
            self._redact_loose(read, skeleton, markers, (by_slot, parameters))
        for slot in _secret_slots(skeleton):
            by_slot[slot] = REDACT
        accessed = [c for c in read.columns if c in self._personal]
        bound = [b.column for b in read.bindings if b.column in self._personal]
        return Form(
            mark,
            read.tables,
            read.columns,
            read.basis,
            read.shape,
            tuple(dict.fromkeys([*accessed, *bound])),
            _grouped(by_slot),
            _grouped(parameters),
            False,
            comments,
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
        personal = [self._personal[c] for c in columns if c in self._personal]
        named = [self._names[c][0] for c in columns if c in self._names]
        secret = any(masking.SECRET_NAME.search(c.rpartition(".")[2]) for c in columns)
        rule = personal[0] if personal else "id" if named else "redact" if secret else None
        if rule == "keep-last-4" and not any(b.is_value for b in bindings):
            rule = "redact"  # the end of a pattern isn't the end of the value
        subjects: dict[str, str] = {}
        for binding in bindings:
            for name in self._names.get(binding.column, ()) if binding.is_value else ():
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


def _secret_slots(skeleton: str) -> list[int]:
    if not masking.SECRET_NAME.search(skeleton):
        return []
    ends = {match.end() - 1 for match in _SECRET_BEFORE.finditer(skeleton)}
    return [i for i, m in enumerate(templates.MARKERS.finditer(skeleton)) if m.start() in ends]
