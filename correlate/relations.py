"""What a query reads from, as its columns' origins, and how far its predicates narrow it.

In: relations, equalities and pinned columns as `sqltext` finds them. Out: the access shape of one
SELECT. Knows nothing of SQL text or its parser.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

SHAPES = ("export", "full", "write", "range", "aggregate", "point", "none")  # worst first


def worst(shapes: Iterable[str]) -> str:
    """Of several reads, the shape that discloses most."""
    return min(chain(shapes, ["none"]), key=SHAPES.index)


@dataclass(frozen=True, slots=True)
class Read:
    """How far a query is narrowed."""

    shape: str = "none"
    named: frozenset[str] = frozenset()
    """Of a `point`: identifiers by which rows of persons were chosen,"""
    unnamed: frozenset[str] = frozenset()
    """and identifiers that such rows hold and weren't chosen by."""


def together(reads: Iterable[Read]) -> Read:
    """What several reads are as one.

    It is no point where one read chose its rows by an identifier and another one, by something
    else, rows that hold the same identifier: these could be anybody's.
    """
    found = list(reads)
    shape = worst(read.shape for read in found)
    if shape != "point":
        return Read(shape)
    named = frozenset(name for read in found for name in read.named)
    unnamed = frozenset(name for read in found for name in read.unnamed)
    return Read("point", named, unnamed) if named.isdisjoint(unnamed) else Read("range")


@dataclass(frozen=True, slots=True)
class Ref:
    """Stored columns behind a name; `is_direct` when their value is the name's value."""

    columns: tuple[str, ...]
    is_direct: bool = False
    is_made: bool = False
    """A constant of the statement may stand behind the name."""

    @property
    def carries(self) -> bool:
        """A constant may come through it."""
        return self.is_made or not self.columns


@dataclass(slots=True)
class Relation:
    """A table, view, subquery or function in FROM."""

    columns: dict[str, Ref] = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    """Tables whose columns aren't all known and show through under their own names."""
    read: Read = Read()

    def find(self, name: str) -> Ref | None:
        if name in self.columns:
            return self.columns[name]
        return Ref((f"{self.rest[0]}.{name}",), True) if len(self.rest) == 1 else None

    def everything(self) -> Ref:
        return Ref(tuple(dict.fromkeys(c for ref in self.columns.values() for c in ref.columns)))

    @property
    def carries(self) -> bool:
        """A constant may come through some column; what has no columns at all is a function."""
        if not self.columns:
            return not self.rest
        return any(ref.carries for ref in self.columns.values())

    def renamed(self, names: Iterable[str]) -> "Relation":
        """Under the column names of an alias such as `t(a, b)`."""
        names = list(names)
        if not names:
            return self
        given = {n: Ref(()) for n in names}
        renamed = dict(
            zip([*names, *list(self.columns)[len(names) :]], self.columns.values(), strict=False)
        )
        return Relation(given | renamed, self.rest, self.read)

    @property
    def tables(self) -> set[str]:
        """Of the columns that it shows."""
        return {c.rpartition(".")[0] for c in self.everything().columns} | set(self.rest)


@dataclass(frozen=True, slots=True)
class Link:
    """Narrowing the relation `source` narrows `target` (ids)."""

    source: int
    target: int
    is_close: bool
    """One row, or one person's rows, of the source select one row, or that person's, of the target;
    or the target is about no persons."""


Place = tuple[int, tuple[str, ...]]
"""A direct column within one relation: the relation's id, the stored columns."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A literal (by its marker in the skeleton) or a bind parameter (n of `$n`)."""

    number: int
    is_parameter: bool
    is_array: bool = False
    is_negative: bool = False


