"""The names of PostgreSQL's types, one for each.

In: a type as DDL or format_type writes it. Out: format_type's name without modifiers and schema.
"""

import re

from scalple.correlate.catalog import plain

_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "serial": "integer",
    "serial4": "integer",
    "int8": "bigint",
    "bigserial": "bigint",
    "serial8": "bigint",
    "int2": "smallint",
    "smallserial": "smallint",
    "serial2": "smallint",
    "varchar": "character varying",
    "char varying": "character varying",
    "char": "character",
    "bpchar": "character",
    "bool": "boolean",
    "decimal": "numeric",
    "dec": "numeric",
    "float": "double precision",
    "float8": "double precision",
    "float4": "real",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
    "varbit": "bit varying",
}
_BRACKETS = re.compile(r"\s*\((?:[^()]|\([^()]*\))*\)")
_DIMENSIONS = re.compile(r"(?:\s*\[\s*\d*\s*\])+|\s+array(?:\s*\[\s*\d*\s*\])?$", re.IGNORECASE)
_QUALIFIER = re.compile(r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)\s*\.\s*(?=["\w])')


def canonical_type(text: str) -> str:
    """A type as format_type writes it, without modifiers and schema: `integer`, `text[]`."""
    bare = _BRACKETS.sub("", text)
    without = _DIMENSIONS.sub("", bare)
    is_array = without != bare
    name = " ".join(_QUALIFIER.sub("", without).split())
    name = plain(name) if name.startswith('"') else name.lower()
    if name.startswith("interval "):
        name = "interval"
    return _ALIASES.get(name, name) + ("[]" if is_array else "")
