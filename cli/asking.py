"""What a question needs before it is asked: the declarations in force, and the subject.

Enters: the options of `query` and a store that is open. Leaves: identifiers with their values (the keys
are `subjectkeys`'). Asks nothing.
"""

from scalple.cli.declarations import recorded
from scalple.correlate.rules import Rules
from scalple.ingest.errors import InputError
from scalple.store.guard import require_utf8
from scalple.store.reader import StoreReader


def declared(reader: StoreReader) -> Rules:
    """The declarations of all origins together; the questions are asked of all of them."""
    identifiers: dict[str, tuple[str, ...]] = {}
    personal: dict[str, str] = {}
    for origin in reader.origins:
        rules = recorded(reader, origin)
        for name, columns in rules.identifiers.items():
            identifiers[name] = tuple(dict.fromkeys((*identifiers.get(name, ()), *columns)))
        personal |= dict(rules.personal_data)
    return Rules(identifiers=identifiers, personal_data=personal)


def identified(given: tuple[str, ...], rules: Rules) -> list[tuple[str, str]]:
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
            if name in rules.identifiers
            else [one for one, columns in rules.identifiers.items() if name in columns]
        )
        if not names:
            known = ", ".join(
                f"{one} ({', '.join(columns)})" for one, columns in rules.identifiers.items()
            )
            raise InputError(
                f"unknown identifier {name!r}",
                place="--subject",
                hint=f"known in this store: {known or 'none; declare [identifiers]'}",
            )
        found += [(one, value) for one in names]
    return found
