"""What relations and columns were called before: the names that declarations know them by.

In: what happens to the names of one namespace (the relations of a database, the columns of a
relation). Out: per present name, its `Lineage`. Knows no declarations: which of the names are
declared, and what follows from it, is `inforce`'s. Whatever stands in no `Names` has been called
as it is now all the time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_MOST = 32
"""So many names of one kind are kept of one relation: the first and the newest ones."""
_GONE = 256
_ALL = ""
"""Beside names: there were more of them than are kept."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The names of one relation or column, in the order in which it got them."""

    names: tuple[str, ...]
    """Those that it was the first to bear."""
    heir: tuple[str, ...] = ()
    """Another one's, to whose place it was made."""
    perhaps: tuple[str, ...] = ()
    """Another one's; whether it was made to that one's place isn't known."""
    is_made: bool = False
    """It was seen to be made, and since then nothing about it is unknown."""
    like: tuple[str, ...] = ()
    """Names of what it was made of, or like."""
    left: str = ""
    """The name before the present one."""
    bore: tuple[str, ...] = ()
    """Of `heir`, those that it was called by itself."""

    @property
    def owned(self) -> tuple[str, ...]:
        """The names that stand for it."""
        return (*self.names, *self.heir)

    def tells(self, present: str) -> bool:
        """It isn't what the present name alone would say."""
        return self.names != (present,) or bool(self.heir or self.perhaps)


