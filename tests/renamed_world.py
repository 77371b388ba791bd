"""A small database whose tables and columns are renamed, swapped and moved, and statements about it.

Enters: a list of numbers, by which ops and statements are chosen. Leaves: two logs with the same
statements: one of a database in which everything is called as at the beginning, and one in which
names change in between; and of each statement what the present names stand for.
"""

from dataclasses import dataclass, field

from scalple.cli import schemafiles
from scalple.cli.schemafiles import SchemaText
from scalple.correlate.rules import Rules
from tests.ddl_log import DdlLog

SCHEMA = """
CREATE TABLE public.customers (id bigint PRIMARY KEY, email text, name text);
CREATE TABLE public.suppliers (id bigint PRIMARY KEY, email text, iban text);
CREATE TABLE crm.notes (id bigint PRIMARY KEY, customer_id bigint, body text);
CREATE TABLE public.parts (id bigint PRIMARY KEY, email text, name text);
"""
COLUMNS = {
    "public.customers": ("id", "email", "name"),
    "public.suppliers": ("id", "email", "iban"),
    "crm.notes": ("id", "customer_id", "body"),
    "public.parts": ("id", "email", "name"),
}
UNDECLARED = "public.parts"
DATED = schemafiles.dated((SchemaText(SCHEMA),))
RULES = Rules(
    identifiers={
        "customer_id": ("public.customers.id", "crm.notes.customer_id"),
        "supplier_id": ("public.suppliers.id",),
    },
    personal_data={
        "public.customers.email": "email",
        "public.customers.name": "redact",
        "public.suppliers.iban": "keep-last-4",
        "crm.notes.body": "redact",
    },
    harmless=("public.suppliers.email",),
)
_NAMES = ("customers", "suppliers", "notes", "parts", "a", "b")
_COLUMN_NAMES = ("id", "email", "name", "body", "x", "y")
OPS = ("_rename", "_swap", "_move", "_column", "_edition")
_SCHEMAS = ("public", "crm")
STATEMENTS = (
    "SELECT {1} FROM {t} WHERE {0} = 42",
    "SELECT * FROM {t}",
    "SELECT * FROM {t} WHERE {0} IN (7, 42)",
    "SELECT count(*) FROM {t} WHERE {2} = 'x@y.de'",
    "UPDATE {t} SET {2} = 'a@b.de' WHERE {0} = 7",
    "DELETE FROM {t} WHERE {1} = '42'",
    "INSERT INTO {t} ({0}, {1}, {2}) VALUES (42, '43', 'c@d.de')",
    "SELECT o.{2} FROM {t} o JOIN {u} i ON i.{v} = o.{0} WHERE o.{0} = 42",
)
"""`t` is a table with its columns by number, `u` another one with its second column `v`."""


