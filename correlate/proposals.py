"""What the operator should declare: from what was seen, and from the names in the schema.

In: sightings, the rules in force, the schema. Out: one proposal per undeclared column, with its
evidence. Sees no values, declares nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from scalple.correlate import personalnames
from scalple.correlate.catalog import Catalog
from scalple.correlate.rules import Rules
from scalple.correlate.undeclared import BY_NAME, NUMBER, TEXT, Sightings

_RULES = personalnames.RULES | {TEXT: "redact"}
_EMAIL = "email"


@dataclass(frozen=True, slots=True)
class Proposal:
    """An undeclared column that seems to hold personal data."""

    column: str
    kind: str
    rule: str
    by_name: bool
    rows: int
    """Rows of the record that touched the column, where its name gave it away."""
    values: tuple[tuple[str, int], ...]
    """What was recognised in it: (kind, rows)."""
    identifier: str | None
    """Under which identifier people may be found by it."""

    @property
    def evidence(self) -> str:
        """In a few words."""
        said = [f"by its name, in {self.rows:,} rows"] if self.by_name else []
        said += [f"{kind} in {rows:,} rows" for kind, rows in self.values]
        return "; ".join(said)


def propose(
    sightings: Sightings,
    rules: Rules,
    catalog: Catalog | None = None,
    carried: Iterable[str] = (),
) -> list[Proposal]:
    """By column; `carried`: columns that are declared under another name."""
    declared = {*rules.personal_data, *rules.harmless, *carried}
    declared.update(column for columns in rules.identifiers.values() for column in columns)
    views = catalog.views if catalog else {}
    columns = {*sightings.counts, *(_columns(catalog) if catalog else ())} - declared
    of_tables = (c for c in sorted(columns) if c.rpartition(".")[0] not in views)
    return [one for column in of_tables if (one := _proposal(column, sightings, rules))]


def _columns(catalog: Catalog) -> Iterable[str]:
    return (f"{name}.{c}" for name, table in catalog.tables.items() for c in table.columns)


def _proposal(column: str, sightings: Sightings, rules: Rules) -> Proposal | None:
    counts = dict(sightings.counts.get(column, {}))
    rows, numbers = counts.pop(BY_NAME, 0), counts.pop(NUMBER, 0)
    if counts.get("card", 0) <= numbers:
        counts.pop("card", None)  # of long numbers one in ten has the right check digit
    by_name = personalnames.kind_of(column)
    values = sorted(counts.items(), key=lambda one: (one[0] == TEXT, -one[1], one[0]))
    if by_name is None and not values:
        return None
    kind = by_name or values[0][0]
    identifier = _identifier(rules) if kind == _EMAIL else None
    return Proposal(
        column, kind, _RULES[kind], by_name is not None, rows, tuple(values), identifier
    )


def _identifier(rules: Rules) -> str:
    """The identifier that e-mail addresses belong to."""
    for name, columns in rules.identifiers.items():
        if any(personalnames.kind_of(column) == _EMAIL for column in columns):
            return name
    return _EMAIL


def as_toml(proposals: list[Proposal], rules: Rules) -> str:
    """Entries for the configuration, each with its evidence as a comment."""
    lines = ["[personal_data]"]
    lines += [f'{_key(one.column)} = "{one.rule}"  # {one.evidence}' for one in proposals]
    found: dict[str, list[str]] = {}
    for one in proposals:
        if one.identifier:
            found.setdefault(one.identifier, []).append(one.column)
    if found:
        lines += ["", "[identifiers]  # where people shall be found by these, too"]
    for name, columns in found.items():
        every = [*rules.identifiers.get(name, ()), *columns]
        lines.append(f"{_key(name)} = [{', '.join(map(_key, every))}]")
    return "\n".join(lines) + "\n"


def _key(text: str) -> str:
    """A basic string of TOML."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in plain) + '"'
