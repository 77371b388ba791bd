"""What a question needs before it is asked: the declarations in force, and the subject.

Enters: the options of `query` and a store that is open. Leaves: identifiers with their values (the keys
are `subjectkeys`'). Asks nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scalple.cli.declarations import recorded
from scalple.correlate import calledby
from scalple.correlate.inforce import InForce
from scalple.correlate.rules import Rules
from scalple.ingest.errors import InputError
from scalple.store.question import Meaning
from scalple.store.reader import StoreReader
from scalple.store.rownames import RowNames
from scalple.store.utf8 import require_utf8


@dataclass(frozen=True, slots=True)
class Known:
    """The declarations of a store, as they are written, and in the names that came of them.

    Attributes:
        rules: as they are declared.
        in_force: number of rows (`rownames`) -> the same in the names that these were written under.
    """

    rules: Rules
    in_force: Mapping[int, InForce]

    @property
    def identifiers(self) -> dict[str, tuple[str, ...]]:
        """Identifier -> all columns that hold it, or held it, under whichever name."""
        found = {name: dict.fromkeys(columns) for name, columns in self.rules.identifiers.items()}
        for one in self.in_force.values():
            for column, names in one.names.items():
                for name in names:
                    found[name].setdefault(column)
        return {name: tuple(columns) for name, columns in found.items()}

    def carried(self, identifiers: Iterable[str]) -> tuple[Meaning, ...]:
        """What a question about these identifiers means in the names of some rows."""
        wanted = tuple(identifiers)
        return tuple(
            Meaning(
                names,
                tuple(sorted({*one.personal, *one.perhaps})),
                tuple(sorted(one.of_identifiers(wanted))),
            )
            for names, one in self.in_force.items()
        )

    @property
    def personal_or_identifiers(self) -> tuple[str, ...]:
        """All declared columns."""
        columns = (c for many in self.rules.identifiers.values() for c in many)
        return tuple(sorted({*self.rules.personal_data, *columns}))

    @property
    def carried_personal(self) -> tuple[Meaning, ...]:
        """All declared columns in the names of some rows."""
        return tuple(
            Meaning(names, tuple(sorted({*one.personal, *one.names, *one.perhaps})), ())
            for names, one in self.in_force.items()
        )


def known(reader: StoreReader, names: RowNames) -> Known:
    """The declarations of all origins together; the questions are asked of all of them."""
    rules = declared(reader)
    return Known(rules, carried(rules, names.lineages))


def carried(rules: Rules, lineages: Sequence[str]) -> dict[int, InForce]:
    """Declarations under each of the names that rows were written under, by number (`RowNames`)."""
    as_declared = InForce.declared(rules)
    return {
        number: as_declared.under(calledby.from_text(text))
        for number, text in enumerate(lineages, start=1)
    }


def declared(reader: StoreReader) -> Rules:
    """The declarations of all origins together, as they are written."""
    identifiers: dict[str, tuple[str, ...]] = {}
    personal: dict[str, str] = {}
    for origin in reader.origins:
        rules = recorded(reader, origin)
        for name, columns in rules.identifiers.items():
            identifiers[name] = tuple(dict.fromkeys((*identifiers.get(name, ()), *columns)))
        personal |= dict(rules.personal_data)
    return Rules(identifiers=identifiers, personal_data=personal)


def identified(
    given: tuple[str, ...], identifiers: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, str]]:
    """(identifier, value) of each NAME=VALUE; a column stands for the identifiers it holds.

    Raises:
        InputError: no such identifier (names the known ones), or the text isn't valid UTF-8.
    """
    found = []
    for text in given:
        require_utf8(text, "--subject")
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise InputError(f"{text!r} is not NAME=VALUE", place="--subject")
        names = (
            [name]
            if name in identifiers
            else [one for one, columns in identifiers.items() if name in columns]
        )
        if not names:
            known = ", ".join(
                f"{one} ({', '.join(columns)})" for one, columns in identifiers.items()
            )
            raise InputError(
                f"unknown identifier {name!r}",
                place="--subject",
                hint=f"known in this store: {known or 'none; declare [identifiers]'}",
            )
        found += [(one, value) for one in names]
    return found