@dataclass(slots=True)
class Scope:
    """One SELECT (or UPDATE, DELETE …): names in sight and what its predicates say."""

    outer: "Scope | None" = None
    ctes: dict[str, Relation] = field(default_factory=dict)
    relations: dict[str, Relation] = field(default_factory=dict)
    hidden: dict[str, Relation] = field(default_factory=dict)
    """In sight under their alias only (`excluded`)."""
    aliases: set[str] = field(default_factory=set)
    refs: dict[int, tuple[int, Ref]] = field(default_factory=dict)
    """Column node -> relation and what it stands for."""
    carriers: set[int] = field(default_factory=set)
    """Subqueries through which a constant may come."""
    answers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Subquery -> the stored columns that it gives."""
    nested: list[Read] = field(default_factory=list)
    """Of subqueries."""
    links: "list[Link]" = field(default_factory=list)
    same: dict[tuple[Place, Place], None] = field(default_factory=dict)
    """Columns whose values are equal in every row read."""
    values: "list[tuple[Place, Slot]]" = field(default_factory=list)
    """Columns that equal a literal or parameter."""
    loose: dict[int, frozenset[str]] = field(default_factory=dict)
    """Relation -> identifiers that only some alternatives of a condition name."""
    pinned: dict[int, set[str]] = field(default_factory=dict)
    """Columns that equal constants; '*' when the relation is pinned whichever way."""
    ranged: set[int] = field(default_factory=set)
    """Relations that some predicate mentions."""

    def chain(self) -> Iterable["Scope"]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def pin(self, places: Iterable[Place]) -> None:
        for home, columns in places:
            self.pinned.setdefault(home, set()).update(columns)

    def loosen(self, named: Mapping[int, frozenset[str]]) -> None:
        for home, names in named.items():
            self.loose[home] = self.loose.get(home, frozenset()) | names

    def equal_columns(self) -> dict[Place, tuple[str, ...]]:
        """Place -> the columns that hold the same value as it, its own first."""
        beside: dict[Place, list[Place]] = {}
        for one, other in self.same:
            beside.setdefault(one, []).append(other)
            beside.setdefault(other, []).append(one)
        found: dict[Place, dict[str, None]] = {}
        for place in beside:
            if place in found:
                continue
            columns: dict[str, None] = {}
            queue = [place]
            found[place] = columns
            for here in queue:  # grows while it is walked
                columns.update(dict.fromkeys(here[1]))
                new = [b for b in dict.fromkeys(beside[here]) if b not in found]
                found.update(dict.fromkeys(new, columns))
                queue += new
        return {place: tuple({**dict.fromkeys(place[1]), **found[place]}) for place in found}

    def reached(self, seeds: Iterable[int], *, close: bool) -> set[int]:
        """Relations narrowed by narrowing the seeds; with `close`, by close links only."""
        narrowed: dict[int, list[int]] = {}
        own = {id(r) for r in self.relations.values()}
        for link in self.links:
            if link.target in own and (link.is_close or not close):
                narrowed.setdefault(link.source, []).append(link.target)
        found = dict.fromkeys(seeds)
        queue = list(found)
        while queue:
            new = [b for b in narrowed.get(queue.pop(), ()) if b not in found]
            found.update(dict.fromkeys(new))
            queue += new
        return set(found)

    def read(
        self, pinned: Mapping[int, frozenset[str]], held: Mapping[str, frozenset[str]]
    ) -> Read:
        """How far the predicates narrow what is read.

        `pinned`: relations of which one row or one person's rows are left, with the identifiers
        that name the person. `held`: table -> the identifiers that its rows hold.
        """
        relations = {id(r): r for r in self.relations.values()}
        points = {home: r.read.named for home, r in relations.items() if r.read.shape == "point"}
        named: dict[int, frozenset[str]] = {}
        for seed in {**pinned, **points}:
            by = pinned.get(seed, frozenset()) | points.get(seed, frozenset())
            for home in self.reached([seed], close=True):
                named[home] = named.get(home, frozenset()) | by
        following = self.reached(self._outside(), close=True)
        narrow = [home for home, r in relations.items() if r.read.shape in ("point", "range")]
        ranges = self.reached([*self.ranged, *narrow, *self._outside()], close=False)
        reads = list(self.nested)
        for home, relation in relations.items():
            shape = relation.read.shape
            if home in following and shape in ("full", "range", "point"):
                reads.append(Read("point"))
            elif home in named and shape in ("full", "range"):
                every = frozenset(n for t in relation.tables for n in held.get(t, ()))
                reads.append(Read("point", named[home], every - named[home]))
            elif home in named and shape == "point":
                left = relation.read.unnamed - named[home]
                reads.append(Read("point", named[home], left))
            elif shape == "full" and home in ranges:
                reads.append(Read("range"))
            else:
                reads.append(relation.read)
        return together(reads)

    def _outside(self) -> set[int]:
        """Relations outside that narrow some of these: what follows an outer row."""
        own = {id(r) for r in self.relations.values()}
        return {link.source for link in self.links} - own