@dataclass
class Table:
    """Its present name and the present names of its columns."""

    schema: str
    name: str
    columns: list[str]

    @property
    def whole(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass
class World:
    """What everything is called now.

    Attributes:
        plain, renamed: the logs.
        meant: per statement, present name of a table or column -> the first one.
        of: per statement, the first names of its tables.
    """

    plain: DdlLog = field(default_factory=DdlLog)
    renamed: DdlLog = field(default_factory=DdlLog)
    meant: list[dict[str, str]] = field(default_factory=list)
    of: list[set[str]] = field(default_factory=list)
    _tables: dict[str, Table] = field(default_factory=dict)
    _transaction: int = 0

    def __post_init__(self) -> None:
        for whole, columns in COLUMNS.items():
            schema, name = whole.split(".")
            self._tables[whole] = Table(schema, name, list(columns))

    def run(self, numbers: list[tuple[int, int, int]]) -> None:
        """Ops (numbers choose which), and after each of them some statements."""
        for op, one, other in numbers:
            table = list(self._tables.values())[one % len(self._tables)]
            getattr(self, OPS[op % len(OPS)])(table, one, other)
            for at in range(2):
                self.ask(one + at, op + other + at)
        for at in range(len(self._tables)):
            for statement in (0, 1, 3):
                self.ask(at, statement)

    def ask(self, which: int, statement: int) -> None:
        """The same statement in both logs."""
        first, second = (list(self._tables)[(which + at) % len(self._tables)] for at in (0, 1))
        text = STATEMENTS[statement % len(STATEMENTS)]
        number = len(self.of)
        command = text.split()[0]
        for log, tables in ((self.plain, COLUMNS), (self.renamed, None)):
            names = {}
            for key, whole in (("t", first), ("u", second)):
                now = self._tables[whole]
                names[key] = (whole, COLUMNS[whole]) if tables else (now.whole, tuple(now.columns))
            said = text.format(*names["t"][1], t=names["t"][0], u=names["u"][0], v=names["u"][1][1])
            log.says("b", number + 1, f"{said} /* {number} */", command)
        self.of.append({first, second} if "{u}" in text else {first})
        self.meant.append(self._meant())

    def _meant(self) -> dict[str, str]:
        found = {}
        for whole, table in self._tables.items():
            found[table.whole] = whole
            for now, column in zip(table.columns, COLUMNS[whole], strict=True):
                found[f"{table.whole}.{now}"] = f"{whole}.{column}"
        return found

    def _alter(self, text: str, named: str, kind: str = "TABLE") -> None:
        self._transaction += 1
        command = " ".join(text.split()[:2])
        self.renamed.says("a", self._transaction, text, command, named, kind=kind)

    def _free(self, schema: str, name: str) -> bool:
        return all(table.whole != f"{schema}.{name}" for table in self._tables.values())

    def _called(self, table: Table, name: str) -> None:
        before = table.whole
        table.name = name
        self._alter(f"ALTER TABLE {before} RENAME TO {name}", table.whole)

    def _rename(self, table: Table, _one: int, other: int) -> None:
        name = _NAMES[other % len(_NAMES)]
        if self._free(table.schema, name):
            self._called(table, name)

    def _swap(self, table: Table, one: int, other: int) -> None:
        """By way of a third name; something may be asked in between."""
        beside = [t for t in self._tables.values() if t.schema == table.schema and t is not table]
        if not beside:
            return
        partner = beside[other % len(beside)]
        mine, theirs = table.name, partner.name
        self._called(table, f"swap{len(self.of)}")
        self.ask(one, other)
        self._called(partner, mine)
        self.ask(one + 1, other)
        self.ask(one, 0)
        self._called(table, theirs)

    def _edition(self, table: Table, one: int, other: int) -> None:
        """A new edition takes its place, and the old one is dropped; or it is made anew."""
        at, whole, name = len(self.of), table.whole, table.name
        new, old = f"{table.schema}.new{at}", f"{table.schema}.old{at}"
        self._alter(f"CREATE TABLE {new} (LIKE {whole} INCLUDING ALL)", new)
        if other % 2:
            self._alter(f"ALTER TABLE {whole} RENAME TO old{at}", old)
            self._alter(f"ALTER TABLE {new} RENAME TO {name}", whole)
            self.ask(one, other)
            self._alter(f"DROP TABLE {old}", old)
        else:
            self._alter(f"DROP TABLE {whole}", whole)
            self._alter(f"ALTER TABLE {new} RENAME TO {name}", whole)

    def _move(self, table: Table, _one: int, other: int) -> None:
        schema = _SCHEMAS[other % 2]
        if schema != table.schema and self._free(schema, table.name):
            before, table.schema = table.whole, schema
            self._alter(f"ALTER TABLE {before} SET SCHEMA {schema}", table.whole)

    def _column(self, table: Table, one: int, other: int) -> None:
        at, name = one % len(table.columns), _COLUMN_NAMES[other % len(_COLUMN_NAMES)]
        if name not in table.columns:
            before, table.columns[at] = table.columns[at], name
            text = f"ALTER TABLE {table.whole} RENAME COLUMN {before} TO {name}"
            self._alter(text, f"{table.whole}.{name}", "TABLE COLUMN")
