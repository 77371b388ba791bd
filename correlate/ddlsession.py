"""One session's transaction that changes the schema: what it did, and what became of it.

In: what the session's records say, in order. Out: `Step`s: from which record on which changes hold
for everybody, or turn out to last or to be taken back; and from which record on the session itself
sees which changes. PostgreSQL's DDL is part of its transaction: nobody else sees it before the
COMMIT, and nobody at all after a ROLLBACK, or an error that ends it.
"""

import itertools
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from scalple.correlate.auditedddl import is_temporary
from scalple.correlate.catalog import TEMPORARY, Catalog
from scalple.correlate.change import Change
from scalple.correlate.schematimeline import Entry

_numbers = itertools.count(1)


class What(Enum):
    """What happens to the schema of everybody."""

    ADD = auto()
    SETTLE = auto()
    """It lasts."""
    DOUBT = auto()
    """Whether it lasts won't be told any more."""
    CLOSE = auto()
    """Nothing more will be told of it."""
    WITHDRAW = auto()


@dataclass(slots=True, eq=False)
class Item:
    """The changes that one record reports."""

    changes: tuple[Change, ...]
    is_doubtful: bool = False
    """They may have been taken back where no record shows it."""
    is_published: bool = False
    """Others see them already: no open block holds them back."""
    entry: Entry | None = None
    """Of the timeline, once they are there."""
    sources: Catalog | None = None
    """What its temporary copies were made of, as it was then."""
    context: "tuple[Item, ...]" = ()
    """What its session alone saw, in which they were made."""
    number: int = field(default_factory=lambda: -next(_numbers))
    """Marks what the session sees of them; negative, as no entry's is."""

    @property
    def is_temporary(self) -> bool:
        """They concern the session's own relations only."""
        return is_temporary(self.changes[0])

    @property
    def ends_with_transaction(self) -> bool:
        """ON COMMIT DROP."""
        return any(change.ends_with_transaction for change in self.changes)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens to an item; it holds for the records after `position`."""

    position: int
    what: What
    item: Item
    is_certain: bool = True


@dataclass(slots=True)
class Transaction:
    """One that has changed the schema."""

    name: str
    is_block: bool
    """A BEGIN was logged: what it does is nobody else's until its COMMIT."""
    is_sure: bool
    """Without a block: it can't be within one whose BEGIN isn't in the log."""
    statement: object = None
    """Number of its first statement that changed the schema."""
    has_company: bool = False
    """It has other statements."""
    items: list[Item] = field(default_factory=list)
    marks: list[tuple[str | None, int]] = field(default_factory=list)
    """Savepoints since its first change (None: of an unknown name), and how many items there were.
    """
    has_failed: bool = False
    is_done: bool = False


