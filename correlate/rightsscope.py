"""One pgAudit record -> what it may have changed of who may do what.

Enters: class, command, object and text as logged. Leaves: names of relations, or everything. Where it
isn't plain which relations a statement is about, it is all of them; what a statement changed isn't said.
"""

import re

from scalple.correlate.auditedddl import tells
from scalple.correlate.catalog import TEMPORARY, plain, relation_name

EVERYTHING = "*"
"""Every relation; other scopes are `schema.table`, or `.table` of whatever schema."""
_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_QUALIFIED = rf"{_NAME}(?:\s*\.\s*{_NAME})?"
_ON_TABLES = re.compile(
    rf"""\s*(?:GRANT|REVOKE)\b[^;'"]*?\bON\s+(?:TABLE\s+)?
    (?P<names>{_QUALIFIED}(?:\s*,\s*{_QUALIFIED})*)\s+(?:TO|FROM)\b[^;]*;?\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_ON_OTHERS = re.compile(
    r"""\s*(?:GRANT|REVOKE)\b[^;'"]*?\bON\s+(?:SEQUENCE|FUNCTION|PROCEDURE|ROUTINE|SCHEMA|DATABASE
    |LANGUAGE|TYPE|DOMAIN|TABLESPACE|FOREIGN|LARGE|PARAMETER|ALL\s+(?:SEQUENCES|FUNCTIONS|PROCEDURES
    |ROUTINES))\s[^;]*;?\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_TEMPORARY = re.compile(
    r"\s*(?:CREATE|DROP)\s+(?:(?:LOCAL|GLOBAL)\s+)?TEMP(?:ORARY)?\b", re.IGNORECASE
)
_RELATIONS = ("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE")
_OF_CLUSTER = frozenset(
    {"GRANT ROLE", "REVOKE ROLE", "DROP OWNED", "REASSIGN OWNED", "ALTER DATABASE"}
    | {"COMMIT PREPARED", "ALTER SYSTEM"}
)
"""What may change the rights of roles in every database, or what is logged of it."""
_NOBODYS = ("ALTER DEFAULT PRIVILEGES", "COMMENT", "SECURITY LABEL")


def may_tell(kind: str | None, command: str | None) -> bool:
    """Whether records of that class and command can change rights at all."""
    if kind == "ROLE" or command in _OF_CLUSTER or command == "ALTER EXTENSION":
        return True
    return tells(command)


def scopes_of(
    kind: str | None,
    command: str,
    object_type: str | None,
    object_name: str | None,
    text: str | None,
    *,
    is_naming: bool,
) -> tuple[frozenset[str], bool]:
    """(scopes; whether they are of all databases).

    Args:
        kind: pgAudit's class.
        command: pgAudit's.
        object_type: pgAudit's.
        object_name: pgAudit's.
        text: the statement; None if it wasn't logged.
        is_naming: the database's records of DDL name their objects (it has pgAudit's extension).
    """
    if command == "ALTER SYSTEM" and text is not None and "pgaudit" not in text.lower():
        return frozenset(), False
    if command in _OF_CLUSTER:
        return frozenset({EVERYTHING}), True
    if command in ("GRANT", "REVOKE"):
        return _granted(text), False
    if kind == "ROLE":
        is_nobodys = command in _NOBODYS or command.endswith("USER MAPPING")
        return (frozenset(), False) if is_nobodys else (frozenset({EVERYTHING}), True)
    return _defined(command, object_type, object_name, text, is_naming), False


def _granted(text: str | None) -> frozenset[str]:
    """What GRANT and REVOKE are about. A comment may hold what looks like a part of them."""
    if text is not None and "--" not in text and "/*" not in text:
        if found := _ON_TABLES.fullmatch(text):
            return frozenset(map(_scope, re.findall(_QUALIFIED, found["names"])))
        if _ON_OTHERS.fullmatch(text):
            return frozenset()
    return frozenset({EVERYTHING})


def _scope(name: str) -> str:
    parts = [plain(part) for part in re.findall(_NAME, name)]
    return ".".join(parts) if len(parts) > 1 else f".{parts[0]}"


def _defined(
    command: str, object_type: str | None, object_name: str | None, text: str | None, naming: bool
) -> frozenset[str]:
    """DDL: a relation that was made, altered or dropped has other rights than before, perhaps."""
    if object_type in _RELATIONS or (object_type or "").endswith(" COLUMN"):
        last = int(object_type not in _RELATIONS)
        relation = relation_name(object_name, last=last)
        if relation is None:
            return frozenset({EVERYTHING})
        is_temporary = relation.startswith(f"{TEMPORARY}.")
        return frozenset() if is_temporary else frozenset({relation})
    if command in ("ALTER SCHEMA", "ALTER EXTENSION"):
        return frozenset({EVERYTHING})
    if object_type or naming or "INDEX" in command or "SCHEMA" in command:
        return frozenset()  # another kind of object, or IF EXISTS: nothing to do
    is_others = text is not None and _TEMPORARY.match(text) is not None
    return frozenset() if is_others else frozenset({EVERYTHING})
