"""What a query reads from, as its columns' origins, and how far its predicates narrow it.

In: relations, equalities and pinned columns as `sqltext` finds them. Out: the access shape of one
SELECT. Knows nothing of SQL text or its parser.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

SHAPES = ("export", "full", "write", "range", "aggregate", "point", "none")  # worst first


def worst(shapes: Iterable[str]) -> str:
    """Of several reads, the shape that discloses most."""
    return min(chain(shapes, ["none"]), key=SHAPES.index)


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
    shape: str = "none"

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
        return Relation(given | renamed, self.rest, self.shape)


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
    nested: list[str] = field(default_factory=list)
    """Shapes of subqueries."""
    answers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Subquery -> the stored columns that it gives."""
    links: list[tuple[int, int]] = field(default_factory=list)
    """Narrowing the first relation narrows the second."""
    same: dict[tuple[Place, Place], None] = field(default_factory=dict)
    """Columns whose values are equal in every row read."""
    values: "list[tuple[Place, Slot]]" = field(default_factory=list)
    """Columns that equal a literal or parameter."""
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

    def equal_places(self, place: Place) -> list[Place]:
        """All places that hold the same value as this one, itself first."""
        found = [place]
        for here in found:  # grows while it is walked
            for one, other in self.same:
                for a, b in ((one, other), (other, one)):
                    if a == here and b not in found:
                        found.append(b)
        return found

    def reached(self, seeds: set[int]) -> set[int]:
        """Relations narrowed by narrowing the seeds. What follows an outer row is a seed."""
        own = {id(r) for r in self.relations.values()}
        narrowed: dict[int, list[int]] = {}
        for a, b in self.links:
            if b in own:
                narrowed.setdefault(a, []).append(b)
        outer = [b for a in narrowed.keys() - own for b in narrowed[a]]
        found = dict.fromkeys([*seeds, *outer])
        queue = list(found)
        while queue:
            new = [b for b in narrowed.get(queue.pop(), ()) if b not in found]
            found.update(dict.fromkeys(new))
            queue += new
        return set(found)

    def shape(self, pinned: set[int]) -> str:
        points, ranges = self.reached(pinned), self.reached(self.ranged)
        shapes = list(self.nested)
        for relation in self.relations.values():
            shape = relation.shape
            if shape in ("full", "range") and id(relation) in points:
                shape = "point"
            elif shape == "full" and id(relation) in ranges:
                shape = "range"
            shapes.append(shape)
        return worst(shapes)


def shared_links(
    using: list[str], relations: list[Relation], added: list[Relation]
) -> list[tuple[int, int]]:
    """Links of USING, or NATURAL without names: to the first relation with a common column."""
    earlier = relations[: -len(added)]
    for new in added:
        for other in earlier:
            if any(other.find(name) for name in using or new.columns):
                return [(id(other), id(new)), (id(new), id(other))]
    return []