@dataclass(slots=True)
class Names:
    """One namespace; lineages by present name."""

    of: dict[str, Lineage] = field(default_factory=dict)
    gone: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of what was dropped, the newest last -> the names of what bore it when it was dropped."""
    doubted: dict[str, None] = field(default_factory=dict)
    """Names that something only perhaps got, or that were given up unseen: whatever takes one of these
    is nothing's heir for certain."""

    def copy(self) -> "Names":
        """One that can be changed without changing this one."""
        return Names(dict(self.of), dict(self.gone), dict(self.doubted))

    def get(self, present: str) -> Lineage:
        """The lineage of what bears the name."""
        return self.of.get(present) or Lineage((present,))

    def made(self, name: str, like: Iterable[str] = ()) -> None:
        """Something new of that name; it is meant to be what the name stands for.

        Of a name that was given up, it isn't known whether it stood for that for long.
        """
        is_doubted = self._is_doubted(name)
        if name in self.of:
            self._dropped(name, is_doubted)
        left = (own for other in self.owners(name) for own in self.of[other].owned)
        gone = self.gone.pop(name, ())
        heir = () if is_doubted else _few(gone, (name,))
        perhaps = _few((*(gone if is_doubted else ()), *left), (name, *heir))
        made_like = tuple(dict.fromkeys(like))
        self.of[name] = Lineage((name,), heir, perhaps, is_made=True, like=made_like)

    def dropped(self, name: str) -> None:
        """What bears the name, if anything does, is no more."""
        self._dropped(name, is_doubted=False)

    def _dropped(self, name: str, is_doubted: bool) -> None:
        """Where it isn't known whether it bore the name, its other ones aren't gone."""
        one = self.get(name)
        owned = (*one.owned, *(one.perhaps if is_doubted else ()))
        self.of.pop(name, None)
        for old in dict.fromkeys((*(() if is_doubted else owned), name)):
            self.gone.pop(old, None)
            self.gone[old] = owned if old == name else (old,)
        _bound(self.gone, ())

    def perhaps_dropped(self, name: str) -> None:
        """What bears the name is no more, or still there."""
        self._doubt(name)

    def _doubt(self, name: str) -> None:
        self.doubted[name] = None
        _bound(self.doubted, None)

    def _is_doubted(self, name: str) -> bool:
        return name in self.doubted or _ALL in self.doubted

    def inherits(self, name: str, source: str) -> None:
        """What is in it was the source's until now."""
        one = self.get(name)
        own = self.get(source).owned
        self.of[name] = replace(one, heir=_few((*one.heir, *own), one.names))

    def renamed(
        self,
        old: str,
        new: str,
        resembles: Callable[[str], bool] = lambda _other: True,
        *,
        is_certain: bool = True,
        is_taken: bool = False,
    ) -> set[str]:
        """A name was changed, or perhaps was.

        Args:
            old, new: the names.
            resembles: whether it is made like what bears that name now.
            is_certain: it is known to have happened; else both names count.
            is_taken: without a doubt, something bears the new name.

        Returns:
            the present names of those about which something else is known now.
        """
        mine = replace(self.get(old), left=old)
        is_doubted = self._is_doubted(new)
        if not is_certain:
            self._doubt(new)
            if is_taken or new in self.of:
                has_left = is_doubted or self._may_have_left(new)
                self.of[new] = self._either(self.get(new), mine, has_left=has_left)
                return {old, new}
        else:
            self.of.pop(old, None)
            if new in self.of:  # that it was dropped went unseen
                self._dropped(new, is_doubted)
        self.of[new] = self._called(mine, new, resembles, is_certain, is_doubted)
        touched = {old, new}
        for one in self._circle(new) if is_certain else ():
            touched.add(one)
            self.of[one] = self._exchanged(one)
        return touched

    @staticmethod
    def _either(there: Lineage, mine: Lineage, *, has_left: bool) -> Lineage:
        """What bears a name, if it isn't known whether something else has it now.

        A name isn't given away while it is taken: only what may have left it can have lost it.
        """
        every = (*there.perhaps, *mine.owned, *mine.perhaps)
        if has_left:
            return Lineage((), perhaps=_few((*there.owned, *every)))
        return replace(there, perhaps=_few(every, there.owned))

    def _may_have_left(self, name: str) -> bool:
        """Whether what a name stood for is perhaps called otherwise now."""
        every = self.of.items()
        return any(now != name and name in (*one.owned, *one.perhaps) for now, one in every)

    def _called(
        self,
        mine: Lineage,
        new: str,
        resembles: Callable[[str], bool],
        is_certain: bool,
        is_doubted: bool,
    ) -> Lineage:
        """Something under one more name."""
        if new in mine.owned:
            return mine
        others = self.owners(new)
        if not others and new not in self.gone:
            if _ALL in self.gone or is_doubted:  # perhaps something bore it first
                bore = _few((*mine.bore, new))
                return replace(mine, perhaps=_few((*mine.perhaps, new)), bore=bore)
            return replace(mine, names=_few((*mine.names, new)))
        if is_doubted:
            borne = [name for now in others for name in self.of[now].owned]
            every = (*mine.perhaps, new, *self.gone.get(new, ()), *borne)
            return replace(mine, perhaps=_few(every, mine.owned))
        before = [now for now, one in self.of.items() if one.left == new and now != new]
        living = {now: self.of[now].owned for now in (*others, *before)}
        gone = self.gone.get(new, ())
        alike = [own for own in (*living.values(), gone) if not set(mine.like).isdisjoint(own)]
        if mine.is_made and not alike and not mine.like:  # else it is an edition of something else
            alike = [own for now, own in living.items() if resembles(now)] if living else [gone]
        if is_certain and alike:
            own = tuple(name for one in alike for name in one)
            is_named = new in own
            every = (*mine.heir, *((new,) if is_named else ()), *own)
            heir = _few(every, mine.names)
            bore = _few((*mine.bore, new)) if is_named else mine.bore
            return replace(mine, heir=heir, perhaps=_few(mine.perhaps, heir), bore=bore)
        return replace(mine, perhaps=_few((*mine.perhaps, new)))

    def owners(self, name: str) -> list[str]:
        """What a name stands for, and is called otherwise now."""
        every = self.of.items()
        return [now for now, one in every if now != name and name in (*one.names, *one.bore)]

    def _is_like(self, one: Lineage, other: str) -> bool:
        return not set(one.like).isdisjoint(self.get(other).owned)

    def _circle(self, begin: str) -> set[str]:
        """Those that have changed places with one another, and `begin` among them."""
        ways = {begin: {begin}}
        queue = [begin]
        found: set[str] = set()
        for here in queue:  # grows while it is walked
            one = self.get(here)
            for other in self.owners(here) if here not in one.names else ():
                if other == begin:
                    found |= ways[here]
                elif other not in ways:
                    ways[other] = ways[here] | {other}
                    queue.append(other)
        return found

    def _exchanged(self, present: str) -> Lineage:
        """Its name is another one's, which has got this one's or another's for it: a swap.

        Unless it was made of the other one: then it is a new edition, whatever the old one's name.
        """
        one = self.of[present]
        if any(self._is_like(one, other) for other in self.owners(present)):
            return one
        taken = {present, *(own for other in self.owners(present) for own in self.of[other].owned)}
        heir = tuple(name for name in one.heir if name not in taken)
        perhaps = tuple(name for name in one.perhaps if name not in taken)
        bore = tuple(name for name in one.bore if name not in taken)
        return replace(one, heir=heir, perhaps=perhaps, bore=bore)

    def telling(self) -> dict[str, Lineage]:
        """Those that aren't what their names alone would say."""
        return {now: one for now, one in self.of.items() if one.tells(now)}


def _bound(names: dict[str, Any], nothing: object) -> None:
    """The oldest names are forgotten; that there were any is not."""
    while len(names) > _GONE:
        names.pop(next(name for name in names if name != _ALL))
        names[_ALL] = nothing


def _few(names: tuple[str, ...], without: tuple[str, ...] = ()) -> tuple[str, ...]:
    kept = tuple(name for name in dict.fromkeys(names) if name not in without)
    half = _MOST // 2
    return kept if len(kept) <= _MOST else (*kept[:half], *kept[-half:])


