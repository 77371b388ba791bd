"""Whether a statement touched what a rule is about.

Enters: a rule and what is known of a statement's tables, columns, class and shape. Leaves: yes, no or
unknown. Where a statement's columns aren't known, a table that it touched counts as *perhaps* the
column, never as the column.
"""

from dataclasses import dataclass
from itertools import chain

from scalple.correlate.calledby import FormerNames, former_names
from scalple.correlate.policyrules import PERSONAL, Policy
from scalple.correlate.policyterms import (
    NO,
    UNKNOWN,
    YES,
    all_of,
    fits_one,
    fits_path,
    holds_all_of,
    is_so,
    may_hold,
)

_KNOWN = ("parsed", "star-expanded")
_TOUCHING = ("READ", "WRITE")
ALL_TABLES, ALL_COLUMNS = "*.*", "*.*.*"


@dataclass(frozen=True, slots=True)
class Access:
    """What one statement touched; None where it isn't known."""

    tables: tuple[str, ...] | None
    columns: tuple[str, ...] | None
    basis: str | None
    shape: str | None
    kind: str | None
    """pgAudit's class."""
    database: str | None
    called: str | None = None
    """What tables and columns had been called before (`calledby`)."""

    @property
    def former(self) -> FormerNames:
        """The names by which a rule may mean tables and columns."""
        return former_names(self.called)


def is_read_or_written(kind: str | None) -> bool:
    """Whether statements of that class touch rows themselves.

    What functions, DO and EXECUTE run, pgAudit logs by itself.
    """
    return kind is None or kind in _TOUCHING


def access_answer(policy: Policy, access: Access, personal: tuple[str, ...]) -> int:
    """Whether the statement touched that, in that way. `personal`: the columns so declared."""
    answers = []
    if policy.databases:
        name = access.database
        answers.append(UNKNOWN if name is None else is_so(fits_one(policy.databases, name)))
    if policy.classes:
        answers.append(UNKNOWN if access.kind is None else is_so(access.kind in policy.classes))
    if policy.shapes:
        known = access.shape is not None
        answers.append(is_so(access.shape in policy.shapes) if known else _untold(access))
    if policy.tables or policy.unless_tables:
        answers.append(_tables(policy, access))
    if policy.columns or policy.unless_columns:
        answers.append(_columns(policy, access, personal))
    return all_of(answers)


def wants_table(policy: Policy, access: Access, table: str) -> bool:
    """Whether the rule is about that table, as far as it names tables."""
    if policy.tables and not _some_fit(policy.tables, access.former.of_table(table)):
        return False
    return not _some_fit(policy.unless_tables, access.former.sure_of_table(table))


def wanted_columns(
    policy: Policy, access: Access, names: tuple[str, ...], personal: tuple[str, ...]
) -> frozenset[str] | None:
    """The columns of a table that the statement touched and that the rule is about.

    None where it isn't known which were touched, and some may be. `names`: what the table goes by.
    """
    wanted = _spelt_out(policy.columns or (ALL_COLUMNS,), personal)
    excused = _spelt_out(policy.unless_columns, personal)
    if access.columns is None or access.basis not in _KNOWN:
        former = access.former
        may = [known for name in names for known in former.of_table(name)]
        sure = [known for name in names for known in former.sure_of_table(name)]
        perhaps = any(may_hold(one, name) for one in wanted for name in may)
        perhaps &= not any(holds_all_of(one, name) for one in excused for name in sure)
        return None if perhaps else frozenset()
    return frozenset(
        column.removeprefix(f"{name}.")
        for name in names
        for column in access.columns
        if column.startswith(f"{name}.")
        and _some_fit(wanted, access.former.of_column(column))
        and not _some_fit(excused, access.former.sure_of_column(column))
    )


def _untold(access: Access) -> int:
    return UNKNOWN if is_read_or_written(access.kind) else NO


def _tables(policy: Policy, access: Access) -> int:
    if access.tables is None:
        return _untold(access)
    wanted = policy.tables or (ALL_TABLES,)
    return is_so(
        any(
            _some_fit(wanted, access.former.of_table(table))
            and not _some_fit(policy.unless_tables, access.former.sure_of_table(table))
            for table in access.tables
        )
    )


def _columns(policy: Policy, access: Access, personal: tuple[str, ...]) -> int:
    wanted = _spelt_out(policy.columns or (ALL_COLUMNS,), personal)
    excused = _spelt_out(policy.unless_columns, personal)
    for column in access.columns or ():
        if _some_fit(wanted, access.former.of_column(column)) and not _some_fit(
            excused, access.former.sure_of_column(column)
        ):
            return YES
    if access.columns is not None and access.basis in _KNOWN:
        return NO
    if access.tables is None:
        return _untold(access)
    perhaps = any(
        any(may_hold(one, name) for one in wanted for name in access.former.of_table(table))
        and not any(
            holds_all_of(one, name)
            for one in excused
            for name in access.former.sure_of_table(table)
        )
        for table in access.tables
    )
    return _untold(access) if perhaps else NO


def _spelt_out(patterns: tuple[str, ...], personal: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(chain.from_iterable(personal if p == PERSONAL else (p,) for p in patterns))


def _some_fit(patterns: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return any(fits_path(one, name) for one in patterns for name in names)