@dataclass(slots=True)
class DdlSession:
    """What has to be remembered of a session that changed the schema."""

    transaction: Transaction | None = None
    temporary: list[Item] = field(default_factory=list)
    """What made its temporary relations, those of finished transactions."""
    text: tuple[tuple[object, object], str] | None = None
    """(statement, its text) of its last record of DDL that had one."""
    steps: list[Step] = field(default_factory=list)
    views: list[tuple[int, tuple[Item, ...]]] = field(default_factory=list)
    """(position, what the session alone sees in the records after it)."""

    @property
    def is_idle(self) -> bool:
        """Nothing of it has to be remembered."""
        return self.transaction is None and not self.temporary

    def seen(self) -> tuple[Item, ...]:
        """What the session alone sees now, or sees for certain."""
        open_items = self.transaction.items if self.transaction else []
        own = [one for one in open_items if one.is_temporary or not self._is_everybodys(one)]
        return (*self.temporary, *own)

    @staticmethod
    def _is_everybodys(item: Item) -> bool:
        return item.is_published and not item.is_doubtful

    def own_if_shadowed(self, change: Change) -> Change:
        """A change whose object no record names: a bare name is the temporary relation's first."""
        own = {one.name for item in self.seen() if item.is_temporary for one in item.changes}
        is_new = change.kind in ("create", "derive", "view")
        if is_new or change.schema is not None or change.name not in own:
            return change
        return replace(change, schema=TEMPORARY, is_temporary=True)

    # What its records say

    def changed(self, position: int, item: Item) -> None:
        """DDL was run."""
        transaction = self.transaction
        assert transaction is not None
        item.context = self.seen()
        transaction.items.append(item)
        if transaction.is_block and not transaction.is_done:
            self._look(position)
            return
        sure = transaction.is_sure and not item.is_doubtful
        item.is_published = sure
        if not item.is_temporary:
            self.steps.append(Step(position, What.ADD, item, sure))
        self._look(position)

    def savepoint(self, name: str | None) -> None:
        """A place to roll back to."""
        if self.transaction is not None:
            self.transaction.marks.append((name, len(self.transaction.items)))

    def released(self, name: str | None) -> None:
        """A savepoint is no more, nor are those that were set after it."""
        if (transaction := self.transaction) is None:
            return
        at, is_sure = self._mark(transaction, name)
        if is_sure:
            del transaction.marks[max(at, 0) :]
        else:
            transaction.marks.append((None, 0))  # which ones are left can't be told

    def rolled_back_to(self, position: int, name: str | None) -> None:
        """What was done since a savepoint is taken back."""
        transaction = self.transaction
        if transaction is None or transaction.is_done:
            return
        transaction.has_failed = False
        at, is_sure = self._mark(transaction, name)
        if not is_sure:
            transaction.marks.append((None, 0))
            self._doubt(position, transaction)
            return
        keep = transaction.marks[at][1] if at >= 0 else 0
        del transaction.marks[at + 1 :]
        for item in transaction.items[keep:]:
            self._withdraw(position, item)
        del transaction.items[keep:]
        self._look(position)

    @staticmethod
    def _mark(transaction: Transaction, name: str | None) -> tuple[int, bool]:
        """(place of the savepoint that a name means, -1 for one from before the first change; whether
        that is sure).

        Where the transaction's BEGIN was logged, its savepoints are as well.
        """
        names = [one for one, _ in transaction.marks]
        at = max((at for at, one in enumerate(names) if one == name), default=-1)
        is_sure = name is not None and None not in names[at + 1 :]
        return at, is_sure and (at >= 0 or transaction.is_block)

    def _doubt(self, position: int, transaction: Transaction) -> None:
        """Whether what it did up to here lasts won't be told any more."""
        for item in transaction.items:
            item.is_doubtful = True
            if not transaction.is_block and not item.is_temporary:
                self.steps.append(Step(position, What.DOUBT, item))
        self._look(position)

    def failed(self) -> None:
        """An error: its transaction is over, unless it goes on from a savepoint."""
        if self.transaction is not None:
            self.transaction.has_failed = True

    def committed(self, position: int, *, is_certain: bool = True) -> None:
        """It lasts."""
        transaction = self.transaction
        if transaction is None or transaction.is_done:
            return
        certain = is_certain and not transaction.has_failed
        transaction.is_done = True
        for item in transaction.items:
            sure = certain and not item.is_doubtful
            if item.is_temporary:
                if not item.ends_with_transaction:
                    self.temporary.append(item)
            elif transaction.is_block:
                item.is_published = True
                self.steps.append(Step(position, What.ADD, item, sure))
                self.steps.append(Step(position, What.CLOSE, item))
            else:
                self.steps.append(Step(position, What.SETTLE if sure else What.DOUBT, item))
        transaction.items = []
        self._look(position)

    def rolled_back(self, position: int) -> None:
        """Nothing of it lasts."""
        transaction = self.transaction
        if transaction is None or transaction.is_done:
            return
        transaction.is_done = True
        for item in transaction.items:
            self._withdraw(position, item)
        transaction.items = []
        self._look(position)

    def over(self, position: int, *, is_gone: bool, is_told: bool) -> None:
        """The transaction is over, without a word of its end.

        Args:
            position: of the last record before.
            is_gone: the session itself is over.
            is_told: a BEGIN would have been logged, had there been one.
        """
        transaction = self.transaction
        if transaction is not None and not transaction.is_done:
            if transaction.has_failed or (transaction.is_block and is_gone):
                self.rolled_back(position)
            else:
                is_alone = bool(transaction.name) and not transaction.has_company
                sure = not transaction.is_block and (is_told or is_alone)
                self.committed(position, is_certain=sure)
        self.transaction = None
        if is_gone:
            self.dropped_temporary(position)

    def dropped_temporary(self, position: int) -> None:
        """The session ended, or gave its temporary relations up."""
        self.temporary = []
        self._look(position)

    def _withdraw(self, position: int, item: Item) -> None:
        if not item.is_temporary and self.transaction is not None and not self.transaction.is_block:
            self.steps.append(Step(position, What.WITHDRAW, item))

    def _look(self, position: int) -> None:
        seen = self.seen()
        if not self.views or self.views[-1][1] != seen:
            self.views.append((position, seen))