@dataclass(slots=True)
class Lineages:
    """Of one database."""

    relations: Names = field(default_factory=Names)
    columns: dict[str, Names] = field(default_factory=dict)
    """By relation, where there is something to tell."""

    def copy(self) -> "Lineages":
        """One that can be changed without changing this one."""
        return Lineages(
            self.relations.copy(), {name: one.copy() for name, one in self.columns.items()}
        )

    def columns_of(self, relation: str) -> Names:
        """The names of a relation's columns, to be changed."""
        return self.columns.setdefault(relation, Names())

    def made(self, relation: str, like: Iterable[str] = ()) -> None:
        """A new relation, made of or like those."""
        models = tuple(like)
        self.columns.pop(relation, None)
        self.relations.made(relation, (n for one in models for n in self.relations.get(one).owned))
        self._columns_like(relation, models)

    def dropped(self, relation: str) -> None:
        """A relation is no more."""
        self.columns.pop(relation, None)
        self.relations.dropped(relation)

    def renamed(
        self,
        old: str,
        new: str,
        resembles: Callable[[str], bool],
        *,
        is_certain: bool,
        is_taken: bool,
    ) -> set[str]:
        """As `Names.renamed`, of a relation with its columns."""
        own = self.columns.get(old)
        if is_certain:
            self.columns.pop(old, None)
            self.columns.pop(new, None)
        if own is not None and (is_certain or not is_taken):
            self.columns[new] = own.copy()
        return self.relations.renamed(old, new, resembles, is_certain=is_certain, is_taken=is_taken)

    def _columns_like(self, relation: str, models: Iterable[str]) -> None:
        """Its columns are those of what it was made of."""
        for model in models:
            for now, one in self.columns.get(model, Names()).of.items():
                self.columns_of(relation).of.setdefault(now, one)

    def inherits(self, relation: str, source: str) -> None:
        """What is in it was the source's until now."""
        self.relations.inherits(relation, source)
        if source in self.columns and relation not in self.columns:
            self.columns[relation] = self.columns[source].copy()

    def kept(self, columns: Mapping[str, Iterable[str]]) -> "Lineages":
        """As far as these relations and columns are the same ones."""
        relations = {now: one for now, one in self.relations.of.items() if now in columns}
        of_all = self.relations
        found = Lineages(Names(relations, dict(of_all.gone), dict(of_all.doubted)))
        for relation, names in self.columns.items():
            if relation in columns:
                there = set(columns[relation])
                of = {now: one for now, one in names.of.items() if now in there}
                found.columns[relation] = Names(of, dict(names.gone), dict(names.doubted))
        return found

    def to_plain(self, *, whole: bool) -> dict[str, Any]:
        """As JSON has it: all that has to be known to go on, or only what tells something."""
        columns = {relation: _plain(names, whole=whole) for relation, names in self.columns.items()}
        return {
            "relations": _plain(self.relations, whole=whole),
            "columns": {relation: one for relation, one in columns.items() if one},
        }

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Lineages":
        """The inverse. Raises KeyError, TypeError, ValueError or AttributeError for anything else."""
        columns = {relation: _names(one) for relation, one in value.get("columns", {}).items()}
        return cls(_names(value.get("relations", {})), columns)


def _plain(names: Names, *, whole: bool) -> dict[str, Any]:
    of = names.of if whole else names.telling()
    found: dict[str, Any] = {}
    if of:
        found["of"] = {now: _lineage(one, whole=whole) for now, one in sorted(of.items())}
    if whole and names.gone:
        found["gone"] = [[name, *owned] for name, owned in names.gone.items()]
    if whole and names.doubted:
        found["doubted"] = list(names.doubted)
    return found


def _lineage(one: Lineage, *, whole: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"names": list(one.names)}
    found |= {"heir": list(one.heir)} if one.heir else {}
    found |= {"perhaps": list(one.perhaps)} if one.perhaps else {}
    if whole:
        found |= {"is_made": True} if one.is_made else {}
        found |= {"like": list(one.like)} if one.like else {}
        found |= {"left": one.left} if one.left else {}
        found |= {"bore": list(one.bore)} if one.bore else {}
    return found


def _names(value: Mapping[str, Any]) -> Names:
    of = {
        str(now): Lineage(
            tuple(map(str, one["names"])),
            tuple(map(str, one.get("heir", ()))),
            tuple(map(str, one.get("perhaps", ()))),
            bool(one.get("is_made", False)),
            tuple(map(str, one.get("like", ()))),
            str(one.get("left", "")),
            tuple(map(str, one.get("bore", ()))),
        )
        for now, one in value.get("of", {}).items()
    }
    gone = {str(name): tuple(map(str, owned)) for name, *owned in value.get("gone", ())}
    return Names(of, gone, dict.fromkeys(map(str, value.get("doubted", ()))))
