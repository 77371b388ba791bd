"""Random reads of a small database of people, each with what it names: for proofs against real results.

Enters: a random generator. Leaves: SELECT texts, deterministic in what they return, that join, nest,
group, compare and compute as people's statements do. Does not: run them, or know who is looked for.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

SCHEMA = """
CREATE TABLE public.users (id bigint PRIMARY KEY, email text UNIQUE, name text, iban text, region text,
    referrer bigint);
CREATE TABLE public.orders (id bigint PRIMARY KEY, user_id bigint, product text, note text, gift_for bigint);
CREATE TABLE public.products (id bigint PRIMARY KEY, title text, price bigint);
CREATE VIEW public.europeans AS SELECT id, email, name FROM public.users WHERE region = 'EU';
CREATE VIEW public.shopping AS
    SELECT u.id AS who, u.email, o.product, o.note FROM public.users u JOIN public.orders o ON o.user_id = u.id;
"""
FILLING = """
INSERT INTO users SELECT n, 'person' || n || '@example.com', 'name' || n, 'DE' || (10000 + n),
    (ARRAY['EU', 'US', 'APAC'])[n % 3 + 1], n % 7 + 1
    FROM generate_series(1, 30) AS n;
INSERT INTO orders SELECT n, n % 30 + 1, 'product' || n % 5, 'note' || n, (n * 7) % 30 + 1 FROM generate_series(1, 60) AS n;
INSERT INTO products SELECT n, 'product' || n, 10 * n FROM generate_series(0, 4) AS n;
"""
CONFIG = """origin = "db1"
[pooler]
kind = "none"
[identifiers]
customer_id = ["public.users.id", "public.orders.user_id"]
email = ["public.users.email"]
[personal_data]
"public.users.email" = "email"
"public.users.name" = "redact"
"public.users.iban" = "keep-last-4"
"public.orders.note" = "redact"
"""
PERSONAL = (("users", "email"), ("users", "name"), ("users", "iban"), ("orders", "note"))
IDS = range(1, 31)


@dataclass
class Probes:
    """Makes reads; `tables` are the relations with the columns that may be read of them."""

    random: random.Random
    tables: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "users": ("id", "email", "name", "iban", "region", "referrer"),
            "orders": ("id", "user_id", "product", "note", "gift_for"),
            "products": ("id", "title", "price"),
            "europeans": ("id", "email", "name"),
            "shopping": ("who", "email", "product", "note"),
        }
    )
    serial: int = 0

    def read(self) -> str:
        """One SELECT or VALUES, perhaps with a CTE or a set operation."""
        if self.chance(0.03):
            return f"VALUES ((SELECT string_agg(a, ',' ORDER BY a) FROM ({self.select(1, 1)}) AS v(a)))"
        made = self.select(2)
        if self.chance(0.15):
            operation = self.random.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
            width = self.random.randint(1, 2)
            made = f"{self.select(1, width)} {operation} {self.select(1, width)}"
        if self.chance(0.15):
            name, inner = self.alias(), self.select(1, 2)
            made = (
                f"WITH {name} AS ({inner}) SELECT * FROM {name}"
                if self.chance(0.5)
                else f"WITH {name}(a, b) AS ({inner}) SELECT * FROM ({made}) AS m, {name}"
            )
        return made

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def alias(self) -> str:
        self.serial += 1
        return f"t{self.serial}"

    def select(self, depth: int, width: int | None = None) -> str:
        """A SELECT; with `width` of so many text columns."""
        sources: dict[str, tuple[str, ...]] = {}
        clause = self.source(sources, depth)
        for _ in range(self.random.choice([0, 0, 0, 1, 1, 2])):
            clause = self.joined(clause, sources, depth)
        where = self.condition(sources, depth) if self.chance(0.8) else ""
        made = f"{self.projection(sources, depth, width)} FROM {clause}"
        if where:
            made += f" WHERE {where}"
        if self.chance(0.1):
            return (
                f"SELECT * FROM (SELECT {made} ORDER BY 1 LIMIT {self.random.randint(1, 9)}) AS l"
            )
        return f"SELECT {made}"

    def source(self, sources: dict[str, tuple[str, ...]], depth: int) -> str:
        name = self.alias()
        if depth and self.chance(0.15):
            inner: dict[str, tuple[str, ...]] = {}
            clause = self.source(inner, depth - 1)
            columns = self.random.sample(self.columns(inner), 2)
            sources[name] = ("a", "b")
            where = f" WHERE {self.condition(inner, 0)}" if self.chance(0.6) else ""
            return f"(SELECT {columns[0]} AS a, {columns[1]} AS b FROM {clause}{where}) AS {name}"
        table = self.random.choice(["users", "users", "users", *self.tables])
        sources[name] = self.tables[table]
        prefix = "public." if self.chance(0.2) else ""
        return f"{prefix}{table} AS {name}" if self.chance(0.5) else f"{prefix}{table} {name}"

    def joined(self, clause: str, sources: dict[str, tuple[str, ...]], depth: int) -> str:
        before = dict(sources)
        added = self.source(sources, depth)
        new = next(name for name in sources if name not in before)
        kind = self.random.choice(
            ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN", ","]
        )
        if kind in ("CROSS JOIN", ","):
            return (
                f"({clause}) CROSS JOIN {added}"
                if " " in clause
                else f"{clause} CROSS JOIN {added}"
            )
        keys = {"id", "user_id", "who", "referrer", "gift_for"}
        left = [c for c in self.columns(before) if c.rpartition(".")[2] in keys]
        right = [f"{new}.{c}" for c in sources[new] if c in keys]
        if left and right and self.chance(0.8):
            condition = f"{self.random.choice(left)} = {self.random.choice(right)}"
        else:
            condition = (
                f"{self.random.choice(self.columns(before))}::text = {new}.{sources[new][0]}::text"
            )
        if kind == "FULL JOIN":
            return f"{clause} {kind} {added} ON {condition}"
        if self.chance(0.2):
            condition += f" AND {self.predicate({new: sources[new]}, 0)}"
        return f"{clause} {kind} {added} ON {condition}"

    @staticmethod
    def columns(sources: dict[str, tuple[str, ...]]) -> list[str]:
        return [f"{name}.{column}" for name, columns in sources.items() for column in columns]

    def projection(self, sources: dict[str, tuple[str, ...]], depth: int, width: int | None) -> str:
        columns = self.columns(sources)
        if width is not None:
            return ", ".join(f"{self.random.choice(columns)}::text" for _ in range(width))
        if self.chance(0.15):
            return "*" if self.chance(0.5) else f"{self.random.choice(list(sources))}.*"
        if self.chance(0.15):
            kind = self.random.choice(
                ["count(*)", "count(DISTINCT {})", "max({}::text)", "min({}::text)"]
            )
            return kind.format(self.random.choice(columns))
        if self.chance(0.08):
            one = self.random.choice(columns)
            return f"string_agg({one}::text, ',' ORDER BY {one}::text)"
        made = []
        for _ in range(self.random.randint(1, 3)):
            column = self.random.choice(columns)
            forms = [
                column,
                column,
                f"upper({column}::text)",
                f"left({column}::text, 7) || 'x'",
                f"CASE WHEN {self.predicate(sources, 0)} THEN {column}::text ELSE 'none' END",
                f"coalesce({column}::text, 'nothing')",
                f"row_number() OVER (ORDER BY {column}, {columns[0]})",
                "1",
            ]
            if depth:
                inner: dict[str, tuple[str, ...]] = {}
                clause = self.source(inner, 0)
                picked = self.random.choice(self.columns(inner))
                forms.append(
                    f"(SELECT max({picked}::text) FROM {clause} WHERE {self.predicate(inner, 0)})"
                )
            made.append(self.random.choice(forms))
        distinct = "DISTINCT " if self.chance(0.1) and "OVER" not in "".join(made) else ""
        return distinct + ", ".join(made)

    def condition(self, sources: dict[str, tuple[str, ...]], depth: int) -> str:
        parts = [
            self.predicate(sources, depth) for _ in range(self.random.choice([1, 1, 1, 2, 2, 3]))
        ]
        made = parts[0]
        for one in parts[1:]:
            made = f"({made} {self.random.choice(['AND', 'AND', 'OR'])} {one})"
        return made

    def predicate(self, sources: dict[str, tuple[str, ...]], depth: int) -> str:
        column = self.random.choice(self.columns(sources))
        bare = column.rpartition(".")[2]
        makers: list[Callable[[str], str]] = [self._text]
        if bare in ("id", "user_id", "who", "referrer", "gift_for"):
            makers = [self._key]
        elif bare == "price":
            makers = [lambda c: f"{c} < {self.random.choice([5, 25, 100])}"]
        if depth and self.chance(0.2):
            makers = [self._nested]
        made = self.random.choice(makers)(column)
        return f"NOT ({made})" if self.chance(0.07) else made

    def _key(self, column: str) -> str:
        some = [self.random.choice(IDS) for _ in range(3)]
        return self.random.choice(
            [
                f"{column} = {some[0]}",
                f"{column} = {some[0]}",
                f"{some[0]} = {column}",
                f"{column} = '{some[0]}'",
                f"{column} IN ({some[0]}, {some[1]})",
                f"{column} = ANY (ARRAY[{some[0]}, {some[1]}, {some[2]}])",
                f"{column} = ANY ('{{{some[0]},{some[1]}}}')",
                f"{column} > {some[0]}",
                f"{column} BETWEEN {min(some)} AND {max(some)}",
                f"{column} <> {some[0]}",
                f"{column} % 2 = 0",
                f"{column} IS NOT DISTINCT FROM {some[0]}",
                f"{column} + 1 = {some[0]}",
                f"({column}, 1) = ({some[0]}, 1)",
                f"{column} NOT IN ({some[0]}, {some[1]})",
            ]
        )

    def _text(self, column: str) -> str:
        number = self.random.choice(IDS)
        value = {
            "email": f"person{number}@example.com",
            "region": self.random.choice(["EU", "US"]),
            "name": f"name{number}",
        }.get(column.rpartition(".")[2], f"product{number % 5}")
        return self.random.choice(
            [
                f"{column}::text = '{value}'",
                f"{column}::text = '{value}'",
                f"lower({column}::text) = lower('{value}')",
                f"{column}::text LIKE '{value[:4]}%'",
                f"{column}::text > '{value}'",
                f"{column} IS NOT NULL",
                f"length({column}::text) > {self.random.choice([2, 8, 12])}",
            ]
        )

    def _nested(self, column: str) -> str:
        inner: dict[str, tuple[str, ...]] = {}
        clause = self.source(inner, 0)
        picked = self.random.choice(self.columns(inner))
        return self.random.choice(
            [
                f"{column}::text IN (SELECT {picked}::text FROM {clause} WHERE {self.predicate(inner, 0)})",
                f"EXISTS (SELECT 1 FROM {clause} WHERE {picked}::text = {column}::text)",
                f"EXISTS (SELECT 1 FROM {clause} WHERE {self.predicate(inner, 0)})",
                f"{column}::text = (SELECT max({picked}::text) FROM {clause})",
            ]
        )
