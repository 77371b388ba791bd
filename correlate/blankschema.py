"""A schema's text as the store keeps it: without values.

In: what `pg_dump` writes. Out: the same definitions without comments, without rows (of a dump that
has some), and with literals as `'***'`; numbers of up to three digits stay, as in `varchar(255)`.
The catalog reads the same from it.
"""

import re

from scalple.correlate import masking

_ROWS = re.compile(
    r"^COPY\b[^;]*?\bFROM\s+stdin\b[^;]*;[^\n]*\n(?:.*?^\\\.[^\n]*$|.*\Z)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_CLIENT_LINES = re.compile(r"^\\.*$", re.MULTILINE)


def without_values(schema_sql: str) -> str:
    """The definitions alone."""
    return masking.hide_literals(_CLIENT_LINES.sub("", _ROWS.sub("", schema_sql)))
