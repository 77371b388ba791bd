"""What the declarations say about one form of statement, worked out once and remembered.

In: skeletons, `Rules`, the catalog. Out: `Form`: tables, columns, shape, and for each literal and
bind parameter that needs it a `Target`: how to mask it, whom it names. Sees no values.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from scalple.correlate import masking, sqltext, statements, templates
from scalple.correlate.catalog import Catalog, read_schema
from scalple.correlate.functions import Functions
from scalple.correlate.predicates import Binding
from scalple.correlate.rewriting import Unread
from scalple.correlate.rules import Rules
from scalple.ingest.errors import ConfigError

_REMEMBERED = 8192  # forms

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
    """Forms by skeleton; the least recently used are forgotten."""

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
        self._catalog = read_schema(schema_sql)
        self._catalog.declare([*self._names, *self._personal])
        self._declared = {c.rpartition(".")[0] for c in (*self._names, *self._personal)}
        self._functions = Functions(rules.functions, schema_sql)
        for column, name in self._functions.columns.items():
            self._names[column] = [name]
        self._words = _names(self._catalog)
        self._forms: OrderedDict[str, Form] = OrderedDict()

    def table(self, name: str) -> str:
        """`schema.table` of a name without a schema, and of one with."""
        schema, _, bare = name.rpartition(".")
        return self._catalog.qualify(bare, schema or None)

    def whole(self, table: str) -> str:
        """Of a partition that the schema knows, the partitioned table; else the table itself."""
        return self._catalog.whole(table)

    def declares(self, table: str) -> bool:
        """A column of the table is an identifier or personal data."""
        return table in self._declared

    def knows(self, word: str) -> bool:
        """A name (quoted or not) of a schema, table, view or column, or a word of SQL."""
        name = word.strip('"') if word.startswith('"') else word.lower()
        return name in self._words or (word[0] != '"' and sqltext.is_keyword(name))

    def read(self, skeleton: str) -> Form:
        form = self._forms.get(skeleton)
        if form is None:
            form = self._read(skeleton)
            if len(skeleton) <= sqltext.LONGEST:
                self._forms[skeleton] = form
                if len(self._forms) > _REMEMBERED:
                    self._forms.popitem(last=False)
        else:
            self._forms.move_to_end(skeleton)
        return form

    def _read(self, skeleton: str) -> Form:
        markers = templates.MARKERS.findall(skeleton)
        comments = tuple(i for i, m in enumerate(markers) if m == templates.COMMENT)
        mark = templates.fingerprint(skeleton)
        try:
            read = statements.analyse(skeleton, self._catalog, self._names, self._functions)
        except Unread:
            every = [i for i, m in enumerate(markers) if m != templates.COMMENT]
            literals = {REDACT: every} if every else {}
            return Form(mark, literals=literals, redacts_parameters=True, comments=comments)
        by_slot, parameters = self._targets(read)
        is_loose = not (self._personal.keys() | self._names.keys()).isdisjoint(read.carried)
        if is_loose or read.is_opaque:
            self._redact_loose(read, skeleton, markers, (by_slot, parameters))
        for slot in _secret_slots(skeleton):
            by_slot[slot] = REDACT
        if read.is_opaque:
            literals, bound = _grouped(by_slot), _grouped(parameters)
            return Form(mark, literals=literals, parameters=bound, comments=comments)
        accessed = [c for c in read.columns if c in self._personal]
        named = [b.column for b in read.bindings if b.column in self._personal]
        return Form(
            mark,
            read.tables,
            read.columns,
            read.basis,
            read.shape,
            tuple(dict.fromkeys([*accessed, *named])),
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
